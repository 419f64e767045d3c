//! The connections on which branches live: a limit, a queue with a deadline, and a clean session for each.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use votum_proto::pace::Pace;
use votum_proto::runtime::{Clock, Seams};

use crate::database::{Database, DatabaseError, Session};

/// How long a database may take to make a session as good as new.
const PATIENCE: Duration = Duration::from_secs(10);

/// The sessions of one participant.
pub(crate) struct Sessions {
    database: Arc<dyn Database>,
    limit: usize,
    places: Queue,
    /// For those that hold a session for one trip only.
    short: Queue,
    waiting: AtomicUsize,
    idle: Mutex<Vec<Box<dyn Session>>>,
    seams: Seams,
}

/// Why no session was had.
#[derive(Debug)]
pub(crate) enum NoSession {
    /// All were in use until the deadline, or would, by the present pace, be for this long.
    AllInUse(Duration),
    /// The database did not let us in.
    Unreachable(DatabaseError),
}

impl Sessions {
    /// At most `limit` sessions, `short` of them for branches that hold one for one trip only.
    pub(crate) fn new(database: Arc<dyn Database>, limit: usize, short: usize, seams: Seams) -> Arc<Self> {
        Arc::new(Self {
            database,
            limit,
            places: Queue::new(limit),
            short: Queue::new(short),
            waiting: AtomicUsize::new(0),
            idle: Mutex::new(Vec::new()),
            seams,
        })
    }

    /// A session for a branch of this `timeout`, after waiting at most `limit` for one to be free.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        limit: Duration,
        timeout: Duration,
    ) -> Result<Leased, NoSession> {
        let _counted = Waiting::among(&self.waiting);
        self.lease_within(limit, timeout, None).await
    }

    /// The same for a branch that holds it for one trip only.
    pub(crate) async fn lease_shortly(
        self: &Arc<Self>,
        limit: Duration,
        timeout: Duration,
    ) -> Result<Leased, NoSession> {
        let _counted = Waiting::among(&self.waiting);
        let begun = self.seams.clock.now();
        let turn = self.short.place(&*self.seams.clock, limit).await?;
        let left = limit.saturating_sub(self.seams.clock.now().since(begun));
        self.lease_within(left, timeout, Some(turn)).await
    }

    async fn lease_within(
        self: &Arc<Self>,
        limit: Duration,
        timeout: Duration,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<Leased, NoSession> {
        let place = self.places.place(&*self.seams.clock, limit).await?;
        let session = match self.idle_session() {
            Some(session) => session,
            None => self.database.open_session(Some(timeout)).await.map_err(NoSession::Unreachable)?,
        };
        Ok(Leased { session, place, turn, home: Arc::clone(self) })
    }

    /// How long a branch that came now would wait, by the present pace; nothing where few wait.
    pub(crate) fn expected_wait(&self) -> Duration {
        self.places.expected(&*self.seams.clock)
    }

    /// How many are used and waited for.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            used: self.limit.saturating_sub(self.places.free.available_permits()),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    fn idle_session(&self) -> Option<Box<dyn Session>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(session) = idle.pop() {
            if !session.is_lost() {
                return Some(session);
            }
        }
        None
    }
}

/// Places, and who waits for one.
struct Queue {
    free: Arc<Semaphore>,
    pace: Mutex<Pace>,
}

impl Queue {
    /// Whoever waits behind no more than there are places has his turn soon, and is not measured.
    fn new(places: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(places)), pace: Mutex::new(Pace::new(places)) }
    }

    fn expected(&self, clock: &dyn Clock) -> Duration {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).expected(clock.now())
    }

    /// A place, after waiting at most `limit`; at once refused is who would wait longer by the present pace.
    async fn place(&self, clock: &dyn Clock, limit: Duration) -> Result<OwnedSemaphorePermit, NoSession> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(place);
        }
        let mut waits = Waits::behind(&self.pace, clock, limit)?;
        let place = clock.timeout(limit, Arc::clone(&self.free).acquire_owned()).await;
        match place {
            Ok(Ok(place)) => {
                waits.served = true;
                Ok(place)
            }
            Ok(Err(_)) | Err(_) => Err(NoSession::AllInUse(limit)),
        }
    }
}

/// One who waits for a place, until he has it, or is dropped.
struct Waits<'a> {
    pace: &'a Mutex<Pace>,
    clock: &'a dyn Clock,
    served: bool,
}

impl<'a> Waits<'a> {
    fn behind(pace: &'a Mutex<Pace>, clock: &'a dyn Clock, limit: Duration) -> Result<Self, NoSession> {
        let mut known = pace.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock.now();
        let expected = known.expected(now);
        if expected > limit {
            return Err(NoSession::AllInUse(expected));
        }
        known.enters(now);
        Ok(Self { pace, clock, served: false })
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let now = self.clock.now();
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).leaves(now, self.served);
    }
}

/// What a participant's sessions are at.
pub(crate) struct Usage {
    /// Lent to branches, or being made as good as new.
    pub(crate) used: usize,
    /// Branches that wait for one.
    pub(crate) waiting: usize,
}

/// One who waits for a session, until it has one or is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(all: &'a AtomicUsize) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(all)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A session lent to one branch.
pub(crate) struct Leased {
    pub(crate) session: Box<dyn Session>,
    place: OwnedSemaphorePermit,
    turn: Option<OwnedSemaphorePermit>,
    home: Arc<Sessions>,
}

impl Leased {
    /// Returns a session on which no transaction is open. It is reset before another branch gets it.
    pub(crate) fn give_back(self) {
        let Self { mut session, place, turn, home } = self;
        let clock = Arc::clone(&home.seams.clock);
        home.seams.clone().spawn(async move {
            // One that does not answer is closed: its place would be lost for as long as the server hangs.
            if let Ok(Ok(())) = clock.timeout(PATIENCE, session.reset()).await {
                home.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
            }
            drop((place, turn));
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::SystemTime;

    use futures::FutureExt as _;
    use votum_proto::runtime::{BoxFuture, Monotonic};

    use super::*;

    /// Shows what it is set to, in milliseconds; nobody's patience ends.
    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Monotonic {
            Monotonic(Duration::from_millis(self.0.load(Ordering::Relaxed)))
        }

        fn wall(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }

        fn sleep_until(&self, _at: Monotonic) -> BoxFuture<()> {
            Box::pin(std::future::pending())
        }
    }

    const PATIENT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn who_would_wait_longer_than_he_may_by_the_present_pace_is_refused_at_once() {
        let (queue, hand) = (Queue::new(1), Hand::default());
        let place = queue.place(&hand, PATIENT).await.unwrap();
        let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(queue.place(&hand, PATIENT))).collect();
        assert!(waiting.iter_mut().all(|waits| waits.now_or_never().is_none()));
        hand.0.store(2_000, Ordering::Relaxed);
        let refused = queue.place(&hand, Duration::from_secs(1)).now_or_never();
        let Some(Err(NoSession::AllInUse(wait))) = refused else { panic!("{refused:?}") };
        assert_eq!(wait, Duration::from_secs(2), "for so long nobody was served");
        assert!(queue.place(&hand, PATIENT).now_or_never().is_none(), "that is within its patience");

        // Whoever has given up, or been served, is not waited for.
        waiting.truncate(1);
        drop(place);
        let second = waiting.pop().unwrap().await.unwrap();
        hand.0.store(60_000, Ordering::Relaxed);
        assert!(queue.place(&hand, PATIENT).now_or_never().is_none(), "nobody is before it");
        drop(second);
        assert!(queue.place(&hand, Duration::ZERO).now_or_never().unwrap().is_ok());
    }
}
