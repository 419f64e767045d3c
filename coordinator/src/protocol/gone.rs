//! Branches that are no longer prepared: what their servers' memory, and their commit markers, prove of how they
//! ended (R2, R3, R15 of the recovery table).

use votum_proto::canary::{Canary, sings};

use super::record::{HeuristicKind, PreparedBranch};
use super::recovery::Row;

/// What a server says of a branch that is no longer prepared, all read in one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gone {
    /// The server's own name.
    pub system_identifier: u64,
    /// Its timeline.
    pub timeline: u32,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// What it remembers of the branch's xid8.
    pub status: XidStatus,
    /// What its database says of the branch's commit marker.
    pub marker: Marker,
}

impl Gone {
    /// Whether the branch carried a commit marker that is not there: it did not commit.
    pub fn unmarked(&self, branch: &PreparedBranch) -> bool {
        branch.marker && matches!(self.marker, Marker::Absent | Marker::Aborted)
    }
}

/// What a database says of a branch's commit marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Marker {
    /// It keeps none, or none could be asked for.
    Unknown,
    /// There is none.
    Absent,
    /// The branch committed.
    Committed,
    /// The branch can never commit.
    Aborted,
}

/// What a server remembers of a transaction id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum XidStatus {
    /// Committed, and flushed since.
    Committed,
    /// Aborted.
    Aborted,
    /// Still running, or prepared.
    InProgress,
    /// Too old: `pg_xact_status` answered null.
    Forgotten,
    /// The server has not given out this id (SQLSTATE 22023).
    NotReached,
    /// Nobody knew an id to ask about.
    NotAsked,
}

/// What a branch that is gone proves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GoneVerdict {
    /// How it ended is known: it needs nothing.
    Nothing,
    /// It ended as decided.
    Acknowledge,
    /// It did not, or nobody can say: to be recorded.
    Heuristic {
        /// In which way.
        kind: HeuristicKind,
        /// What was seen.
        detail: String,
    },
    /// Nothing yet: ask again.
    AskAgain {
        /// Why that deserves a person's look, if it does.
        alarm: Option<String>,
    },
}

/// Judges a branch of a decided commit that is gone (R2 where it had acknowledged its commit, else R3; R11
/// where the server is not the participant).
pub fn judge_gone_after_commit(
    branch: &PreparedBranch,
    acknowledged: bool,
    gone: &Gone,
) -> (Row, GoneVerdict) {
    // Nothing needs proof any more, whichever server answers.
    if acknowledged {
        return (Row::R2, GoneVerdict::Nothing);
    }
    if sings(Canary::AcknowledgeBlindly) {
        return (Row::R3, GoneVerdict::Acknowledge);
    }
    if let Some(alarm) = not_the_participant(branch, gone) {
        return (Row::R11, GoneVerdict::AskAgain { alarm: Some(alarm) });
    }
    let heuristic = |kind, detail: String| GoneVerdict::Heuristic { kind, detail };
    let verdict = match how_it_ended(branch, gone) {
        HowItEnded::Committed => GoneVerdict::Acknowledge,
        HowItEnded::RolledBack(seen) => heuristic(HeuristicKind::Rollback, seen),
        HowItEnded::Unknown(why) => heuristic(HeuristicKind::Hazard, why),
        HowItEnded::NotYet => GoneVerdict::AskAgain { alarm: None },
        HowItEnded::NotAsked => GoneVerdict::AskAgain {
            alarm: Some("the agent did not ask for the transaction id's status".into()),
        },
    };
    (Row::R3, verdict)
}

/// What a server's memory of a transaction id, and the branch's marker, prove of a branch that is gone there.
enum HowItEnded {
    Committed,
    /// With what was seen.
    RolledBack(String),
    /// With what was seen.
    Unknown(String),
    /// The server is still about it.
    NotYet,
    NotAsked,
}

/// On the timeline on which it was prepared, the transaction id is the branch's own. On another the id may be
/// another transaction's, and the marker is the branch's own, as far as it carried one.
fn how_it_ended(branch: &PreparedBranch, gone: &Gone) -> HowItEnded {
    let PreparedBranch { xid8, timeline, .. } = branch;
    let same_timeline = gone.timeline == *timeline || sings(Canary::IgnoreTimeline);
    if branch.was_never_prepared() {
        return as_marked(gone, same_timeline);
    }
    match (gone.status, gone.marker) {
        (XidStatus::NotAsked, _) => HowItEnded::NotAsked,
        (XidStatus::InProgress, _) => HowItEnded::NotYet,
        (XidStatus::Committed, _) if same_timeline => HowItEnded::Committed,
        (XidStatus::Aborted | XidStatus::NotReached, Marker::Committed) if !same_timeline => {
            HowItEnded::Unknown(format!(
                "the table votum.marker says that it committed, and the server that transaction id {xid8} did not"
            ))
        }
        (XidStatus::Aborted, _) => {
            HowItEnded::RolledBack(format!("the server says that transaction id {xid8} aborted"))
        }
        (XidStatus::NotReached, _) => HowItEnded::RolledBack(format!(
            "the server (timeline {}) has not reached transaction id {xid8}: the prepared branch was lost",
            gone.timeline
        )),
        (XidStatus::Committed | XidStatus::Forgotten, Marker::Committed) => HowItEnded::Committed,
        (XidStatus::Committed | XidStatus::Forgotten, Marker::Absent | Marker::Aborted)
            if branch.marker && !same_timeline =>
        {
            HowItEnded::RolledBack(format!(
                "prepared on timeline {timeline} with a commit marker; the server is on {} now, and has none",
                gone.timeline
            ))
        }
        (XidStatus::Committed, Marker::Unknown | Marker::Absent | Marker::Aborted) => {
            HowItEnded::Unknown(format!(
                "prepared on timeline {timeline}; the server is on {} now, where transaction id {xid8} is \
                 committed, which may be another transaction's",
                gone.timeline
            ))
        }
        (XidStatus::Forgotten, Marker::Unknown | Marker::Absent | Marker::Aborted) => {
            HowItEnded::Unknown(format!("the server no longer remembers transaction id {xid8}"))
        }
    }
}

