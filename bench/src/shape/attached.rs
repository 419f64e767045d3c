//! Attached branches: the worker has connections of its own to the banks, does the work there, and prepares it under
//! the names that Begin gave it.

use async_trait::async_trait;
use futures::future::join_all;
use tokio_postgres::{Client, NoTls, Statement};
use votum_client::{Outcome, Transaction, Votum};

use super::connect;
use crate::arguments::Wait;
use crate::carrier::{Carrier, Setting, Way};
use crate::ended::{Ended, Failure};
use crate::installation::BankAddress;
use crate::work::{LOOK, Leg, MOVE, Work};

/// All workers share the connections of one client to the coordinator; those to the banks are each one's own.
pub(crate) struct Attached {
    votum: Votum,
    setting: Setting,
}

impl Attached {
    /// Connects to the coordinator.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn connect(setting: &Setting, wait: Wait) -> anyhow::Result<Self> {
        Ok(Self { votum: connect(setting, wait).await?, setting: setting.clone() })
    }
}

#[async_trait]
impl Way for Attached {
    async fn carrier(&self, _worker: u32) -> anyhow::Result<Box<dyn Carrier>> {
        let banks = self.setting.banks.iter().map(|bank| Bank::open(&self.setting, bank));
        let banks = join_all(banks).await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Box::new(Worker { votum: self.votum.clone(), banks }))
    }
}

/// A worker's connection to a bank.
struct Bank {
    participant: String,
    client: Client,
    change: Statement,
    look: Statement,
}

impl Bank {
    async fn open(setting: &Setting, bank: &BankAddress) -> anyhow::Result<Self> {
        let (client, connection) = tokio_postgres::connect(&bank.connection, NoTls).await?;
        // It ends with its client, and what broke is said by the calls.
        setting.seams.spawn(async move { drop(connection.await) });
        let (change, look) = (client.prepare(MOVE).await?, client.prepare(LOOK).await?);
        Ok(Self { participant: bank.participant.clone(), client, change, look })
    }

    async fn transfer(&self, tx: &Transaction, leg: Leg) -> Result<(), Failure> {
        // One after another on the wire, and in one exchange: the driver sends what is there.
        let begin = self.client.batch_execute("BEGIN");
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&leg.amount, &leg.account];
        let change = self.client.execute(&self.change, &parameters);
        let (begun, changed) = futures::join!(begin, change);
        begun?;
        let rows = changed?;
        if rows != 1 {
            return Err(Failure::rows(&[rows]));
        }
        tx.attached(&self.participant)?.prepare(&self.client).await?;
        Ok(())
    }

    async fn read(&self, account: i64) -> Result<(), Failure> {
        let found = self.client.query(&self.look, &[&account]).await?;
        if found.len() == 1 { Ok(()) } else { Err(Failure::rows(&[found.len() as u64])) }
    }
}

struct Worker {
    votum: Votum,
    banks: Vec<Bank>,
}

#[async_trait]
impl Carrier for Worker {
    async fn carry_out(&mut self, work: &Work) -> Ended {
        match work {
            Work::Transfer { legs, .. } => self.transfer(legs).await,
            // What only reads needs no coordinator.
            Work::Read { accounts } => {
                let reads = self.banks.iter().zip(accounts).map(|(bank, account)| bank.read(*account));
                match join_all(reads).await.into_iter().collect::<Result<Vec<()>, _>>() {
                    Ok(_) => Ended::Committed,
                    Err(failure) => Ended::NotCommitted(failure),
                }
            }
        }
    }
}

impl Worker {
    async fn transfer(&self, legs: &[Leg]) -> Ended {
        let begin = self.banks.iter().fold(self.votum.begin(), |begin, bank| begin.attach(&bank.participant));
        let tx = match begin.await {
            Ok(tx) => tx,
            Err(error) => return Ended::NotCommitted(error.into()),
        };
        let branches = self.banks.iter().zip(legs).map(|(bank, leg)| bank.transfer(&tx, *leg));
        let worked: Result<Vec<()>, Failure> = join_all(branches).await.into_iter().collect();
        if let Err(failure) = worked {
            // What is not prepared is this worker's to roll back, and what is, the agents'.
            let _ = join_all(self.banks.iter().map(|bank| bank.client.batch_execute("ROLLBACK"))).await;
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
