//! How many commits each participant has yet to acknowledge. Whoever waits for the decision alone could have them
//! decided faster than a database carries them out, until it has no place for another prepared transaction: above a
//! bound, its answers wait for the acknowledgements.

use std::collections::BTreeMap;

use votum_proto::names::ParticipantName;

use super::{Driver, Live, LocalId};
use crate::protocol::standing::Standing;

/// The commits that are owed to each participant.
#[derive(Default)]
pub(super) struct Backlog {
    owed: BTreeMap<ParticipantName, usize>,
}

impl Backlog {
    fn paid(&mut self, participant: &ParticipantName) {
        if let Some(owed) = self.owed.get_mut(participant) {
            *owed = owed.saturating_sub(1);
        }
    }

    /// Nothing is owed of a transaction any more that leaves memory.
    pub(super) fn leaves(&mut self, live: &Live) {
        for participant in &live.owing {
            self.paid(participant);
        }
    }
}

impl Driver {
    /// A transaction is committed: its branches are owed from now on.
    pub(super) fn owe(&mut self, id: LocalId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        if let Standing::Committed { pending } = live.transaction.standing() {
            for participant in &pending {
                *self.backlog.owed.entry(participant.clone()).or_default() += 1;
            }
            live.owing = pending;
        }
    }

    /// A participant has said something of its branch.
    pub(super) fn pay(&mut self, id: LocalId, participant: &ParticipantName) {
        let Some(live) = self.live.get_mut(&id) else { return };
        if let Some(place) = live.owing.iter().position(|owing| owing == participant)
            && !live.transaction.owes(participant)
        {
            live.owing.swap_remove(place);
            self.backlog.paid(participant);
        }
    }

    /// Something about a transaction's branches is on record.
    pub(super) fn pay_all(&mut self, id: LocalId) {
        let owing = self.live.get(&id).map(|live| live.owing.clone()).unwrap_or_default();
        for participant in owing {
            self.pay(id, &participant);
        }
    }

    /// Whether a participant of this transaction is owed more than the bound.
    pub(super) fn is_behind(&self, live: &Live) -> bool {
        let most = self.settings.max_undelivered;
        live.owing
            .iter()
            .any(|participant| self.backlog.owed.get(participant).is_some_and(|owed| *owed > most))
    }
}
