//! What makes a session as good as new for the next branch.

use std::time::Duration;

use super::own::{LEFTOVERS, Own, RESET, RESET_BUT_STATEMENTS, all_leftovers, texts};
use super::prepare::put;
use super::session::{BranchState, PostgresSession};
use super::wire::{ENCODING, Failed, Transaction, Trip, Unsendable};
use super::{failed, unexpected};
use crate::database::{Command, DatabaseError};

/// For how long a session's prepared statements are not listed again, unless its branches give a reason.
const LISTED_EVERY: Duration = Duration::from_secs(1);

impl PostgresSession {
    pub(super) fn put_reset(&mut self, trip: &mut Trip, resets: &[&Own]) -> Result<(), Unsendable> {
        for reset in resets {
            self.own.run(trip, reset, None)?;
        }
        // A statement that was prepared at the top was seen by its tag. Those that a function or a trigger
        // prepared are found before long.
        let due = self.clock.now().since(self.listed) >= LISTED_EVERY;
        self.lists = due || self.may_have_prepared;
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
        let Some([_, left, current, session, marks]) = row.as_ref().and_then(texts) else { return false };
        let own_roles = [Some(self.roles.current.as_str()), Some(self.roles.session.as_str())];
        self.tampered |= left != Some("f");
        if self.lists {
            (self.listed, self.may_have_prepared) = (self.clock.now(), false);
            self.marks = marks == Some("t");
        }
        [current, session] == own_roles
            && !self.tampered
            && self.link.transaction() == Transaction::None
            && self.link.encoding() == ENCODING
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
