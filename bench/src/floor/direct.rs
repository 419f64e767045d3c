//! The floor: at all banks at once BEGIN and the statement in one round trip, then PREPARE TRANSACTION, and
//! once all are prepared COMMIT PREPARED.

use async_trait::async_trait;
use futures::future::{join, join_all};

use super::session::{Addresses, Session, Sessions, Vote, judge_reads};
use crate::carrier::{Carrier, Setting, Way};
use crate::ended::{Ended, Failure};
use crate::work::{Leg, Order, Work};

/// A client without a coordinator.
pub(crate) struct Direct {
    addresses: Addresses,
}

impl Direct {
    /// For the banks of `setting`.
    pub(crate) fn new(setting: &Setting) -> Self {
        Self { addresses: Addresses::new(setting) }
    }
}

#[async_trait]
impl Way for Direct {
    async fn carrier(&self, worker: u32) -> anyhow::Result<Box<dyn Carrier>> {
        Ok(Box::new(Worker(Sessions::open(&self.addresses, worker).await?)))
    }
}

struct Worker(Sessions);

#[async_trait]
impl Carrier for Worker {
    async fn carry_out(&mut self, work: &Work) -> Ended {
        match work {
            Work::Transfer { legs, order } => self.transfer(legs, *order).await,
            Work::Read { accounts } => {
                let branches = self.0.banks.iter().zip(accounts);
                judge_reads(join_all(branches.map(|(bank, account)| read(bank, *account))).await)
            }
        }
    }
}

impl Worker {
    async fn transfer(&mut self, legs: &[Leg], order: Order) -> Ended {
        let gid = self.0.next_gid();
        let mut branches = self.0.banks.iter().zip(legs);
        let votes = match (order, self.0.banks.first(), legs.first()) {
            (Order::FirstBankFirst, Some(bank), Some(leg)) => {
                branches.next();
                match bank.update(*leg).await {
                    Err(failure) => return self.undo_first(failure).await,
                    Ok(()) => {
                        let others =
                            join_all(branches.map(|(bank, leg)| update_and_prepare(bank, *leg, &gid)));
                        let (first, others) = join(prepare(bank, &gid), others).await;
                        [first].into_iter().chain(others).collect()
                    }
                }
            }
            _ => join_all(branches.map(|(bank, leg)| update_and_prepare(bank, *leg, &gid))).await,
        };
        self.0.end(&gid, votes).await
    }

    /// No other bank has begun anything.
    async fn undo_first(&self, failure: Failure) -> Ended {
        if let Some(bank) = self.0.banks.first() {
            // A bank that does not answer has nothing prepared.
            let _ = bank.client.batch_execute("ROLLBACK").await;
        }
        Ended::NotCommitted(failure)
    }
}

async fn update_and_prepare(bank: &Session, leg: Leg, gid: &str) -> Vote {
    match bank.update(leg).await {
        Ok(()) => prepare(bank, gid).await,
        Err(failure) => Vote::No(failure),
    }
}

async fn prepare(bank: &Session, gid: &str) -> Vote {
    match bank.client.batch_execute(&format!("PREPARE TRANSACTION '{gid}'")).await {
        Ok(()) => Vote::Yes,
        Err(error) => Vote::No(error.into()),
    }
}

async fn read(bank: &Session, account: i64) -> Result<usize, tokio_postgres::Error> {
    let (begun, found) = join(bank.client.batch_execute("BEGIN"), bank.read(account)).await;
    let ended = bank.client.batch_execute("COMMIT").await;
    begun?;
    let found = found?;
    ended?;
    Ok(found)
}
