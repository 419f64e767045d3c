//! Attached branches: whether they can be had, before anybody prepares one.

use std::collections::BTreeSet;

use votum_proto::names::ParticipantName;

use super::request::{BranchClaim, RequestError};
use super::{Driver, Link, Live, clients};
use crate::protocol::record::{AbortKind, AbortReason};

impl Driver {
    /// Whether a transaction may be begun whose application prepares branches of its own at these participants.
    pub(super) fn may_be_attached(&self, attached: &[ParticipantName]) -> Result<(), RequestError> {
        let mut seen = BTreeSet::new();
        for participant in attached {
            if !seen.insert(participant) {
                return Err(RequestError::Invalid(format!(
                    "participant {participant} is named twice in attached"
                )));
            }
            let Some(known) = self.participants.get(participant) else {
                return Err(clients::not_configured(participant));
            };
            let link = self.links.get(known.agent);
            if link.is_none_or(|link| !link.heard) {
                return Err(RequestError::Unavailable(format!(
                    "the agent of {participant} has not been heard yet, and may be one that cannot verify attached \
                     branches"
                )));
            }
            if !self.can_verify_attached(participant) {
                return Err(RequestError::Invalid(too_old(participant)));
            }
        }
        clients::one_name_each(&self.participants, attached.iter())
    }

    fn can_verify_attached(&self, participant: &ParticipantName) -> bool {
        let link = self.participants.get(participant).and_then(|known| self.links.get(known.agent));
        link.is_some_and(|link: &Link| link.can_verify_attached)
    }

    /// Why a transaction whose Commit is asked for cannot be committed: an agent of its attached branches was replaced
    /// by one that would not answer.
    pub(super) fn unverifiable(&self, live: &Live) -> Option<AbortReason> {
        if !live.transaction.is_active() {
            return None;
        }
        let mut attached = live.transaction.attached().iter();
        let participant = attached.find(|participant| !self.can_verify_attached(participant))?;
        Some(AbortReason {
            kind: AbortKind::VotedNo,
            participant: Some(participant.clone()),
            sqlstate: String::new(),
            message: too_old(participant),
        })
    }

    /// Whether a first Commit may name these branches, beside the attached ones.
    pub(super) fn may_be_named(&self, live: &Live, claims: &[BranchClaim]) -> Result<(), RequestError> {
        let claimed = claims.iter().map(|claim| &claim.participant);
        match claimed.clone().find(|participant| !self.participants.contains_key(participant)) {
            Some(unknown) => Err(clients::not_configured(unknown)),
            None => {
                clients::one_name_each(&self.participants, live.transaction.attached().iter().chain(claimed))
            }
        }
    }
}

fn too_old(participant: &ParticipantName) -> String {
    format!(
        "the agent of {participant} is of an older version, which cannot verify attached branches: start the present \
         one, or run the statements through it"
    )
}
