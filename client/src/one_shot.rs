//! A whole transaction in one request.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use tonic::Code;
use votum_proto::error::detail;
use votum_proto::runtime::{BoxFuture, Elapsed};
use votum_proto::v1;

use crate::begin::milliseconds;
use crate::error::text;
use crate::outcome::Status;
use crate::retry::{Patience, Verdict, commit_verdict, retry_after, says_nothing_of_the_request};
use crate::votum::Options;
use crate::{Column, Error, Isolation, Outcome, Row, SqlError, Value, Votum};

/// With this code a coordinator says that it has not begun a transaction.
const NOT_BEGUN: &str = "VOTUM-1210";
/// With this one that the request was meant for another life of it.
const OTHER_LIFE: &str = "VOTUM-1211";

/// A transaction whose statements are all known before it begins: add them, then `.await` it. It is the fastest way,
/// because it takes one exchange from here to the coordinator, and one from there to each database.
///
/// ```no_run
/// # async fn example(votum: votum_client::Votum) -> Result<(), votum_client::Error> {
/// let sql = "UPDATE account SET balance = balance + $1 WHERE id = $2";
/// let done = votum
///     .transact()
///     .idempotency_key("invoice-4711")
///     .statement("bank_a", sql, &[(-5).into(), 1.into()])
///     .statement("bank_b", sql, &[5.into(), 1.into()])
///     .await?;
/// println!("{}", done.outcome);
/// # Ok(()) }
/// ```
///
/// The statements of one participant run in the order in which they were added, those of several participants at the
/// same time. If one fails, nothing is done anywhere, and [`Transacted::failed`] names it.
#[must_use = "a transaction is run by .await"]
#[derive(Clone)]
pub struct OneShot {
    votum: Votum,
    request: v1::TransactRequest,
}

/// How a whole transaction ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Transacted {
    /// Its name; empty where nobody answered.
    pub gtid: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The statement that it failed at, where it was one.
    pub failed: Option<FailedStatement>,
    /// With [`OneShot::last_agent`]: the participant whose branch decided, or was to. `None` where all branches were
    /// prepared.
    pub decided_by: Option<String>,
    results: Vec<(String, Vec<StatementResult>)>,
}

/// The statement that a whole transaction failed at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStatement {
    /// Where.
    pub participant: String,
    /// Its place among that participant's statements, from 0.
    pub statement: usize,
    /// What the database said, if it was the database.
    pub error: Option<SqlError>,
}

/// What one statement returned.
#[derive(Debug, Clone, PartialEq)]
pub struct StatementResult {
    /// Its rows.
    pub rows: Vec<Row>,
    /// How many rows it touched or returned.
    pub row_count: u64,
}

impl Transacted {
    /// What the statements of a participant returned, in the order in which they were added. Empty unless the
    /// transaction is committed; and where an earlier request with the same key committed it, whose results are not
    /// kept.
    pub fn results(&self, participant: &str) -> &[StatementResult] {
        let found = self.results.iter().find(|(name, _)| name == participant);
        found.map(|(_, results)| results.as_slice()).unwrap_or_default()
    }
}

impl OneShot {
    pub(crate) fn new(votum: Votum) -> Self {
        let Options { client_name, wait, .. } = &votum.inner.options;
        let mut request = v1::TransactRequest { client_name: client_name.clone(), ..Default::default() };
        request.set_wait((*wait).into());
        Self { votum, request }
    }

    /// Adds a statement at a participant. `parameters` are the values of `$1`, `$2`, and so on.
    pub fn statement(mut self, participant: &str, statement: &str, parameters: &[Value]) -> Self {
        let statement = v1::WorkStatement {
            statement: statement.to_owned(),
            parameters: parameters.iter().cloned().map(Into::into).collect(),
            raw_binary: false,
        };
        self.branch(participant).statements.push(statement);
        self
    }

