//! How each message is made to come by.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::future::join;
use votum_client::{Begin, Error, Outcome};
use votum_proto::v1;
use votum_tests::eventually::{Found, eventually};
use votum_tests::gate;
use votum_tests::postgres::ROLE;
use votum_tests::proxy::{Fault, Link, Message, Wire};
use votum_tests::scene::{A, B, C};
use votum_tests::teller::{Leg, Teller, told, work};

use crate::cases::Case;
use crate::site::{Kind, Site};
use crate::successor::Second;

/// A course of calls in which a message comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// A transfer that commits.
    Commit,
    /// The same at the first bank alone, which keeps commit markers.
    OnePhase,
    /// The same, in one request under a key.
    OneShot,
    /// The same, where the first bank's branch decides for the others.
    LastAgent,
    /// The same, where the application works at the first bank on a connection of its own.
    Attached,
    /// The same, where the first bank is only read.
    ReadFirst,
    /// A transfer that the second bank refuses when the first has prepared.
    Refused,
    /// A transfer that the client rolls back.
    RolledBack,
    /// A statement that the first bank refuses.
    BadStatement,
    /// A client that asks what became of its transaction.
    Ask,
    /// The exchange broke after the work was done.
    Redial,
    /// The agent's connections broke before.
    Reconnect,
    /// An operator asks what is in doubt.
    List,
    /// The transaction is over when its enlistment arrives.
    LateEnlistment,
    /// An administrator ends the branch's session.
    LostSession,
    /// A newer life of the coordinator has spoken.
    Successor,
    /// Phase 2 does not get on: the database is away.
    Trouble,
    /// The answer to COMMIT PREPARED was lost.
    CommitUnheard,
    /// The answer to PREPARE TRANSACTION was lost.
    PrepareUnheard,
    /// The timeout passes while PREPARE TRANSACTION runs.
    SlowPrepare,
    /// An operator departs from a commit that is being delivered: it stands, and the operator is told.
    Departure,
    /// A standby has taken the place of the first bank's server.
    Failover,
    /// A life of the coordinator begins whose log has forgotten transactions that left markers.
    Pruning,
}

/// A message without a script does not compile.
pub fn script(message: Message) -> Script {
    use Message as M;
    match message {
        M::Begin
        | M::BeginReply
        | M::Commit
        | M::CommitReply
        | M::Execute
        | M::Started
        | M::Finished
        | M::Prepare
        | M::CommitBranch
        | M::Enlisted
        | M::Vote
        | M::BranchEnd
        | M::Listing
        | M::SqlBegin
        | M::SqlStatement
        | M::SqlPrepare
        | M::SqlCommitPrepared
        | M::SqlReset
        | M::SqlList
        | M::SqlBegun
        | M::SqlStatementDone
        | M::SqlPrepared
        | M::SqlCommitPreparedDone
        | M::SqlResetDone
        | M::SqlListed => Script::Commit,
        M::Row | M::SqlCommit | M::SqlCommitted => Script::ReadFirst,
        M::RollbackBranch | M::SqlRollbackPrepared | M::SqlRollbackPreparedDone => Script::Refused,
        M::Rollback | M::RollbackReply | M::SqlRollback | M::SqlRolledBack => Script::RolledBack,
        M::CallError => Script::BadStatement,
        M::GetTransaction | M::GetTransactionReply => Script::Ask,
        M::CoordinatorHello | M::AgentHello => Script::Redial,
        M::Connect | M::Connected => Script::Reconnect,
        M::CommitOnePhase => Script::OnePhase,
        M::Decide | M::Decided => Script::LastAgent,
        M::Transact | M::TransactReply => Script::OneShot,
        M::VerifyAttached => Script::Attached,
        M::ListParticipant => Script::List,
        M::EndSession => Script::LateEnlistment,
        M::SessionLost => Script::LostSession,
        M::Refusal => Script::Successor,
        M::PhaseTwoTrouble => Script::Trouble,
        M::SqlFind | M::SqlFound | M::SqlOutcome | M::SqlOutcomeTold | M::SqlConfirm | M::SqlConfirmed => {
            Script::CommitUnheard
        }
        M::SqlTerminate | M::SqlTerminated => Script::PrepareUnheard,
        M::Cancel => Script::SlowPrepare,
        M::HoldBranch | M::BranchHeld => Script::Departure,
        M::VerifyBranches | M::BranchesVerified => Script::Failover,
        M::PruneMarkers => Script::Pruning,
    }
}

