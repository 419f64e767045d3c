//! One thread, its tasks, and time that passes only when no task can go on. Tasks belong to processes, which
//! can be killed or stopped at any instant: a task of a killed process is dropped where it stands.
//!
//! Which of the tasks that can go on does so next is drawn from the seed: every order is one that threads
//! could have taken.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use std::collections::BTreeMap;

use votum_proto::runtime::{BoxFuture, Clock, Monotonic, Spawn};

use super::random::Random;

/// More turns than this at one instant: the tasks keep each other busy and time stands still.
const TURNS_AT_ONCE: u64 = 200_000;

/// Why a run did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stuck {
    /// Nobody can go on, and nobody waits for a moment.
    #[error("every task waits for another one")]
    Deadlock,
    /// Time stands still.
    #[error("tasks keep each other busy: no time passes any more")]
    Livelock,
}

type TaskId = usize;

struct Task {
    process: Arc<Process>,
    /// Taken out while it is polled.
    future: Option<BoxFuture<()>>,
    waker: Arc<TaskWaker>,
}

struct TaskWaker {
    id: TaskId,
    queued: AtomicBool,
    ready: Arc<Mutex<Vec<TaskId>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            lock(&self.ready).push(self.id);
        }
    }
}

/// Never held across anything that could want it again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Inner {
    now: Duration,
    tasks: Vec<Option<Task>>,
    free: Vec<TaskId>,
    timers: BTreeMap<(Duration, u64), Waker>,
    next_timer: u64,
    order: Random,
    shuffled: bool,
    /// How many of the tasks that can go on stand in an order already.
    ordered: usize,
    turns: u64,
}

/// Runs everything.
pub struct Executor {
    inner: Mutex<Inner>,
    ready: Arc<Mutex<Vec<TaskId>>>,
}

impl Executor {
    /// One at time zero. `shuffled`: the order of tasks is drawn; else they go on as they came.
    pub fn new(seed: u64, shuffled: bool) -> Arc<Self> {
        let inner = Inner {
            now: Duration::ZERO,
            tasks: Vec::new(),
            free: Vec::new(),
            timers: BTreeMap::new(),
            next_timer: 0,
            order: Random::new(seed, "order"),
            shuffled,
            ordered: 0,
            turns: 0,
        };
        Arc::new(Self { inner: Mutex::new(inner), ready: Arc::default() })
    }

    /// Time since the beginning.
    pub fn now(&self) -> Duration {
        lock(&self.inner).now
    }

    /// How many times a task went on.
    pub fn turns(&self) -> u64 {
        lock(&self.inner).turns
    }

    /// Resolves after `duration`.
    pub fn sleep(self: &Arc<Self>, duration: Duration) -> Sleep {
        let at = self.now().saturating_add(duration);
        Sleep { executor: Arc::clone(self), at, key: None }
    }

    /// A process that runs.
    pub fn process(self: &Arc<Self>, name: impl Into<String>) -> Arc<Process> {
        Arc::new(Process {
            name: name.into(),
            state: AtomicU8::new(RUNNING),
            parked: Mutex::default(),
            executor: Arc::clone(self),
        })
    }

    fn add(&self, process: &Arc<Process>, future: BoxFuture<()>) {
        let waker = {
            let mut inner = lock(&self.inner);
            let id = inner.free.pop().unwrap_or_else(|| {
                inner.tasks.push(None);
                inner.tasks.len() - 1
            });
            let (queued, ready) = (AtomicBool::new(false), Arc::clone(&self.ready));
            let waker = Arc::new(TaskWaker { id, queued, ready });
            let task = Task { process: Arc::clone(process), future: Some(future), waker: Arc::clone(&waker) };
            if let Some(slot) = inner.tasks.get_mut(id) {
                *slot = Some(task);
            }
            waker
        };
        waker.wake();
    }

    /// Runs until `root` is done.
    ///
    /// # Errors
    /// When nothing can go on, or nothing comes to an end.
    pub fn run<T: Send + 'static>(
        self: &Arc<Self>,
        process: &Arc<Process>,
        root: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Stuck> {
        let result = Arc::new(Mutex::new(None));
        let place = Arc::clone(&result);
        process.spawn(Box::pin(async move {
            let done = root.await;
            *lock(&place) = Some(done);
        }));
        let mut turns = 0;
        loop {
            if let Some(done) = lock(&result).take() {
                return Ok(done);
            }
            if let Some(id) = self.next_ready() {
                turns += 1;
                if turns > TURNS_AT_ONCE {
                    return Err(Stuck::Livelock);
                }
                self.poll(id);
            } else if self.advance() {
                turns = 0;
            } else {
                return Err(Stuck::Deadlock);
            }
        }
    }

    fn next_ready(&self) -> Option<TaskId> {
        let mut inner = lock(&self.inner);
        inner.turns += 1;
        let mut ready = lock(&self.ready);
        if ready.is_empty() {
            return None;
        }
        // Whom one change wakes is a matter of the run; in which order is not: tokio's watch draws that from
        // randomness of its own.
        if let Some(woken) = ready.get_mut(inner.ordered..) {
            woken.sort_unstable();
        }
        inner.ordered = ready.len() - 1;
        if inner.shuffled {
            let at = inner.order.index(ready.len());
            return Some(ready.swap_remove(at));
        }
        Some(ready.remove(0))
    }

