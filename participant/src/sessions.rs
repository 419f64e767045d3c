//! The connections on which branches live: a limit, a queue with a deadline, and a clean session for each.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use votum_proto::runtime::Seams;

use crate::database::{Database, DatabaseError, Session};

/// How long a database may take to make a session as good as new.
const PATIENCE: Duration = Duration::from_secs(10);

/// The sessions of one participant.
pub(crate) struct Sessions {
    database: Arc<dyn Database>,
    limit: usize,
    places: Arc<Semaphore>,
    /// For those that hold a session for one trip only.
    short: Arc<Semaphore>,
    waiting: AtomicUsize,
    idle: Mutex<Vec<Box<dyn Session>>>,
    seams: Seams,
}

/// Why no session was had.
#[derive(Debug)]
pub(crate) enum NoSession {
    /// All were in use until the deadline.
    AllInUse,
    /// The database did not let us in.
    Unreachable(DatabaseError),
}

impl Sessions {
    /// At most `limit` sessions, `short` of them for branches that hold one for one trip only.
    pub(crate) fn new(database: Arc<dyn Database>, limit: usize, short: usize, seams: Seams) -> Arc<Self> {
        Arc::new(Self {
            database,
            limit,
            places: Arc::new(Semaphore::new(limit)),
            short: Arc::new(Semaphore::new(short)),
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
        let turn = self.place_in(&self.short, limit).await?;
        let left = limit.saturating_sub(self.seams.clock.now().since(begun));
        self.lease_within(left, timeout, Some(turn)).await
    }

    async fn place_in(
        &self,
        places: &Arc<Semaphore>,
        limit: Duration,
    ) -> Result<OwnedSemaphorePermit, NoSession> {
        match self.seams.clock.timeout(limit, Arc::clone(places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(NoSession::AllInUse),
        }
    }

    async fn lease_within(
        self: &Arc<Self>,
        limit: Duration,
        timeout: Duration,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<Leased, NoSession> {
        let place = self.place_in(&self.places, limit).await?;
        let session = match self.idle_session() {
            Some(session) => session,
            None => self.database.open_session(Some(timeout)).await.map_err(NoSession::Unreachable)?,
        };
        Ok(Leased { session, place, turn, home: Arc::clone(self) })
    }

    /// How many are used and waited for.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            used: self.limit.saturating_sub(self.places.available_permits()),
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
