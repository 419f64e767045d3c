//! Sees to it that each process meets its fate, and starts it again after that.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use votum_proto::runtime::Seams;
use votum_tests::process::Process;
use votum_tests::world::World;

use super::case::{Blow, Fate, Frozen, Who};
use super::lane::ClientProcess;

/// The pause between two looks.
pub(crate) const PAUSE: Duration = Duration::from_millis(4);

/// Watches over the processes of one case.
pub(crate) struct Supervisor<'a> {
    world: &'a World,
    client: &'a ClientProcess,
    fates: BTreeMap<Who, VecDeque<Option<Fate>>>,
    /// What each running process is to meet.
    armed: BTreeMap<Who, Fate>,
    /// The copy that is put back when the coordinator has died.
    frozen: Option<(PathBuf, Frozen)>,
    /// How many processes have been killed.
    pub(crate) deaths: usize,
    /// How many settlement lines stood there when the coordinator was started last, if it was.
    pub(crate) settled_before: Option<usize>,
}

impl<'a> Supervisor<'a> {
    pub(crate) fn new(
        world: &'a World,
        client: &'a ClientProcess,
        fates: BTreeMap<Who, VecDeque<Option<Fate>>>,
    ) -> Self {
        let (armed, frozen) = (BTreeMap::new(), None);
        Self { world, client, fates, armed, frozen, deaths: 0, settled_before: None }
    }

    /// Starts everything that has a fate once more, with the first one.
    pub(crate) async fn arm(&mut self) -> anyhow::Result<()> {
        for who in Vec::from_iter(self.fates.keys().copied()) {
            match who {
                Who::Coordinator => {
                    self.world.coordinator.kill9()?;
                    self.start(who).await?;
                }
                Who::Agent(place) => {
                    let bank = self.world.banks.get(place).context("no such bank")?;
                    bank.agent.kill9()?;
                    self.until(&format!("the end of {}'s agent is noticed", bank.name), async |world| {
                        let status = world.status().await.ok();
                        let known = status.and_then(|status| {
                            status.participants.into_iter().find(|known| known.participant == bank.name)
                        });
                        Ok(known.is_some_and(|known| !known.connected))
                    })
                    .await?;
                    self.start(who).await?;
                }
                Who::Database(_) | Who::Client => bail!("{who:?} dies by the hand of others"),
            }
        }
        self.until("everything is up", is_up).await
    }

    /// Whether a fate is left that was not met.
    pub(crate) fn is_idle(&self) -> bool {
        self.armed.is_empty() && self.fates.values().flatten().all(Option::is_none)
    }

    /// How many fates were not met.
    pub(crate) fn left(&self) -> usize {
        self.armed.len() + self.fates.values().flatten().flatten().count()
    }

