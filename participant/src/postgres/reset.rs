//! What makes a session as good as new for the next branch.
//!
//! It is done behind PREPARE, where it is a transaction of its own that the server has to begin and to end; or, where
//! nothing of a client's can run any more, before it in the branch's own, which costs the server about a fifth less
//! for a branch.

use std::time::Duration;

use postgres_protocol::message::backend::DataRowBody;

use super::own::{LEFTOVERS, Own, RESET, RESET_BUT_STATEMENTS, RESET_PREPARED, all_leftovers, texts};
use super::prepare::put;
use super::session::{BranchState, PostgresSession};
use super::wire::{ENCODING, Failed, Tag, Transaction, Trip, Unsendable};
use super::{failed, unexpected};
use crate::database::{Command, DatabaseError};

/// For how long a session's prepared statements are not listed again, unless its branches give a reason.
const LISTED_EVERY: Duration = Duration::from_secs(1);

/// Where a branch's trip makes the session ready for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    BeforePrepare,
    BehindPrepare,
}

/// What a statement says of itself that did nothing but read and write rows.
const ROWS: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"];

/// Whether a statement that said this of itself may have left something to run within PREPARE, or have set something.
pub(super) fn does_more_than_rows(tag: &Tag) -> bool {
    !ROWS.iter().any(|name| tag.begins(name))
}

impl PostgresSession {
    /// Where the branch that is about to be prepared has its session made ready.
    ///
    /// Before PREPARE only where no trigger of the database's own can run within it, by the list that a session makes
    /// each second; where no statement came that could have made such a trigger, nor one that sets anything; and where
    /// RESET ALL takes nothing from the branch that it was given, as its timeouts.
    pub(super) fn place_of_reset(&self) -> Place {
        let behind = self.changes_within
            || self.branch.resets_behind
            || self.tampered
            || self.may_have_prepared
            || self.roles.current != self.roles.session
            || self.is_list_due();
        if behind { Place::BehindPrepare } else { Place::BeforePrepare }
    }

    fn is_list_due(&self) -> bool {
        self.clock.now().since(self.listed) >= LISTED_EVERY
    }

    /// Puts what goes before PREPARE.
    pub(super) fn put_reset_before(&mut self, trip: &mut Trip) -> Result<(), Unsendable> {
        for reset in RESET_PREPARED {
            self.own.run(trip, reset, None)?;
        }
        Ok(())
    }

    /// Reads what that says.
    pub(super) async fn did_reset(&mut self) -> Result<(), Failed> {
        for _ in RESET_PREPARED {
            self.link.done().await?;
        }
        Ok(())
    }

    /// Reads the end of a trip that made the session ready before it prepared. True when the session is as good as
    /// new.
    pub(super) async fn is_ready(&mut self) -> bool {
        if self.link.finish().await.is_err() {
            return false;
        }
        self.own.end_trip();
        self.tampered |= self.link.take_reread();
        !self.tampered && self.link.transaction() == Transaction::None && self.link.encoding() == ENCODING
    }

    pub(super) fn put_reset(&mut self, trip: &mut Trip, resets: &[&Own]) -> Result<(), Unsendable> {
        for reset in resets {
            self.own.run(trip, reset, None)?;
        }
        // A statement that was prepared at the top was seen by its tag. Those that a function or a trigger
        // prepared are found before long.
        self.lists = self.is_list_due() || self.may_have_prepared;
        if self.lists { put(trip, &all_leftovers()) } else { self.own.run(trip, &LEFTOVERS, None) }
    }

    /// Reads the rest of a trip that ends in so many resets. True when the session is as good as new.
    pub(super) async fn was_reset(&mut self, resets: usize) -> bool {
        let reading = async {
            for _ in 0..resets {
                self.link.done().await?;
            }
            let (_, row) = self.link.done().await?;
            self.link.finish().await?;
            Ok::<_, Failed>(row)
        };
        let Ok(row) = reading.await else { return false };
        self.own.end_trip();
        self.tampered |= self.link.take_reread();
        let Some([_, left, ..]) = row.as_ref().and_then(texts::<4>) else { return false };
        self.tampered |= left != Some("f");
        if self.lists {
            let Some([.., marks, within]) = row.as_ref().and_then(texts::<6>) else { return false };
            (self.listed, self.may_have_prepared) = (self.clock.now(), false);
            (self.marks, self.changes_within) = (marks == Some("t"), within != Some("f"));
        }
        self.has_own_roles(row.as_ref())
            && !self.tampered
            && self.link.transaction() == Transaction::None
            && self.link.encoding() == ENCODING
    }

    /// Whether the session works as the agent's own roles, as [`LEFTOVERS`] says.
    pub(super) fn has_own_roles(&self, left: Option<&DataRowBody>) -> bool {
        let own = [Some(self.roles.current.as_str()), Some(self.roles.session.as_str())];
        left.and_then(texts::<4>).is_some_and(|[.., current, session]| [current, session] == own)
    }

    /// Makes the session as good as new.
    pub(super) async fn reset_session(&mut self) -> Result<(), DatabaseError> {
        self.tampered |= self.link.take_reread();
        if !self.clean && !self.tampered {
            let mut trip = self.own_trip();
            if self.put_reset(&mut trip, &RESET_BUT_STATEMENTS).is_ok() && self.link.send(trip).await.is_ok()
            {
                self.clean = self.was_reset(RESET_BUT_STATEMENTS.len()).await;
            }
        }
        if !self.clean {
            self.own.clear();
            self.known.clear();
            self.link.batch(RESET).await.map_err(|error| failed(Command::Statement, error))?;
            if self.link.transaction() != Transaction::None || self.link.encoding() != ENCODING {
                return Err(unexpected(Command::Statement, "a session that a reset did not make new"));
            }
            (self.clean, self.tampered, self.may_have_prepared) = (true, false, false);
        }
        self.branch = BranchState::default();
        Ok(())
    }
}