    /// Opens the branch at one participant READ ONLY, which spares it the PREPARE.
    pub fn only_reads(mut self, participant: &str) -> Self {
        self.branch(participant).read_only = true;
        self
    }

    fn branch(&mut self, participant: &str) -> &mut v1::BranchWork {
        let branches = &mut self.request.branches;
        let at = branches.iter().position(|branch| branch.participant == participant);
        let at = at.unwrap_or_else(|| {
            branches.push(v1::BranchWork { participant: participant.to_owned(), ..Default::default() });
            branches.len() - 1
        });
        // One of the two has just made sure that it is there.
        #[allow(clippy::indexing_slicing)]
        &mut branches[at]
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

    /// How long the transaction may live before it is decided; bounded by the coordinator's configuration, whose
    /// default applies otherwise. Rounded up to a millisecond.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request.timeout_ms = milliseconds(timeout);
        self
    }

    /// Has one branch of several decide: it is not prepared, but committed with its work in one trip when all others
    /// are prepared, and they follow. It is the last one, in the order in which participants were first named, that is
    /// not opened READ ONLY and whose database keeps commit markers; where there is none, all are prepared as ever.
    /// [`Transacted::decided_by`] says which. What that trades is told in docs/protocol.md: while its participant does
    /// not answer, the others' locks are kept.
    pub fn last_agent(mut self) -> Self {
        self.request.last_agent = true;
        self
    }

    /// Names the work, so that it is done once, however often it is asked for: while it is under way, or once it is
    /// committed, the same work under the same key has the same outcome. Without it nobody can say what became of a
    /// request whose answer was lost when the coordinator died. At most 128 bytes; scoped to the client's name.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.request.idempotency_key = key.into();
        self
    }

    /// For people: operators see it beside the gtid. At most 64 bytes.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.request.label = label.into();
        self
    }

    async fn run(self) -> Result<Transacted, Error> {
        let Self { votum, mut request } = self;
        let Options { seams, outcome_budget, retry_budget, .. } = &votum.inner.options;
        request.attempt = seams.entropy.bits().max(1);
        let named = !request.idempotency_key.is_empty();
        let mut patience = Patience::new(seams, *outcome_budget);
        let mut overload = Patience::new(seams, *retry_budget);
        // An attempt of which nothing is known may have been carried out, whatever a later one is told; and only the
        // life that it was meant for can still do that, and knows it again.
        let (mut open, mut pinned) = (false, false);
        let mut begun = String::new();
        loop {
            if !pinned {
                request.life = votum.inner.known_life();
            }
            request.repeated = open;
            let asked = votum.inner.coordinator.transact(request.clone());
            let (heard, status) = match seams.clock.timeout(patience.left(), asked).await {
                Ok(Ok(reply)) => {
                    votum.inner.note_life(life_of(&reply.gtid));
                    let done = Transacted::read(reply)?;
                    let is_known = !matches!(done.outcome, Outcome::Unknown { .. });
                    // Asked again under the same name, it says what became of it.
                    (open, pinned) = (true, true);
                    if is_known || !patience.again().await {
                        return Ok(done);
                    }
                    begun = done.gtid;
                    continue;
                }
                Ok(Err(status)) => (heard(&status), status),
                Err(Elapsed) => {
                    (Heard::Nothing, tonic::Status::unavailable("the coordinator did not answer"))
                }
            };
            if let Some(wait) = retry_after(&status).filter(|_| !open)
                && overload.again_after(wait).await
            {
                continue;
            }
            let again = match heard {
                Heard::Refusal => false,
                Heard::NotBegun => true,
                // Whoever is told of too much load has to send less, unless something was sent already.
                Heard::TooMuch => open,
                // What is open is not carried out any more. Where it was, the key knows of it.
                Heard::OtherLife => {
                    let present = detail(&status).unwrap_or_default().gtid;
                    votum.inner.note_life(life_of(&present));
                    pinned = false;
                    named || !open
                }
                Heard::Nothing => {
                    (open, pinned) = (true, true);
                    true
                }
            };
            // To be sent to another life it need not wait.
            let again = again && (matches!(heard, Heard::OtherLife) || patience.again().await);
            if !again || patience.left().is_zero() {
                return match open {
                    true => Ok(Transacted::unknown(begun, text(&status))),
                    false => Err(Error::from_status(&status, "")),
                };
            }
        }
    }
}

