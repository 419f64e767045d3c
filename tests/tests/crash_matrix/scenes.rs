//! What a coordinator meets only after somebody did something unusual: for the rows of the recovery table at
//! which no ordinary transfer ends up.

use std::pin::pin;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use futures::future::{Either, select};
use votum_client::Outcome;
use votum_coordinator::crash::CrashPoint;
use votum_participant::crash::CrashPoint as AtAgent;
use votum_proto::v1;
use votum_tests::eventually::{Found, eventually};
use votum_tests::gate;
use votum_tests::ledger::Ledger;
use votum_tests::plain::{Plain, note};
use votum_tests::postgres::ROLE;
use votum_tests::teller::{Teller, told, work};
use votum_tests::world::{Bank, Builder, World};

use super::case::Frozen;
use super::lane::Met;
use super::supervisor::{copy_directory, put_back};

/// One scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scene {
    /// R0: a statement comes after its transaction has ended.
    LateStatement,
    /// R1x: other work is prepared under the name of a committed branch.
    OtherWork,
    /// R6: a prepared branch is listed while its transaction is still being voted on.
    StillVoting,
    /// R8: the log is an older copy.
    OlderLog,
    /// R10, then R16: a branch older than the log's memory, then an operator's word about it.
    Forgotten,
    /// R12: a prepared transaction that bears our name, of a life that never was.
    Stranger,
}

impl Scene {
    /// The points at which the coordinator dies in it.
    pub(crate) fn points(self) -> &'static [CrashPoint] {
        match self {
            Self::LateStatement => &[CrashPoint::JudgedR0],
            Self::OtherWork => &[CrashPoint::JudgedR1x],
            Self::StillVoting => &[CrashPoint::JudgedR6],
            Self::OlderLog => &[CrashPoint::JudgedR8],
            Self::Forgotten => &[CrashPoint::JudgedR10, CrashPoint::JudgedR16],
            Self::Stranger => &[CrashPoint::JudgedR12],
        }
    }

    /// Plays it and judges what is left.
    pub(crate) async fn play(self, banks: usize) -> anyhow::Result<Met> {
        let builder = World::builder().banks(banks);
        let deaths = match self {
            Self::LateStatement => late_statement(&Stage::open(builder, self).await?).await?,
            Self::OtherWork => other_work(&Stage::open(builder, self).await?).await?,
            Self::StillVoting => still_voting(&Stage::open(builder, self).await?).await?,
            Self::OlderLog => {
                older_log(&Stage::with(builder, "transaction-begun@2=stop,votes-in@3").await?).await?
            }
            Self::Forgotten => forgotten(&Stage::open(builder.short_memory(), self).await?).await?,
            Self::Stranger => stranger(&Stage::open(builder, self).await?).await?,
        };
        Ok(Met { deaths, left: 0 })
    }
}

/// A world whose coordinator is to die.
struct Stage {
    world: World,
    ledger: Arc<Ledger>,
    teller: Teller,
}

impl Stage {
    async fn open(builder: Builder, scene: Scene) -> anyhow::Result<Self> {
        Self::with(builder, scene.points().first().context("a scene of nothing")?.name()).await
    }

    async fn with(builder: Builder, choice: &str) -> anyhow::Result<Self> {
        let world = builder.prepare().await?;
        for bank in &world.banks {
            bank.agent.start(None)?;
        }
        world.start_coordinator(Some(choice)).await?;
        let ledger = Arc::new(Ledger::new());
        let teller = Teller::connect(&world, &ledger).await?;
        Ok(Self { world, ledger, teller })
    }

    /// The coordinator has died; it starts again.
    async fn again(&self, choice: Option<&str>) -> anyhow::Result<()> {
        self.world.coordinator.wait_crash().await?;
        self.world.start_coordinator(choice).await
    }

    /// The coordinator has died; it starts again for good, and says what it has settled.
    async fn settles(&self) -> anyhow::Result<()> {
        self.world.coordinator.wait_crash().await?;
        self.world.restart_and_settle(None).await.map(drop)
    }

