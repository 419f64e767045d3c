//! What is done to processes and connections while the clients work: drawn from the seed, and undone a moment
//! later.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use votum_proto::runtime::Seams;

use super::dice::Dice;
use super::record::Fault;
use super::stage::Stage;
use crate::process::Process;
use crate::proxy::{Fault as NetworkFault, Link, Message};
use crate::world::{Bank, World};

/// Transactions between two faults, about.
const BETWEEN: u64 = 30;
/// How long nothing may happen before the next fault comes all the same: it may be what somebody waits for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a coordinator may be told to die by itself.
const AT_COORDINATOR: [&str; 10] = [
    "before-first-prepare",
    "between-prepares",
    "after-last-prepare",
    "votes-in",
    "decision-appended",
    "decision-forced",
    "client-told",
    "first-participant-told",
    "all-acknowledged",
    "ended-on-disk",
];

/// The same for an agent.
const AT_AGENT: [&str; 8] = [
    "after-begin",
    "statement-run",
    "before-prepare",
    "after-prepare",
    "vote-sent",
    "before-commit-prepared",
    "after-commit-prepared",
    "after-rollback-prepared",
];

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    KillCoordinator,
    KillAgent(usize),
    /// The database server crashes: an `immediate` stop.
    CrashDatabase(usize),
    /// SIGSTOP, and SIGCONT a moment later.
    FreezeCoordinator,
    FreezeAgent(usize),
    /// An administrator ends every session of ours.
    TerminateSessions(usize),
    /// Every connection of a link is reset.
    Cut(Link, usize),
    /// Something happens to the network at a message of the protocol.
    AtMessage(Message, NetworkFault, usize),
    /// A link loses or keeps back everything for a moment.
    Disturb(Link, NetworkFault, usize),
    /// Everything dies in one instant.
    PowerCut,
}

/// What was done so far, for the figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deeds {
    /// Processes killed, by what they were.
    pub kills: BTreeMap<String, u64>,
    /// Connections cut or disturbed, by how.
    pub cuts: BTreeMap<String, u64>,
    /// All of it in order.
    pub faults: Vec<Fault>,
}

/// Does its work beside the clients.
pub struct Nemesis<'a> {
    stage: &'a Stage,
    world: &'a World,
    dice: Dice,
    deeds: Deeds,
}

impl<'a> Nemesis<'a> {
    /// For one run.
    pub fn new(stage: &'a Stage, world: &'a World) -> Self {
        let dice = Dice::part(stage.seed, u64::MAX / 2);
        Self { stage, world, dice, deeds: Deeds::default() }
    }

    /// What was done so far.
    pub fn deeds(&self) -> &Deeds {
        &self.deeds
    }

    /// Waits until it is time for the next fault, and does it. A quarter of them come in pairs.
    ///
    /// # Errors
    /// When something does not come up again, or ended by itself in a way in which nothing should.
    pub async fn next(&mut self) -> anyhow::Result<()> {
        self.wait().await?;
        self.revive().await?;
        let (one, other) = (self.draw(), self.dice.chance(25).then(|| self.draw()));
        let pause = self.moment();
        self.note(one);
        if let Some(other) = other.filter(|other| *other != one) {
            self.note(other);
            let (begun, second) = (self.begin(one).await, self.begin(other).await);
            begun.and(second).with_context(|| format!("{one:?} and {other:?}"))?;
        } else {
            self.begin(one).await.with_context(|| format!("{one:?}"))?;
        }
        Seams::production().clock.sleep(pause).await;
        self.heal().await.with_context(|| format!("after {one:?}, {other:?}"))
    }

    /// Starts everything again, with no crash point chosen.
    ///
    /// # Errors
    /// When something does not come up.
    pub async fn calm(&mut self) -> anyhow::Result<()> {
        self.heal().await?;
        for (process, what) in self.processes() {
            // A crash point that has not been met yet would be met now.
            if process.is_running()? {
                process.kill9()?;
                self.count_kill(&what, "at the end");
            }
        }
        self.world.start_all().await
    }

    /// Until some transactions have ended since, or nothing happens any more.
    async fn wait(&mut self) -> anyhow::Result<()> {
        let clock = Seams::production().clock;
        let enough = self.stage.ended() + self.dice.between(BETWEEN / 2, BETWEEN * 3 / 2);
        let (mut ended, mut since) = (self.stage.ended(), clock.now());
        while ended < enough && clock.now().since(since) < PATIENCE {
            clock.sleep(Duration::from_millis(10)).await;
            if self.stage.ended() != ended {
                (ended, since) = (self.stage.ended(), clock.now());
            }
            self.revive().await?;
        }
        Ok(())
    }

    fn moment(&mut self) -> Duration {
        // Mostly short; some longer than clients, keep-alives and back-offs find normal.
        let longest = self.dice.weighted(&[(70, 150), (25, 800), (5, 2_500)], 150);
        Duration::from_millis(self.dice.below(longest))
    }

