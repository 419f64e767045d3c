//! The connection to a coordinator and its agents.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tonic::transport::Channel;
use votum_proto::calls::MAX_REQUEST;
use votum_proto::runtime::{Elapsed, Seams};
use votum_proto::v1;
use votum_proto::v1::commit_request;
use votum_proto::v1::get_transaction_request::By;

use crate::begin::{Begin, Ran};
use crate::calls::Calls;
use crate::channels::{Agents, endpoint};
#[cfg(feature = "embedded")]
use crate::embedded::Running;
use crate::error::with_causes;
use crate::outcome::{Found, Status};
use crate::retry::{Patience, ask};
use crate::spares::Spares;
use crate::{Error, Export, OneShot, Transaction};

/// When [`Transaction::commit`] answers.
///
/// ```no_run
/// # async fn example() -> Result<(), votum_client::Error> {
/// use votum_client::{Votum, Wait};
/// let votum = Votum::options().wait(Wait::Decided).connect("http://127.0.0.1:7400").await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// When the decision is on disk. Sooner; but another connection may not see the writes for a moment.
    Decided,
    /// When every branch has acknowledged, so that the writes can be read everywhere; or when the
    /// coordinator's patience has passed, and then the outcome names who is still owed.
    Completed,
}

impl From<Wait> for commit_request::Wait {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Decided => Self::Decided,
            Wait::Completed => Self::Completed,
        }
    }
}

/// How to connect, and how patient to be.
///
/// ```no_run
/// # async fn example() -> Result<(), votum_client::Error> {
/// use std::time::Duration;
/// let votum = votum_client::Votum::options()
///     .client_name("shop")
///     .retry_budget(Duration::from_secs(3))
///     .connect("unix:/run/votum/coordinator.sock")
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) client_name: String,
    pub(crate) wait: Wait,
    pub(crate) retry_budget: Duration,
    pub(crate) outcome_budget: Duration,
    pub(crate) seams: Seams,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_name: String::new(),
            wait: Wait::Completed,
            retry_budget: Duration::from_secs(10),
            outcome_budget: Duration::from_secs(60),
            seams: Seams::production(),
        }
    }
}

impl Options {
    /// Who this client is: shown to operators, and the scope of its idempotency keys. At most 64 bytes.
    #[must_use]
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = name.into();
        self
    }

    /// When a commit answers. The default is [`Wait::Completed`].
    #[must_use]
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// How long a request is repeated while connections break. The default is 10 s.
    #[must_use]
    pub fn retry_budget(mut self, budget: Duration) -> Self {
        self.retry_budget = budget;
        self
    }

    /// How long a commit is repeated until its outcome is called unknown. The default is 60 s.
    #[must_use]
    pub fn outcome_budget(mut self, budget: Duration) -> Self {
        self.outcome_budget = budget;
        self
    }

    /// Where time, randomness and tasks come from. For simulations; the default is the real ones.
    #[must_use]
    pub fn seams(mut self, seams: Seams) -> Self {
        self.seams = seams;
        self
    }

    /// Connects to the coordinator at `address`: `http://HOST:PORT`, `HOST:PORT` or `unix:/PATH`. From then
    /// on the connection mends itself.
    ///
    /// # Errors
    /// [`Error::Address`], or [`Error::Unreachable`] when nobody answered within the retry budget.
    pub async fn connect(self, address: &str) -> Result<Votum, Error> {
        let channel = self.dial(address).await?;
        let coordinator = Calls::new(channel, MAX_REQUEST, self.seams.spawn.clone());
        Ok(Votum::over(
            self,
            coordinator,
            Agents::default(),
            #[cfg(feature = "embedded")]
            None,
        ))
    }

    /// A channel that stands.
    async fn dial(&self, address: &str) -> Result<Channel, Error> {
        let endpoint = endpoint(address)?;
        let mut patience = Patience::new(&self.seams, self.retry_budget);
        loop {
            let detail = match self.seams.clock.timeout(patience.left(), endpoint.connect()).await {
                Ok(Ok(channel)) => return Ok(channel),
                Ok(Err(error)) => with_causes(&error),
                Err(Elapsed) => "the connection was not accepted".to_owned(),
            };
            if !patience.again().await {
                let whom = format!("the coordinator at {address}");
                return Err(Error::Unreachable { whom, waited: patience.waited(), detail });
            }
        }
    }
}

/// A coordinator and the agents that it names. Cheap to clone; clones share their connections.
///
/// ```no_run
/// # async fn example() -> Result<(), votum_client::Error> {
/// let votum = votum_client::Votum::connect("http://127.0.0.1:7400").await?;
/// let tx = votum.begin().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Votum {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) coordinator: Calls,
    pub(crate) agents: Agents,
    pub(crate) spares: Spares,
    /// The coordinator's life, as the last answer to a whole transaction showed it; empty before the first.
    pub(crate) life: Mutex<String>,
    /// Takes the transactions that were dropped without an end.
    pub(crate) forgotten: mpsc::UnboundedSender<v1::RollbackRequest>,
    /// What runs within this process; `None` where the coordinator is a server.
    #[cfg(feature = "embedded")]
    pub(crate) running: Option<Running>,
}

