//! An application that works on a connection of its own, and prepares there: an attached branch.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use votum_participant::database::{BeginOptions, DatabaseError, Preparation, RowSink, Session, Statement};
use votum_proto::names::Gid;
use votum_proto::v1;

use super::clients::{Client, Went};
use super::database::Doing;
use super::judge::LONG_MS;
use super::world::World;

/// What an application has at its participant.
pub(super) struct Application {
    /// Where.
    pub(super) participant: usize,
    /// The name that it was given.
    gid: Gid,
    session: Option<Box<dyn Session>>,
    /// It has called PREPARE TRANSACTION.
    pub(super) has_prepared: bool,
}

/// How PREPARE went, as its driver tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepared {
    /// Without an error. A warning is not seen.
    Well,
    /// Refused, or nothing was there to be prepared.
    Refused,
    /// The connection broke.
    Unknown,
}

/// Nobody reads the rows.
struct Ignored;

#[async_trait]
impl RowSink for Ignored {
    async fn columns(&mut self, _: Vec<v1::Column>) {}
    async fn row(&mut self, _: v1::Row) {}
}

impl Application {
    /// One that has not begun yet.
    pub(super) fn new(participant: usize, gid: Gid) -> Self {
        Self { participant, gid, session: None, has_prepared: false }
    }

    /// Runs a statement; the first opens the transaction.
    ///
    /// # Errors
    /// As the database answers.
    pub(super) async fn run(
        &mut self,
        world: &Arc<World>,
        doing: &Doing,
        timeout: Duration,
    ) -> Result<(), DatabaseError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => {
                let Some(database) = world.database(self.participant) else { return Ok(()) };
                let mut session = database.application().await?;
                let isolation = v1::Isolation::ReadCommitted;
                session.begin(&BeginOptions { isolation, read_only: false, timeout }).await?;
                session
            }
        };
        let statement = Statement { text: doing.text(), parameters: Vec::new(), raw_binary: false };
        let ran = session.run(&statement, &mut Ignored).await;
        if ran.as_ref().err().is_none_or(|error| !error.broken()) {
            self.session = Some(session);
        }
        ran.map(drop)
    }

    /// Prepares what was done; nothing is left on the connection afterwards.
    pub(super) async fn prepare(&mut self) -> Prepared {
        self.has_prepared = true;
        let Some(mut session) = self.session.take() else { return Prepared::Refused };
        match session.prepare(&self.gid, false).await {
            Preparation::Prepared { .. } | Preparation::Unsound(_) => Prepared::Well,
            Preparation::ReadOnly | Preparation::Ready { .. } | Preparation::Refused(_) => Prepared::Refused,
            Preparation::Unknown(_) => Prepared::Unknown,
        }
    }
}

impl Client {
    /// Runs a statement on its own connection.
    pub(super) async fn own_statement(
        &mut self,
        participant: usize,
        ordinal: u64,
        changes: bool,
        doing: &Doing,
    ) -> Went {
        let Some(own) = &mut self.own else { return Went::Lost };
        if let Err(error) = own.run(&self.world, doing, self.work.timeout).await {
            self.note(|| format!("ordinal {ordinal} failed on its own connection: {error}"));
            return if error.broken() { Went::Lost } else { Went::Failed };
        }
        self.has_done(participant, ordinal, changes);
        Went::Well
    }

    /// Prepares on its own connection, as most do that are about to commit, and some that are not; whether there is
    /// any point in asking for the commit.
    pub(super) async fn prepare_own(&mut self, going: bool) -> bool {
        let Some(own) = &mut self.own else { return true };
        let willing = if going { 950 } else { 300 };
        if !self.random.chance(willing) {
            return true;
        }
        let prepared = own.prepare().await;
        self.note(|| format!("prepares on its own connection: {prepared:?}"));
        match prepared {
            Prepared::Well => true,
            // Some commit all the same.
            Prepared::Refused | Prepared::Unknown => self.random.chance(400),
        }
    }

    /// Some prepare when all is over. What retention has forgotten is left to a person then, of whom there is none.
    pub(super) async fn prepare_late(&mut self) {
        let Some(mut own) = self.own.take() else { return };
        let remembered = self.world.plan.log.retention_ms >= LONG_MS;
        if !own.has_prepared && remembered && self.random.chance(500) {
            self.think().await;
            let prepared = own.prepare().await;
            self.note(|| format!("prepares on its own connection, too late: {prepared:?}"));
        }
    }
}