    fn draw(&mut self) -> Deed {
        let bank = self.dice.place(self.world.banks.len());
        let link = Link::ALL.get(self.dice.place(Link::ALL.len())).copied().unwrap_or(Link::AgentDatabase);
        let message =
            Message::ALL.get(self.dice.place(Message::ALL.len())).copied().unwrap_or(Message::Commit);
        let any = NetworkFault::ALL.get(self.dice.place(NetworkFault::ALL.len())).copied();
        let any = any.unwrap_or(NetworkFault::Reset);
        let lasting = if any.lasts() { any } else { NetworkFault::Sever };
        self.dice.weighted(
            &[
                (22, Deed::KillCoordinator),
                (16, Deed::KillAgent(bank)),
                (9, Deed::CrashDatabase(bank)),
                (5, Deed::FreezeCoordinator),
                (5, Deed::FreezeAgent(bank)),
                (6, Deed::TerminateSessions(bank)),
                (14, Deed::Cut(link, bank)),
                (14, Deed::AtMessage(message, any, bank)),
                (7, Deed::Disturb(link, lasting, bank)),
                (2, Deed::PowerCut),
            ],
            Deed::KillCoordinator,
        )
    }

    async fn begin(&mut self, deed: Deed) -> anyhow::Result<()> {
        let world = self.world;
        match deed {
            Deed::KillCoordinator => self.kill(&world.coordinator, "coordinator"),
            Deed::KillAgent(place) => self.kill(&self.bank(place)?.agent, "agent"),
            Deed::CrashDatabase(place) => {
                self.count_kill("database", "by an immediate stop");
                self.bank(place)?.server.stop_immediate().await
            }
            Deed::FreezeCoordinator => self.freeze(&world.coordinator, "coordinator"),
            Deed::FreezeAgent(place) => self.freeze(&self.bank(place)?.agent, "agent"),
            Deed::TerminateSessions(place) => self.terminate(place).await,
            Deed::Cut(link, place) => {
                self.count_cut("reset");
                world.network()?.wire(link, place)?.cut();
                Ok(())
            }
            Deed::AtMessage(message, fault, place) => {
                self.count_cut(fault.name());
                let skip = self.dice.below(6);
                world.network()?.wire(message.link(), place)?.arm_after(skip, message, fault);
                Ok(())
            }
            Deed::Disturb(link, fault, place) => {
                self.count_cut(fault.name());
                world.network()?.wire(link, place)?.begin(fault);
                Ok(())
            }
            Deed::PowerCut => {
                for (process, what) in self.processes() {
                    self.kill(process, &what)?;
                }
                for bank in &world.banks {
                    self.count_kill("database", "by an immediate stop");
                    bank.server.stop_immediate().await?;
                }
                Ok(())
            }
        }
    }

    /// Undoes what was done: everything runs again, thawed, and every wire is whole.
    async fn heal(&mut self) -> anyhow::Result<()> {
        self.world.network()?.heal();
        for bank in &self.world.banks {
            bank.server.restart().await?;
        }
        for (process, _) in self.processes() {
            if process.is_running()? {
                process.thaw()?;
            }
        }
        self.revive().await
    }

    /// Starts every process that does not run, some of them to die by themselves at some point of a commit.
    async fn revive(&mut self) -> anyhow::Result<()> {
        for (process, what) in self.processes() {
            if process.has_crashed()? {
                self.count_kill(&what, "at a crash point");
            }
            if process.is_running()? {
                continue;
            }
            let points: &[&str] = if what == "coordinator" { &AT_COORDINATOR } else { &AT_AGENT };
            let point = points.get(self.dice.place(points.len())).copied().unwrap_or_default();
            let times = self.dice.between(1, 60);
            let chosen = self.dice.chance(30).then(|| format!("{point}@{times}"));
            process.start(chosen.as_deref())?;
        }
        Ok(())
    }

    fn processes(&self) -> Vec<(&'a Process, String)> {
        let agents = self.world.banks.iter().map(|bank| (&bank.agent, "agent".to_owned()));
        std::iter::once((&self.world.coordinator, "coordinator".to_owned())).chain(agents).collect()
    }

    fn kill(&mut self, process: &Process, what: &str) -> anyhow::Result<()> {
        if process.has_crashed()? {
            self.count_kill(what, "at a crash point");
        } else if process.is_running()? {
            process.kill9()?;
            self.count_kill(what, "at any moment");
        }
        Ok(())
    }

    fn freeze(&mut self, process: &Process, what: &str) -> anyhow::Result<()> {
        if process.is_running()? {
            process.freeze()?;
            self.count_cut(&format!("{what} stopped for a while"));
        }
        Ok(())
    }

    async fn terminate(&mut self, place: usize) -> anyhow::Result<()> {
        self.count_cut("sessions ended by an administrator");
        let bank = self.bank(place)?;
        // A server that is down has no sessions.
        let Ok(client) = bank.client().await else { return Ok(()) };
        let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND usename = $1";
        let _ = client.query(terminate, &[&crate::postgres::ROLE]).await;
        Ok(())
    }

    fn bank(&self, place: usize) -> anyhow::Result<&'a Bank> {
        self.world.banks.get(place).context("no such bank")
    }

    fn note(&mut self, deed: Deed) {
        self.deeds.faults.push(Fault { begun: self.stage.tick(), what: format!("{deed:?}") });
    }

    fn count_kill(&mut self, what: &str, how: &str) {
        *self.deeds.kills.entry(format!("{what} {how}")).or_default() += 1;
    }

    fn count_cut(&mut self, how: &str) {
        *self.deeds.cuts.entry(how.to_owned()).or_default() += 1;
    }
}
