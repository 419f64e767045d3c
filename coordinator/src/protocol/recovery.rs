//! The recovery table: what to do with what is found, or no longer found, at a participant.
//!
//! Each row has a label and a test that names it. The rows are judged from the top; what rests on the
//! absence of a record comes last, so that a log which may lack records (stale, not counted, not all heard)
//! touches only those rows. What cannot be known is a recorded hazard, never a guess.

use votum_proto::canary::{Canary, sings};
use votum_proto::names::ParticipantName;

use super::record::{Decided, Decision, HeuristicKind};

/// A row of the table. docs/protocol.md holds the table for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// No complete answer from the participant: conclude nothing.
    R11,
    /// Not our gid: never touched.
    R12,
    /// A heuristic or a person's resolution is recorded for it: as recorded.
    R16,
    /// Decided commit, and it is prepared: commit.
    R1,
    /// Decided commit, but this branch or this xid is not in the decision: roll back, alarm.
    R1x,
    /// Decided abort: roll back.
    R14,
    /// Delegated, and this is the deciding branch, whose answer can no longer come.
    R13,
    /// Delegated, and this is a sibling, or the answer may still come.
    R13s,
    /// Decided commit, acknowledged, gone: nothing to do.
    R2,
    /// Decided commit, not acknowledged, gone: as the server's own memory of the xid says.
    R3,
    /// Decided abort, had voted yes, gone, not by us: as the server's own memory of the xid says.
    R15,
    /// An open session of a transaction that is not live: end it.
    R0,
    /// Undecided and live: the live protocol's.
    R6,
    /// No record, but absence proves nothing now: leave, alarm.
    R8,
    /// No record, at or below what retention has dropped or a person has written off: a person decides.
    R10,
    /// No record: presumed abort.
    R5,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// What the log says of the transaction whose branch was found prepared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogSays {
    /// Whatever the log says, the gid is not ours.
    NotOurs {
        /// It bears our coordinator_id and the agent's role: somebody forged it, or a log is missing.
        looks_like_ours: bool,
    },
    /// A departure or a resolution was recorded for this branch, under the transaction id that is asked about.
    Settled {
        /// How.
        how: Settled,
    },
    /// A decision is recorded.
    Decided {
        /// The decision.
        decision: Box<Decided>,
        /// Whether the branch acknowledged its commit, as far as the log or memory says.
        acknowledged: bool,
    },
    /// The decision was handed to one branch.
    Delegated {
        /// Whether this branch is that one.
        deciding: bool,
        /// Whether its answer may still come: live, and the agent has not restarted.
        answer_may_come: bool,
    },
    /// No decision is recorded.
    Nothing(Absence),
}

/// What the absence of a decision means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Absence {
    /// The transaction is live: it may yet be decided.
    Live,
    /// The log may lack it: why.
    Unproven(String),
    /// At or below the participant's mark: it may have been decided, and dropped.
    BelowMark,
    /// Of an epoch of which a person has written off what is lacking: it may have been decided.
    WrittenOff,
    /// There was never a decision.
    Proven,
}

/// How a branch was settled outside the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settled {
    /// A person chose.
    Resolved {
        /// To commit, or to roll back.
        commit: bool,
    },
    /// It departed from the decision.
    Heuristic {
        /// In which way.
        kind: HeuristicKind,
        /// What had been decided.
        decided_commit: bool,
    },
}

/// What to do with a prepared branch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing now.
    Leave,
    /// Nothing, and a person should look.
    LeaveAndAlarm(String),
    /// Nothing until a person decides.
    Quarantine {
        /// What may have become of its record.
        why: &'static str,
    },
    /// COMMIT PREPARED. `mends` when it had been acknowledged, or given up, before: record it once it
    /// succeeded.
    Commit {
        /// What must be found under the gid; 0 when only the listed xid is known.
        xid8: u64,
        /// Record the success.
        mends: bool,
    },
    /// ROLLBACK PREPARED.
    Rollback {
        /// Why that deserves a person's look, if it does.
        alarm: Option<String>,
    },
}

/// The row that applies, and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// Which row.
    pub row: Row,
    /// What to do.
    pub action: Action,
}

