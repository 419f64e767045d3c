//! Hosted branches: Begin, a statement at every bank at once, Commit.

use async_trait::async_trait;
use futures::future::join_all;
use votum_client::{Error, Outcome, Transaction, Votum};

use super::connect;
use crate::arguments::Wait;
use crate::carrier::{Carrier, Setting, Way};
use crate::ended::{Ended, Failure};
use crate::work::{LOOK, Leg, MOVE, Order, Work};

/// All workers share the connections of one client, as those of an application do.
pub(crate) struct Hosted {
    votum: Votum,
    participants: Vec<String>,
}

impl Hosted {
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
        Self { votum, participants }
    }
}

#[async_trait]
impl Way for Hosted {
    async fn carrier(&self, _worker: u32) -> anyhow::Result<Box<dyn Carrier>> {
        Ok(Box::new(Worker { votum: self.votum.clone(), participants: self.participants.clone() }))
    }
}

struct Worker {
    votum: Votum,
    participants: Vec<String>,
}

#[async_trait]
impl Carrier for Worker {
    async fn carry_out(&mut self, work: &Work) -> Ended {
        let tx = match self.votum.begin().await {
            Ok(tx) => tx,
            Err(error) => return Ended::NotCommitted(error.into()),
        };
        if let Err(failure) = self.statements(&tx, work).await {
            // What was not rolled back now is so at its timeout.
            let _ = tx.rollback().await;
            return Ended::NotCommitted(failure);
        }
        match tx.commit().await {
            Ok(Outcome::Committed(_) | Outcome::ReadOnly) => Ended::Committed,
            Ok(Outcome::Aborted(abort)) => Ended::NotCommitted(abort.into()),
            Ok(Outcome::Unknown { detail, .. }) => Ended::Unknown(Failure::new("unknown outcome", detail)),
            Err(error) => Ended::Unknown(error.into()),
        }
    }
}

impl Worker {
    async fn statements(&self, tx: &Transaction, work: &Work) -> Result<(), Failure> {
        let rows = match work {
            Work::Transfer { legs, order } => self.transfer(tx, legs, *order).await?,
            Work::Read { accounts } => self.read(tx, accounts).await?,
        };
        if rows.iter().all(|&rows| rows == 1) { Ok(()) } else { Err(Failure::rows(&rows)) }
    }

    async fn transfer(&self, tx: &Transaction, legs: &[Leg], order: Order) -> Result<Vec<u64>, Error> {
        let mut branches = self.participants.iter().zip(legs).map(|(participant, leg)| {
            let parameters = [leg.amount.into(), leg.account.into()];
            async move { tx.execute(participant, MOVE, &parameters).await }
        });
        let mut rows = Vec::new();
        if order == Order::FirstBankFirst
            && let Some(first) = branches.next()
        {
            rows.push(first.await?);
        }
        for touched in join_all(branches).await {
            rows.push(touched?);
        }
        Ok(rows)
    }

    async fn read(&self, tx: &Transaction, accounts: &[i64]) -> Result<Vec<u64>, Error> {
        let branches = self.participants.iter().zip(accounts).map(|(participant, account)| {
            let parameters = [(*account).into()];
            async move { tx.query(participant, LOOK, &parameters).await }
        });
        let found = join_all(branches).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(found.iter().map(|rows| u64::try_from(rows.len()).unwrap_or(u64::MAX)).collect())
    }
}
