//! The floor with as few round trips as there can be: at all banks at once BEGIN, the statement and PREPARE
//! TRANSACTION in one, and once all are prepared COMMIT PREPARED in another.
//!
//! A client can do so only because it knows its statements before it begins, and finds out afterwards whether
//! they met what they should.

use async_trait::async_trait;
use futures::future::{join_all, join3};

use super::session::{Addresses, Session, Sessions, Vote, judge_reads};
use crate::carrier::{Carrier, Setting, Way};
use crate::ended::{Ended, Failure};
use crate::work::{Leg, Order, Work};

/// A client without a coordinator that does not wait where it need not.
pub(crate) struct Piped {
    addresses: Addresses,
}

impl Piped {
    /// For the banks of `setting`.
    pub(crate) fn new(setting: &Setting) -> Self {
        Self { addresses: Addresses::new(setting) }
    }
}

#[async_trait]
impl Way for Piped {
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
        let mut branches = self.0.banks.iter().zip(legs).map(|(bank, leg)| first_phase(bank, *leg, &gid));
        let mut votes = Vec::new();
        if order == Order::FirstBankFirst
            && let Some(first) = branches.next()
        {
            votes.push(first.await);
        }
        votes.extend(join_all(branches).await);
        self.0.end(&gid, votes).await
    }
}

/// The three leave as one packet: they are queued before the connection has its turn to write.
async fn first_phase(bank: &Session, leg: Leg, gid: &str) -> Vote {
    let prepare = format!("PREPARE TRANSACTION '{gid}'");
    let (begin, prepare) = (bank.client.batch_execute("BEGIN"), bank.client.batch_execute(&prepare));
    let (begun, updated, prepared) = join3(begin, bank.change(leg), prepare).await;
    match (begun.and(updated), prepared) {
        (Ok(1), Ok(())) => Vote::Yes,
        (Ok(other), Ok(())) => Vote::Regretted(Failure::rows(&other)),
        // After a statement that failed PREPARE TRANSACTION rolls back, and says no word of it.
        (Err(error), _) | (Ok(_), Err(error)) => Vote::No(error.into()),
    }
}

async fn read(bank: &Session, account: i64) -> Result<usize, tokio_postgres::Error> {
    let (begin, commit) = (bank.client.batch_execute("BEGIN"), bank.client.batch_execute("COMMIT"));
    let (begun, found, ended) = join3(begin, bank.read(account), commit).await;
    begun?;
    let found = found?;
    ended?;
    Ok(found)
}