/// The life in which a transaction was begun, as its gtid shows it.
fn life_of(gtid: &str) -> &str {
    let life = gtid.split_once('-').and_then(|(_, rest)| rest.rsplit_once('-'));
    life.map(|(life, _)| life).unwrap_or_default()
}

/// What an error status in answer to Transact says.
#[derive(Clone, Copy)]
enum Heard {
    /// The request is refused.
    Refusal,
    /// Nothing was begun: it may be sent again.
    NotBegun,
    /// Nothing was begun, because there is too much to do.
    TooMuch,
    /// The life of the coordinator that it was meant for is over.
    OtherLife,
    /// Nothing of what became of it.
    Nothing,
}

fn heard(status: &tonic::Status) -> Heard {
    match detail(status) {
        Some(detail) if detail.code == NOT_BEGUN => Heard::NotBegun,
        Some(detail) if detail.code == OTHER_LIFE => Heard::OtherLife,
        Some(_) if status.code() == Code::ResourceExhausted => Heard::TooMuch,
        None if !says_nothing_of_the_request(status.code()) => Heard::Refusal,
        Some(_) | None => match commit_verdict(status) {
            Verdict::Again => Heard::Nothing,
            Verdict::Final => Heard::Refusal,
        },
    }
}

impl Transacted {
    /// Of the transaction `gtid`, empty where no answer has named it.
    fn unknown(gtid: String, detail: String) -> Self {
        let outcome = Outcome::Unknown { gtid: gtid.clone(), detail };
        Self { gtid, outcome, failed: None, decided_by: None, results: Vec::new() }
    }

    fn read(reply: v1::TransactResponse) -> Result<Self, Error> {
        let v1::TransactResponse { gtid, outcome, results, failed, decided_by } = reply;
        let status = Status::from(outcome.unwrap_or_default());
        let outcome =
            status.outcome().unwrap_or_else(|detail| Outcome::Unknown { gtid: gtid.clone(), detail });
        let retryable = matches!(&outcome, Outcome::Aborted(abort) if abort.retryable);
        let failed = failed.map(|failed| FailedStatement {
            error: failed.sql.map(|sql| SqlError::new(sql, failed.participant.clone(), retryable)),
            participant: failed.participant,
            statement: usize::try_from(failed.statement.saturating_sub(1)).unwrap_or(usize::MAX),
        });
        let branch = |result: v1::BranchResult| {
            let statements = result.statements.into_iter().map(StatementResult::read);
            Ok((result.participant, statements.collect::<Result<Vec<_>, Error>>()?))
        };
        let results = results.into_iter().map(branch).collect::<Result<Vec<_>, Error>>()?;
        let decided_by = Some(decided_by).filter(|participant| !participant.is_empty());
        Ok(Self { gtid, outcome, failed, decided_by, results })
    }
}

impl StatementResult {
    fn read(result: v1::StatementResult) -> Result<Self, Error> {
        let columns: Arc<[Column]> = result.columns.into_iter().map(Column::from).collect();
        let rows = result.rows.into_iter().map(|row| Row::new(Arc::clone(&columns), row));
        Ok(Self { rows: rows.collect::<Result<_, _>>()?, row_count: result.row_count })
    }
}

impl IntoFuture for OneShot {
    type Output = Result<Transacted, Error>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gtid_shows_the_life_in_which_it_was_begun() {
        assert_eq!(life_of("acme-7-3f9ac2-1042"), "7-3f9ac2");
        assert_eq!(life_of(""), "");
        assert_eq!(life_of("acme-7"), "");
    }
}
