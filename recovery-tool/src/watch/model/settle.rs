//! Settling a branch: as `votumctl resolve` does it, a dry run first, and then only on a typed word.

use votum_proto::v1;
use votum_proto::v1::resolve_request::Action;

use crate::document::{Prepared, Resolution};
use crate::failure::Failure;

/// As much as a reason may hold, in characters: it is kept in the log.
pub(in crate::watch) const LONGEST_REASON: usize = 200;

/// What the coordinator calls an order that it refuses.
const REFUSED: &str = "VOTUM-1201";

/// A settlement on its way.
#[derive(Debug)]
pub(in crate::watch) struct Settle {
    /// The branch, as it was when the person asked.
    pub(in crate::watch) branch: Prepared,
    /// Who asks.
    pub(in crate::watch) operator: String,
    /// What is to become of it, once that was chosen.
    pub(in crate::watch) commit: bool,
    /// Why; kept in the log.
    pub(in crate::watch) reason: String,
    pub(in crate::watch) step: Step,
    /// Tells the answers to this settlement from those to earlier ones.
    pub(super) ticket: u64,
}

/// How far it has come.
#[derive(Debug)]
pub(in crate::watch) enum Step {
    /// Commit or roll back?
    Choosing,
    /// Why?
    Reasoning,
    /// The dry run is on its way.
    Trying,
    /// The dry run's answer is shown; only these words, typed, carry it out.
    Confirming { dry: Resolution, typed: String, mistaken: bool },
    /// The order is on its way.
    Applying,
    /// It is over: settled, nothing to settle, or refused.
    Ended(Result<Resolution, Failure>),
    /// The order was given, and nobody can say what became of it.
    Unknown(Failure),
}

impl Settle {
    pub(super) fn new(branch: &Prepared, operator: Result<String, Failure>, ticket: u64) -> Self {
        let (operator, step) = match operator {
            Ok(operator) => (operator, Step::Choosing),
            Err(failure) => (String::new(), Step::Ended(Err(failure))),
        };
        let branch = branch.clone();
        Self { branch, operator, commit: false, reason: String::new(), step, ticket }
    }

    /// What is to become of the branch, as a word.
    pub(in crate::watch) fn action(&self) -> &'static str {
        if self.commit { "commit" } else { "rollback" }
    }

    /// What has to be typed before anything is done.
    pub(in crate::watch) fn words(&self) -> String {
        format!("{} {}", self.action(), self.branch.participant)
    }

    /// Whether an order was given whose answer is not there.
    pub(super) fn is_ordered(&self) -> bool {
        matches!(self.step, Step::Applying)
    }

    pub(super) fn choose(&mut self, commit: bool) {
        if matches!(self.step, Step::Choosing) {
            self.commit = commit;
            self.step = Step::Reasoning;
        }
    }

    /// A character of the reason, or of the confirmation.
    pub(super) fn typed(&mut self, character: char) {
        if let Some((text, longest)) = self.text()
            && !character.is_control()
            && text.chars().count() < longest
        {
            text.push(character);
        }
    }

    pub(super) fn erase(&mut self) {
        if let Some((text, _)) = self.text() {
            text.pop();
        }
    }

    fn text(&mut self) -> Option<(&mut String, usize)> {
        match &mut self.step {
            Step::Reasoning => Some((&mut self.reason, LONGEST_REASON)),
            Step::Confirming { typed, mistaken, .. } => {
                *mistaken = false;
                Some((typed, LONGEST_REASON))
            }
            Step::Choosing | Step::Trying | Step::Applying | Step::Ended(_) | Step::Unknown(_) => None,
        }
    }

    /// What was typed is complete: what to ask the coordinator now, if anything.
    pub(super) fn submit(&mut self) -> Option<v1::ResolveRequest> {
        let words = self.words();
        match &mut self.step {
            // As the command: no reason, no order.
            Step::Reasoning if self.reason.trim().is_empty() => None,
            Step::Reasoning => {
                self.step = Step::Trying;
                Some(self.request(false))
            }
            Step::Confirming { typed, .. } if typed.trim() == words => {
                self.step = Step::Applying;
                Some(self.request(true))
            }
            Step::Confirming { typed, mistaken, .. } => {
                typed.clear();
                *mistaken = true;
                None
            }
            Step::Choosing | Step::Trying | Step::Applying | Step::Ended(_) | Step::Unknown(_) => None,
        }
    }

    fn request(&self, apply: bool) -> v1::ResolveRequest {
        let action = if self.commit { Action::Commit } else { Action::Rollback };
        v1::ResolveRequest {
            gid: self.branch.gid.clone(),
            participant: self.branch.participant.clone(),
            action: action.into(),
            operator: self.operator.clone(),
            reason: self.reason.trim().to_owned(),
            apply,
            // What contradicts a decision takes the whole command, spelled out.
            heuristic: false,
        }
    }

    /// What the coordinator answered to what it was asked last.
    pub(super) fn answered(&mut self, answer: Result<v1::ResolveResponse, Failure>) {
        let (gid, participant) = (self.branch.gid.clone(), self.branch.participant.clone());
        let answer = answer.map(|answer| Resolution::new(gid, participant, self.commit, answer));
        self.step = match (&self.step, answer) {
            (Step::Trying, Ok(dry)) if dry.waits_for_a_person() => {
                Step::Confirming { dry, typed: String::new(), mistaken: false }
            }
            // Only what says that it was refused is a refusal: a lost answer, or a log that failed, is not.
            (Step::Applying, Err(failure)) if failure.code != REFUSED => Step::Unknown(failure),
            (Step::Trying | Step::Applying, answer) => Step::Ended(answer),
            // Nothing was asked.
            (
                Step::Choosing
                | Step::Reasoning
                | Step::Confirming { .. }
                | Step::Ended(_)
                | Step::Unknown(_),
                _,
            ) => return,
        };
    }
}