/// A branch that decided by its own commit: nobody knows its transaction id, and its marker is all there is.
fn as_marked(gone: &Gone, same_timeline: bool) -> HowItEnded {
    match gone.marker {
        Marker::Committed => HowItEnded::Committed,
        Marker::Absent | Marker::Aborted if !same_timeline => HowItEnded::RolledBack(format!(
            "it decided by its commit, with a commit marker; the server is on timeline {} now, and has none",
            gone.timeline
        )),
        Marker::Unknown | Marker::Absent | Marker::Aborted => {
            HowItEnded::Unknown("it decided by its commit, and no commit marker says so any more".into())
        }
    }
}

/// What became of a branch that had acknowledged its commit before its server changed its timeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verified {
    /// It is committed there.
    Stands,
    /// It is not, or is contradicted: to be recorded.
    Departed {
        /// In which way.
        kind: HeuristicKind,
        /// What was seen.
        detail: String,
    },
    /// Nobody can say: it carries no commit marker, and its transaction id may mean another transaction now.
    Unproven,
    /// Nothing yet: ask again.
    NotYet,
}

/// Judges a branch that had acknowledged its commit, and whose server is on another timeline now (R2; R11 where
/// it is not the participant).
pub fn judge_after_failover(branch: &PreparedBranch, gone: &Gone) -> (Row, Verified) {
    if not_the_participant(branch, gone).is_some() {
        return (Row::R11, Verified::NotYet);
    }
    let verified = match how_it_ended(branch, gone) {
        HowItEnded::Committed => Verified::Stands,
        HowItEnded::RolledBack(detail) => Verified::Departed {
            kind: HeuristicKind::Rollback,
            detail: format!("it had acknowledged its commit, and a failover lost it: {detail}"),
        },
        HowItEnded::Unknown(detail) if gone.marker == Marker::Committed => {
            Verified::Departed { kind: HeuristicKind::Hazard, detail }
        }
        HowItEnded::Unknown(_) => Verified::Unproven,
        HowItEnded::NotYet | HowItEnded::NotAsked => Verified::NotYet,
    };
    (Row::R2, verified)
}

/// Judges a branch of a decided abort that had voted yes and is gone, not by our order (R15; R11 where the
/// server is not the participant).
pub fn judge_gone_after_abort(branch: &PreparedBranch, gone: &Gone) -> (Row, GoneVerdict) {
    if let Some(alarm) = not_the_participant(branch, gone) {
        return (Row::R11, GoneVerdict::AskAgain { alarm: Some(alarm) });
    }
    let verdict = match how_it_ended(branch, gone) {
        HowItEnded::Committed => GoneVerdict::Heuristic {
            kind: HeuristicKind::Commit,
            detail: match gone.marker {
                Marker::Committed => "its commit marker says that it committed".into(),
                Marker::Unknown | Marker::Absent | Marker::Aborted => {
                    format!("the server says that transaction id {} committed", branch.xid8)
                }
            },
        },
        // It was rolled back before the server forgot: nobody commits what was not decided, and what is as old
        // as that is not looked into.
        HowItEnded::Unknown(_) if gone.status == XidStatus::Forgotten => GoneVerdict::Acknowledge,
        HowItEnded::Unknown(why) => GoneVerdict::Heuristic { kind: HeuristicKind::Hazard, detail: why },
        // Nobody looked: it answers an order that did not name the id, after a listing that was late.
        HowItEnded::NotYet | HowItEnded::NotAsked => GoneVerdict::AskAgain { alarm: None },
        HowItEnded::RolledBack(_) => GoneVerdict::Acknowledge,
    };
    (Row::R15, verdict)
}

/// Why what a server says proves nothing of a branch, if it does not (R11).
pub(super) fn not_the_participant(branch: &PreparedBranch, gone: &Gone) -> Option<String> {
    if gone.system_identifier != branch.system_identifier {
        return Some(format!(
            "the server calls itself {}, and the branch was prepared on {}: not the same database system",
            gone.system_identifier, branch.system_identifier
        ));
    }
    gone.in_recovery.then(|| "the server is a standby".to_owned())
}

#[cfg(test)]
#[path = "gone_tests.rs"]
mod tests;