/// R11: why a listing proves nothing, if it does not. It failed, or it is a standby's.
pub fn judge_listing(failure: &str, in_recovery: bool) -> Option<String> {
    if sings(Canary::DropSweep) {
        return Some("nobody looks at listings".into());
    }
    if !failure.is_empty() {
        return Some(failure.to_owned());
    }
    in_recovery.then(|| "the server is a standby (in recovery)".to_owned())
}

/// Judges a prepared branch that a complete listing of `participant` shows with transaction id `xid` (low 32
/// bits).
pub fn judge_prepared(participant: &ParticipantName, branch: u16, xid: u32, log: &LogSays) -> Verdict {
    let verdict = |row, action| Verdict { row, action };
    match log {
        LogSays::NotOurs { looks_like_ours: false } => verdict(Row::R12, Action::Leave),
        LogSays::NotOurs { looks_like_ours: true } => verdict(
            Row::R12,
            Action::LeaveAndAlarm(
                "it bears this coordinator's name and role, and this log never handed it out".into(),
            ),
        ),
        LogSays::Settled { how } => verdict(Row::R16, settled(*how)),
        LogSays::Decided { decision, acknowledged } => match decision.decision {
            Decision::Commit => commit_decided(participant, branch, xid, decision, *acknowledged),
            Decision::Abort(_) => verdict(Row::R14, Action::Rollback { alarm: None }),
        },
        LogSays::Delegated { deciding: true, answer_may_come: false } => verdict(
            Row::R13,
            Action::LeaveAndAlarm("its commit was delegated, and the answer can no longer come".into()),
        ),
        LogSays::Delegated { .. } => verdict(Row::R13s, Action::Leave),
        LogSays::Nothing(Absence::Live) => verdict(Row::R6, Action::Leave),
        LogSays::Nothing(Absence::Unproven(why)) => verdict(Row::R8, Action::LeaveAndAlarm(why.clone())),
        LogSays::Nothing(Absence::BelowMark) => {
            verdict(Row::R10, Action::Quarantine { why: "its record may have been dropped after retention" })
        }
        LogSays::Nothing(Absence::WrittenOff) => verdict(
            Row::R10,
            Action::Quarantine { why: "its record may be among what was lost with the log, and written off" },
        ),
        LogSays::Nothing(Absence::Proven) => verdict(Row::R5, Action::Rollback { alarm: None }),
    }
}

fn commit_decided(
    participant: &ParticipantName,
    branch: u16,
    xid: u32,
    decided: &Decided,
    acknowledged: bool,
) -> Verdict {
    // Another server may have given out the same xid: a branch is the one that was decided only where it was.
    let listed =
        decided.branches.iter().find(|listed| listed.number == branch && listed.participant == *participant);
    match listed {
        Some(_) if sings(Canary::CommitWithoutComparing) => {
            Verdict { row: Row::R1, action: Action::Commit { xid8: 0, mends: acknowledged } }
        }
        Some(listed) if low_half(listed.xid8) == xid => {
            Verdict { row: Row::R1, action: Action::Commit { xid8: listed.xid8, mends: acknowledged } }
        }
        Some(listed) => Verdict {
            row: Row::R1x,
            action: Action::Rollback {
                alarm: Some(format!(
                    "the decision names transaction id {} and {xid} is prepared: other work under our name",
                    low_half(listed.xid8)
                )),
            },
        },
        None => Verdict {
            row: Row::R1x,
            action: Action::Rollback { alarm: Some("the decision does not name this branch here".into()) },
        },
    }
}

fn settled(how: Settled) -> Action {
    match how {
        Settled::Resolved { commit: true } => Action::Commit { xid8: 0, mends: false },
        Settled::Resolved { commit: false } => Action::Rollback { alarm: None },
        Settled::Heuristic { kind, decided_commit } => match kind {
            HeuristicKind::Commit => Action::Commit { xid8: 0, mends: false },
            HeuristicKind::Rollback => Action::Rollback { alarm: None },
            HeuristicKind::Hazard | HeuristicKind::Mended if decided_commit => {
                Action::Commit { xid8: 0, mends: kind == HeuristicKind::Hazard }
            }
            HeuristicKind::Hazard | HeuristicKind::Mended => Action::Rollback { alarm: None },
        },
    }
}

/// The low 32 bits, which are what `pg_prepared_xacts` shows.
pub fn low_half(xid8: u64) -> u32 {
    (xid8 & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
pub(super) mod tests;
