//! A transaction and its statements.

mod ending;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use votum_proto::runtime::Monotonic;
use votum_proto::v1;

use crate::branch::{Branch, Claim, Context, Reply};
use crate::export::ExportedBranch;
use crate::outcome::Abort;
use crate::votum::Options;
use crate::{Attached, Error, Export, Outcome, Row, Value, Votum};

/// A global transaction that is open.
///
/// Statements take `&self`: those at different participants may run at the same time, those at one run one
/// after another. A statement whose future is dropped before its answer came makes its branch unusable,
/// because nobody knows whether it ran; the transaction can then only be rolled back.
///
/// Dropped without [`commit`](Transaction::commit), it is rolled back in the background, which needs the
/// tokio runtime in which [`Votum`] was connected to be running still; otherwise it ends at its timeout.
///
/// ```no_run
/// # async fn example(votum: votum_client::Votum) -> Result<(), votum_client::Error> {
/// let tx = votum.begin().await?;
/// let debit = tx.execute("bank_a", "UPDATE account SET balance = balance - 5 WHERE id = 1", &[]);
/// let credit = tx.execute("bank_b", "UPDATE account SET balance = balance + 5 WHERE id = 1", &[]);
/// let (debited, credited) = futures::join!(debit, credit);
/// assert_eq!((debited?, credited?), (1, 1));
/// println!("{}", tx.commit().await?);
/// # Ok(()) }
/// ```
pub struct Transaction {
    votum: Votum,
    context: Context,
    /// The addresses of the agents, by participant.
    participants: BTreeMap<String, String>,
    /// The names of attached branches, by participant.
    attached: BTreeMap<String, String>,
    branches: Mutex<BTreeMap<String, Arc<Branch>>>,
    met_retryable_error: AtomicBool,
    /// Nothing is left to roll back, or Commit was sent and the coordinator has the say.
    over: AtomicBool,
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").field("gtid", &self.context.gtid).finish_non_exhaustive()
    }
}

impl Transaction {
    pub(crate) fn begun(
        votum: Votum,
        request: &v1::BeginRequest,
        reply: v1::BeginResponse,
        since: Monotonic,
    ) -> Self {
        let participants = reply.participants.into_iter().map(|at| (at.participant, at.address)).collect();
        let attached = reply.attached.into_iter().map(|at| (at.participant, at.gid)).collect();
        let context = Context {
            gtid: reply.gtid,
            secret: reply.secret,
            isolation: request.isolation(),
            read_only: request.read_only,
            deadline: since.after(Duration::from_millis(reply.timeout_ms)),
        };
        Self::new(votum, context, participants, attached)
    }

    pub(crate) fn imported(votum: Votum, export: Export) -> Result<Self, Error> {
        let left = Duration::from_millis(export.timeout_left_ms);
        let context = Context {
            gtid: export.gtid,
            secret: export.secret,
            isolation: v1::Isolation::try_from(export.isolation).unwrap_or_default(),
            read_only: export.read_only,
            deadline: votum.inner.options.seams.clock.now().after(left),
        };
        let tx = Self::new(votum, context, export.participants, export.attached);
        for ExportedBranch { participant, session, last_ordinal } in export.branches {
            tx.branch_with(&participant, Some(Claim { session, last_ordinal }))?;
        }
        Ok(tx)
    }

