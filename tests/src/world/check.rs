//! Collects the facts of a world for the judgement, once all is up and settled.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::PoisonError;

use anyhow::{Context as _, bail};
use tokio_postgres::Client;
use votum_client::{Status, Votum};
use votum_proto::runtime::Seams;
use votum_proto::v1;
use votum_proto::v1::coordinator_client::CoordinatorClient;
use votum_proto::v1::outcome::Kind;

use super::{Bank, World};
use crate::eventually::{DEADLINE, Found, eventually};
use crate::invariants::{BankFacts, Facts, Violation, judge};
use crate::ledger::{Ledger, Told};
use crate::postgres::ROLE;

/// Prepared transactions that bear our name and were not planted, and sessions of ours that hold a
/// transaction open.
const LEFT_BEHIND: &str = r"
    SELECT 'prepared transaction ' || gid || ' for ' || (clock_timestamp() - prepared)::text AS what
      FROM pg_prepared_xacts
     WHERE database = current_database() AND gid LIKE 'votum\_%' AND gid <> ALL ($1)
    UNION ALL
    SELECT 'session ' || pid::text || ', ' || state || ' for ' || (clock_timestamp() - xact_start)::text
      FROM pg_stat_activity
     WHERE datname = current_database() AND usename = $2 AND pid <> pg_backend_pid()
       AND xact_start IS NOT NULL";

impl World {
    /// Judges the world against what its clients were told. Everything must be up; branches that are still
    /// on their way get the usual deadline.
    ///
    /// # Errors
    /// Every broken promise, with what each transfer was told and the end of every process's output.
    pub async fn check(&self, ledger: &Ledger) -> anyhow::Result<()> {
        Box::pin(self.settled()).await?;
        Box::pin(self.ask_again(ledger)).await.context("asking again what became of each transfer")?;
        self.judge(ledger).await
    }

    /// As [`World::check`], where no coordinator serves at [`World::address`]: this client is asked.
    ///
    /// # Errors
    /// As [`World::check`].
    pub async fn check_by(&self, votum: &Votum, ledger: &Ledger) -> anyhow::Result<()> {
        Box::pin(self.settled()).await?;
        for (name, transfer) in ledger.transfers() {
            let Some(gtid) = transfer.gtid else { continue };
            let found = votum.transaction(&gtid).await;
            ledger.told(&name, found.map_or(Told::Unknown, |found| told_of(&found.status)));
        }
        self.judge(ledger).await
    }

    async fn judge(&self, ledger: &Ledger) -> anyhow::Result<()> {
        let facts = Box::pin(self.facts(ledger)).await.context("collecting the facts for the judgement")?;
        let violations = judge(&facts);
        if violations.is_empty() {
            return Ok(());
        }
        bail!("{}", self.transcript(&facts, &violations)?)
    }

    async fn facts(&self, ledger: &Ledger) -> anyhow::Result<Facts> {
        let mut banks = BTreeMap::new();
        for bank in &self.banks {
            banks.insert(bank.name.clone(), bank.facts().await?);
        }
        Ok(Facts { banks, transfers: ledger.transfers(), money_at_first: self.money_at_first })
    }

    fn transcript(&self, facts: &Facts, violations: &[Violation]) -> anyhow::Result<String> {
        let mut text = String::from("promises were broken:\n");
        for violation in violations {
            writeln!(text, "  {violation}")?;
        }
        writeln!(text, "what clients were told:")?;
        for (name, transfer) in &facts.transfers {
            writeln!(text, "  {name}: {transfer}")?;
        }
        for process in std::iter::once(&self.coordinator).chain(self.banks.iter().map(|bank| &bank.agent)) {
            writeln!(text, "the last lines of {}:\n{}", process.log().display(), process.log_tail())?;
        }
        Ok(text)
    }

    /// Waits until no branch of ours is left anywhere, or the deadline has passed: what is left then is in
    /// the facts.
    async fn settled(&self) -> anyhow::Result<()> {
        for bank in &self.banks {
            bank.left_behind().await?;
        }
        Ok(())
    }

    /// Asks for the outcome of every transfer once more: I5, and what UNKNOWN became.
    async fn ask_again(&self, ledger: &Ledger) -> anyhow::Result<()> {
        let mut coordinator = CoordinatorClient::new(self.listen.channel()?);
        for (name, transfer) in ledger.transfers() {
            let Some(gtid) = transfer.gtid else { continue };
            let by = Some(v1::get_transaction_request::By::Gtid(gtid));
            // A refusal is an answer too: a log that was begun anew does not know the transaction.
            let asked = coordinator.get_transaction(v1::GetTransactionRequest { by });
            let answer = Seams::production().clock.timeout(DEADLINE, asked).await;
            let outcome = match answer.with_context(|| format!("nobody says what became of {name}"))? {
                Ok(answer) => answer.into_inner().outcome.and_then(|outcome| outcome.kind),
                Err(_) => None,
            };
            ledger.told(&name, told(outcome.as_ref()));
        }
        Ok(())
    }
}

fn told_of(status: &Status) -> Told {
    match status {
        Status::Committed(_) => Told::Committed,
        Status::ReadOnly => Told::ReadOnly,
        Status::Aborted(_) => Told::Aborted,
        Status::InProgress { .. } | Status::Unknown { .. } | Status::Expired => Told::Unknown,
    }
}

fn told(outcome: Option<&Kind>) -> Told {
    match outcome {
        Some(Kind::Committed(_)) => Told::Committed,
        Some(Kind::ReadOnly(_)) => Told::ReadOnly,
        Some(Kind::Aborted(_)) => Told::Aborted,
        Some(Kind::InProgress(_) | Kind::Unknown(_) | Kind::Expired(_)) | None => Told::Unknown,
    }
}

impl Bank {
    async fn facts(&self) -> anyhow::Result<BankFacts> {
        // What is there at the deadline counts, not at one glance: an agent that lists holds a transaction open
        // for a moment.
        let left_behind = self.left_behind().await?;
        let client = self.client().await?;
        let rows = client.query("SELECT transfer, count(*) FROM journal GROUP BY transfer", &[]).await?;
        let money = client.query_one("SELECT sum(balance)::int8 FROM accounts", &[]).await?.get(0);
        let prepared =
            "SELECT gid, transaction::text FROM pg_prepared_xacts WHERE database = current_database()";
        let prepared = client.query(prepared, &[]).await?;
        let planted = self.foreign.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let prepared = prepared.iter().map(|row| (row.get(0), row.get(1)));
        Ok(BankFacts {
            journal: rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
            money,
            left_behind,
            foreign_kept: prepared.filter(|row| planted.contains(row)).collect(),
            foreign_planted: planted,
        })
    }

    /// What is left of ours at the deadline; empty as soon as nothing is.
    async fn left_behind(&self) -> anyhow::Result<Vec<String>> {
        let client = self.client().await?;
        let settled = eventually("nothing is left behind", async || {
            let left = self.left_behind_now(&client).await?;
            Ok(if left.is_empty() { Found::Yes(()) } else { Found::NotYet(String::new()) })
        });
        match settled.await {
            Ok(()) => Ok(Vec::new()),
            Err(_) => self.left_behind_now(&client).await,
        }
    }

    async fn left_behind_now(&self, client: &Client) -> anyhow::Result<Vec<String>> {
        let planted: Vec<String> = {
            let foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
            foreign.iter().map(|(gid, _)| gid.clone()).collect()
        };
        let rows = client.query(LEFT_BEHIND, &[&planted, &ROLE]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}
