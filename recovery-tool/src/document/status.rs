//! The coordinator's health.

use serde::Serialize;
use votum_proto::v1;

use super::known;
use crate::failure::Exit;
use crate::render::{count, duration};

/// What the state of a log is called that was read from its directory: nobody serves it.
pub(crate) const STOPPED: &str = "stopped";

/// The answer of `votumctl status`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Status {
    pub(crate) coordinator_id: String,
    pub(crate) epoch: u64,
    pub(crate) incarnation: String,
    pub(crate) version: String,
    pub(crate) up_ms: u64,
    pub(crate) log: Log,
    pub(crate) participants: Vec<Participant>,
    pub(crate) in_flight: u64,
    pub(crate) undelivered: u64,
    pub(crate) counts: Option<Counts>,
    pub(crate) alarms: Vec<Alarm>,
    /// Why this ends with exit code 1; empty when it does not.
    pub(crate) attention: Vec<String>,
}

/// What was counted in this epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) begun: u64,
    pub(crate) committed: u64,
    pub(crate) read_only: u64,
    pub(crate) aborted: u64,
    pub(crate) forced_writes: u64,
    /// Microseconds.
    pub(crate) forced_writes_us: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Log {
    pub(crate) state: String,
    pub(crate) position: u64,
    pub(crate) retention_reach_ms: u64,
    pub(crate) stale: bool,
    pub(crate) stale_detail: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Participant {
    pub(crate) participant: String,
    pub(crate) agent_address: String,
    pub(crate) connected: bool,
    pub(crate) heard: bool,
    pub(crate) in_doubt: u64,
    pub(crate) oldest_in_doubt_ms: Option<u64>,
    pub(crate) quarantined: u64,
    pub(crate) detail: Option<String>,
    pub(crate) link_ms: u64,
    pub(crate) unproven: Option<Unproven>,
}

/// Commits of before a change of timeline of which nobody can prove that they are there.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Unproven {
    pub(crate) timeline: u32,
    pub(crate) commits: u64,
    /// What a person said who has compared the databases.
    pub(crate) acknowledged: Option<Compared>,
}

/// A person's word, and where it stands in the log.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Compared {
    pub(crate) operator: String,
    pub(crate) reason: String,
    pub(crate) position: u64,
    pub(crate) running_ms: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Alarm {
    pub(crate) code: String,
    pub(crate) gtid: Option<String>,
    pub(crate) participant: Option<String>,
    pub(crate) detail: String,
}

impl Status {
    /// Judges what the coordinator says; a branch may be in doubt for `patience_ms`.
    pub(crate) fn new(answer: v1::GetStatusResponse, patience_ms: u64) -> Self {
        let mut status = Self {
            coordinator_id: answer.coordinator_id,
            epoch: answer.epoch,
            incarnation: answer.incarnation,
            version: answer.version,
            up_ms: answer.up_ms,
            log: Log {
                state: answer.log_state,
                position: answer.log_position,
                retention_reach_ms: answer.retention_reach_ms,
                stale: answer.stale,
                stale_detail: known(answer.stale_detail),
            },
            participants: answer.participants.into_iter().map(Participant::from).collect(),
            in_flight: answer.in_flight,
            undelivered: answer.undelivered,
            counts: answer.counts.map(Counts::from),
            alarms: answer.alarms.into_iter().map(Alarm::from).collect(),
            attention: Vec::new(),
        };
        status.attention = status.judge(patience_ms);
        status
    }

    /// How the command ends.
    pub(crate) fn exit(&self) -> Exit {
        if self.attention.is_empty() { Exit::Fine } else { Exit::Attention }
    }

    /// Whether this was read from a directory, and no coordinator asked.
    pub(crate) fn is_stopped(&self) -> bool {
        self.log.state == STOPPED
    }

