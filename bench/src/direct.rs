//! The floor: a client that prepares and commits at every bank by itself.
//!
//! It forces nothing of its own before the second phase: a crash between the phases would leave prepared
//! transactions that nobody decides. That is what a coordinator is for, and what it costs is measured here.

use anyhow::Context as _;
use futures::future::{join, join_all};
use tokio_postgres::{Client, NoTls, Statement};
use votum_proto::runtime::Seams;

use crate::installation::BankAddress;
use crate::transfer::{Ended, Leg, MOVE};

/// One worker: a session at each bank, kept over all its transfers.
pub(crate) struct Direct {
    banks: Vec<Session>,
    /// Begins the name of every transaction that it prepares.
    name: String,
    transfers: u64,
}

struct Session {
    client: Client,
    update: Statement,
}

impl Direct {
    /// Opens the sessions of a worker.
    ///
    /// # Errors
    /// When a bank does not accept a connection.
    pub(crate) async fn open(seams: &Seams, banks: &[BankAddress], worker: u32) -> anyhow::Result<Self> {
        let name = format!("bench_{:016x}_{worker}", seams.entropy.bits());
        let sessions = join_all(banks.iter().map(|bank| Session::open(seams, bank))).await;
        Ok(Self { banks: sessions.into_iter().collect::<Result<_, _>>()?, name, transfers: 0 })
    }

    /// Carries out one transfer: at all banks at once BEGIN and UPDATE in one round trip, then PREPARE
    /// TRANSACTION, and once all are prepared COMMIT PREPARED.
    pub(crate) async fn transfer(&mut self, legs: &[Leg]) -> Ended {
        self.transfers += 1;
        let gid = format!("{}_{}", self.name, self.transfers);
        let branches = self.banks.iter().zip(legs);
        let prepared = join_all(branches.map(|(bank, leg)| bank.prepare(*leg, &gid))).await;
        let no = prepared.iter().find_map(|vote| vote.as_ref().err()).map(|error| format!("{error:#}"));
        let second = self.banks.iter().zip(&prepared).map(|(bank, vote)| {
            let sql = match (&no, vote) {
                (None, _) => format!("COMMIT PREPARED '{gid}'"),
                (Some(_), Ok(())) => format!("ROLLBACK PREPARED '{gid}'"),
                (Some(_), Err(_)) => "ROLLBACK".to_owned(),
            };
            async move { bank.client.batch_execute(&sql).await }
        });
        let ended = join_all(second).await.into_iter().collect::<Result<(), _>>();
        match (no, ended) {
            (None, Ok(())) => Ended::Committed,
            (None, Err(error)) => Ended::Unknown(error.to_string()),
            (Some(reason), _) => Ended::NotCommitted(reason),
        }
    }
}

impl Session {
    async fn open(seams: &Seams, bank: &BankAddress) -> anyhow::Result<Self> {
        let client = connect(seams, bank).await?;
        let update = client.prepare(MOVE).await.with_context(|| format!("preparing {MOVE:?}"))?;
        Ok(Self { client, update })
    }

    async fn prepare(&self, leg: Leg, gid: &str) -> anyhow::Result<()> {
        let (begun, updated) = join(
            self.client.batch_execute("BEGIN"),
            self.client.execute(&self.update, &[&leg.amount, &leg.account]),
        )
        .await;
        begun?;
        let updated = updated?;
        anyhow::ensure!(updated == 1, "account {} is {updated} rows", leg.account);
        Ok(self.client.batch_execute(&format!("PREPARE TRANSACTION '{gid}'")).await?)
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
