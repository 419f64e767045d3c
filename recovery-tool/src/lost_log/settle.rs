//! Ends what is prepared, transaction by transaction: looked at once more before, and on record before and after.

use std::collections::{BTreeMap, BTreeSet};

use votum_participant::database::{DatabaseError, Policy};
use votum_participant::postgres::lost_log::{Action, Markers, MayEnd, Place, Settled, statement};
use votum_proto::names::{Gid, Gtid};
use votum_proto::runtime::Seams;

use super::advice::Words;
use super::evidence::{Answer, Branch, Evidence, gather};
use super::judge::Verdict;
use super::plan::By;
use super::report::{Earlier, Entry, Outcome, Prepared, Report, seen};
use super::{read, word};
use crate::failure::Failure;

/// Everything that settling needs.
pub(crate) struct Settling<'a> {
    /// Every place that was read, by participant.
    pub(crate) places: BTreeMap<String, &'a Place>,
    pub(crate) report: &'a mut Report,
    pub(crate) seams: &'a Seams,
    pub(crate) operator: &'a str,
    /// Sessions of others do not matter.
    pub(crate) despite_sessions: bool,
}

/// What is to be done about one transaction.
pub(crate) struct Task<'a> {
    pub(crate) gtid: &'a Gtid,
    pub(crate) evidence: &'a Evidence,
    pub(crate) verdict: Verdict,
    pub(crate) words: &'a Words,
    pub(crate) action: Action,
    pub(crate) by: &'a By,
}

/// What was done about one branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) participant: String,
    pub(crate) gid: String,
    /// Nothing where nobody knows yet: the next run finds it out.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) detail: Option<String>,
}

impl Ended {
    /// Whether it is known to have ended as it was decided.
    pub(crate) fn is_as_decided(&self, action: Action) -> bool {
        match (self.outcome, action) {
            (Some(Outcome::Done), _)
            | (Some(Outcome::FoundCommitted), Action::Commit)
            | (Some(Outcome::FoundNeverCommits), Action::RollBack) => true,
            (
                None
                | Some(
                    Outcome::FoundCommitted
                    | Outcome::FoundNeverCommits
                    | Outcome::Unknown
                    | Outcome::OtherWork
                    | Outcome::Refused,
                ),
                _,
            ) => false,
        }
    }
}

/// What became of an attempt that an earlier run did not live to write about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interrupted {
    pub(crate) ended: Ended,
    /// It is known to have ended as it was decided.
    pub(crate) as_decided: bool,
}

/// What was done about one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Done {
    /// Its branches were ended, as far as it went.
    Ended(Vec<Ended>),
    /// It is not as it was seen: nothing was done.
    Held(String),
}