    fn judge_stopped(&self, why: &mut Vec<String>) {
        for Participant { participant, in_doubt, .. } in &self.participants {
            let owed = count(*in_doubt, "committed branch is", "committed branches are");
            why.push(format!(
                "{owed} perhaps still prepared at {participant}, with its locks: start the coordinator"
            ));
        }
    }

    fn judge(&self, patience_ms: u64) -> Vec<String> {
        let mut why = Vec::new();
        match self.alarms.len() {
            0 => {}
            1 => why.push("there is an alarm".to_owned()),
            many => why.push(format!("there are {many} alarms")),
        }
        if self.log.stale {
            why.push("the log is stale: nothing is begun, and no abort is presumed".to_owned());
        }
        if self.is_stopped() {
            self.judge_stopped(&mut why);
            return why;
        }
        if self.log.state != "ready" {
            why.push(format!("the log is {}, not ready", self.log.state));
        }
        self.participants.iter().for_each(|participant| participant.judge(patience_ms, &mut why));
        why
    }
}

impl Participant {
    fn judge(&self, patience_ms: u64, why: &mut Vec<String>) {
        let name = &self.participant;
        if !self.connected {
            why.push(format!("{name} is not connected: what is in doubt there stays so"));
        } else if !self.heard {
            why.push(format!("{name} has not given a complete listing yet"));
        }
        if self.quarantined > 0 {
            let waiting = count(self.quarantined, "branch waits", "branches wait");
            why.push(format!("{waiting} for a person at {name}: votumctl in-doubt"));
        }
        if let Some(oldest) = self.oldest_in_doubt_ms.filter(|oldest| *oldest > patience_ms) {
            let age = duration(oldest);
            why.push(format!("a branch at {name} has been in doubt for {age}: votumctl in-doubt"));
        }
    }
}

impl From<v1::ParticipantStatus> for Participant {
    fn from(status: v1::ParticipantStatus) -> Self {
        Self {
            participant: status.participant,
            agent_address: status.agent_address,
            connected: status.connected,
            heard: status.heard,
            in_doubt: status.in_doubt,
            oldest_in_doubt_ms: (status.in_doubt > 0).then_some(status.oldest_in_doubt_ms),
            quarantined: status.quarantined,
            detail: known(status.detail),
            link_ms: status.link_ms,
            unproven: status.unproven.map(Unproven::from),
        }
    }
}

impl From<v1::UnprovenCommits> for Unproven {
    fn from(unproven: v1::UnprovenCommits) -> Self {
        let v1::UnprovenCommits { timeline, commits, acknowledged } = unproven;
        let acknowledged = acknowledged.map(|said| Compared {
            operator: said.operator,
            reason: said.reason,
            position: said.position,
            running_ms: said.running_ms,
        });
        Self { timeline, commits, acknowledged }
    }
}

impl From<v1::Counts> for Counts {
    fn from(counts: v1::Counts) -> Self {
        Self {
            begun: counts.begun,
            committed: counts.committed,
            read_only: counts.read_only,
            aborted: counts.aborted,
            forced_writes: counts.forced_writes,
            forced_writes_us: counts.forced_writes_us,
        }
    }
}