    /// Looks after the processes until `holds`.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        holds: impl AsyncFn(&World) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let clock = Seams::production().clock;
        let begun = clock.now();
        loop {
            self.look().await?;
            if holds(self.world).await? {
                return Ok(());
            }
            let waited = clock.now().since(begun);
            ensure!(waited < votum_tests::eventually::DEADLINE, "waited {waited:?} until {what}");
            clock.sleep(PAUSE).await;
        }
    }

    /// Looks after the processes until every fate is met.
    pub(crate) async fn until_idle(&mut self) -> anyhow::Result<()> {
        let clock = Seams::production().clock;
        let begun = clock.now();
        while !self.is_idle() {
            self.look().await?;
            let waited = clock.now().since(begun);
            let left = || format!("waited {waited:?} for {:?} and {:?}", self.armed, self.fates);
            ensure!(waited < votum_tests::eventually::DEADLINE, left());
            clock.sleep(PAUSE).await;
        }
        Ok(())
    }

    /// One look at each process: strikes what stands at its point, starts what has died.
    pub(crate) async fn look(&mut self) -> anyhow::Result<()> {
        let agents = (0..self.world.banks.len()).map(Who::Agent);
        for who in std::iter::once(Who::Coordinator).chain(agents) {
            let process = process(self.world, who)?;
            if let Some(fate) = self.armed.get(&who).cloned()
                && process.is_stopped()
            {
                self.strike(who, process, &fate).await?;
            }
            if process.has_crashed()? {
                let met = self.armed.remove(&who);
                ensure!(met.is_some(), "nobody had killed {}:\n{}", process.name(), process.log_tail());
                self.deaths += 1;
                self.start(who).await?;
            }
        }
        Ok(())
    }

    async fn strike(&mut self, who: Who, process: &Process, fate: &Fate) -> anyhow::Result<()> {
        match &fate.blow {
            Blow::Dies => bail!("{} stands still where it was to die", process.name()),
            Blow::Together(others) => {
                process.kill9()?;
                self.armed.remove(&who);
                self.deaths += 1;
                self.kill(others).await?;
                for other in others {
                    self.start(*other).await?;
                }
                self.start(who).await
            }
            Blow::Meanwhile(others) => {
                self.kill(others).await?;
                self.armed.remove(&who);
                process.thaw()?;
                for other in others {
                    self.start(*other).await?;
                }
                Ok(())
            }
            Blow::Frozen(part) if self.frozen.is_none() => {
                let copy = self.world.dir().join("frozen");
                copy_directory(self.world.log_directory(), &copy)?;
                self.frozen = Some((copy, *part));
                process.thaw()
            }
            // Woken, and not yet seen to go on.
            Blow::Frozen(_) => process.thaw(),
        }
    }

    async fn kill(&mut self, victims: &[Who]) -> anyhow::Result<()> {
        for victim in victims {
            self.deaths += usize::from(*victim != Who::Client);
            match victim {
                Who::Coordinator | Who::Agent(_) => process(self.world, *victim)?.kill9()?,
                Who::Client => self.client.kill()?,
                Who::Database(_) => {}
            }
        }
        let servers = victims.iter().filter_map(|victim| match victim {
            Who::Database(place) => self.world.banks.get(*place),
            Who::Coordinator | Who::Agent(_) | Who::Client => None,
        });
        futures::future::try_join_all(servers.map(|bank| bank.server.stop_immediate())).await?;
        Ok(())
    }

    async fn start(&mut self, who: Who) -> anyhow::Result<()> {
        match who {
            Who::Database(place) => {
                return self.world.banks.get(place).context("no such bank")?.server.restart().await;
            }
            Who::Client => return Ok(()),
            Who::Coordinator => {
                self.settled_before = Some(self.world.settlements().unwrap_or_default().len());
                if let Some((copy, part)) = self.frozen.take() {
                    put_back(&copy, self.world.log_directory(), part)?;
                }
            }
            Who::Agent(_) => {}
        }
        // What had not been met when somebody else killed it is to be met in the next life.
        let fate = match self.armed.remove(&who) {
            Some(fate) => Some(fate),
            None => self.fates.get_mut(&who).and_then(VecDeque::pop_front).flatten(),
        };
        let choice = fate.as_ref().map(Fate::choice);
        process(self.world, who)?.start(choice.as_deref())?;
        if let Some(fate) = fate {
            self.armed.insert(who, fate);
        }
        Ok(())
    }

    /// Kills what was to die and did not come by there: from here on nothing happens to anyone.
    pub(crate) async fn disarm(&mut self) -> anyhow::Result<()> {
        self.fates.clear();
        for (who, _) in std::mem::take(&mut self.armed) {
            process(self.world, who)?.kill9()?;
            self.start(who).await?;
        }
        for bank in &self.world.banks {
            bank.server.restart().await?;
        }
        self.until("everything is up", is_up).await
    }
}

/// Whether the coordinator hears every agent.
pub(crate) async fn is_up(world: &World) -> anyhow::Result<bool> {
    let Ok(status) = world.status().await else { return Ok(false) };
    let up = status.participants.iter().all(|known| known.connected && known.heard);
    Ok(up && status.log_state == "ready")
}

fn process(world: &World, who: Who) -> anyhow::Result<&Process> {
    match who {
        Who::Coordinator => Ok(&world.coordinator),
        Who::Agent(place) => Ok(&world.banks.get(place).context("no such bank")?.agent),
        Who::Database(_) | Who::Client => bail!("{who:?} is not one of our servers"),
    }
}

pub(crate) fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The log becomes what it was when `copy` was made, as far as `part` goes.
pub(crate) fn put_back(copy: &Path, log: &Path, part: Frozen) -> anyhow::Result<()> {
    let store = Path::new("store");
    let keep = log.with_extension("kept");
    match part {
        Frozen::Everything => {}
        Frozen::Journal => {
            std::fs::remove_dir_all(copy.join(store))?;
            copy_directory(&log.join(store), &copy.join(store))?;
        }
        Frozen::Store => {
            for half in ["journal-a", "journal-b"] {
                std::fs::copy(log.join(half), copy.join(half))?;
            }
        }
    }
    std::fs::rename(log, &keep)?;
    std::fs::rename(copy, log)?;
    Ok(std::fs::remove_dir_all(keep)?)
}
