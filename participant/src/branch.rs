//! One branch as everything but its own task sees it: how it stands, and how it is told to end.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use votum_proto::names::{Gid, Gtid, ParticipantName, SessionName};
use votum_proto::v1;

use crate::host::Command;

/// Where a branch is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It takes statements.
    Open,
    /// Prepare was asked for; it takes no more statements.
    Preparing,
    /// It has offered to be committed in one phase, or is to decide, and waits for the word.
    Ready,
    /// The word has come: it is being committed.
    Committing,
    /// It has voted no, but its PREPARE may still be running in a server process that we lost.
    Unsettled,
    /// No session is open any more: prepared, committed as read-only, or rolled back.
    Settled,
}

/// How a branch stands.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) phase: Phase,
    /// Under which name it was to be prepared.
    pub(crate) gid: Option<Gid>,
    /// Once given, it never changes.
    pub(crate) vote: Option<v1::vote::Kind>,
    /// The transaction id, where it was prepared by this process and voted yes.
    pub(crate) prepared: Option<u64>,
    /// Whether the gid may be prepared although this process did not vote yes.
    pub(crate) perhaps_prepared: bool,
    /// How its commit in one phase ended, where this process knows.
    pub(crate) one_phase: Option<OnePhaseEnd>,
    /// What goes with its vote.
    pub(crate) beside: Option<Arc<Beside>>,
}

/// What goes with the vote of a branch whose work was known before it began.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    pub(crate) results: Vec<v1::StatementResult>,
    pub(crate) failed: Option<Box<v1::FailedStatement>>,
}

/// How a commit in one phase ended.
#[derive(Debug, Clone)]
pub(crate) enum OnePhaseEnd {
    Committed,
    Refused(v1::AbortReason),
}

impl Standing {
    fn is_quiet(&self) -> bool {
        match self.phase {
            Phase::Open | Phase::Preparing | Phase::Ready => false,
            // Left to finish: the marker says how it ended.
            Phase::Committing | Phase::Unsettled | Phase::Settled => true,
        }
    }
}

/// Why a branch is to end.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    pub(crate) reason: v1::AbortReason,
    /// Whether the coordinator has to hear of it: not where it gave the order.
    pub(crate) report: bool,
}

/// One branch.
pub(crate) struct Branch {
    pub(crate) gtid: Gtid,
    pub(crate) participant: ParticipantName,
    pub(crate) session: SessionName,
    standing: watch::Sender<Standing>,
    end: watch::Sender<Option<Ending>>,
    commands: mpsc::Sender<Command>,
}

/// How many commands may wait for one branch.
const WAITING: usize = 16;

