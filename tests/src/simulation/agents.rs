//! Where agents run: each can die, and be started again as another one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use votum_participant::database::Database;
use votum_participant::{Agent, AgentConfig};
use votum_proto::names::ParticipantName;

use super::executor::Process;
use super::world::World;

/// An agent that runs.
#[derive(Clone)]
pub struct RunningAgent {
    /// Its tasks.
    pub process: Arc<Process>,
    /// Itself.
    pub agent: Agent,
    /// Counts the lives at this place.
    pub life: u64,
}

/// Where an agent runs, or does not.
pub struct AgentPlace {
    /// Its place in the configuration.
    pub index: usize,
    /// The participants behind it.
    pub participants: Vec<usize>,
    running: Mutex<(u64, Option<RunningAgent>)>,
}

impl AgentPlace {
    /// One where none runs yet.
    pub fn new(index: usize, participants: Vec<usize>) -> Self {
        Self { index, participants, running: Mutex::new((0, None)) }
    }

    fn place(&self) -> MutexGuard<'_, (u64, Option<RunningAgent>)> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent here.
    pub fn running(&self) -> Option<RunningAgent> {
        self.place().1.clone()
    }

    /// Starts one, unless one runs.
    pub fn start(&self, world: &World) {
        let life = {
            let mut place = self.place();
            if place.1.is_some() {
                return;
            }
            place.0 += 1;
            place.0
        };
        let name = format!("agent {}", self.index);
        let process = world.executor.process(name.clone());
        let seams = world.seams(&process, &format!("{name} {life}"));
        let mut databases: BTreeMap<ParticipantName, Arc<dyn Database>> = BTreeMap::new();
        for index in &self.participants {
            if let (Some(host), Some(database)) = (world.hosts.get(*index), world.database(*index)) {
                databases.insert(host.name.clone(), database);
            }
        }
        let config = AgentConfig {
            sessions: world.plan.sessions,
            work_sessions: world.plan.sessions.div_ceil(2),
            session_queue_ms: 2_000,
            sweep_ms: world.plan.sweep_ms,
            max_branch_timeout_ms: 60_000,
            ..AgentConfig::embedded(Vec::new())
        };
        let agent = Agent::new(config, databases, seams);
        world.note(&name, || format!("starts (life {life})"));
        self.place().1 = Some(RunningAgent { process, agent, life });
    }

    /// SIGKILL.
    pub fn kill(&self, world: &World) {
        if let Some(running) = self.place().1.take() {
            world.note(&format!("agent {}", self.index), || "dies".to_owned());
            running.process.kill();
        }
    }
}
