//! What a coordinator whose log is gone left prepared, and what is done about it.

use std::path::Path;

use serde::Serialize;
use votum_participant::postgres::lost_log::statement;
use votum_proto::names::{CoordinatorId, Gtid};

use crate::failure::Exit;
use crate::lost_log::advice::Words;
use crate::lost_log::evidence::{self, Evidence, MarkerTable, Sight, Survey};
use crate::lost_log::judge::{Judgement, Verdict, count, missing};
use crate::lost_log::plan::{By, Plan};
use crate::lost_log::report::Outcome;
use crate::lost_log::settle::{self, Done};
use crate::lost_log::word;

/// One transaction, from what was found to what was done.
#[derive(Debug, Clone)]
pub(crate) struct Considered {
    pub(crate) gtid: Gtid,
    pub(crate) evidence: Evidence,
    pub(crate) judgement: Judgement,
    pub(crate) words: Words,
    pub(crate) plan: Plan,
    /// Nothing where nothing was tried.
    pub(crate) done: Option<Done>,
}

/// What was done besides.
#[derive(Debug, Clone, Default)]
pub(crate) struct Acted {
    pub(crate) applied: bool,
    /// What became of attempts that an earlier run did not live to write about.
    pub(crate) interrupted: Vec<settle::Interrupted>,
}