impl Script {
    /// Whether its transaction commits where the network loses nothing.
    pub fn commits(self) -> bool {
        match self {
            Self::Commit
            | Self::OnePhase
            | Self::OneShot
            | Self::LastAgent
            | Self::Attached
            | Self::ReadFirst
            | Self::Ask
            | Self::Reconnect
            | Self::List
            | Self::Trouble
            | Self::CommitUnheard
            | Self::Departure
            | Self::Failover
            | Self::Pruning => true,
            // While the exchange is dialled again nobody can vote; and so on.
            Self::Redial
            | Self::Refused
            | Self::RolledBack
            | Self::BadStatement
            | Self::LateEnlistment
            | Self::LostSession
            | Self::Successor
            | Self::PrepareUnheard
            | Self::SlowPrepare => false,
        }
    }

    /// Whether nobody else goes on meanwhile: the coordinator itself stands still, or begins anew.
    pub fn stops_everybody(self) -> bool {
        matches!(self, Self::Successor | Self::Pruning)
    }

    /// What kind of installation it is played on.
    pub fn kind(self) -> Kind {
        if matches!(self, Self::Failover | Self::Pruning) { Kind::Marked } else { Kind::Common }
    }
}

/// One transaction, played by a client of the network.
pub struct Play<'a> {
    pub site: &'a Site,
    pub case: Case,
    /// Of the transaction; its rows bear it.
    pub name: &'a str,
    pub client: &'a Teller,
    pub timeout: Duration,
}

pub type Answer = Result<Outcome, Error>;

