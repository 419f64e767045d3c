//! What is prepared at the participants.

use serde::Serialize;
use votum_proto::v1;

use super::known;
use crate::failure::Exit;

/// The rows of the recovery table that end with a person: the log cannot be trusted with it (R8), its record
/// may have been dropped (R10), other work under our name (R1x), a delegated commit without an answer (R13).
const NEEDS_A_PERSON: [&str; 4] = ["R8", "R10", "R1x", "R13"];

/// The answer of `votumctl in-doubt`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct InDoubt {
    /// Ours.
    pub(crate) branches: Vec<Prepared>,
    /// Not ours: never touched.
    pub(crate) foreign: Vec<Prepared>,
    /// Who could not be asked: nothing is known of them.
    pub(crate) unheard: Vec<Unheard>,
    /// How the servers stand of those who could be asked.
    pub(crate) servers: Vec<Server>,
    /// Why this ends with exit code 1; empty when it does not.
    pub(crate) attention: Vec<String>,
}

/// How a participant's server stands with prepared transactions.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Server {
    pub(crate) participant: String,
    /// How many are prepared there, whosever they are and in whichever database.
    pub(crate) slots_used: u64,
    /// Its `max_prepared_transactions`.
    pub(crate) slots: u64,
    /// The age of the oldest in the participant's database; null where none is.
    pub(crate) oldest_prepared_ms: Option<u64>,
    /// How many transaction ids that one lies back.
    pub(crate) xmin_held_back: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Prepared {
    pub(crate) participant: String,
    pub(crate) gid: String,
    pub(crate) gtid: Option<String>,
    pub(crate) xid: Option<u32>,
    pub(crate) owner: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) age_ms: Option<u64>,
    /// commit, abort, settled, delegated, none, not ours. Null while its agent is working on it.
    pub(crate) decision: Option<String>,
    /// The row of the recovery table in docs/protocol.md.
    pub(crate) rule: Option<String>,
    pub(crate) next: String,
    pub(crate) locks: Vec<String>,
    pub(crate) blocked_sessions: u32,
    pub(crate) longest_wait_ms: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Unheard {
    pub(crate) participant: String,
    pub(crate) reason: String,
}

impl InDoubt {
    /// How the command ends.
    pub(crate) fn exit(&self) -> Exit {
        if self.attention.is_empty() { Exit::Fine } else { Exit::Attention }
    }
}

impl From<v1::ListInDoubtResponse> for InDoubt {
    fn from(answer: v1::ListInDoubtResponse) -> Self {
        let unheard =
            |unheard: v1::Unheard| Unheard { participant: unheard.participant, reason: unheard.reason };
        let mut branches: Vec<Prepared> = answer.branches.into_iter().map(Prepared::from).collect();
        // The oldest first: it has kept others waiting the longest.
        branches.sort_by(|one, other| other.age_ms.cmp(&one.age_ms).then_with(|| one.gid.cmp(&other.gid)));
        let mut document = Self {
            branches,
            foreign: answer.foreign.into_iter().map(Prepared::from).collect(),
            unheard: answer.unheard.into_iter().map(unheard).collect(),
            servers: answer.servers.into_iter().filter_map(Server::known).collect(),
            attention: Vec::new(),
        };
        document.attention = document.judge();
        document
    }
}

impl InDoubt {
    fn judge(&self) -> Vec<String> {
        let mut why = Vec::new();
        for branch in self.branches.iter().filter(|branch| branch.needs_a_person()) {
            why.push(format!("{} at {} waits for a person", branch.gid, branch.participant));
        }
        for unheard in &self.unheard {
            why.push(format!("nothing is known of what is prepared at {}", unheard.participant));
        }
        why
    }
}

impl Server {
    /// `None` where its agent did not say: an older one, or its database did not answer that question.
    fn known(answer: v1::ParticipantServer) -> Option<Self> {
        let v1::ParticipantServer { participant, condition } = answer;
        let v1::ServerCondition { slots_used, slots, oldest_prepared_ms, xmin_held_back } = condition?;
        Some(Self { participant, slots_used, slots, oldest_prepared_ms, xmin_held_back })
    }
}

impl Prepared {
    /// Whether nothing ends it but a person.
    pub(crate) fn needs_a_person(&self) -> bool {
        self.rule.as_deref().is_some_and(|rule| NEEDS_A_PERSON.contains(&rule))
    }
}

