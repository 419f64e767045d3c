//! What the clients of one run share: the counter of moments, the connections, and what is written down.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use votum_client::{Error, Status, Votum, Wait};
use votum_proto::address::Address;

use super::record::{Asked, Question, Recorded, Tick, Told};
use super::workload::Patience;

/// Whose the idempotency keys are.
const CLIENT: &str = "history";

/// Shared by the clients of a run.
pub struct Stage {
    /// What the load is drawn from.
    pub seed: u64,
    /// The participants, in the order of their places.
    pub participants: Vec<String>,
    patient: Votum,
    decided: Votum,
    short: Votum,
    ticks: AtomicU64,
    jobs: AtomicU64,
    limit: AtomicU64,
    recorded: Mutex<BTreeMap<u64, Recorded>>,
}

impl Stage {
    /// Connects to the coordinator at `address`, for at most `jobs` jobs.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn open(
        seed: u64,
        jobs: u64,
        participants: Vec<String>,
        address: &Address,
    ) -> Result<Self, Error> {
        let address = address.to_string();
        let options = Votum::options().client_name(CLIENT).retry_budget(Duration::from_secs(6));
        let patient = options.clone().wait(Wait::Completed).outcome_budget(Duration::from_secs(30));
        let decided = options.clone().wait(Wait::Decided).outcome_budget(Duration::from_secs(30));
        let short = options.wait(Wait::Completed).outcome_budget(Duration::from_millis(120));
        Ok(Self {
            seed,
            participants,
            patient: patient.connect(&address).await?,
            decided: decided.connect(&address).await?,
            short: short.connect(&address).await?,
            ticks: AtomicU64::new(0),
            jobs: AtomicU64::new(0),
            limit: AtomicU64::new(jobs),
            recorded: Mutex::default(),
        })
    }

    /// The next moment.
    pub fn tick(&self) -> Tick {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    /// The number of the next job; none when enough were handed out.
    pub fn next_job(&self) -> Option<u64> {
        let number = self.jobs.fetch_add(1, Ordering::SeqCst);
        (number < self.limit.load(Ordering::SeqCst)).then_some(number)
    }

    /// Hands out no more jobs.
    pub fn stop(&self) {
        self.limit.store(0, Ordering::SeqCst);
    }

    /// How many transactions have ended for their clients.
    pub fn ended(&self) -> u64 {
        self.lock().len() as u64
    }

    /// The connection for a client of this patience.
    pub fn votum(&self, patience: Patience) -> &Votum {
        match patience {
            Patience::Completed => &self.patient,
            Patience::Decided => &self.decided,
            Patience::Short => &self.short,
        }
    }

    /// Writes a transaction down.
    pub fn keep(&self, recorded: Recorded) {
        self.lock().insert(recorded.number, recorded);
    }

    /// Everything that was written down, by the number of the transaction.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.lock().values().cloned().collect()
    }

    /// Counts over everything that was written down.
    pub fn look<T>(&self, look: impl FnOnce(&BTreeMap<u64, Recorded>) -> T) -> T {
        look(&self.lock())
    }

    /// A transaction with its gtid, from the `draw`th on; none where none is known.
    pub fn some_gtid(&self, draw: u64) -> Option<(u64, String)> {
        self.look(|recorded| {
            let from = draw.checked_rem(recorded.keys().next_back().copied().unwrap_or(0))?;
            recorded.range(from..).find_map(|(number, one)| Some((*number, one.gtid.clone()?)))
        })
    }

    /// Asks what became of a transaction that was written down, and writes the answer there.
    pub async fn ask(&self, number: u64, gtid: &str, question: Question) -> Told {
        let begun = self.tick();
        let told = match self.patient.transaction(gtid).await {
            Ok(found) => told(found.status),
            Err(Error::Refused(refusal)) if refusal.grpc == tonic::Code::NotFound => {
                Told::Forgotten(refusal.message)
            }
            // UNAVAILABLE and the like: to be asked again.
            Err(_) => Told::Nothing,
        };
        let asked = Asked { question, begun, ended: self.tick(), told: told.clone() };
        if let Some(recorded) = self.lock().get_mut(&number) {
            recorded.asked.push(asked);
        }
        told
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Recorded>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an answer to GetTransaction says.
fn told(status: Status) -> Told {
    match status {
        Status::Committed(committed) if !committed.heuristics.is_empty() => {
            Told::Heuristic(committed.to_string())
        }
        Status::Committed(committed) => Told::Committed { completed: committed.completed },
        Status::ReadOnly => Told::ReadOnly,
        Status::Aborted(abort) if !abort.heuristics.is_empty() => Told::Heuristic(abort.to_string()),
        Status::Aborted(abort) => Told::Aborted(abort.to_string()),
        Status::InProgress { .. } | Status::Unknown { .. } => Told::Unknown,
        Status::Expired => Told::Forgotten("EXPIRED".to_owned()),
    }
}
