//! A world in which cases are run, one after another, each judged before the next begins.

use std::cell::Cell;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal};
use votum_client::{Error, Outcome, Votum};
use votum_proto::runtime::Seams;
use votum_proto::v1::outcome::Kind;
use votum_tests::client::{Client, CrashPoint, Left};
use votum_tests::eventually::{Found, eventually};
use votum_tests::gate;
use votum_tests::ledger::{Ledger, Told};
use votum_tests::load::Load;
use votum_tests::postgres::{Options, ROLE};
use votum_tests::teller::{Leg, Teller, change, note, told, work};
use votum_tests::world::World;

use super::case::{Case, Place, Work};
use super::supervisor::{PAUSE, Supervisor, is_up};

/// How many clients there are under load.
const CLIENTS: i64 = 24;
/// How many transfers a load makes that meets no fate.
const TRANSFERS: u64 = 300;

/// PREPARE takes a tenth of a second in a branch that has written here.
const SLOW: &str = "
    CREATE TABLE slow (n int);
    CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_sleep(0.1); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION slowly();";

/// The client that is a process of its own, while it runs.
#[derive(Default)]
pub(crate) struct ClientProcess(Cell<Option<u32>>);

impl ClientProcess {
    /// SIGKILL, where it runs.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        let pid = self.0.get().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        Ok(pid.map_or(Ok(()), |pid| rustix::process::kill_process(pid, Signal::KILL))?)
    }
}

/// What a case came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Met {
    /// Processes killed.
    pub(crate) deaths: usize,
    /// Fates that were not met.
    pub left: usize,
}

/// A world and its clients.
pub(crate) struct Lane {
    pub(crate) place: Place,
    world: World,
    client: ClientProcess,
    client_died: Cell<bool>,
    number: Cell<u64>,
}

impl Lane {
    pub(crate) async fn open(place: Place) -> anyhow::Result<Self> {
        let mut builder =
            World::builder().banks(place.banks).accounts(CLIENTS, 1_000_000).own_servers(Options::default());
        if place.small_log {
            builder = builder.half_bytes(64 << 10).short_memory();
        }
        let world = builder.start().await?;
        for bank in &world.banks {
            // Where a trigger can be deferred, nothing is committed in one phase.
            if place.markers {
                bank.keep_markers().await?;
                continue;
            }
            bank.build_gate().await?;
            bank.client_as(ROLE).await?.batch_execute(SLOW).await?;
        }
        let lane = Self {
            place,
            world,
            client: ClientProcess::default(),
            client_died: Cell::new(false),
            number: Cell::new(0),
        };
        if place.small_log {
            lane.age().await?;
        }
        Ok(lane)
    }

    /// The journal changes halves, and is restarted.
    async fn age(&self) -> anyhow::Result<()> {
        let teller = Teller::connect(&self.world, &Arc::new(Ledger::new())).await?;
        for _ in 0..10 {
            fill_once(&teller).await;
        }
        // In order: what it has written so far is buffered, and would be gone.
        self.world.coordinator.terminate()?;
        self.world.coordinator.wait_exit().await?;
        self.world.start_coordinator(None).await
    }

    /// Runs a case and judges what it left.
    ///
    /// # Errors
    /// Every promise that was broken; or what did not come in time. The lane is of no use any more then.
    pub(crate) async fn run(&self, case: &Case) -> anyhow::Result<Met> {
        self.number.set(self.number.get() + 1);
        let name = format!("case-{}", self.number.get());
        let ledger = Arc::new(Ledger::new());
        let teller = Teller::connect(&self.world, &ledger).await?;
        let mut supervisor = Supervisor::new(&self.world, &self.client, case.fates.clone());
        supervisor.arm().await.context("before the work")?;

        let (load, stop, done) = (Load::default(), Cell::new(false), Cell::new(false));
        let working = async {
            self.work(case, &teller, &ledger, &name, &load, &stop).await?;
            done.set(true);
            Ok(())
        };
        let watching = async {
            while !done.get() {
                supervisor.look().await?;
                if supervisor.is_idle() || load.ended() > TRANSFERS {
                    load.stop();
                    stop.set(true);
                }
                Seams::production().clock.sleep(PAUSE).await;
            }
            Ok::<_, anyhow::Error>(())
        };
        futures::future::try_join(working, watching).await?;
        if case.must {
            supervisor.until_idle().await?;
        } else {
            supervisor.until("everything is settled", async |world| self.is_settled(world).await).await?;
        }
        let client = usize::from(self.client_died.take());
        let met = Met { deaths: supervisor.deaths + client, left: supervisor.left() };
        supervisor.disarm().await.context("after the work")?;
        let settled_before = supervisor.settled_before;
        self.judge(&ledger, settled_before).await?;
        self.forget().await?;
        Ok(met)
    }

    async fn is_settled(&self, world: &World) -> anyhow::Result<bool> {
        for bank in &world.banks {
            bank.server.restart().await?;
        }
        Ok(is_up(world).await? && world.prepared().await?.is_empty())
    }

    /// I1 to I15 over what is left, and one line about it from a coordinator that was restarted.
    async fn judge(&self, ledger: &Ledger, settled_before: Option<usize>) -> anyhow::Result<()> {
        if let Some(before) = settled_before {
            self.world.until_settled(before).await?;
        }
        self.world.check(ledger).await?;
        if let Some(before) = settled_before {
            let lines = self.world.settlements()?;
            ensure!(lines.len() == before + 1, "more than one line about one restart: {lines:?}");
        }
        Ok(())
    }

