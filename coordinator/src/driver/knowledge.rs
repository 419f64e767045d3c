//! Gathers what the log, and memory, say of a transaction, for the protocol to judge.

use votum_proto::names::{Gid, Gtid, ParticipantName};
use votum_proto::v1;

use super::{Driver, LocalId, LogState};
use crate::log::TransactionHistory;
pub(super) use crate::protocol::knowledge::Owner;
use crate::protocol::knowledge::{Known, Readable};
use crate::protocol::recovery::{Absence, LogSays};

impl Owner {
    /// Whose a listed row is.
    pub(super) fn of(row: &v1::PreparedTransaction, listing: &v1::Listing) -> Self {
        Self {
            by_agent: row.owner == listing.role || listing.attached_roles.contains(&row.owner),
            in_database: row.database == listing.database,
        }
    }
}

impl Driver {
    /// `owner` is `None` where the agent itself vouches for the branch (a vote).
    pub(super) fn log_says(
        &self,
        participant: &ParticipantName,
        gid: &Gid,
        xid: u32,
        owner: Option<&Owner>,
    ) -> LogSays {
        let history = if gid.gtid.coordinator_id == self.coordinator_id {
            match self.history_of(&gid.gtid) {
                Ok(history) => history.unwrap_or_default(),
                Err(error) => return LogSays::Nothing(Absence::Unproven(error.to_string())),
            }
        } else {
            TransactionHistory::default()
        };
        let known = self.known(&gid.gtid, &history);
        known.of_prepared(participant, gid, xid, owner, &|| self.mark(participant))
    }

    /// All that is known of a transaction, its records being `history`.
    pub(super) fn known<'a>(&'a self, gtid: &Gtid, history: &'a TransactionHistory) -> Known<'a> {
        Known {
            coordinator_id: &self.coordinator_id,
            lives: &self.lives,
            readable: self.readable(),
            stale: self.stale.as_deref(),
            unheard: self.unheard(),
            live: self.live.get(&LocalId::from(gtid)).map(|live| &live.transaction),
            history,
        }
    }

    /// The address of an agent that has not been heard in this life, if there is one.
    pub(super) fn unheard(&self) -> Option<&str> {
        self.links.iter().find(|link| !link.heard).map(|link| link.address.as_str())
    }

    pub(super) fn readable(&self) -> Readable<'_> {
        match &self.log_state {
            LogState::Counting => Readable::Journal,
            LogState::Ready(_) => Readable::Whole,
            LogState::Unreadable(why) => Readable::Damaged(why),
            LogState::Doubtful(why) => Readable::Doubtful(why),
        }
    }

    fn mark(&self, participant: &ParticipantName) -> Result<Option<Gtid>, String> {
        match &self.log_state {
            LogState::Ready(history) => history.mark(participant).map_err(|error| error.to_string()),
            LogState::Counting | LogState::Unreadable(_) | LogState::Doubtful(_) => Ok(None),
        }
    }

    pub(super) fn horizon(&self) -> Result<Option<Gtid>, String> {
        match &self.log_state {
            LogState::Ready(history) => history.horizon().map_err(|error| error.to_string()),
            LogState::Counting | LogState::Unreadable(_) | LogState::Doubtful(_) => Ok(None),
        }
    }
}
