//! A worker's sessions at the banks, and what both floors do with them.

use anyhow::Context as _;
use futures::future::{join, join_all};
use tokio_postgres::{Client, NoTls, Statement};
use votum_proto::runtime::Seams;

use crate::carrier::Setting;
use crate::ended::{Ended, Failure};
use crate::installation::BankAddress;
use crate::work::{LOOK, Leg, MOVE};

/// What the workers of a floor share: where the banks are.
#[derive(Clone)]
pub(super) struct Addresses {
    seams: Seams,
    banks: Vec<BankAddress>,
}

impl Addresses {
    pub(super) fn new(setting: &Setting) -> Self {
        Self { seams: setting.seams.clone(), banks: setting.banks.clone() }
    }
}

/// A session at each bank, kept over all transactions of a measurement.
pub(super) struct Sessions {
    pub(super) banks: Vec<Session>,
    /// Begins the name of every transaction that is prepared.
    name: String,
    named: u64,
}

impl Sessions {
    /// # Errors
    /// When a bank does not accept a connection.
    pub(super) async fn open(addresses: &Addresses, worker: u32) -> anyhow::Result<Self> {
        let Addresses { seams, banks } = addresses;
        let name = format!("bench_{:016x}_{worker}", seams.entropy.bits());
        let sessions = join_all(banks.iter().map(|bank| Session::open(seams, bank))).await;
        Ok(Self { banks: sessions.into_iter().collect::<Result<_, _>>()?, name, named: 0 })
    }

    /// The name of the next transaction.
    pub(super) fn next_gid(&mut self) -> String {
        self.named += 1;
        format!("{}_{}", self.name, self.named)
    }

    /// The second phase: COMMIT PREPARED at all banks at once when all have prepared `gid` and voted yes, else
    /// whatever ends each bank's part.
    pub(super) async fn end(&self, gid: &str, votes: Vec<Vote>) -> Ended {
        let agreed = votes.iter().all(|vote| matches!(vote, Vote::Yes));
        let second = self.banks.iter().zip(&votes).map(|(bank, vote)| {
            let sql = match vote {
                Vote::Yes if agreed => format!("COMMIT PREPARED '{gid}'"),
                Vote::Yes | Vote::Regretted(_) => format!("ROLLBACK PREPARED '{gid}'"),
                Vote::No(_) => "ROLLBACK".to_owned(),
            };
            async move { bank.client.batch_execute(&sql).await }
        });
        let ended = join_all(second).await.into_iter().collect::<Result<(), _>>();
        let failure = votes.into_iter().find_map(|vote| match vote {
            Vote::Yes => None,
            Vote::No(failure) | Vote::Regretted(failure) => Some(failure),
        });
        match (failure, ended) {
            (None, Ok(())) => Ended::Committed,
            (None, Err(error)) => Ended::Unknown(error.into()),
            (Some(failure), _) => Ended::NotCommitted(failure),
        }
    }
}

/// How the first phase ended at a bank.
pub(super) enum Vote {
    /// It is prepared.
    Yes,
    /// It is not prepared.
    No(Failure),
    /// It is prepared, and should not have been.
    Regretted(Failure),
}

/// A session at one bank.
pub(super) struct Session {
    pub(super) client: Client,
    update: Statement,
    look: Statement,
}

impl Session {
    async fn open(seams: &Seams, bank: &BankAddress) -> anyhow::Result<Self> {
        let client = connect(seams, bank).await?;
        let update = client.prepare(MOVE).await.with_context(|| format!("preparing {MOVE:?}"))?;
        let look = client.prepare(LOOK).await.with_context(|| format!("preparing {LOOK:?}"))?;
        Ok(Self { client, update, look })
    }

    /// BEGIN and the statement in one round trip.
    pub(super) async fn update(&self, leg: Leg) -> Result<(), Failure> {
        let (begun, updated) = join(self.client.batch_execute("BEGIN"), self.change(leg)).await;
        begun?;
        match updated? {
            1 => Ok(()),
            other => Err(Failure::rows(&other)),
        }
    }

    /// The statement of a transfer's branch, in a transaction that has begun; how many rows it met.
    pub(super) async fn change(&self, leg: Leg) -> Result<u64, tokio_postgres::Error> {
        self.client.execute(&self.update, &[&leg.amount, &leg.account]).await
    }

    /// The statement of a reading branch; how many rows it found.
    pub(super) async fn read(&self, account: i64) -> Result<usize, tokio_postgres::Error> {
        Ok(self.client.query(&self.look, &[&account]).await?.len())
    }
}

/// What became of the branches of a transaction that only reads: it needs no second phase.
pub(super) fn judge_reads(found: Vec<Result<usize, tokio_postgres::Error>>) -> Ended {
    match found.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(rows) if rows.iter().all(|&rows| rows == 1) => Ended::Committed,
        Ok(rows) => Ended::NotCommitted(Failure::rows(&rows)),
        Err(error) => Ended::NotCommitted(error.into()),
    }
}

/// A connection to a bank.
///
/// # Errors
/// When the bank does not accept it.
pub(crate) async fn connect(seams: &Seams, bank: &BankAddress) -> anyhow::Result<Client> {
    let connected = tokio_postgres::connect(&bank.connection, NoTls).await;
    let (client, connection) = connected.with_context(|| format!("connecting to {}", bank.participant))?;
    seams.spawn(async move {
        // Its end shows at the client.
        let _ = connection.await;
    });
    Ok(client)
}
