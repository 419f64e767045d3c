//! The accounts at every bank, and the judgement over them.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio_postgres::Client;
use votum_proto::runtime::Seams;
use votum_tests::eventually::{Found, eventually};

use crate::floor::connect;
use crate::installation::BankAddress;
use crate::load::Promised;
use crate::work::amount;

/// At first, on every account: more than any run can take away.
const BALANCE: i64 = 1_000_000_000;

/// Transactions of the measurement that are prepared and not ended.
const PREPARED: &str = r"SELECT count(*) FROM pg_prepared_xacts
    WHERE database = current_database() AND (gid LIKE 'votum\_%' OR gid LIKE 'bench\_%')";

/// All banks, each with a connection of our own.
pub(crate) struct Banks {
    banks: Vec<Bank>,
}

/// One bank.
pub(crate) struct Bank {
    pub(crate) participant: String,
    pub(crate) client: Client,
    /// The sum of all balances before the first transfer.
    money: i64,
}

impl Banks {
    /// Makes `accounts` accounts at every bank.
    ///
    /// # Errors
    /// When a bank cannot be reached, or holds the table already.
    pub(crate) async fn open(seams: &Seams, banks: &[BankAddress], accounts: i64) -> anyhow::Result<Self> {
        let schema = format!(
            "CREATE TABLE votum_bench_accounts (id int8 PRIMARY KEY, balance int8 NOT NULL);
             GRANT SELECT, UPDATE ON votum_bench_accounts TO PUBLIC;
             INSERT INTO votum_bench_accounts SELECT id, {BALANCE} FROM generate_series(0, {}) AS id",
            accounts - 1
        );
        let mut opened = Vec::new();
        for bank in banks {
            let participant = bank.participant.clone();
            let client = connect(seams, bank).await?;
            client.batch_execute(&schema).await.with_context(|| {
                format!(
                    "making the table votum_bench_accounts at {participant}; if an earlier run left it \
                     behind, drop it"
                )
            })?;
            client.batch_execute("VACUUM ANALYZE votum_bench_accounts").await?;
            opened.push(Bank { participant, client, money: accounts * BALANCE });
        }
        Ok(Self { banks: opened })
    }

    /// The banks, in the order of a transfer's legs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bank> {
        self.banks.iter()
    }

    /// Waits until no transaction of ours is prepared anywhere; how long that took.
    ///
    /// # Errors
    /// When some are left after 30 s.
    pub(crate) async fn settle(&self, seams: &Seams) -> anyhow::Result<Duration> {
        let begun = seams.clock.now();
        for Bank { participant, client, .. } in &self.banks {
            eventually(
                &format!("no transaction of ours is prepared at {participant}"),
                async || match client.query_one(PREPARED, &[]).await?.get::<_, i64>(0) {
                    0 => Ok(Found::Yes(())),
                    left => Ok(Found::NotYet(format!("{left} of them"))),
                },
            )
            .await?;
        }
        Ok(seams.clock.now().since(begun))
    }

    /// Compares the money at every bank with what the workers were told.
    ///
    /// # Errors
    /// When money was lost or made, a bank shows other transfers than were committed, or a transaction is
    /// left prepared.
    pub(crate) async fn judge(&self, promised: &Promised) -> anyhow::Result<String> {
        let Promised { committed, unknown } = *promised;
        let (mut before, mut after) = (0, 0);
        for (place, bank) in self.banks.iter().enumerate() {
            let Bank { participant, client, money } = bank;
            let sum = "SELECT sum(balance)::int8 FROM votum_bench_accounts";
            let now: i64 = client.query_one(sum, &[]).await?.get(0);
            (before, after) = (before + money, after + now);
            let each = amount(place, self.banks.len());
            let (least, most) = (each * committed, each * (committed + unknown));
            ensure!(
                (least.min(most)..=least.max(most)).contains(&(now - money)),
                "{participant} holds {} more than at first; {committed} transfers were committed and \
                 {unknown} are of unknown outcome, which makes {least} to {most}",
                now - money
            );
            let left: i64 = client.query_one(PREPARED, &[]).await?.get(0);
            ensure!(left == 0, "{left} transactions are left prepared at {participant}");
        }
        // A single bank is given money; between several it only moves.
        let given = if self.banks.len() == 1 { after - before } else { 0 };
        ensure!(before + given == after, "the banks hold {after} and held {before} at first");
        Ok(format!(
            "The money adds up: {committed} transfers committed in all, at every bank each, and no \
             transaction is left prepared."
        ))
    }

    /// Removes the accounts.
    ///
    /// # Errors
    /// As a bank answers.
    pub(crate) async fn close(&self) -> anyhow::Result<()> {
        for Bank { participant, client, .. } in &self.banks {
            let dropped = client.batch_execute("DROP TABLE votum_bench_accounts").await;
            dropped.with_context(|| format!("dropping votum_bench_accounts at {participant}"))?;
        }
        Ok(())
    }
}