/// The answer of `votumctl lost-log`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LostLog {
    pub(crate) coordinator_id: String,
    pub(crate) applied: bool,
    pub(crate) report: Option<String>,
    pub(crate) databases: Vec<Database>,
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) apart: Vec<Apart>,
    pub(crate) interrupted: Vec<Interrupted>,
    /// Why the exit code is 1.
    pub(crate) attention: Vec<String>,
    /// What to do next, in order.
    pub(crate) next: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Database {
    pub(crate) participant: String,
    pub(crate) file: String,
    pub(crate) server: String,
    pub(crate) database: String,
    pub(crate) read: bool,
    pub(crate) trouble: Option<String>,
    pub(crate) same_as: Option<String>,
    pub(crate) markers: Option<String>,
    pub(crate) sessions: Vec<Session>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Session {
    pub(crate) pid: i32,
    pub(crate) application_name: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Transaction {
    pub(crate) gtid: String,
    pub(crate) branches: Option<u16>,
    pub(crate) missing: Vec<u16>,
    pub(crate) prepared: Vec<Branch>,
    pub(crate) markers: Vec<Marker>,
    pub(crate) verdict: String,
    pub(crate) known: String,
    pub(crate) if_commit: Option<String>,
    pub(crate) if_rollback: Option<String>,
    pub(crate) advice: String,
    pub(crate) decision: Option<Decision>,
    pub(crate) state: String,
    pub(crate) held: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Decision {
    pub(crate) action: String,
    pub(crate) by: String,
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Branch {
    pub(crate) participant: String,
    pub(crate) gid: String,
    pub(crate) xid: u32,
    pub(crate) owner: String,
    pub(crate) prepared_at: String,
    pub(crate) age_ms: u64,
    pub(crate) statement: Option<String>,
    pub(crate) by_hand: Option<String>,
    pub(crate) result: Option<String>,
    pub(crate) detail: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Marker {
    pub(crate) participant: String,
    pub(crate) branch: u16,
    pub(crate) committed: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Apart {
    pub(crate) participant: String,
    pub(crate) gid: String,
    pub(crate) xid: u32,
    pub(crate) owner: Option<String>,
    pub(crate) database: String,
    pub(crate) age_ms: u64,
    pub(crate) why: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Interrupted {
    pub(crate) participant: String,
    pub(crate) gid: String,
    pub(crate) result: String,
    pub(crate) as_decided: bool,
    pub(crate) detail: String,
}

impl LostLog {
    /// What was found, planned and done.
    pub(crate) fn new(
        id: &CoordinatorId,
        report: Option<&Path>,
        survey: &Survey,
        considered: Vec<Considered>,
        acted: Acted,
    ) -> Self {
        let interrupted = acted.interrupted.into_iter().map(Interrupted::from).collect();
        let mut document = Self {
            coordinator_id: id.to_string(),
            applied: acted.applied,
            report: report.map(|path| path.display().to_string()),
            databases: survey.databases.iter().map(Database::from).collect(),
            transactions: considered.into_iter().map(Transaction::from).collect(),
            apart: survey.apart.iter().map(Apart::from).collect(),
            interrupted,
            attention: Vec::new(),
            next: Vec::new(),
        };
        document.attention = document.why_attention(survey);
        document.next = document.steps(&Self::connected(survey));
        document
    }

    /// How the command ends.
    pub(crate) fn exit(&self) -> Exit {
        if self.attention.is_empty() { Exit::Fine } else { Exit::Attention }
    }

    /// Who is connected to a database and may change what is prepared there, in words.
    pub(crate) fn connected(survey: &Survey) -> Vec<String> {
        let mut all = Vec::new();
        for database in &survey.databases {
            let sessions = match &database.sight {
                Sight::Read { sessions, .. } => sessions.as_slice(),
                Sight::SameAs(_) | Sight::Unread(_) => &[],
            };
            let one = |session: &votum_participant::postgres::lost_log::SessionSeen| {
                format!("{} (process {})", session.application_name, session.pid)
            };
            if !sessions.is_empty() {
                let named: Vec<String> = sessions.iter().map(one).collect();
                all.push(format!("connected to {}: {}", database.participant, named.join(", ")));
            }
        }
        all
    }

    fn why_attention(&self, survey: &Survey) -> Vec<String> {
        let mut why = Self::connected(survey);
        why.extend(survey.view.unread.iter().map(|name| format!("{name} could not be read")));
        why.extend(
            survey.view.given_up.iter().map(|name| format!("{name} is given up: nothing is known of it")),
        );
        let in_state = |states: &[&str]| {
            self.transactions.iter().filter(|one| states.contains(&one.state.as_str())).count()
        };
        for (states, what) in [
            (&["planned"][..], "can be settled"),
            (&["waits"], "waits for a person, or for a database"),
            (&["held"], "is left alone: see why"),
            (&["unfinished"], "is not wholly settled, or not as it was decided"),
        ] {
            let number = in_state(states);
            if number > 0 {
                why.push(format!(
                    "{}: {what}",
                    crate::render::count(number as u64, "transaction", "transactions")
                ));
            }
        }
        if !self.apart.is_empty() {
            let number = crate::render::count(
                self.apart.len() as u64,
                "prepared transaction",
                "prepared transactions",
            );
            why.push(format!("{number} under the coordinator's name left alone"));
        }
        if !self.interrupted.iter().all(|one| one.as_decided) {
            why.push(
                "of a branch that an interrupted run was at, nobody knows that it ended as decided"
                    .to_owned(),
            );
        }
        why
    }

    fn steps(&self, connected: &[String]) -> Vec<String> {
        let id = &self.coordinator_id;
        let has = |state: &str| self.transactions.iter().any(|one| one.state == state);
        let mut steps = Vec::new();
        if !self.applied && !connected.is_empty() {
            steps.push(format!(
                "Stop every coordinator with the id {id}, then the agents: nothing is done while they are connected."
            ));
        }
        if has("waits") {
            steps.push(
                "Choose where a person must: --commit GTID, --rollback GTID, or --choices FILE; make readable what \
                 could not be read."
                    .to_owned(),
            );
        }
        if !self.applied && has("planned") {
            steps.push(format!(
                "To do it, say the same with --reason TEXT --report FILE --really {id} --yes."
            ));
        }
        if self.applied && (has("unfinished") || has("held")) {
            steps
                .push("Mend what the results name, and say the same again, with the same report.".to_owned());
        }
        if !has("planned") && !has("waits") && !has("unfinished") && !has("held") {
            if self.applied {
                steps.push("Keep the report.".to_owned());
            }
            steps.push(format!(
                "Begin a new log with the same coordinator_id: `votum-coordinator --config FILE init`, then start \
                 the agents and the coordinator. Agents that remember {id} fence its old lives off."
            ));
            steps.push(
                "Where `votumctl status` then calls the log stale (VOTUM-1401), `votumctl write-off` leads out of it; \
                 where agents refuse the coordinator after that (VOTUM-1409), restart it once more."
                    .to_owned(),
            );
            steps.push(
                "Warn those who retry with an idempotency key: what was committed under it runs again."
                    .to_owned(),
            );
        }
        steps
    }
}

impl From<&evidence::Database> for Database {
    fn from(database: &evidence::Database) -> Self {
        let mut document = Self {
            participant: database.participant.clone(),
            file: database.file.clone(),
            server: database.server.clone(),
            database: database.database.clone(),
            read: false,
            trouble: None,
            same_as: None,
            markers: None,
            sessions: Vec::new(),
        };
        match &database.sight {
            Sight::Unread(why) => document.trouble = Some(why.clone()),
            Sight::SameAs(other) => document.same_as = Some(other.clone()),
            Sight::Read { markers, sessions, .. } => {
                document.read = true;
                let word = match markers {
                    MarkerTable::Readable => "readable",
                    MarkerTable::Missing => "none",
                    MarkerTable::Denied => "denied",
                };
                document.markers = Some(word.to_owned());
                let session = |seen: &votum_participant::postgres::lost_log::SessionSeen| Session {
                    pid: seen.pid,
                    application_name: seen.application_name.clone(),
                };
                document.sessions = sessions.iter().map(session).collect();
            }
        }
        document
    }
}

impl From<&evidence::Apart> for Apart {
    fn from(evidence::Apart { participant, seen, why }: &evidence::Apart) -> Self {
        Self {
            participant: participant.clone(),
            gid: seen.gid.clone(),
            xid: seen.xid,
            owner: seen.owner.clone(),
            database: seen.database.clone(),
            age_ms: seen.age_ms,
            why: why.clone(),
        }
    }
}

impl From<settle::Interrupted> for Interrupted {
    fn from(settle::Interrupted { ended, as_decided }: settle::Interrupted) -> Self {
        let result = ended.outcome.map_or("open", Outcome::name).to_owned();
        let settle::Ended { participant, gid, detail, .. } = ended;
        Self { participant, gid, result, as_decided, detail: detail.unwrap_or_default() }
    }
}

impl From<Considered> for Transaction {
    fn from(one: Considered) -> Self {
        let Considered { gtid, evidence, judgement, words, plan, done } = one;
        let branches = count(&evidence);
        let action = match &plan {
            Plan::Settle { action, .. } => Some(*action),
            Plan::Wait | Plan::Held(_) => None,
        };
        let (state, held) = state(&plan, done.as_ref());
        let ended = match &done {
            Some(Done::Ended(ended)) => ended.as_slice(),
            Some(Done::Held(_)) | None => &[],
        };
        let branch = |branch: &evidence::Branch| {
            let gid = branch.gid.to_string();
            let ended = ended.iter().find(|one| one.gid == gid && one.participant == branch.participant);
            Branch {
                participant: branch.participant.clone(),
                xid: branch.xid,
                owner: branch.owner.clone(),
                prepared_at: branch.prepared_at.clone(),
                age_ms: branch.age_ms,
                statement: action.map(|action| statement(&branch.gid, action)),
                by_hand: action.and_then(|action| branch.by_hand(action)),
                result: ended.map(|one| one.outcome.map_or("open", Outcome::name).to_owned()),
                detail: ended.and_then(|one| one.detail.clone()),
                gid,
            }
        };
        let marker = |mark: &evidence::Mark| Marker {
            participant: mark.participant.clone(),
            branch: mark.branch,
            committed: mark.committed,
        };
        Self {
            gtid: gtid.to_string(),
            branches: (branches > 0).then_some(branches),
            missing: missing(&evidence),
            prepared: evidence.prepared.iter().map(branch).collect(),
            markers: evidence.marks.iter().map(marker).collect(),
            verdict: match judgement.verdict {
                Verdict::Must(action) => format!("must_{}", word(action)),
                Verdict::Person => "person".to_owned(),
                Verdict::Unread => "unread".to_owned(),
            },
            known: words.known,
            if_commit: words.if_commit,
            if_rollback: words.if_roll_back,
            advice: words.advice,
            decision: decision(&plan),
            state: state.to_owned(),
            held,
        }
    }
}

fn state(plan: &Plan, done: Option<&Done>) -> (&'static str, Option<String>) {
    match (plan, done) {
        (Plan::Wait, _) => ("waits", None),
        (Plan::Held(why), _) | (Plan::Settle { .. }, Some(Done::Held(why))) => ("held", Some(why.clone())),
        (Plan::Settle { .. }, None) => ("planned", None),
        (Plan::Settle { action, .. }, Some(Done::Ended(ended))) => {
            let all = ended.iter().all(|ended| ended.is_as_decided(*action));
            (if all { "settled" } else { "unfinished" }, None)
        }
    }
}

fn decision(plan: &Plan) -> Option<Decision> {
    let Plan::Settle { action, by } = plan else { return None };
    let (by, reason) = match by {
        By::Evidence => ("evidence", None),
        By::Person { reason } => ("person", Some(reason.clone())),
        By::Report(decided) => ("report", decided.reason.clone()),
    };
    Some(Decision { action: word(*action).to_owned(), by: by.to_owned(), reason })
}

#[cfg(test)]
#[path = "lost_log_tests.rs"]
pub(crate) mod tests;