impl Settling<'_> {
    /// Settles one transaction.
    ///
    /// # Errors
    /// When the report cannot be written: nothing more may be done then.
    pub(crate) async fn transaction(&mut self, task: &Task<'_>) -> Result<Done, Failure> {
        if let Some(why) = self.changed(task).await {
            self.note(&Entry::Held { gtid: task.gtid.clone(), why: why.clone() })?;
            return Ok(Done::Held(why));
        }
        self.decide(task)?;
        let mut ended = Vec::new();
        for branch in &task.evidence.prepared {
            ended.push(self.branch(task, branch).await?);
        }
        Ok(Done::Ended(ended))
    }

    /// Finds out what became of attempts that an earlier run did not live to write about. Those that are still
    /// prepared, or cannot be looked at, stay open.
    ///
    /// # Errors
    /// When the report cannot be written.
    pub(crate) async fn left_open(
        &mut self,
        earlier: &Earlier,
        prepared: &BTreeSet<(String, String)>,
    ) -> Result<Vec<Interrupted>, Failure> {
        let mut all = Vec::new();
        for (gtid, branch) in &earlier.open {
            let name = (branch.participant.clone(), branch.gid.clone());
            let place = self.places.get(&branch.participant).copied();
            let (Some(place), Ok(gid), false) = (place, branch.gid.parse::<Gid>(), prepared.contains(&name))
            else {
                continue;
            };
            let Some((outcome, detail)) = gone(place, &gid).await else { continue };
            let detail = format!("{detail}; an earlier run was at it when it was interrupted");
            let ended = self.result(gtid, branch.clone(), Some(outcome), Some(detail))?;
            let decided = earlier.decided.get(gtid);
            let as_decided = decided.is_some_and(|decided| ended.is_as_decided(decided.action));
            all.push(Interrupted { ended, as_decided });
        }
        Ok(all)
    }

    /// What has changed since it was judged.
    async fn changed(&self, task: &Task<'_>) -> Option<String> {
        let places: Vec<&Place> = self.places.values().copied().collect();
        let answers = read::once_more(&places, task.gtid).await;
        if let Some((answer, why)) =
            answers.iter().find_map(|answer| Some((answer, answer.read.as_ref().err()?)))
        {
            return Some(format!("{} could not be looked at once more: {why}", answer.participant));
        }
        let sessions =
            |answer: &&Answer| answer.read.as_ref().is_ok_and(|(listed, _)| !listed.sessions.is_empty());
        if let Some(answer) = answers.iter().find(sessions).filter(|_| !self.despite_sessions) {
            return Some(format!(
                "somebody has connected to {} since: stop agents and coordinators",
                answer.participant
            ));
        }
        let survey = gather(&task.gtid.coordinator_id, &answers, &BTreeSet::new());
        let now = survey.transactions.get(task.gtid).cloned().unwrap_or_default();
        now.differs(task.evidence).then(|| {
            "it is not as it was a moment ago: somebody else is at it. Find out who, and look again"
                .to_owned()
        })
    }

    /// Puts the decision on record, unless it stands there.
    fn decide(&mut self, task: &Task<'_>) -> Result<(), Failure> {
        let (operator, reason) = match task.by {
            By::Evidence => (None, None),
            By::Person { reason } => (Some(self.operator.to_owned()), Some(reason.clone())),
            By::Report(_) => return Ok(()),
        };
        let (prepared, markers) = seen(task.evidence);
        let verdict = match task.verdict {
            Verdict::Must(action) => format!("must {}", word(action)),
            Verdict::Person | Verdict::Unread => "a person chose".to_owned(),
        };
        self.note(&Entry::Decided {
            gtid: task.gtid.clone(),
            action: word(task.action).to_owned(),
            verdict,
            operator,
            reason,
            known: task.words.known.clone(),
            prepared,
            markers,
        })
    }

    async fn branch(&mut self, task: &Task<'_>, branch: &Branch) -> Result<Ended, Failure> {
        let line = Prepared::from(branch);
        let Some(place) = self.places.get(&branch.participant).copied() else {
            return self.result(task.gtid, line, None, Some("its database was not read".into()));
        };
        if let Some(by_hand) = branch.by_hand(task.action) {
            return self.result(task.gtid, line, Some(Outcome::Refused), Some(by_hand));
        }
        self.note(&Entry::Attempt {
            gtid: task.gtid.clone(),
            branch: line.clone(),
            statement: statement(&branch.gid, task.action),
        })?;
        let owner = (branch.may_end == MayEnd::AsOwner).then_some(branch.owner.as_str());
        let settled =
            place.settle(&branch.gid, branch.xid, branch.system_identifier, owner, task.action).await;
        let (outcome, detail) = match settled {
            Ok(Settled::Done) => (Some(Outcome::Done), None),
            Ok(Settled::NotThere) => found_gone(place, &branch.gid, None).await,
            Ok(Settled::OtherWork(xid)) => {
                let detail = format!("other work is prepared under its name, with transaction id {xid}");
                (Some(Outcome::OtherWork), Some(detail))
            }
            Err(error) => after(place, branch, &error).await,
        };
        self.result(task.gtid, line, outcome, detail)
    }

    /// Puts an outcome on record; one that is not known stays open there.
    fn result(
        &mut self,
        gtid: &Gtid,
        branch: Prepared,
        outcome: Option<Outcome>,
        detail: Option<String>,
    ) -> Result<Ended, Failure> {
        let (participant, gid) = (branch.participant.clone(), branch.gid.clone());
        if let Some(result) = outcome {
            self.note(&Entry::Result { gtid: gtid.clone(), branch, result, detail: detail.clone() })?;
        }
        Ok(Ended { participant, gid, outcome, detail })
    }

    /// Appends a line to the report.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn note(&mut self, entry: &Entry) -> Result<(), Failure> {
        let since = self.seams.clock.wall().duration_since(std::time::UNIX_EPOCH);
        let at_ms = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        self.report.append(entry, at_ms)
    }
}

/// What an error leaves of a branch.
async fn after(place: &Place, branch: &Branch, error: &DatabaseError) -> (Option<Outcome>, Option<String>) {
    let doubtful = error.broken()
        || match error.policy {
            Policy::Verify => true,
            Policy::VoteNo
            | Policy::Acknowledge
            | Policy::Retry
            | Policy::RetryWithAlarm
            | Policy::Refuse => false,
        };
    if !doubtful {
        return (Some(Outcome::Refused), Some(error.to_string()));
    }
    let listed = place.list(&branch.gid.gtid.coordinator_id, Some(&branch.gid.gtid)).await;
    let gid = branch.gid.to_string();
    match listed {
        Ok(listed) if listed.prepared.iter().all(|seen| seen.gid != gid) => {
            found_gone(place, &branch.gid, Some(error)).await
        }
        Ok(_) | Err(_) => (None, Some(error.to_string())),
    }
}

/// What became of a branch that is gone, where that can be asked now.
async fn found_gone(
    place: &Place,
    gid: &Gid,
    error: Option<&DatabaseError>,
) -> (Option<Outcome>, Option<String>) {
    let said = error.map(|error| format!(" ({error})")).unwrap_or_default();
    match gone(place, gid).await {
        Some((outcome, detail)) => (Some(outcome), Some(format!("{detail}{said}"))),
        None => (None, Some(format!("it is gone, and its marker could not be asked for{said}"))),
    }
}

/// What the marker of a branch that is gone says.
async fn gone(place: &Place, gid: &Gid) -> Option<(Outcome, String)> {
    let found = place.markers(&BTreeSet::from([gid.gtid.clone()])).await.ok()?;
    let marker = match &found {
        Markers::Read(all) => all.iter().find(|marker| marker.branch == gid.branch),
        Markers::NoTable | Markers::Denied => None,
    };
    Some(match marker.map(|marker| marker.committed) {
        Some(true) => {
            (Outcome::FoundCommitted, "it is gone, and its marker says that it committed".to_owned())
        }
        Some(false) => (
            Outcome::FoundNeverCommits,
            "it is gone, and its marker says that it never can commit".to_owned(),
        ),
        None => (Outcome::Unknown, "it is gone, and nothing says how it ended".to_owned()),
    })
}