    async fn judge(&self) -> anyhow::Result<()> {
        self.world.check(&self.ledger).await
    }

    fn first(&self) -> anyhow::Result<&Bank> {
        self.world.banks.first().context("no bank")
    }

    fn gtid(&self, transfer: &str) -> anyhow::Result<String> {
        let known = self.ledger.transfers().get(transfer).and_then(|transfer| transfer.gtid.clone());
        known.with_context(|| format!("{transfer} has no gtid"))
    }
}

async fn late_statement(stage: &Stage) -> anyhow::Result<usize> {
    let mut tx = Plain::begin(stage.world.address(), v1::BeginRequest::default()).await?;
    tx.roll_back().await?;
    // Nobody answers for it: nothing of it may stay.
    let (_, settled) = futures::future::join(tx.run("bank-a", &note("late")), stage.settles()).await;
    settled?;
    stage.judge().await?;
    Ok(1)
}

async fn other_work(stage: &Stage) -> anyhow::Result<usize> {
    let outcome = stage.teller.transfer("true", &stage.world.legs(10)).await?;
    ensure!(outcome.is_committed(), "{outcome}");
    let gid = gid(&stage.gtid("true")?, stage.world.banks.len());
    forge(stage.first()?, &gid).await?;
    stage.settles().await?;
    stage.world.until_prepared(0).await?;
    stage.judge().await?;
    Ok(1)
}

async fn still_voting(stage: &Stage) -> anyhow::Result<usize> {
    let Stage { world, teller, .. } = stage;
    let (first, last) = (stage.first()?, world.banks.last().context("no bank")?);
    last.build_gate().await?;
    let shut = last.shut_gate().await?;
    let legs = world.legs(10);
    let tx = teller.open("voting", &legs).await?;
    let gtid = tx.gtid().to_owned();
    work(&tx, "voting", &legs).await?;
    gate::pass(&tx, &last.name, false).await?;
    let meanwhile = async {
        let (crash, vote) = (pin!(world.coordinator.wait_crash()), pin!(voted(world, &gtid, &first.name)));
        match select(crash, vote).await {
            // A sweep has shown the branch already.
            Either::Left((crashed, _)) => crashed?,
            Either::Right((vote, crash)) => {
                // Who has died by now cannot be asked.
                if vote.is_ok() {
                    first.agent.kill9()?;
                    first.agent.start(None)?;
                }
                crash.await?;
            }
        }
        drop(shut);
        world.restart_and_settle(None).await
    };
    let (outcome, settled) = futures::future::join(teller.commit(tx, "voting"), meanwhile).await;
    settled?;
    let outcome = outcome?;
    ensure!(matches!(outcome, Outcome::Aborted(_)), "nobody had decided: {outcome}");
    stage.judge().await?;
    Ok(2)
}

/// The copy lacks what the agents have seen since; branches prepared since wait until the true log is back.
async fn older_log(stage: &Stage) -> anyhow::Result<usize> {
    let Stage { world, teller, .. } = stage;
    let (copy, newer) = (world.dir().join("older"), world.dir().join("newer"));
    let legs = world.legs(10);
    teller.transfer("kept", &legs).await?;
    let copying = async {
        world.coordinator.wait_stopped().await?;
        copy_directory(world.log_directory(), &copy)?;
        world.coordinator.thaw()
    };
    let (undecided, copied) = futures::future::join(teller.open("undecided", &legs), copying).await;
    copied?;
    let undecided = undecided?;
    let outcome = teller.transfer("lost in the copy", &legs).await?;
    ensure!(outcome.is_committed(), "{outcome}");
    work(&undecided, "undecided", &legs).await?;
    let meanwhile = async {
        world.coordinator.wait_crash().await?;
        copy_directory(world.log_directory(), &newer)?;
        put_back(&copy, world.log_directory(), Frozen::Everything)?;
        world.coordinator.start(Some(CrashPoint::JudgedR8.name()))?;
        world.coordinator.wait_crash().await?;
        ensure!(world.prepared().await?.len() == world.banks.len(), "an older log ended a branch");
        put_back(&newer, world.log_directory(), Frozen::Everything)?;
        // Its next life has the number of the one that the older log began: agents refuse both.
        world.coordinator.start(Some(CrashPoint::LifeBegun.name()))?;
        stage.settles().await
    };
    let (outcome, settled) = futures::future::join(teller.commit(undecided, "undecided"), meanwhile).await;
    settled?;
    let outcome = outcome?;
    ensure!(matches!(outcome, Outcome::Aborted(_)), "nobody had decided: {outcome}");
    stage.judge().await?;
    Ok(3)
}

