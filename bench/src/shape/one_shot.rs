//! Whole transactions, each in one request.

use async_trait::async_trait;
use votum_client::{OneShot, Outcome, Transacted, Votum};

use super::connect;
use crate::arguments::Wait;
use crate::carrier::{Carrier, Setting, Way};
use crate::ended::{Ended, Failure};
use crate::work::{LOOK, MOVE, Work};

/// All workers share the connections of one client, as those of an application do.
pub(crate) struct InOneRequest {
    votum: Votum,
    participants: Vec<String>,
    last_agent: bool,
}

impl InOneRequest {
    /// Connects to the coordinator.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn connect(setting: &Setting, wait: Wait) -> anyhow::Result<Self> {
        Ok(Self::over(connect(setting, wait).await?, setting))
    }

    /// Through `votum`.
    pub(super) fn over(votum: Votum, setting: &Setting) -> Self {
        let participants = setting.banks.iter().map(|bank| bank.participant.clone()).collect();
        Self { votum, participants, last_agent: false }
    }

    /// Has the last branch of each transfer decide.
    pub(super) fn with_last_agent(self) -> Self {
        Self { last_agent: true, ..self }
    }
}

#[async_trait]
impl Way for InOneRequest {
    async fn carrier(&self, _worker: u32) -> anyhow::Result<Box<dyn Carrier>> {
        let Self { votum, participants, last_agent } = self;
        let (votum, participants, last_agent) = (votum.clone(), participants.clone(), *last_agent);
        Ok(Box::new(Worker { votum, participants, last_agent }))
    }
}

struct Worker {
    votum: Votum,
    participants: Vec<String>,
    last_agent: bool,
}

#[async_trait]
impl Carrier for Worker {
    async fn carry_out(&mut self, work: &Work) -> Ended {
        let done = match self.whole(work).await {
            Ok(done) => done,
            Err(error) => return Ended::NotCommitted(error.into()),
        };
        match &done.outcome {
            // Committed as others are: it would be measured for what it was not.
            Outcome::Committed(_) if self.last_agent && done.decided_by.is_none() => {
                Ended::Unknown(Failure::new("no last agent", "all branches were prepared".to_owned()))
            }
            Outcome::Committed(_) | Outcome::ReadOnly => self.judge(&done),
            Outcome::Aborted(abort) => Ended::NotCommitted(abort.clone().into()),
            Outcome::Unknown { detail, .. } => {
                Ended::Unknown(Failure::new("unknown outcome", detail.clone()))
            }
        }
    }
}

impl Worker {
    fn whole(&self, work: &Work) -> OneShot {
        let shot = self.votum.transact();
        let shot =
            if self.last_agent && matches!(work, Work::Transfer { .. }) { shot.last_agent() } else { shot };
        match work {
            Work::Transfer { legs, .. } => {
                self.participants.iter().zip(legs).fold(shot, |shot, (participant, leg)| {
                    shot.statement(participant, MOVE, &[leg.amount.into(), leg.account.into()])
                })
            }
            Work::Read { accounts } => {
                let branches = self.participants.iter().zip(accounts);
                branches.fold(shot.read_only(), |shot, (participant, account)| {
                    shot.statement(participant, LOOK, &[(*account).into()])
                })
            }
        }
    }

    fn judge(&self, done: &Transacted) -> Ended {
        let results = self.participants.iter().flat_map(|participant| done.results(participant));
        let rows: Vec<u64> = results.map(|result| result.row_count).collect();
        let all = rows.len() == self.participants.len() && rows.iter().all(|&rows| rows == 1);
        // Committed it is, and whether it did what it should have done nobody knows.
        if all { Ended::Committed } else { Ended::Unknown(Failure::rows(&rows)) }
    }
}