impl Inner {
    /// The coordinator's life, as far as is known.
    pub(crate) fn known_life(&self) -> String {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes the life that answers now.
    pub(crate) fn note_life(&self, life: &str) {
        let mut known = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != life {
            life.clone_into(&mut known);
        }
    }
}

impl Votum {
    /// Connects with the default [`Options`].
    ///
    /// # Errors
    /// As [`Options::connect`].
    pub async fn connect(address: &str) -> Result<Self, Error> {
        Self::options().connect(address).await
    }

    /// A client of `coordinator` and `agents`.
    pub(crate) fn over(
        options: Options,
        coordinator: Calls,
        agents: Agents,
        #[cfg(feature = "embedded")] running: Option<Running>,
    ) -> Self {
        let (forgotten, received) = mpsc::unbounded_channel();
        options.seams.spawn(roll_back_forgotten(coordinator.clone(), options.clone(), received));
        let spares = Spares::default();
        let inner = Inner {
            options,
            coordinator,
            agents,
            spares,
            life: Mutex::default(),
            forgotten,
            #[cfg(feature = "embedded")]
            running,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Options to connect with.
    pub fn options() -> Options {
        Options::default()
    }

    /// Opens a transaction: set what is to be set, then `.await`. It touches no database yet.
    ///
    /// ```no_run
    /// # async fn example(votum: votum_client::Votum) -> Result<(), votum_client::Error> {
    /// use std::time::Duration;
    /// use votum_client::Isolation;
    /// let tx = votum
    ///     .begin()
    ///     .isolation(Isolation::Serializable)
    ///     .timeout(Duration::from_secs(5))
    ///     .label("nightly settlement")
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn begin(&self) -> Begin {
        Begin::new(self.clone())
    }

    /// A whole transaction in one request: add its statements, then `.await` it. See [`OneShot`].
    pub fn transact(&self) -> OneShot {
        OneShot::new(self.clone())
    }

    /// Runs `work` in a transaction and commits it, and all of that again after a serialization failure, a
    /// deadlock or the loss of a session. The same as `votum.begin().run(work)`: see [`Begin::run`].
    ///
    /// # Errors
    /// As [`Begin::run`].
    pub async fn run<T, E, F, W>(&self, work: F) -> Result<Ran<T>, E>
    where
        F: FnMut(Arc<Transaction>) -> W,
        W: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        self.begin().run(work).await
    }

    /// Goes on with a transaction that another process exported: see [`Export`].
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::NoSuchParticipant`]: the export is not one of this version.
    pub fn import(&self, export: Export) -> Result<Transaction, Error> {
        Transaction::imported(self.clone(), export)
    }

    /// What became of a transaction.
    ///
    /// ```no_run
    /// # async fn example(votum: votum_client::Votum) -> Result<(), votum_client::Error> {
    /// println!("{:?}", votum.transaction("acme-7-3f9ac2-1042").await?.status);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] for a gtid that was never begun here; [`Error::Unreachable`].
    pub async fn transaction(&self, gtid: &str) -> Result<Found, Error> {
        self.find(By::Gtid(gtid.to_owned())).await
    }

    /// What became of the work that an idempotency key of this client stands for.
    ///
    /// ```no_run
    /// # async fn example(votum: votum_client::Votum) -> Result<(), votum_client::Error> {
    /// let found = votum.transaction_by_key("invoice-4711").await?;
    /// println!("{} {:?}", found.gtid, found.status);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] where the key stands for nothing; [`Error::Unreachable`].
    pub async fn transaction_by_key(&self, key: &str) -> Result<Found, Error> {
        let client_name = self.inner.options.client_name.clone();
        self.find(By::Key(v1::IdempotencyKey { client_name, key: key.to_owned() })).await
    }

    async fn find(&self, by: By) -> Result<Found, Error> {
        let Options { seams, retry_budget, .. } = &self.inner.options;
        let request = v1::GetTransactionRequest { by: Some(by) };
        let reply = ask(seams, *retry_budget, || {
            let request = request.clone();
            async { self.inner.coordinator.get_transaction(request).await }
        });
        let v1::GetTransactionResponse { gtid, outcome } = reply.await?;
        Ok(Found { gtid, status: Status::from(outcome.unwrap_or_default()) })
    }
}

/// Rolls back what was dropped without an end, until every [`Votum`] and every transaction is gone. A
/// coordinator that cannot be reached ends such a transaction at its timeout.
async fn roll_back_forgotten(
    coordinator: Calls,
    options: Options,
    mut received: mpsc::UnboundedReceiver<v1::RollbackRequest>,
) {
    while let Some(request) = received.recv().await {
        let (coordinator, options) = (coordinator.clone(), options.clone());
        let seams = options.seams.clone();
        seams.spawn(async move {
            let gtid = request.gtid.clone();
            if let Err(error) = roll_back(&coordinator, &options, &request).await {
                tracing::debug!(gtid, %error, "a dropped transaction is left to its timeout");
            }
        });
    }
}

pub(crate) async fn roll_back(
    coordinator: &Calls,
    options: &Options,
    request: &v1::RollbackRequest,
) -> Result<Status, Error> {
    let reply = ask(&options.seams, options.retry_budget, || {
        let request = request.clone();
        async { coordinator.rollback(request).await }
    });
    Ok(Status::from(reply.await?.outcome.unwrap_or_default()))
}