    /// Lets time pass until the next timer; false where there is none.
    fn advance(&self) -> bool {
        let due: Vec<Waker> = {
            let mut inner = lock(&self.inner);
            let Some((&(at, _), _)) = inner.timers.first_key_value() else { return false };
            inner.now = inner.now.max(at);
            let later = inner.timers.split_off(&(at, u64::MAX));
            std::mem::replace(&mut inner.timers, later).into_values().collect()
        };
        for waker in due {
            waker.wake();
        }
        true
    }

    fn poll(&self, id: TaskId) {
        let (mut future, waker, process) = {
            let mut inner = lock(&self.inner);
            let Some(task) = inner.tasks.get_mut(id).and_then(Option::as_mut) else { return };
            task.waker.queued.store(false, Ordering::Relaxed);
            if task.process.is_stopped() {
                lock(&task.process.parked).push(Arc::clone(&task.waker));
                return;
            }
            let Some(future) = task.future.take() else { return };
            (future, Arc::clone(&task.waker), Arc::clone(&task.process))
        };
        let waker = Waker::from(waker);
        let done = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        if done || process.is_dead() {
            // Dropped with nothing locked: what it held may wake others.
            drop(future);
            let mut inner = lock(&self.inner);
            if let Some(slot) = inner.tasks.get_mut(id) {
                *slot = None;
            }
            inner.free.push(id);
        } else if let Some(task) = lock(&self.inner).tasks.get_mut(id).and_then(Option::as_mut) {
            task.future = Some(future);
        }
    }

    fn drop_tasks_of(&self, process: &Process) {
        let gone: Vec<Task> = {
            let mut inner = lock(&self.inner);
            let Inner { tasks, free, .. } = &mut *inner;
            let mut gone = Vec::new();
            for (id, slot) in tasks.iter_mut().enumerate() {
                // One that is being polled now goes when it returns.
                let here = |task: &Task| std::ptr::eq(&*task.process, process) && task.future.is_some();
                if slot.as_ref().is_some_and(here) {
                    gone.extend(slot.take());
                    free.push(id);
                }
            }
            gone
        };
        drop(gone);
    }

    /// Drops every task, whosever: the end of the world.
    pub fn clear(&self) {
        let tasks = std::mem::take(&mut lock(&self.inner).tasks);
        drop(tasks);
        let timers = std::mem::take(&mut lock(&self.inner).timers);
        drop(timers);
    }
}

/// See [`Executor::sleep`].
pub struct Sleep {
    executor: Arc<Executor>,
    at: Duration,
    key: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut inner = lock(&this.executor.inner);
        if inner.now >= this.at {
            if let Some(key) = this.key.take() {
                inner.timers.remove(&key);
            }
            return Poll::Ready(());
        }
        let key = *this.key.get_or_insert_with(|| {
            inner.next_timer += 1;
            (this.at, inner.next_timer)
        });
        inner.timers.insert(key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let waker = lock(&self.executor.inner).timers.remove(&key);
            drop(waker);
        }
    }
}

const RUNNING: u8 = 0;
const STOPPED: u8 = 1;
const DEAD: u8 = 2;

/// A group of tasks that live and die together.
pub struct Process {
    name: String,
    state: AtomicU8,
    parked: Mutex<Vec<Arc<TaskWaker>>>,
    executor: Arc<Executor>,
}

impl Process {
    /// For people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `task` in this process, unless it is dead.
    pub fn spawn(self: &Arc<Self>, task: BoxFuture<()>) {
        if !self.is_dead() {
            self.executor.add(self, task);
        }
    }

    /// SIGKILL: none of its tasks goes on.
    pub fn kill(&self) {
        self.state.store(DEAD, Ordering::Relaxed);
        lock(&self.parked).clear();
        self.executor.drop_tasks_of(self);
    }

    /// SIGSTOP: its tasks wait until [`Process::go_on`].
    pub fn stop(&self) {
        let _ = self.state.compare_exchange(RUNNING, STOPPED, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        if self.state.compare_exchange(STOPPED, RUNNING, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            for waker in std::mem::take(&mut *lock(&self.parked)) {
                waker.wake();
            }
        }
    }

    /// Whether it was killed.
    pub fn is_dead(&self) -> bool {
        self.state.load(Ordering::Relaxed) == DEAD
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.state.load(Ordering::Relaxed) == STOPPED
    }
}

/// Spawns into one process.
pub struct Tasks(pub Arc<Process>);

impl Spawn for Tasks {
    fn spawn(&self, task: BoxFuture<()>) {
        self.0.spawn(task);
    }
}

/// The time of the executor.
pub struct SimulatedClock(pub Arc<Executor>);

impl Clock for SimulatedClock {
    fn now(&self) -> Monotonic {
        Monotonic(self.0.now())
    }

    fn wall(&self) -> SystemTime {
        // Jumps by a day every ten seconds, forth and back: nothing may rest on it.
        let now = self.0.now();
        let day = Duration::from_secs(24 * 60 * 60);
        let jump = if (now.as_secs() / 10).is_multiple_of(2) { day } else { Duration::ZERO };
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + now + jump
    }

    fn sleep_until(&self, at: Monotonic) -> BoxFuture<()> {
        Box::pin(Sleep { executor: Arc::clone(&self.0), at: at.0, key: None })
    }
}