impl Branch {
    /// A new branch, and what its task reads its commands from.
    pub(crate) fn new(
        gtid: Gtid,
        participant: ParticipantName,
        session: SessionName,
    ) -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(WAITING);
        let standing = Standing {
            phase: Phase::Open,
            gid: None,
            vote: None,
            prepared: None,
            perhaps_prepared: false,
            one_phase: None,
            beside: None,
        };
        let branch = Self {
            gtid,
            participant,
            session,
            standing: watch::Sender::new(standing),
            end: watch::Sender::new(None),
            commands,
        };
        (branch, receiver)
    }

    /// Stands in for a branch that is not here: its vote is no, for ever.
    pub(crate) fn absent(
        gtid: Gtid,
        participant: ParticipantName,
        session: SessionName,
        gid: Gid,
        vote: v1::vote::Kind,
    ) -> Self {
        let (branch, _) = Self::new(gtid, participant, session);
        branch.settle(|standing| {
            standing.gid = Some(gid);
            standing.vote = Some(vote);
            standing.perhaps_prepared = true;
        });
        branch
    }

    /// How it stands now.
    pub(crate) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Hands a command to the branch's task.
    pub(crate) fn command(&self, command: Command) -> Result<(), mpsc::error::TrySendError<Command>> {
        self.commands.try_send(command)
    }

    /// Notes what goes with its vote, before that is given.
    pub(crate) fn put_beside(&self, beside: Beside) {
        self.standing.send_modify(|standing| standing.beside = Some(Arc::new(beside)));
    }

    /// Lets go of what went with a vote that was given long ago. Where nothing was written, the vote becomes a no
    /// should it be asked for once more: the results of what was read are gone. One that committed or prepared
    /// something stands.
    pub(crate) fn forget_results(&self) {
        self.standing.send_if_modified(|standing| {
            let held = standing.beside.take().is_some();
            let read_only = matches!(standing.vote, Some(v1::vote::Kind::ReadOnly(_)));
            if held && read_only {
                let gone = "the results of the branch are not kept any more: run the transaction again";
                standing.vote = Some(no(reason(v1::abort_reason::Kind::BranchLost, &self.participant, gone)));
            }
            held
        });
    }

    /// Its vote on `gid`, as the coordinator is told.
    pub(crate) fn vote_on(&self, gid: &Gid, vote: v1::vote::Kind) -> v1::Vote {
        let beside = self.standing.borrow().beside.clone();
        let (results, failed) = match (&beside, &vote) {
            (None, _) => (Vec::new(), None),
            (Some(beside), v1::vote::Kind::No(_)) => (Vec::new(), beside.failed.clone()),
            (Some(beside), _) => (beside.results.clone(), None),
        };
        v1::Vote {
            gtid: self.gtid.to_string(),
            participant: self.participant.to_string(),
            gid: gid.to_string(),
            kind: Some(vote),
            results,
            failed,
        }
    }

    /// Turns an open branch into a preparing one; false when it was not open.
    pub(crate) fn start_preparing(&self, gid: &Gid) -> bool {
        self.standing.send_if_modified(|standing| {
            let open = standing.phase == Phase::Open;
            if open {
                standing.phase = Phase::Preparing;
                standing.gid = Some(gid.clone());
            }
            open
        })
    }

    /// Turns an open branch into one that waits for the word to decide.
    pub(crate) fn start_deciding(&self, gid: &Gid) {
        self.standing.send_modify(|standing| {
            standing.gid = Some(gid.clone());
            standing.phase = Phase::Ready;
        });
    }

    /// What came of its work, once.
    pub(crate) fn take_beside(&self) -> Option<Arc<Beside>> {
        let mut taken = None;
        self.standing.send_modify(|standing| taken = standing.beside.take());
        taken
    }

    /// Notes an offer to be committed in one phase.
    pub(crate) fn ready(&self, offer: v1::vote::Kind) {
        self.standing.send_modify(|standing| {
            standing.vote = Some(offer);
            standing.phase = Phase::Ready;
        });
    }

    /// Turns a branch that is ready into one that is being committed; false when it was not ready.
    pub(crate) fn start_committing(&self) -> bool {
        self.standing.send_if_modified(|standing| {
            let ready = standing.phase == Phase::Ready;
            if ready {
                standing.phase = Phase::Committing;
            }
            ready
        })
    }

    /// Notes a vote that leaves the branch unsettled.
    pub(crate) fn unsettle(&self, reason: v1::AbortReason) {
        self.standing.send_modify(|standing| {
            standing.vote = Some(no(reason));
            standing.phase = Phase::Unsettled;
            standing.perhaps_prepared = true;
        });
    }

    /// Notes that no session is open any more, and what `change` adds.
    pub(crate) fn settle(&self, change: impl FnOnce(&mut Standing)) {
        self.standing.send_modify(|standing| {
            change(standing);
            standing.phase = Phase::Settled;
        });
    }

    /// Notes that an order about what it prepared was carried out: what stands under its gid from now on may
    /// be other work. True the first time.
    pub(crate) fn spend(&self) -> bool {
        self.standing.send_if_modified(|standing| {
            let was_prepared = standing.prepared.take().is_some();
            // The order shows that the vote was heard, and what went with it.
            if was_prepared {
                standing.beside = None;
            }
            standing.perhaps_prepared |= was_prepared;
            was_prepared
        })
    }

    /// Asks the branch to end, unless somebody has already. A branch that is prepared stays prepared.
    pub(crate) fn end(&self, ending: Ending) {
        self.end.send_if_modified(|asked| {
            let first = asked.is_none();
            if first {
                *asked = Some(ending);
            }
            first
        });
    }

    /// Why it is to end, if somebody has asked for that.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.end.borrow().clone()
    }

    /// Waits until it is asked to end.
    pub(crate) async fn asked_to_end(&self) -> Ending {
        let mut end = self.end.subscribe();
        let asked = end.wait_for(Option::is_some).await.ok().and_then(|asked| asked.clone());
        match asked {
            Some(ending) => ending,
            // Cannot be: we hold the sender, and waited for a value.
            None => std::future::pending().await,
        }
    }

    /// Whether nothing runs in its session any more, or nobody can say so.
    pub(crate) fn is_quiet(&self) -> bool {
        self.standing.borrow().is_quiet()
    }

    /// Waits until it is quiet.
    pub(crate) async fn quiet(&self) {
        let mut standing = self.standing.subscribe();
        let _ = standing.wait_for(Standing::is_quiet).await;
    }

    /// Waits until no session is open any more.
    pub(crate) async fn settled(&self) -> Standing {
        let mut standing = self.standing.subscribe();
        // We hold the sender, so that the wait cannot fail.
        let _ = standing.wait_for(|standing| standing.phase == Phase::Settled).await;
        self.standing()
    }
}

