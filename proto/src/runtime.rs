//! The seams through which time, randomness and tasks enter, and their production forms.
//!
//! Nothing else in the workspace reads a clock, draws a random number or spawns a task: a simulation passes
//! in its own [`Seams`] and owns all three. No decision depends on a wall clock; [`Clock::wall`] is for
//! people's eyes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A future that can be handed from task to task.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Time since the clock was made; never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// This moment, `by` later.
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// The time from `earlier` to this moment; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A deadline passed before the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct Elapsed;

/// Monotonic time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Monotonic;
    /// The wall clock, for people only.
    fn wall(&self) -> SystemTime;
    /// Resolves at `at`, or at once when it has passed.
    fn sleep_until(&self, at: Monotonic) -> BoxFuture<()>;
}

impl dyn Clock + '_ {
    /// Resolves after `duration`.
    pub fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        self.sleep_until(self.now().after(duration))
    }

    /// Waits for `work`, at most `limit`; past it the work is dropped.
    ///
    /// # Errors
    /// [`Elapsed`] when the limit passed first.
    pub async fn timeout<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
        let work = std::pin::pin!(work);
        match futures::future::select(work, self.sleep(limit)).await {
            futures::future::Either::Left((done, _)) => Ok(done),
            futures::future::Either::Right(((), _)) => Err(Elapsed),
        }
    }
}

/// Randomness.
pub trait Entropy: Send + Sync {
    /// 64 random bits.
    fn bits(&self) -> u64;
}

impl dyn Entropy + '_ {
    /// A duration between a half and the whole of `bound`: jitter for a back-off.
    pub fn jittered(&self, bound: Duration) -> Duration {
        let part = (self.bits() >> 11) as f64 / (1u64 << 53) as f64;
        bound.mul_f64(0.5 + part / 2.0)
    }

    /// Fills `bytes` at random.
    pub fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let bits = self.bits().to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(bits) {
                *to = from;
            }
        }
    }
}

/// Tasks.
pub trait Spawn: Send + Sync {
    /// Runs `task` beside the caller, to its end.
    fn spawn(&self, task: BoxFuture<()>);
}

/// All seams together, as they are passed down.
#[derive(Clone)]
pub struct Seams {
    /// Monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Tasks.
    pub spawn: Arc<dyn Spawn>,
}

impl Seams {
    /// The operating system's clock and randomness, tokio's tasks. Sleeping and spawning need a tokio
    /// runtime around the caller.
    pub fn production() -> Self {
        Self {
            clock: Arc::new(production::TokioClock::start()),
            entropy: Arc::new(production::SystemEntropy),
            spawn: Arc::new(production::TokioSpawn),
        }
    }

    /// Runs `task` beside the caller.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn.spawn(Box::pin(task));
    }
}

/// Delays that double from `first` to `cap`, each jittered.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    next: Duration,
    cap: Duration,
}

impl Backoff {
    /// Begins at `first` and never exceeds `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, next: first, cap }
    }

    /// The next delay.
    pub fn delay(&mut self, entropy: &dyn Entropy) -> Duration {
        let bound = self.next;
        self.next = self.next.saturating_mul(2).min(self.cap);
        entropy.jittered(bound)
    }

    /// After a success: begin at `first` again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// The only place that reads the real clock, draws real randomness and spawns real tasks.
#[allow(clippy::disallowed_methods)]
mod production {
    use super::{BoxFuture, Clock, Entropy, Monotonic, Spawn, SystemTime};

    pub(super) struct TokioClock {
        start: tokio::time::Instant,
    }

    impl TokioClock {
        pub(super) fn start() -> Self {
            Self { start: tokio::time::Instant::now() }
        }
    }

    impl Clock for TokioClock {
        fn now(&self) -> Monotonic {
            Monotonic(self.start.elapsed())
        }

        fn wall(&self) -> SystemTime {
            SystemTime::now()
        }

        fn sleep_until(&self, at: Monotonic) -> BoxFuture<()> {
            // A moment beyond what the clock can hold is one that never comes.
            match self.start.checked_add(at.0) {
                Some(instant) => Box::pin(tokio::time::sleep_until(instant)),
                None => Box::pin(std::future::pending()),
            }
        }
    }

    pub(super) struct SystemEntropy;

    impl Entropy for SystemEntropy {
        #[allow(clippy::expect_used)]
        fn bits(&self) -> u64 {
            // The kernel's generator fails only where the system call itself is missing or forbidden.
            // Going on with bits that are not random would let two lives bear one incarnation.
            getrandom::u64().expect("the operating system gives no randomness (getrandom failed)")
        }
    }

    pub(super) struct TokioSpawn;

    impl Spawn for TokioSpawn {
        fn spawn(&self, task: BoxFuture<()>) {
            drop(tokio::spawn(task));
        }
    }
}
