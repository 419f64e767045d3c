//! What most tests begin and end with: a world, a teller who writes down what clients are told, and the
//! judgement over both.

use std::sync::Arc;

use anyhow::Context as _;
use tokio_postgres::Client;
use votum_client::{Begin, Error, Outcome, Status, Transaction};
use votum_proto::names::{Gid, Gtid};
use votum_proto::v1;

use crate::eventually::{Found, eventually};
use crate::ledger::Ledger;
use crate::plain::Plain;
use crate::postgres::ROLE;
use crate::teller::Teller;
use crate::world::{Bank, Builder, World};

/// The first bank of every world.
pub const A: &str = "bank-a";
/// The second.
pub const B: &str = "bank-b";
/// The third, where there is one.
pub const C: &str = "bank-c";

/// A running world and its clients.
pub struct Scene {
    /// The installation.
    pub world: World,
    /// What clients were told.
    pub ledger: Arc<Ledger>,
    /// A client that keeps the ledger.
    pub teller: Teller,
}

impl Scene {
    /// Starts a world and connects to it.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn open(builder: Builder) -> anyhow::Result<Self> {
        let world = builder.start().await?;
        let ledger = Arc::new(Ledger::new());
        let teller = Teller::connect(&world, &ledger).await?;
        Ok(Self { world, ledger, teller })
    }

    /// Two banks, everything as usual.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn usual() -> anyhow::Result<Self> {
        Self::open(World::builder()).await
    }

    /// The judgement: every test ends with it.
    ///
    /// # Errors
    /// Every promise that was broken.
    pub async fn close(self) -> anyhow::Result<()> {
        self.world.check(&self.ledger).await
    }

    /// Commits a transfer; when its decision is forced and nobody has been told, the coordinator is dead and
    /// `then` is done. What its client is told in the end, which asks again and again.
    ///
    /// # Errors
    /// When the coordinator does not start or does not die, or the client's error.
    pub async fn decided_then(
        &self,
        name: &str,
        then: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<Outcome> {
        let Self { world, teller, .. } = self;
        world.coordinator.kill9()?;
        world.start_coordinator(Some("decision-forced")).await?;
        let crash = async {
            world.coordinator.wait_crash().await?;
            then.await
        };
        let legs = world.legs(10);
        let (outcome, crashed) = Box::pin(futures::future::join(teller.transfer(name, &legs), crash)).await;
        crashed?;
        Ok(outcome?)
    }

    /// Has a branch depart from its decision: a row goes into table `errand` at every bank, and at the first
    /// one an administrator rolls the decided transaction back. Answers its name.
    ///
    /// # Errors
    /// When it comes otherwise.
    pub async fn rolled_back_by_hand(&self) -> anyhow::Result<String> {
        let Self { world, teller, .. } = self;
        for bank in &world.banks {
            bank.client_as(ROLE).await?.batch_execute("CREATE TABLE errand (n int)").await?;
        }
        world.coordinator.kill9()?;
        world.start_coordinator(Some("decision-forced")).await?;
        let tx = teller.votum().begin().await?;
        let gtid = tx.gtid().to_owned();
        for bank in &world.banks {
            tx.execute(&bank.name, "INSERT INTO errand VALUES (1)", &[]).await?;
        }
        let crash = async {
            world.coordinator.wait_crash().await?;
            self.bank(A)?.end_by_hand("ROLLBACK").await?;
            world.start_coordinator(None).await
        };
        let (outcome, crashed) = futures::future::join(tx.commit(), crash).await;
        crashed?;
        anyhow::ensure!(outcome?.is_committed(), "{gtid} was not committed");
        Ok(gtid)
    }

    /// Has a branch come back that may have been decided before all memory, as a restored backup of its
    /// database would bring it: it is prepared at the first bank, and waits for a person. Answers its gid. For
    /// a world whose memory is short.
    ///
    /// # Errors
    /// When it comes otherwise.
    pub async fn forgotten_branch(&self) -> anyhow::Result<Gid> {
        let legs = self.world.legs(30);
        anyhow::ensure!(self.teller.transfer("old", &legs).await?.is_committed(), "not committed");
        let gtid: Gtid = self.gtid("old")?.parse()?;
        self.world.until_forgotten(&gtid.to_string()).await?;
        let gid = Gid { gtid, branch: 0, branches: 2 };
        let again = format!(
            "BEGIN; UPDATE accounts SET balance = balance - 30 WHERE id = 1; PREPARE TRANSACTION '{gid}'"
        );
        self.set_up(A, &again).await?;
        Ok(gid)
    }

    /// The name that the coordinator gave to a transfer.
    ///
    /// # Errors
    /// When it was never told.
    pub fn gtid(&self, name: &str) -> anyhow::Result<String> {
        let transfers = self.ledger.transfers();
        transfers.get(name).and_then(|told| told.gtid.clone()).with_context(|| format!("no gtid of {name}"))
    }

    /// A bank by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn bank(&self, name: &str) -> anyhow::Result<&Bank> {
        self.world.banks.iter().find(|bank| bank.name == name).with_context(|| format!("no bank {name}"))
    }

    /// A superuser's own connection to a bank's database, past Votum.
    ///
    /// # Errors
    /// When the server does not accept one.
    pub async fn direct(&self, bank: &str) -> anyhow::Result<Client> {
        self.bank(bank)?.client().await
    }

    /// A number out of a bank's database, past Votum.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn number(&self, bank: &str, query: &str) -> anyhow::Result<i64> {
        Ok(self.direct(bank).await?.query_one(query, &[]).await?.try_get(0)?)
    }

    /// The balance of an account.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn balance(&self, bank: &str, account: i64) -> anyhow::Result<i64> {
        self.number(bank, &format!("SELECT balance FROM accounts WHERE id = {account}")).await
    }

    /// Runs a statement at a bank as the role that owns its tables, past Votum.
    ///
    /// # Errors
    /// As the server answers.
    pub async fn set_up(&self, bank: &str, statements: &str) -> anyhow::Result<()> {
        Ok(self.bank(bank)?.client_as(ROLE).await?.batch_execute(statements).await?)
    }

    /// Opens the transfer `name`, which is to leave one row at each of `banks`, in a way of its own.
    ///
    /// # Errors
    /// As the coordinator answers.
    pub async fn begin(&self, name: &str, banks: &[&str], begin: Begin) -> Result<Transaction, Error> {
        self.ledger.intend(name, banks.iter().copied());
        let tx = begin.label(name).await?;
        self.ledger.begun(name, tx.gtid());
        Ok(tx)
    }

    /// As [`Scene::begin`], over the plain contract.
    ///
    /// # Errors
    /// As the coordinator answers.
    pub async fn plain(&self, name: &str, banks: &[&str]) -> anyhow::Result<Plain> {
        self.plain_with(name, banks, v1::BeginRequest::default()).await
    }

    /// As [`Scene::plain`], with a request of its own.
    ///
    /// # Errors
    /// As the coordinator answers.
    pub async fn plain_with(
        &self,
        name: &str,
        banks: &[&str],
        request: v1::BeginRequest,
    ) -> anyhow::Result<Plain> {
        self.ledger.intend(name, banks.iter().copied());
        let request = v1::BeginRequest { label: name.to_owned(), ..request };
        let plain = Plain::begin(self.world.address(), request).await?;
        self.ledger.begun(name, &plain.begun.gtid);
        Ok(plain)
    }

    /// What became of a transaction, once it is no longer in progress.
    ///
    /// # Errors
    /// When it stays in progress.
    pub async fn ended(&self, gtid: &str) -> anyhow::Result<Status> {
        eventually(&format!("{gtid} has ended"), async || {
            Ok(match self.teller.votum().transaction(gtid).await?.status {
                status @ (Status::Committed(_)
                | Status::ReadOnly
                | Status::Aborted(_)
                | Status::Unknown { .. }
                | Status::Expired) => Found::Yes(status),
                Status::InProgress { state } => Found::NotYet(state),
            })
        })
        .await
    }

    /// Waits until exactly `number` sessions of ours hold a transaction open at a bank.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn open_sessions(&self, bank: &str, number: i64) -> anyhow::Result<()> {
        self.sessions(bank, "xact_start IS NOT NULL", number).await
    }

    /// Waits until exactly `number` sessions of ours wait for a lock at a bank.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn waiting_for_locks(&self, bank: &str, number: i64) -> anyhow::Result<()> {
        self.sessions(bank, "wait_event_type = 'Lock'", number).await
    }

    async fn sessions(&self, bank: &str, that: &str, number: i64) -> anyhow::Result<()> {
        let direct = self.direct(bank).await?;
        let query = format!(
            "SELECT count(*), coalesce(string_agg(concat_ws(' ', pid, state, wait_event, query), '; '), '')
               FROM pg_stat_activity
              WHERE datname = current_database() AND usename = '{ROLE}' AND {that}"
        );
        eventually(&format!("{number} sessions at {bank} are such that {that}"), async || {
            let row = direct.query_one(&query, &[]).await?;
            Ok(if row.get::<_, i64>(0) == number { Found::Yes(()) } else { Found::NotYet(row.get(1)) })
        })
        .await
    }
}