    fn new(
        votum: Votum,
        context: Context,
        participants: BTreeMap<String, String>,
        attached: BTreeMap<String, String>,
    ) -> Self {
        Self {
            votum,
            context,
            participants,
            attached,
            branches: Mutex::default(),
            met_retryable_error: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// Its name, for ever and everywhere: `acme-7-3f9ac2-1042`.
    pub fn gtid(&self) -> &str {
        &self.context.gtid
    }

    /// What is left of its timeout.
    pub fn time_left(&self) -> Duration {
        self.context.deadline.since(self.options().seams.clock.now())
    }

    /// The participants at which it may work.
    pub fn participants(&self) -> impl Iterator<Item = &str> {
        self.participants.keys().map(String::as_str)
    }

    /// The branch in which the application works on a connection of its own, where the transaction was begun with one
    /// there.
    ///
    /// # Errors
    /// [`Error::Attachment`] where it was not.
    pub fn attached(&self, participant: &str) -> Result<Attached<'_>, Error> {
        match self.attached.get_key_value(participant) {
            Some((participant, gid)) => Ok(Attached::new(self, participant, gid)),
            None => Err(Error::Attachment {
                participant: participant.to_owned(),
                detail: "the transaction was begun without an attached branch",
            }),
        }
    }

    /// Runs one statement at `participant`, with `$1`, `$2`, … for `parameters`; answers how many rows it
    /// touched. The first statement there opens the branch.
    ///
    /// ```no_run
    /// # async fn example(tx: votum_client::Transaction) -> Result<(), votum_client::Error> {
    /// let sql = "INSERT INTO invoice (id, amount, note) VALUES ($1, $2, $3)";
    /// tx.execute("bank_a", sql, &[4711.into(), "12.50".into(), None::<&str>.into()]).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Sql`] as the database reported it: the branch can then go on only from a savepoint.
    /// [`Error::Refused`] for what a branch may not do, such as COMMIT, or when no session is free.
    /// [`Error::BranchLost`] when the transaction cannot commit any more.
    pub async fn execute(
        &self,
        participant: &str,
        statement: &str,
        parameters: &[Value],
    ) -> Result<u64, Error> {
        Ok(self.statement(participant, statement, parameters).await?.count)
    }

    /// Runs one statement at `participant` and gathers its rows in memory.
    ///
    /// # Errors
    /// As [`execute`](Transaction::execute).
    pub async fn query(
        &self,
        participant: &str,
        statement: &str,
        parameters: &[Value],
    ) -> Result<Vec<Row>, Error> {
        Ok(self.statement(participant, statement, parameters).await?.rows)
    }

    /// Runs one statement at `participant` that gives exactly one row.
    ///
    /// ```no_run
    /// # async fn example(tx: votum_client::Transaction) -> Result<(), votum_client::Error> {
    /// let sql = "SELECT balance FROM account WHERE id = $1";
    /// let balance: i64 = tx.query_one("bank_a", sql, &[1.into()]).await?.get("balance")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`execute`](Transaction::execute); [`Error::RowCount`] for any other number of rows.
    pub async fn query_one(
        &self,
        participant: &str,
        statement: &str,
        parameters: &[Value],
    ) -> Result<Row, Error> {
        let mut rows = self.query(participant, statement, parameters).await?;
        match (rows.len(), rows.pop()) {
            (1, Some(row)) => Ok(row),
            (found, _) => Err(Error::RowCount(found)),
        }
    }

    /// Sets a savepoint in the branch at `participant`. Savepoints of different branches know nothing of each
    /// other.
    ///
    /// ```no_run
    /// # async fn example(tx: votum_client::Transaction) -> Result<(), votum_client::Error> {
    /// tx.savepoint("bank_a", "before_bonus").await?;
    /// if tx.execute("bank_a", "INSERT INTO bonus VALUES (1)", &[]).await.is_err() {
    ///     tx.rollback_to("bank_a", "before_bonus").await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`execute`](Transaction::execute).
    pub async fn savepoint(&self, participant: &str, name: &str) -> Result<(), Error> {
        let statement = format!("SAVEPOINT {}", quoted(name));
        self.statement(participant, &statement, &[]).await.map(drop)
    }

    /// Undoes what the branch did after the savepoint, and any error since.
    ///
    /// # Errors
    /// As [`execute`](Transaction::execute).
    pub async fn rollback_to(&self, participant: &str, name: &str) -> Result<(), Error> {
        let statement = format!("ROLLBACK TO SAVEPOINT {}", quoted(name));
        self.statement(participant, &statement, &[]).await.map(drop)
    }

    /// Forgets a savepoint, keeping what was done since.
    ///
    /// # Errors
    /// As [`execute`](Transaction::execute).
    pub async fn release(&self, participant: &str, name: &str) -> Result<(), Error> {
        let statement = format!("RELEASE SAVEPOINT {}", quoted(name));
        self.statement(participant, &statement, &[]).await.map(drop)
    }

    /// Asks for the decision, again and again until the outcome is known or
    /// [`Options::outcome_budget`](crate::Options::outcome_budget) has passed: then it is
    /// [`Outcome::Unknown`]. From the first request on the coordinator decides, also if this future is
    /// dropped.
    ///
    /// A transaction with a lost branch cannot commit: it is rolled back, and the outcome says so.
    ///
    /// # Errors
    /// [`Error::Refused`] when the request itself is not acceptable; the transaction is then rolled back in
    /// the background.
    pub async fn commit(self) -> Result<Outcome, Error> {
        self.decide().await
    }

    /// Ends the transaction without effect. The outcome is an abort, unless another process committed it.
    ///
    /// ```no_run
    /// # async fn example(tx: votum_client::Transaction) -> Result<(), votum_client::Error> {
    /// tx.rollback().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Unreachable`]: the transaction then ends at its timeout.
    pub async fn rollback(self) -> Result<Outcome, Error> {
        self.end().await
    }

    /// Hands the transaction over to another process: see [`Export`].
    ///
    /// # Errors
    /// [`Error::BranchLost`] when there is no point in going on; it is then rolled back.
    pub fn export(self) -> Result<Export, Error> {
        let branches = self.claims().map_err(|abort| Error::BranchLost {
            participant: abort.participant.unwrap_or_default(),
            detail: abort.message,
            retryable: abort.retryable,
        })?;
        self.over.store(true, Ordering::Relaxed);
        Ok(Export {
            gtid: self.context.gtid.clone(),
            secret: self.context.secret.clone(),
            isolation: self.context.isolation.into(),
            read_only: self.context.read_only,
            timeout_left_ms: u64::try_from(self.time_left().as_millis()).unwrap_or(u64::MAX),
            participants: self.participants.clone(),
            branches,
            attached: self.attached.clone(),
        })
    }

    /// Whether a statement met an error after which the transaction may succeed if it is run again.
    pub(crate) fn met_retryable_error(&self) -> bool {
        self.met_retryable_error.load(Ordering::Relaxed)
    }

    async fn statement(
        &self,
        participant: &str,
        statement: &str,
        parameters: &[Value],
    ) -> Result<Reply, Error> {
        let branch = self.branch_with(participant, None)?;
        let reply = branch.run(&self.context, self.options(), statement, parameters).await;
        if let Err(error) = &reply {
            self.note(error);
        }
        reply
    }

    /// An error that a statement met.
    pub(crate) fn note(&self, error: &Error) {
        if error.is_retryable() {
            self.met_retryable_error.store(true, Ordering::Relaxed);
        }
    }

    /// The branch at `participant`, made with `claim` if it is new here.
    fn branch_with(&self, participant: &str, claim: Option<Claim>) -> Result<Arc<Branch>, Error> {
        if self.attached.contains_key(participant) {
            return Err(Error::Attachment {
                participant: participant.to_owned(),
                detail: "statements run on the application's own connection, for the branch is attached",
            });
        }
        let mut branches = self.branches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(branch) = branches.get(participant) {
            return Ok(branch.clone());
        }
        let Some(address) = self.participants.get(participant) else {
            return Err(Error::NoSuchParticipant {
                participant: participant.to_owned(),
                known: self.participants().collect::<Vec<_>>().join(", "),
            });
        };
        let agent = self.votum.inner.agents.at(address, &self.options().seams)?;
        let branch = Arc::new(Branch::new(participant.to_owned(), agent, claim));
        branches.insert(participant.to_owned(), branch.clone());
        Ok(branch)
    }

    /// Every branch in which a statement ran; or why one of them cannot be committed.
    fn claims(&self) -> Result<Vec<ExportedBranch>, Abort> {
        let branches = self.branches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut claims = Vec::with_capacity(branches.len());
        for (participant, branch) in &*branches {
            if let Some(Claim { session, last_ordinal }) = branch.claim()? {
                claims.push(ExportedBranch { participant: participant.clone(), session, last_ordinal });
            }
        }
        Ok(claims)
    }

    fn options(&self) -> &Options {
        &self.votum.inner.options
    }
}

impl From<ExportedBranch> for v1::BranchClaim {
    fn from(branch: ExportedBranch) -> Self {
        Self {
            participant: branch.participant,
            session: Some(branch.session.into()),
            last_ordinal: branch.last_ordinal,
        }
    }
}

/// An SQL identifier, whatever it contains.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