impl From<v1::InDoubt> for Prepared {
    fn from(branch: v1::InDoubt) -> Self {
        let row = branch.row.unwrap_or_default();
        // A row that the agent is working on is named without having been read.
        let read = row.xid != 0;
        Self {
            participant: branch.participant,
            gid: row.gid,
            gtid: known(branch.gtid),
            xid: read.then_some(row.xid),
            owner: known(row.owner),
            database: known(row.database),
            age_ms: read.then_some(row.age_ms),
            decision: known(branch.decision),
            rule: known(branch.rule),
            next: branch.next,
            locks: row.locks,
            blocked_sessions: row.blocked_sessions,
            longest_wait_ms: row.longest_wait_ms,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn branch(gid: &str, rule: &str, decision: &str, next: &str) -> v1::InDoubt {
        let row = v1::PreparedTransaction {
            gid: gid.into(),
            xid: 731,
            owner: "votum".into(),
            database: "bank".into(),
            age_ms: 3_240,
            ..Default::default()
        };
        v1::InDoubt {
            participant: "bank-a".into(),
            row: Some(row),
            gtid: "acme-7-3f9ac2-1042".into(),
            decision: decision.into(),
            rule: rule.into(),
            next: next.into(),
        }
    }

    /// One branch that is on its way, one that waits for a person, a foreign one, and a participant that
    /// did not answer.
    pub(crate) fn everything() -> v1::ListInDoubtResponse {
        let mut held = branch("votum_acme_7_3f9ac2_1042_0_2", "R1", "commit", "COMMIT PREPARED");
        if let Some(row) = held.row.as_mut() {
            row.locks = vec!["public.accounts (RowExclusiveLock)".into()];
            row.blocked_sessions = 2;
            row.longest_wait_ms = 3_100;
        }
        let mut waiting =
            branch("votum_acme_5_aaaaaa_9_0_2", "R10", "none", "a person decides: votumctl resolve");
        if let Some(row) = waiting.row.as_mut() {
            row.age_ms = 240_000;
        }
        let mut foreign = branch("other", "R12", "not ours", "nothing: it is not this coordinator's");
        foreign.gtid.clear();
        let unheard = v1::Unheard { participant: "bank-b".into(), reason: "its agent is unreachable".into() };
        v1::ListInDoubtResponse {
            branches: vec![held, waiting],
            foreign: vec![foreign],
            unheard: vec![unheard],
            servers: vec![server(3, 64)],
        }
    }

    /// That of bank-a.
    pub(crate) fn server(slots_used: u64, slots: u64) -> v1::ParticipantServer {
        let condition = v1::ServerCondition {
            slots_used,
            slots,
            oldest_prepared_ms: Some(240_000),
            xmin_held_back: 12_345,
        };
        v1::ParticipantServer { participant: "bank-a".into(), condition: Some(condition) }
    }

    #[test]
    fn what_settles_itself_needs_nobody_and_what_waits_for_a_person_does() {
        for (rule, exit) in [
            ("R1", Exit::Fine),
            ("R5", Exit::Fine),
            ("R6", Exit::Fine),
            ("R14", Exit::Fine),
            ("R16", Exit::Fine),
            ("", Exit::Fine),
            ("R1x", Exit::Attention),
            ("R8", Exit::Attention),
            ("R10", Exit::Attention),
            ("R13", Exit::Attention),
        ] {
            let branches = vec![branch("votum_acme_7_3f9ac2_1042_0_2", rule, "", "")];
            let answer = v1::ListInDoubtResponse { branches, ..Default::default() };
            assert_eq!(InDoubt::from(answer).exit(), exit, "{rule}");
        }
    }

    #[test]
    fn a_foreign_transaction_needs_nobody_and_a_participant_that_did_not_answer_does() {
        let mut answer = everything();
        answer.branches.clear();
        assert_eq!(InDoubt::from(answer.clone()).exit(), Exit::Attention);
        answer.unheard.clear();
        assert_eq!(InDoubt::from(answer).exit(), Exit::Fine);
    }

    #[test]
    fn the_oldest_branch_comes_first() {
        let document = InDoubt::from(everything());
        assert_eq!(document.branches[0].age_ms, Some(240_000));
    }
}