async fn forgotten(stage: &Stage) -> anyhow::Result<usize> {
    let Stage { world, ledger, teller } = stage;
    let legs = world.legs(10);
    ledger.intend("old", legs.iter().map(|leg| leg.bank));
    let tx = teller.votum().begin().await?;
    let old = tx.gtid().to_owned();
    work(&tx, "old", &legs).await?;
    let outcome = tx.commit().await?;
    ledger.told("old", told(&outcome));
    world.until_forgotten(&old).await?;
    let gid = gid(&old, world.banks.len());
    let bank = stage.first()?;
    forge(bank, &gid).await?;
    stage.again(Some(CrashPoint::JudgedR16.name())).await?;
    let alarm = world.until_alarm("VOTUM-1402").await?;
    ensure!(alarm.gtid == gid, "{alarm:?}");

    world.restart_agent(0, Some(AtAgent::BeforeRollbackPrepared.name())).await?;
    let resolve = v1::ResolveRequest {
        gid: gid.clone(),
        participant: bank.name.clone(),
        action: v1::resolve_request::Action::Rollback.into(),
        operator: "somebody".into(),
        reason: "prepared by hand".into(),
        apply: true,
        heuristic: false,
    };
    let mut operator = world.operator()?;
    let meanwhile = async {
        bank.agent.wait_crash().await?;
        bank.agent.start(None)?;
        stage.settles().await
    };
    // The word is on disk; whether it was carried out, its operator does not hear.
    let (_, settled) = futures::future::join(operator.resolve(resolve), meanwhile).await;
    settled?;
    world.until_prepared(0).await?;
    stage.judge().await?;
    Ok(3)
}

async fn stranger(stage: &Stage) -> anyhow::Result<usize> {
    let id = stage.world.coordinator_id();
    let never = gid(&format!("{id}-1-ffffff-7"), stage.world.banks.len());
    stage.first()?.plant_foreign(&never).await?;
    stage.settles().await?;
    let outcome = stage.teller.transfer("later", &stage.world.legs(10)).await?;
    ensure!(outcome.is_committed(), "{outcome}");
    stage.judge().await?;
    stage.first()?.by_hand(&format!("ROLLBACK PREPARED '{never}'")).await?;
    Ok(1)
}

/// Waits until a participant's yes has arrived.
async fn voted(world: &World, gtid: &str, participant: &str) -> anyhow::Result<()> {
    eventually(&format!("{participant} has voted"), async || {
        let request = v1::ShowTransactionRequest { gtid: gtid.to_owned() };
        let shown = world.operator()?.show_transaction(request).await?.into_inner();
        let yes =
            shown.branches.iter().any(|branch| branch.participant == participant && branch.state == "yes");
        Ok(if yes { Found::Yes(()) } else { Found::NotYet(format!("{:?}", shown.branches)) })
    })
    .await
}

/// The gid of a transaction's first branch.
fn gid(gtid: &str, branches: usize) -> String {
    format!("votum_{}_0_{branches}", gtid.replace('-', "_"))
}

/// Prepares other work under one of our names, as the agent's own role.
async fn forge(bank: &Bank, gid: &str) -> anyhow::Result<()> {
    let work = format!("BEGIN; INSERT INTO journal VALUES ('forged', 0); PREPARE TRANSACTION '{gid}'");
    Ok(bank.client_as(ROLE).await?.batch_execute(&work).await?)
}