impl From<v1::Alarm> for Alarm {
    fn from(alarm: v1::Alarm) -> Self {
        Self {
            code: alarm.code,
            gtid: known(alarm.gtid),
            participant: known(alarm.participant),
            detail: alarm.detail,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two participants, nothing wrong.
    pub(crate) fn healthy() -> v1::GetStatusResponse {
        let participant = |name: &str, port: u16| v1::ParticipantStatus {
            participant: name.into(),
            agent_address: format!("http://127.0.0.1:{port}"),
            connected: true,
            heard: true,
            link_ms: 249_000,
            ..Default::default()
        };
        v1::GetStatusResponse {
            coordinator_id: "acme".into(),
            epoch: 7,
            incarnation: "3f9ac2".into(),
            log_position: 4711,
            log_state: "ready".into(),
            participants: vec![participant("bank-a", 7410), participant("bank-b", 7420)],
            in_flight: 3,
            undelivered: 1,
            counts: Some(v1::Counts {
                begun: 120,
                committed: 100,
                read_only: 10,
                aborted: 5,
                forced_writes: 80,
                forced_writes_us: 16_000,
            }),
            version: "0.1.0".into(),
            retention_reach_ms: 7_200_000,
            up_ms: 250_000,
            ..Default::default()
        }
    }

    /// The same with everything wrong.
    pub(crate) fn ailing() -> v1::GetStatusResponse {
        let mut answer = healthy();
        answer.stale = true;
        answer.stale_detail = "bank-a has seen epoch 9".into();
        answer.participants[0].in_doubt = 2;
        answer.participants[0].oldest_in_doubt_ms = 90_000;
        answer.participants[0].quarantined = 1;
        answer.participants[1].connected = false;
        answer.participants[1].heard = false;
        answer.participants[1].detail = "connection refused".into();
        let said = v1::UnprovenAcknowledged {
            operator: "ada".into(),
            reason: "4713: compared, nothing is missing".into(),
            position: 4700,
            running_ms: 7_100_000,
        };
        answer.participants[1].unproven =
            Some(v1::UnprovenCommits { timeline: 2, commits: 12, acknowledged: Some(said) });
        answer.alarms = vec![v1::Alarm {
            code: "VOTUM-1402".into(),
            gtid: "votum_acme_5_aaaaaa_9_0_2".into(),
            participant: "bank-a".into(),
            detail: "a person decides".into(),
        }];
        answer
    }

    #[test]
    fn a_healthy_coordinator_needs_nobody() {
        let status = Status::new(healthy(), 60_000);
        assert_eq!((status.attention.len(), status.exit()), (0, Exit::Fine));
    }

    #[test]
    fn each_thing_that_is_wrong_asks_for_attention_by_itself() {
        type Change = fn(&mut v1::GetStatusResponse);
        let changes: [(&str, Change); 7] = [
            ("alarm", |s| s.alarms.push(v1::Alarm::default())),
            ("stale", |s| s.stale = true),
            ("counting", |s| s.log_state = "counting".into()),
            ("not connected", |s| s.participants[0].connected = false),
            ("complete listing", |s| s.participants[1].heard = false),
            ("1 branch waits for a person", |s| s.participants[1].quarantined = 1),
            ("in doubt for 1 min", |s| {
                s.participants[0].in_doubt = 1;
                s.participants[0].oldest_in_doubt_ms = 60_001;
            }),
        ];
        for (expected, change) in changes {
            let mut answer = healthy();
            change(&mut answer);
            let status = Status::new(answer, 60_000);
            assert_eq!((status.exit(), status.attention.len()), (Exit::Attention, 1), "{expected}");
            assert!(status.attention[0].contains(expected), "{expected}: {:?}", status.attention);
        }
    }

    #[test]
    fn a_stopped_coordinator_asks_for_attention_when_its_log_owes_a_commit() {
        let mut answer = healthy();
        answer.log_state = STOPPED.into();
        answer.participants.truncate(1);
        answer.participants[0].in_doubt = 2;
        let status = Status::new(answer.clone(), 60_000);
        assert_eq!((status.exit(), status.attention.len()), (Exit::Attention, 1));
        assert!(status.attention[0].starts_with("2 committed branches are"), "{:?}", status.attention);
        answer.participants.clear();
        assert_eq!(Status::new(answer, 60_000).exit(), Exit::Fine);
    }

    #[test]
    fn a_branch_that_is_in_doubt_for_a_moment_is_no_news() {
        let mut answer = healthy();
        answer.participants[0].in_doubt = 1;
        answer.participants[0].oldest_in_doubt_ms = 60_000;
        assert_eq!(Status::new(answer, 60_000).exit(), Exit::Fine);
    }
}