impl Play<'_> {
    /// Arms the fault and plays the script of its message. What the client is told stands in the ledger; the
    /// result is what it was told at last, where it asked.
    ///
    /// # Errors
    /// When the script cannot be played: then nothing is proven.
    pub async fn play(&self) -> anyhow::Result<Option<Answer>> {
        let database = self.wire(Link::AgentDatabase)?;
        match script(self.case.message) {
            Script::Commit => {
                self.arm()?;
                Ok(Some(self.transfer().await))
            }
            Script::OnePhase => self.one_phase().await,
            Script::OneShot => {
                self.arm()?;
                let legs = self.legs();
                let shot = self.client.votum().transact().idempotency_key(self.name).timeout(self.timeout);
                Ok(Some(self.client.at_once(shot, self.name, &legs).await.map(|done| done.outcome)))
            }
            Script::LastAgent => self.last_agent().await,
            Script::Attached => self.attached().await,
            Script::ReadFirst => {
                self.arm()?;
                Ok(Some(self.read_first().await))
            }
            Script::Refused => self.refused().await,
            Script::RolledBack => self.rolled_back().await,
            Script::BadStatement => self.bad_statement().await,
            Script::Ask => self.ask().await,
            Script::Redial => self.redial().await,
            Script::Reconnect => {
                self.arm()?;
                database.cut();
                Ok(Some(self.transfer().await))
            }
            Script::List => self.list().await,
            Script::LateEnlistment => self.late_enlistment().await,
            Script::LostSession => self.lost_session().await,
            Script::Successor => self.successor().await,
            Script::Trouble => {
                self.arm()?;
                database.arm(Message::SqlCommitPrepared, Fault::Sever);
                Ok(Some(self.transfer().await))
            }
            Script::CommitUnheard => {
                self.arm()?;
                database.arm(Message::SqlCommitPreparedDone, Fault::Reset);
                Ok(Some(self.transfer().await))
            }
            Script::PrepareUnheard => {
                self.arm()?;
                database.arm(Message::SqlPrepared, Fault::Reset);
                Ok(Some(self.transfer().await))
            }
            Script::SlowPrepare => self.slow_prepare().await,
            Script::Departure => self.departure().await,
            Script::Failover => self.failover().await,
            Script::Pruning => self.pruning().await,
        }
    }

    async fn one_phase(&self) -> anyhow::Result<Option<Answer>> {
        let bank = self.site.world.banks.first().context("no bank")?;
        bank.unhang_gate().await?;
        self.arm()?;
        let answer = self.transfer().await;
        bank.hang_gate().await?;
        Ok(Some(answer))
    }

    /// The first bank alone keeps markers: its branch decides, wherever it stands in the request.
    async fn last_agent(&self) -> anyhow::Result<Option<Answer>> {
        let bank = self.site.world.banks.first().context("no bank")?;
        bank.unhang_gate().await?;
        // A listing shows that it can.
        let request = v1::ListInDoubtRequest { participant: bank.name.clone(), wait_ms: 0 };
        self.site.world.operator()?.list_in_doubt(request).await?;
        self.arm()?;
        let shot =
            self.client.votum().transact().last_agent().idempotency_key(self.name).timeout(self.timeout);
        let answer = self.client.at_once(shot, self.name, &self.legs()).await;
        bank.hang_gate().await?;
        Ok(Some(answer.map(|done| done.outcome)))
    }

    async fn attached(&self) -> anyhow::Result<Option<Answer>> {
        let legs = self.legs();
        let (first, others) = legs.split_first().context("no bank")?;
        self.site.ledger.intend(self.name, legs.iter().map(|leg| leg.bank));
        let tx = self.begin().label(self.name).attach(first.bank).await?;
        self.site.ledger.begun(self.name, tx.gtid());
        let app = self.site.world.banks.first().context("no first bank")?.client_as(ROLE).await?;
        let statements = format!(
            "BEGIN; UPDATE accounts SET balance = balance + {amount} WHERE id = 1; \
             INSERT INTO journal (transfer, amount) VALUES ('{name}', {amount})",
            amount = first.amount,
            name = self.name.replace('\'', "''"),
        );
        app.batch_execute(&statements).await?;
        tx.attached(first.bank)?.prepare(&app).await?;
        work(&tx, self.name, others).await?;
        self.arm()?;
        Ok(Some(self.client.commit(tx, self.name).await))
    }

    pub fn wire(&self, link: Link) -> anyhow::Result<&Wire> {
        self.site.world.network()?.wire(link, 0)
    }

    pub fn arm(&self) -> anyhow::Result<()> {
        self.wire(self.case.message.link())?.arm_after(self.case.skip, self.case.message, self.case.fault);
        Ok(())
    }

    fn legs(&self) -> Vec<Leg<'static>> {
        let banks = [A, B, C].into_iter().take(self.case.banks).enumerate();
        let rest = i64::try_from(self.case.banks).unwrap_or(1) - 1;
        banks
            .map(|(place, bank)| Leg { bank, account: 1, amount: if place == 0 { -rest } else { 1 } })
            .collect()
    }

    fn begin(&self) -> Begin {
        self.client.votum().begin().timeout(self.timeout)
    }

    async fn open(&self, banks: &[&str]) -> Result<votum_client::Transaction, Error> {
        self.site.ledger.intend(self.name, banks.iter().copied());
        let tx = self.begin().label(self.name).await?;
        self.site.ledger.begun(self.name, tx.gtid());
        Ok(tx)
    }

    /// Begins, and does the whole work.
    pub async fn worked(&self) -> Result<votum_client::Transaction, Error> {
        let legs = self.legs();
        let tx = self.open(&legs.iter().map(|leg| leg.bank).collect::<Vec<_>>()).await?;
        work(&tx, self.name, &legs).await?;
        Ok(tx)
    }

    pub async fn transfer(&self) -> Answer {
        let legs = self.legs();
        let tx = self.open(&legs.iter().map(|leg| leg.bank).collect::<Vec<_>>()).await?;
        match work(&tx, self.name, &legs).await {
            Ok(()) => self.client.commit(tx, self.name).await,
            Err(error) => {
                self.roll_back(tx).await?;
                Err(error)
            }
        }
    }

    async fn roll_back(&self, tx: votum_client::Transaction) -> Answer {
        let answer = tx.rollback().await;
        if let Ok(outcome) = &answer {
            self.site.ledger.told(self.name, told(outcome));
        }
        answer
    }

    async fn read_first(&self) -> Answer {
        let legs = [Leg { bank: B, account: 1, amount: 0 }];
        let tx = self.open(&[B]).await?;
        let done = async {
            tx.query(A, "SELECT balance FROM accounts WHERE id = 1", &[]).await?;
            work(&tx, self.name, &legs).await
        };
        match done.await {
            Ok(()) => self.client.commit(tx, self.name).await,
            Err(error) => {
                self.roll_back(tx).await?;
                Err(error)
            }
        }
    }

    async fn refused(&self) -> anyhow::Result<Option<Answer>> {
        let world = &self.site.world;
        let second = world.banks.get(1).context("no second bank")?;
        let shut = second.shut_gate().await?;
        let tx = self.worked().await?;
        gate::pass(&tx, B, true).await?;
        self.arm()?;
        let open = async {
            let first = world.banks.first().context("no first bank")?;
            eventually("the first bank has prepared", async || {
                let prepared = first.prepared().await?;
                Ok(if prepared.is_empty() { Found::NotYet("nothing is".into()) } else { Found::Yes(()) })
            })
            .await?;
            drop(shut);
            anyhow::Ok(())
        };
        let (answer, opened) = join(self.client.commit(tx, self.name), open).await;
        opened?;
        Ok(Some(answer))
    }

    async fn rolled_back(&self) -> anyhow::Result<Option<Answer>> {
        let tx = self.worked().await?;
        self.arm()?;
        Ok(Some(self.roll_back(tx).await))
    }

    async fn bad_statement(&self) -> anyhow::Result<Option<Answer>> {
        self.arm()?;
        let tx = self.open(&[]).await?;
        let refused = tx.execute(A, "INSERT INTO accounts VALUES (1, 0)", &[]).await;
        ensure!(refused.is_err(), "an account was opened twice");
        Ok(Some(self.roll_back(tx).await))
    }

    async fn ask(&self) -> anyhow::Result<Option<Answer>> {
        let tx = self.worked().await?;
        let gtid = tx.gtid().to_owned();
        let answer = self.client.commit(tx, self.name).await;
        self.arm()?;
        // Where it is not answered, that is no answer about the transaction.
        if let Ok(found) = self.client.votum().transaction(&gtid).await {
            ensure!(matches!(found.status, votum_client::Status::Committed(_)), "{found:?}");
        }
        Ok(Some(answer))
    }

    async fn redial(&self) -> anyhow::Result<Option<Answer>> {
        let tx = self.worked().await?;
        self.arm()?;
        self.wire(Link::CoordinatorAgent)?.cut();
        Ok(Some(self.client.commit(tx, self.name).await))
    }

    async fn list(&self) -> anyhow::Result<Option<Answer>> {
        let tx = self.worked().await?;
        self.arm()?;
        let mut operator = self.site.world.operator()?;
        let request = v1::ListInDoubtRequest { participant: A.to_owned(), wait_ms: 1_000 };
        // Whether it is answered depends on the fault; whom it cannot hear of it names.
        operator.list_in_doubt(request).await?;
        Ok(Some(self.client.commit(tx, self.name).await))
    }

    async fn late_enlistment(&self) -> anyhow::Result<Option<Answer>> {
        let exchange = self.wire(Link::CoordinatorAgent)?;
        exchange.arm(Message::Enlisted, Fault::HoldBack);
        let tx = self.open(&[]).await?;
        tx.execute(A, "UPDATE accounts SET balance = balance + 1 WHERE id = 1", &[]).await?;
        exchange.until_sprung(Message::Enlisted).await?;
        let answer = self.roll_back(tx).await;
        self.arm()?;
        exchange.heal();
        Ok(Some(answer))
    }

    async fn lost_session(&self) -> anyhow::Result<Option<Answer>> {
        let tx = self.worked().await?;
        self.arm()?;
        let first = self.site.world.banks.first().context("no first bank")?;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND usename = 'votum' AND state = 'idle in transaction'";
        first.by_hand(end).await?;
        self.wire(Link::CoordinatorAgent)?.until_sprung(self.case.message).await?;
        Ok(Some(self.client.commit(tx, self.name).await))
    }

    async fn slow_prepare(&self) -> anyhow::Result<Option<Answer>> {
        let first = self.site.world.banks.first().context("no first bank")?;
        let _shut = first.shut_gate().await?;
        let tx = self.worked().await?;
        gate::pass(&tx, A, false).await?;
        self.arm()?;
        let database = self.wire(Link::AgentDatabase)?;
        let (answer, sprung) =
            join(self.client.commit(tx, self.name), database.until_sprung(self.case.message)).await;
        sprung?;
        Ok(Some(answer))
    }

    /// The coordinator stands still while another is started from a copy of its log; then it goes on. In the
    /// end the successor's log takes the place of the old one's.
    async fn successor(&self) -> anyhow::Result<Option<Answer>> {
        let world = &self.site.world;
        let tx = self.worked().await?;
        world.coordinator.freeze()?;
        let second = Second::start(world)?;
        self.arm()?;
        second.until_accepted(world).await?;
        self.site.note("the successor is accepted");
        world.coordinator.thaw()?;
        let answer = self.client.commit(tx, self.name).await;
        // Another agent's refusal may have answered it: the old one stays until this agent's has come, too.
        self.wire(self.case.message.link())?.until_sprung(self.case.message).await?;
        second.hand_over(world)?;
        Ok(Some(answer))
    }
}
