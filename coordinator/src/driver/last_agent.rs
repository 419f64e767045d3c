//! The last agent: which branch decides for its siblings, and what it is told.

use votum_proto::names::{BranchNumber, Gid, ParticipantName, SessionName};
use votum_proto::runtime::Monotonic;
use votum_proto::v1;

use super::request::{BranchClaim, Transact};
use super::wire::LastTask;
use super::{Driver, LocalId};
use crate::protocol::last_agent::LastAgent;

/// The branch that decides for the others.
pub(super) struct Last {
    pub(super) participant: ParticipantName,
    session: SessionName,
    agent: LastAgent,
}

impl Driver {
    /// The branch that decides, where that was asked for and one can: the last in the request. It must be able to
    /// write a commit marker, and its agent to commit what nobody has begun.
    pub(super) fn choose_last(
        &self,
        transact: &Transact,
        claims: &[BranchClaim],
    ) -> Option<(Last, LastAgent)> {
        if !transact.last_agent || claims.len() < 2 {
            return None;
        }
        let chosen = self.last_of(transact, claims);
        self.settings.counted.transactions.asked_for_last_agent(chosen.is_some());
        chosen
    }

    fn last_of(&self, transact: &Transact, claims: &[BranchClaim]) -> Option<(Last, LastAgent)> {
        let mut branches = claims.iter().zip(&transact.branches).enumerate().rev();
        branches.find_map(|(place, (claim, (participant, work)))| {
            let number = BranchNumber::try_from(place).ok()?;
            let known = self.participants.get(participant)?;
            let link = self.links.get(known.agent)?;
            let may = link.can_decide && link.can_commit_one_phase && !transact.read_only && !work.read_only;
            let (system_identifier, timeline) = known.decides_on.filter(|_| may)?;
            let agent = LastAgent { number, system_identifier, timeline };
            let last = Last { participant: participant.clone(), session: claim.session, agent };
            Some((last, agent))
        })
    }

    /// Notes whether a branch at a participant may decide for its siblings, and on which server.
    pub(super) fn note_where_it_decides(&mut self, participant: &ParticipantName, listing: &v1::Listing) {
        let v1::Listing { system_identifier, timeline, can_decide, .. } = *listing;
        if let Some(known) = self.participants.get_mut(participant) {
            known.decides_on = can_decide.then_some((system_identifier, timeline));
        }
    }

    /// What the branch that decides is to do, while its transaction's life lasts.
    pub(super) fn last_task(&self, id: LocalId, branch: BranchNumber) -> Option<LastTask> {
        let whole = self.live.get(&id)?.whole.as_ref()?;
        let Last { session, agent, .. } = whole.last.as_ref().filter(|last| last.agent.number == branch)?;
        let LastAgent { system_identifier, timeline, .. } = *agent;
        let work = whole.work(branch, self.seams.clock.now())?;
        Some(LastTask { session: *session, work, system_identifier, timeline })
    }

    /// Until when the branch that decides may be at its statements.
    pub(super) fn works_until(&self, id: LocalId) -> Option<Monotonic> {
        let live = self.live.get(&id).filter(|live| live.transaction.is_one_phase())?;
        live.whole.as_ref().filter(|whole| whole.last.is_some())?.deadline()
    }

    /// Keeps what the answer of the branch that decides brought along.
    pub(super) fn note_what_decided(
        &mut self,
        gid: &Gid,
        results: Vec<v1::StatementResult>,
        failed: Option<v1::FailedStatement>,
    ) {
        let whole = self.live.get_mut(&LocalId::from(&gid.gtid)).and_then(|live| live.whole.as_mut());
        let decides = |last: &Last| last.agent.number == gid.branch;
        if let Some(whole) = whole.filter(|whole| whole.last.as_ref().is_some_and(decides)) {
            whole.note(gid.branch, results, failed.map(Box::new));
        }
    }
}