    /// What the next case finds in a journal nobody asked for in it.
    async fn forget(&self) -> anyhow::Result<()> {
        for bank in &self.world.banks {
            bank.by_hand("TRUNCATE journal").await?;
        }
        Ok(())
    }

    async fn work(
        &self,
        case: &Case,
        teller: &Teller,
        ledger: &Arc<Ledger>,
        name: &str,
        load: &Load,
        stop: &Cell<bool>,
    ) -> anyhow::Result<()> {
        let legs = self.world.legs(10);
        match case.work {
            // What became of it stands in the ledger.
            Work::Transfer => drop(teller.transfer(name, &legs).await),
            Work::Transfers => {
                for turn in 1.. {
                    drop(teller.transfer(&format!("{name}-{turn}"), &legs).await);
                    if stop.get() {
                        break;
                    }
                }
            }
            Work::AtOnce | Work::LastAgent => {
                for turn in 1.. {
                    let name = format!("{name}-{turn}");
                    let shot = teller.votum().transact().idempotency_key(&name);
                    let shot = if case.work == Work::LastAgent { shot.last_agent() } else { shot };
                    drop(teller.at_once(shot, &name, &legs).await);
                    if stop.get() {
                        break;
                    }
                }
            }
            Work::Slow => drop(slow(teller, name, &legs).await),
            Work::Refused => drop(self.refused(teller, name, &legs).await?),
            Work::Client(point) => self.by_client(case, ledger, name, point).await?,
            Work::Fill => {
                while !stop.get() {
                    fill_once(teller).await;
                }
            }
            Work::Load => {
                let names = Vec::from_iter(self.world.banks.iter().map(|bank| bank.name.as_str()));
                let banks = [names.first(), names.last()].map(|name| name.copied().unwrap_or_default());
                load.run(teller, banks, CLIENTS, name).await;
            }
        }
        Ok(())
    }

    /// The last bank refuses once every other one has prepared.
    async fn refused(
        &self,
        teller: &Teller,
        name: &str,
        legs: &[Leg<'_>],
    ) -> anyhow::Result<Result<Outcome, Error>> {
        let last = self.world.banks.last().context("no bank")?;
        let shut = last.shut_gate().await?;
        let tx = teller.open(name, legs).await?;
        work(&tx, name, legs).await?;
        gate::pass(&tx, &last.name, true).await?;
        let open = async {
            let there = self.world.until_prepared(legs.len() - 1).await;
            drop(shut);
            there
        };
        let (outcome, there) = futures::future::join(teller.commit(tx, name), open).await;
        there?;
        Ok(outcome)
    }

    /// A client that dies; where it came as far as Commit, another one asks for the same on a connection of
    /// its own. Afterwards its key is taken exactly if its work was done.
    async fn by_client(
        &self,
        case: &Case,
        ledger: &Ledger,
        name: &str,
        point: Option<CrashPoint>,
    ) -> anyhow::Result<()> {
        let legs = &self.world.legs(10);
        ledger.intend(name, legs.iter().map(|leg| leg.bank));
        let program = env!("CARGO_BIN_EXE_votum-test-client");
        let mut client = Client::start(program, &self.world, name, legs, point)?;
        self.client.0.set(client.pid());
        let left = client.heard(ledger, name).await;
        self.client.0.set(None);
        let Left { killed, export } = left?;
        // An agent that died first may have kept it from coming so far.
        ensure!(killed || point.is_none() || !case.must, "the client did not die");
        self.client_died.set(killed);
        let votum = Votum::options().client_name("teller").connect(&self.world.address().to_string()).await?;
        if let Some(export) = export {
            let outcome = votum.import(export)?.commit().await;
            ledger.told(name, outcome.as_ref().map_or(Told::Unknown, told));
        }
        let gtid = ledger.transfers().get(name).and_then(|transfer| transfer.gtid.clone());
        let Some(gtid) = gtid else { return Ok(()) };
        let committed = eventually(&format!("{gtid} has ended"), async || {
            Ok(match self.world.ask(&gtid).await {
                Ok(Some(Kind::Committed(_))) => Found::Yes(true),
                Ok(Some(Kind::Aborted(_))) => Found::Yes(false),
                other => Found::NotYet(format!("{other:?}")),
            })
        })
        .await?;
        match votum.begin().label(name).idempotency_key(name).digest(name).await {
            Err(Error::KeyTaken { gtid: taken, alive: false, .. }) => {
                ensure!(committed && taken == gtid, "the key of {gtid} leads to {taken}");
            }
            Ok(tx) => {
                ensure!(!committed, "the key of {gtid}, which is committed, is free");
                tx.rollback().await?;
            }
            Err(other) => return Err(other.into()),
        }
        Ok(())
    }
}

async fn slow(teller: &Teller, name: &str, legs: &[Leg<'_>]) -> Result<Outcome, Error> {
    let tx = teller.open(name, legs).await?;
    for leg in legs {
        let slowly = "INSERT INTO slow SELECT 1 FROM pg_sleep(0.1)";
        let done = async {
            change(&tx, leg).await?;
            tx.execute(leg.bank, slowly, &[]).await?;
            note(&tx, name, leg).await
        };
        if let Err(error) = done.await {
            let _ = tx.rollback().await;
            return Err(error);
        }
    }
    teller.commit(tx, name).await
}

/// Some dozens of transactions without an effect, with much to write about each.
async fn fill_once(teller: &Teller) {
    let long = "x".repeat(64);
    let one = async |number: u64| {
        let tx = teller.votum().begin().label(&long).idempotency_key(format!("{long}-{number}")).await?;
        tx.rollback().await
    };
    // Some of them meet a coordinator that dies.
    let _ = futures::future::join_all((0..32).map(one)).await;
}
