//! Callers at the driver's interface, each with one transaction in flight.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::future::join_all;
use tokio::sync::oneshot;
use votum_coordinator::driver::request::{
    Begin, BranchClaim, Commit, DriverHandle, Outcome, Request, RequestError, Transact, Wait,
};
use votum_proto::names::{ParticipantName, SessionName};
use votum_proto::runtime::Seams;
use votum_proto::v1;

use super::arguments::Asks;
use super::place::{Place, Running};
use crate::latency::Latencies;

/// How long a transaction may take: longer than anything that is measured.
const TIMEOUT: Duration = Duration::from_secs(600);
const STATEMENT: &str = "UPDATE accounts SET balance = balance + 1 WHERE id = 1";

/// What callers share.
struct Shared {
    driver: DriverHandle,
    seams: Seams,
    participants: Vec<ParticipantName>,
    asks: Asks,
    /// No caller begins any more, once it has begun so many.
    most: u64,
    begun: AtomicU64,
    told: AtomicU64,
    stop: AtomicBool,
    /// What was refused first.
    refused: Mutex<Option<RequestError>>,
    /// Of the present measurement.
    latencies: Mutex<Option<Latencies>>,
}

/// Callers that run.
pub(crate) struct Callers {
    shared: Arc<Shared>,
    ended: Vec<oneshot::Receiver<()>>,
}

impl Callers {
    /// Starts so many, which begin at most `most` transactions together.
    pub(crate) fn start(place: &Place, running: &Running, in_flight: u32, asks: Asks, most: u64) -> Self {
        let shared = Arc::new(Shared {
            driver: running.driver.clone(),
            seams: place.seams.clone(),
            participants: place.participants.clone(),
            asks,
            most,
            begun: AtomicU64::new(0),
            told: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            refused: Mutex::new(None),
            latencies: Mutex::new(None),
        });
        let ended = (0..in_flight).map(|_| {
            let (end, ended) = oneshot::channel();
            let shared = Arc::clone(&shared);
            place.seams.spawn(async move {
                shared.call().await;
                // Whoever waited has given up.
                let _ = end.send(());
            });
            ended
        });
        let ended = ended.collect();
        Self { shared, ended }
    }

    /// How many outcomes they were told.
    pub(crate) fn told(&self) -> u64 {
        self.shared.told.load(Ordering::Relaxed)
    }

    /// Whether none was refused.
    pub(crate) fn are_at_it(&self) -> bool {
        !self.shared.stop.load(Ordering::Relaxed)
    }

    /// Begins to keep latencies.
    ///
    /// # Errors
    /// As [`Latencies::new`].
    pub(crate) fn keep_latencies(&self) -> anyhow::Result<()> {
        *self.shared.latencies.lock().unwrap_or_else(PoisonError::into_inner) = Some(Latencies::new()?);
        Ok(())
    }

    /// The latencies since then.
    pub(crate) fn take_latencies(&self) -> Option<Latencies> {
        self.shared.latencies.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until all have the outcome of their last transaction; begins none after it, if `stop`.
    ///
    /// # Errors
    /// When a transaction was refused.
    pub(crate) async fn end(self, stop: bool) -> anyhow::Result<()> {
        self.shared.stop.fetch_or(stop, Ordering::Relaxed);
        for ended in join_all(self.ended).await {
            ended.context("a caller ended early")?;
        }
        match self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => bail!("a transaction was refused: {error}"),
            None => Ok(()),
        }
    }
}

impl Shared {
    async fn call(&self) {
        while !self.stop.load(Ordering::Relaxed) && self.begun.fetch_add(1, Ordering::Relaxed) < self.most {
            let begun = self.seams.clock.now();
            let outcome = match self.asks {
                Asks::OneShot => self.whole().await,
                Asks::Hosted => self.begin_and_commit().await,
            };
            match outcome {
                Ok(Outcome::Committed { .. } | Outcome::ReadOnly | Outcome::Aborted { .. }) => {}
                Ok(other @ (Outcome::InProgress(_) | Outcome::Unknown(_) | Outcome::Expired)) => {
                    return self.refuse(RequestError::Unavailable(format!("the answer was {other:?}")));
                }
                Err(error) => return self.refuse(error),
            }
            self.told.fetch_add(1, Ordering::Relaxed);
            let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(latencies) = latencies.as_mut() {
                latencies.note(self.seams.clock.now().since(begun));
            }
        }
    }

    fn refuse(&self, error: RequestError) {
        self.stop.store(true, Ordering::Relaxed);
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    async fn whole(&self) -> Result<Outcome, RequestError> {
        let work = |participant: &ParticipantName| {
            let statement = v1::WorkStatement { statement: STATEMENT.into(), ..Default::default() };
            let work = v1::BranchWork {
                participant: participant.to_string(),
                statements: vec![statement],
                read_only: false,
            };
            (participant.clone(), work)
        };
        let transact = Transact {
            begin: begin(),
            isolation: v1::Isolation::Unspecified,
            read_only: false,
            branches: self.participants.iter().map(work).collect(),
            wait: Wait::Decided,
            attempt: None,
            life: String::new(),
            repeated: false,
            last_agent: false,
        };
        Ok(self.driver.ask(|answer| Request::Transact(transact, answer)).await?.outcome)
    }

    async fn begin_and_commit(&self) -> Result<Outcome, RequestError> {
        let begun = self.driver.ask(|answer| Request::Begin(begin(), answer)).await?;
        let claim = |(number, participant): (usize, &ParticipantName)| BranchClaim {
            participant: participant.clone(),
            session: SessionName { agent_instance: number as u64 + 1, counter: begun.gtid.seq },
            last_ordinal: 1,
        };
        let commit = Commit {
            branches: self.participants.iter().enumerate().map(claim).collect(),
            gtid: begun.gtid,
            secret: begun.secret,
            wait: Wait::Decided,
        };
        self.driver.ask(|answer| Request::Commit(commit, answer)).await
    }
}

/// A transaction that nobody else asks about.
pub(crate) fn begin() -> Begin {
    Begin {
        timeout: TIMEOUT,
        key: None,
        client: String::new(),
        label: String::new(),
        attached: Vec::new(),
        participants: Vec::new(),
    }
}
