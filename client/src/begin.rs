//! Opening a transaction, and running one again.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use votum_proto::runtime::{Backoff, BoxFuture};
use votum_proto::v1;

use crate::retry::ask;
use crate::{Error, Outcome, Transaction, Votum};

/// How often [`Begin::run`] runs its work at most, unless told otherwise.
const ATTEMPTS: u32 = 10;

/// How a branch is isolated at its own database. Across databases a transaction is atomic, but not one
/// snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Each statement sees what was committed before it began.
    ReadCommitted,
    /// All statements see one snapshot.
    RepeatableRead,
    /// As if the transactions of each database ran one after another.
    Serializable,
}

impl From<Isolation> for v1::Isolation {
    fn from(isolation: Isolation) -> Self {
        match isolation {
            Isolation::ReadCommitted => Self::ReadCommitted,
            Isolation::RepeatableRead => Self::RepeatableRead,
            Isolation::Serializable => Self::Serializable,
        }
    }
}

/// A transaction to be opened: `.await` it, or [`run`](Begin::run) work in it.
///
/// ```no_run
/// # async fn example(votum: votum_client::Votum) -> Result<(), votum_client::Error> {
/// let tx = votum.begin().idempotency_key("invoice-4711").digest("4711: 12.50 EUR").await?;
/// # Ok(()) }
/// ```
#[must_use = "a transaction is opened by .await or .run"]
#[derive(Clone)]
pub struct Begin {
    votum: Votum,
    request: v1::BeginRequest,
    attempts: u32,
}

/// What [`Begin::run`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran<T> {
    /// What the work returned in its last run. It means something only if the outcome is a commit.
    pub value: T,
    /// How the last run's transaction ended.
    pub outcome: Outcome,
    /// How often the work was run.
    pub attempts: u32,
}

impl Begin {
    pub(crate) fn new(votum: Votum) -> Self {
        let client_name = votum.inner.options.client_name.clone();
        let request = v1::BeginRequest { client_name, ..v1::BeginRequest::default() };
        Self { votum, request, attempts: ATTEMPTS }
    }

    /// The isolation of every branch. The default is each database's own.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.request.set_isolation(isolation.into());
        self
    }

    /// Every branch is opened READ ONLY.
    pub fn read_only(mut self) -> Self {
        self.request.read_only = true;
        self
    }

    /// How long the transaction may live before it is decided; bounded by the coordinator's configuration,
    /// whose default applies otherwise. Rounded up to a millisecond. Where one transaction closely follows
    /// another it was begun with the outcome of that, and may have lived for a twentieth of its time, at most
    /// 50 ms, when it is yours.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request.timeout_ms = milliseconds(timeout);
        self
    }

    /// Names the work, so that a retry does not do it twice: once it is committed, or while it is alive,
    /// the same key gives [`Error::KeyTaken`]. At most 128 bytes; scoped to the client's name.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.request.idempotency_key = key.into();
        self
    }

    /// What the key stands for, in any form that is the same at each retry. Only its SHA-256 is sent; the
    /// same key with other work is refused.
    pub fn digest(mut self, work: impl AsRef<[u8]>) -> Self {
        self.request.request_digest = Sha256::digest(work.as_ref()).to_vec();
        self
    }

    /// For people: operators see it beside the gtid. At most 64 bytes.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.request.label = label.into();
        self
    }

    /// The application works at `participant` on a connection of its own: see [`Attached`](crate::Attached). The
    /// transaction has no other branch there. A READ ONLY transaction has none of these.
    pub fn attach(mut self, participant: impl Into<String>) -> Self {
        self.request.attached.push(participant.into());
        self
    }

    /// The transaction will run statements at `participant`, as far as is known now. Where agents have more to do than
    /// they can, one that is only begun is turned away once there is no participant at all that could serve it soon;
    /// this one, where one of those that it names cannot: at once, with [`Error::Refused`](crate::Error::Refused) and
    /// the time after which to try again, and not at its first statement there.
    pub fn at(mut self, participant: impl Into<String>) -> Self {
        self.request.participants.push(participant.into());
        self
    }

    /// How often [`run`](Begin::run) runs its work at most. The default is 10; at least 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Runs `work` in a transaction and commits it. After a serialization failure, a deadlock or the loss of a
    /// session, in a statement or at the commit, all of it is run again in a new transaction after a jittered
    /// pause, at most [`attempts`](Begin::attempts) times. When `work` fails the transaction is rolled back.
    ///
    /// `work` may therefore run several times: what it does outside of the databases has to bear that. An
    /// outcome that is not known is returned, never run again. The transaction ends when `work` returns,
    /// whatever else still holds it.
    ///
    /// ```no_run
    /// # async fn example(votum: votum_client::Votum) -> anyhow::Result<()> {
    /// let ran = votum
    ///     .run(|tx| async move {
    ///         let sql = "UPDATE account SET balance = balance - 5 WHERE id = 1 RETURNING balance";
    ///         let left: i64 = tx.query_one("bank_a", sql, &[]).await?.get("balance")?;
    ///         anyhow::ensure!(left >= 0, "not enough money");
    ///         tx.execute("bank_b", "UPDATE account SET balance = balance + 5 WHERE id = 1", &[]).await?;
    ///         anyhow::Ok(left)
    ///     })
    ///     .await?;
    /// println!("{}; {} left", ran.outcome, ran.value);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What `work` returned in its last run; or, as `E`, the error of beginning or committing.
    pub async fn run<T, E, F, W>(&self, mut work: F) -> Result<Ran<T>, E>
    where
        F: FnMut(Arc<Transaction>) -> W,
        W: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        let seams = &self.votum.inner.options.seams;
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(500));
        let mut attempts = 0;
        loop {
            attempts += 1;
            let may_run_again = attempts < self.attempts;
            let tx = Arc::new(self.open().await?);
            match work(tx.clone()).await {
                Ok(value) => {
                    let outcome = tx.decide().await?;
                    let run_again = match &outcome {
                        Outcome::Aborted(abort) => abort.retryable,
                        Outcome::Committed(_) | Outcome::ReadOnly | Outcome::Unknown { .. } => false,
                    };
                    if !(run_again && may_run_again) {
                        return Ok(Ran { value, outcome, attempts });
                    }
                }
                Err(error) => {
                    let run_again = tx.met_retryable_error();
                    // Waited for, so that its locks are gone before the next run; if it fails, the
                    // transaction ends at its timeout.
                    let _ = tx.end().await;
                    if !(run_again && may_run_again) {
                        return Err(error);
                    }
                }
            }
            seams.clock.sleep(backoff.delay(&*seams.entropy)).await;
        }
    }

    async fn open(&self) -> Result<Transaction, Error> {
        let inner = &self.votum.inner;
        let now = inner.options.seams.clock.now();
        if let Some((reply, since)) = inner.spares.take(&self.request, now) {
            return Ok(Transaction::begun(self.votum.clone(), &self.request, reply, since));
        }
        // A reply that is lost leaves a transaction without a branch, which ends at its timeout.
        let reply = ask(&inner.options.seams, inner.options.retry_budget, || {
            let request = self.request.clone();
            async { inner.coordinator.begin(request).await }
        });
        let reply = reply.await?;
        let now = inner.options.seams.clock.now();
        Ok(Transaction::begun(self.votum.clone(), &self.request, reply, now))
    }
}

/// A timeout as it is asked for: rounded up, and never 0, which would ask for the default.
pub(crate) fn milliseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_micros().div_ceil(1000).max(1)).unwrap_or(u64::MAX)
}

impl IntoFuture for Begin {
    type Output = Result<Transaction, Error>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.open().await })
    }
}