/// A vote against.
pub(crate) fn no(reason: v1::AbortReason) -> v1::vote::Kind {
    v1::vote::Kind::No(v1::VoteNo { reason: Some(reason) })
}

/// A reason for a branch's end.
pub(crate) fn reason(
    kind: v1::abort_reason::Kind,
    participant: &ParticipantName,
    message: impl Into<String>,
) -> v1::AbortReason {
    v1::AbortReason {
        kind: kind.into(),
        participant: participant.to_string(),
        sqlstate: String::new(),
        message: message.into(),
        retryable: false,
    }
}

#[cfg(test)]
mod tests {
    use v1::vote::Kind as Vote;

    use super::*;

    /// A branch that has voted, with results beside it, which are then forgotten; its vote, asked for once more.
    fn asked_again(vote: Vote) -> v1::Vote {
        let gid: Gid = "votum_acme_7_3f9ac2_1042_0_2".parse().unwrap();
        let session = SessionName { agent_instance: 1, counter: 1 };
        let (branch, _) = Branch::new(gid.gtid.clone(), "bank-a".parse().unwrap(), session);
        let results = vec![v1::StatementResult { row_count: 1, ..v1::StatementResult::default() }];
        branch.put_beside(Beside { results, failed: None });
        branch.settle(|standing| standing.vote = Some(vote));
        assert_eq!(branch.vote_on(&gid, branch.standing().vote.unwrap()).results.len(), 1);
        branch.forget_results();
        branch.vote_on(&gid, branch.standing().vote.unwrap())
    }

    /// What it read is gone, and a reply without it would look like one that found nothing.
    #[test]
    fn results_that_are_forgotten_take_only_a_vote_with_them_that_they_were_all_of() {
        let read_only = asked_again(Vote::ReadOnly(v1::VoteReadOnly::default()));
        assert!(matches!(read_only.kind, Some(Vote::No(_))), "{read_only:?}");
        let yes = Vote::Yes(v1::VoteYes { xid8: 7, ..v1::VoteYes::default() });
        let prepared = asked_again(yes.clone());
        assert_eq!((prepared.kind, prepared.results.len()), (Some(yes), 0));
    }
}
