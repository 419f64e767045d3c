//! The end of a transaction: the decision asked for, or the rollback.

use std::sync::atomic::Ordering;

use votum_proto::runtime::Elapsed;
use votum_proto::v1;
use votum_proto::v1::commit_request;

use super::Transaction;
use crate::error::text;
use crate::outcome::{Abort, Status};
use crate::retry::{Patience, Verdict, commit_verdict};
use crate::spares::{self, Asked};
use crate::votum::{Options, roll_back};
use crate::{Error, Outcome};

impl Transaction {
    /// As [`commit`](Transaction::commit), where others may hold the transaction too.
    pub(crate) async fn decide(&self) -> Result<Outcome, Error> {
        let branches = match self.claims() {
            Ok(branches) => branches,
            Err(lost) => return Ok(self.end_without(lost).await),
        };
        let wait = commit_request::Wait::from(self.options().wait);
        let request = v1::CommitRequest {
            gtid: self.context.gtid.clone(),
            secret: self.context.secret.clone(),
            branches: branches.into_iter().map(Into::into).collect(),
            wait: wait.into(),
            next: None,
        };
        self.over.store(true, Ordering::Relaxed);
        let outcome = self.ask_for_decision(request).await;
        spares::decided(&self.votum.inner);
        if outcome.is_err() {
            self.roll_back_later("its commit was refused");
        }
        outcome
    }

    /// As [`rollback`](Transaction::rollback), where others may hold the transaction too.
    pub(crate) async fn end(&self) -> Result<Outcome, Error> {
        let request = self.rollback_request("asked for by the client");
        let status = roll_back(&self.votum.inner.coordinator, self.options(), &request).await?;
        self.over.store(true, Ordering::Relaxed);
        Ok(self.outcome(status))
    }

    async fn ask_for_decision(&self, mut request: v1::CommitRequest) -> Result<Outcome, Error> {
        let Options { seams, outcome_budget, .. } = self.options();
        let mut patience = Patience::new(seams, *outcome_budget);
        let mut asked_before = false;
        let mut spare = Asked::next(&self.votum.inner);
        request.next = spare.as_ref().map(|spare| spare.request.clone());
        loop {
            let asked = self.votum.inner.coordinator.commit(request.clone());
            let reply = seams.clock.timeout(patience.left(), asked).await;
            // A reply that is lost leaves a spare to its timeout; what is repeated asks for no other.
            request.next = None;
            let asked_for = spare.take();
            let detail = match reply {
                Ok(Ok(reply)) => {
                    if let (Some(spare), Some(begun)) = (asked_for, reply.next) {
                        spare.came(begun);
                    }
                    let status = Status::from(reply.outcome.unwrap_or_default());
                    match status.outcome() {
                        Ok(outcome) => return Ok(outcome),
                        Err(detail) => detail,
                    }
                }
                Ok(Err(status)) => match commit_verdict(&status) {
                    Verdict::Again => text(&status),
                    // What an earlier request led to is not undone by the refusal of a later one.
                    Verdict::Final if asked_before => return Ok(self.unknown(text(&status))),
                    Verdict::Final => return Err(Error::from_status(&status, "")),
                },
                Err(Elapsed) => "the coordinator did not answer".to_owned(),
            };
            asked_before = true;
            if !patience.again().await {
                return Ok(self.unknown(detail));
            }
        }
    }

    /// Rolls back, because a branch is lost. Commit was never sent, so no branch can ever commit (I4),
    /// whether the coordinator hears of it now or at the timeout.
    async fn end_without(&self, lost: Abort) -> Outcome {
        let reason = format!("the branch at {} is lost", lost.participant.as_deref().unwrap_or("?"));
        let request = self.rollback_request(&reason);
        match roll_back(&self.votum.inner.coordinator, self.options(), &request).await {
            Ok(status) => {
                self.over.store(true, Ordering::Relaxed);
                match self.outcome(status) {
                    Outcome::Aborted(abort) => {
                        Outcome::Aborted(Abort { heuristics: abort.heuristics, ..lost })
                    }
                    other @ (Outcome::Committed(_) | Outcome::ReadOnly | Outcome::Unknown { .. }) => other,
                }
            }
            Err(_) => Outcome::Aborted(lost),
        }
    }

    fn outcome(&self, status: Status) -> Outcome {
        status.outcome().unwrap_or_else(|detail| self.unknown(detail))
    }

    fn unknown(&self, detail: String) -> Outcome {
        Outcome::Unknown { gtid: self.context.gtid.clone(), detail }
    }

    fn rollback_request(&self, reason: &str) -> v1::RollbackRequest {
        v1::RollbackRequest {
            gtid: self.context.gtid.clone(),
            secret: self.context.secret.clone(),
            reason: reason.to_owned(),
        }
    }

    /// Leaves the rollback to the task that was started with the connection: a drop may happen anywhere.
    fn roll_back_later(&self, reason: &str) {
        let _ = self.votum.inner.forgotten.send(self.rollback_request(reason));
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !*self.over.get_mut() {
            self.roll_back_later("dropped by the client");
        }
    }
}
