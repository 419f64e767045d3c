//! Records in a sentence, for people. What they are for programs is in `record`.

use std::fmt;

use super::record::{
    AbortKind, AbortReason, Acknowledged, Begun, Compared, Decided, Decision, Heuristic, HeuristicKind,
    PreparedBranch, Record, Resolved, WrittenOff,
};

impl fmt::Display for Record {
    /// What the record says beside its kind and gtid. Never the key of the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(identity) => write!(f, "the log of coordinator {}", identity.coordinator_id),
            Self::Epoch(begun) => {
                write!(f, "life {} begins at position {}", begun.life, begun.first_position)
            }
            Self::Lease { life, until } => write!(f, "life {life} may hand out seqs up to {until}"),
            Self::Begun(begun) => begun.fmt(f),
            Self::Decided(decided) => decided.fmt(f),
            Self::Delegated(decided) => {
                write!(f, "the decision is left to ")?;
                branches(f, &decided.branches)
            }
            Self::Ended { .. } => write!(f, "nothing is owed to any branch any more"),
            Self::Heuristic(heuristic) => heuristic.fmt(f),
            Self::Resolved(resolved) => resolved.fmt(f),
            Self::Carried(carried) => {
                write!(f, "{} of position {}: {}", carried.record.kind(), carried.position, carried.record)
            }
            Self::Acknowledged(acknowledged) => acknowledged.fmt(f),
            Self::WrittenOff(written_off) => written_off.fmt(f),
            Self::Compared(compared) => compared.fmt(f),
        }
    }
}

impl fmt::Display for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timeout {} ms", self.timeout_ms)?;
        if !self.label.is_empty() {
            write!(f, ", label {:?}", self.label)?;
        }
        if !self.client.is_empty() {
            write!(f, ", client {:?}", self.client)?;
        }
        Ok(())
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.decision {
            Decision::Commit => write!(f, "commit at ")?,
            Decision::Abort(reason) => write!(f, "abort, {reason}; had voted yes: ")?,
        }
        branches(f, &self.branches)?;
        if let Some(key) = &self.key {
            write!(f, "; key {:?} of client {:?}", key.key, key.client)?;
        }
        Ok(())
    }
}

fn branches(f: &mut fmt::Formatter<'_>, branches: &[PreparedBranch]) -> fmt::Result {
    if branches.is_empty() {
        return f.write_str("none");
    }
    for (at, branch) in branches.iter().enumerate() {
        let PreparedBranch { participant, xid8, system_identifier, timeline, marker, .. } = branch;
        let separator = if at == 0 { "" } else { ", " };
        let marker = if *marker { ", marker" } else { "" };
        let id = match branch.was_never_prepared() {
            true => "by its own commit".to_owned(),
            false => format!("xid8 {xid8}"),
        };
        write!(
            f,
            "{separator}{participant} ({id}, system {system_identifier}, timeline {timeline}{marker})"
        )?;
    }
    Ok(())
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            AbortKind::RolledBack => "rolled back by the client",
            AbortKind::Timeout => "timed out",
            AbortKind::VotedNo => "a participant voted no",
            AbortKind::BranchLost => "a branch was lost",
            AbortKind::Coordinator => "ended by the coordinator",
        })?;
        if let Some(participant) = &self.participant {
            write!(f, " at {participant}")?;
        }
        if !self.sqlstate.is_empty() {
            write!(f, ", SQLSTATE {}", self.sqlstate)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl fmt::Display for Heuristic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gid, participant, xid8, kind, detail } = self;
        write!(f, "{gid} at {participant} (xid8 {xid8}): {kind}: {detail}")
    }
}

impl fmt::Display for HeuristicKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rollback => "decided commit, and rolled back",
            Self::Commit => "decided abort, and committed",
            Self::Hazard => "nobody can say how it ended",
            Self::Mended => "ended as decided after all",
        })
    }
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.commit { "commits" } else { "rolls back" };
        let Self { gid, participant, xid, operator, reason, .. } = self;
        write!(f, "{operator} {done} {gid} at {participant} (xid {xid}): {reason}")
    }
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gid, participant, operator, reason } = self;
        write!(f, "{operator} has dealt with {gid} at {participant}: {reason}")
    }
}

impl fmt::Display for WrittenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { through, seen, operator, reason } = self;
        write!(f, "{operator} writes off what is lacking up to epoch {through}: {reason} ({seen})")
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { participant, timeline, unproven, operator, reason, .. } = self;
        write!(
            f,
            "{operator} has compared {participant} on timeline {timeline}, of which {unproven} commits of before \
             could not be proven: {reason}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Carried, Identity};
    use super::*;

    #[test]
    fn a_decision_is_told_with_all_that_a_person_needs_to_find_its_branches() {
        let decided = Decided {
            gtid: "acme-7-3f9ac2-1042".parse().unwrap(),
            decision: Decision::Commit,
            branches_named: 2,
            branches: vec![PreparedBranch {
                number: 0,
                participant: "bank-a".parse().unwrap(),
                xid8: 731,
                system_identifier: 42,
                timeline: 1,
                marker: false,
            }],
            key: None,
            label: String::new(),
        };
        let record = Record::Decided(decided);
        assert_eq!(record.to_string(), "commit at bank-a (xid8 731, system 42, timeline 1)");
        let carried = Carried { position: 9, running_ms: 1, record };
        assert_eq!(
            Record::Carried(Box::new(carried)).to_string(),
            "Decided of position 9: commit at bank-a (xid8 731, system 42, timeline 1)"
        );
    }

    #[test]
    fn a_departure_is_told_in_words() {
        let heuristic = Heuristic {
            gid: "votum_acme_7_3f9ac2_1042_0_2".parse().unwrap(),
            participant: "bank-a".parse().unwrap(),
            xid8: 731,
            kind: HeuristicKind::Rollback,
            detail: "the server says that transaction id 731 aborted".into(),
        };
        assert_eq!(
            heuristic.to_string(),
            "votum_acme_7_3f9ac2_1042_0_2 at bank-a (xid8 731): decided commit, and rolled back: the server \
             says that transaction id 731 aborted"
        );
    }

    #[test]
    fn the_key_of_a_log_is_never_told() {
        let identity = Identity { coordinator_id: "acme".parse().unwrap(), key: [7; 32] };
        assert_eq!(Record::Identity(identity).to_string(), "the log of coordinator acme");
    }
}
