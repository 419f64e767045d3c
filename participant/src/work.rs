//! The work of a branch whose statements are all known before it begins, and what they return.

use async_trait::async_trait;
use votum_proto::names::Gid;
use votum_proto::v1;

use crate::database::{
    Aftermath, BeginOptions, DatabaseError, OnePhase, Policy, Preparation, RowSink, ServerFacts, Session,
    Statement,
};

/// All that a branch does.
#[derive(Debug, Clone)]
pub struct Work {
    /// How it is begun.
    pub options: BeginOptions,
    /// Run one after another. At least one.
    pub statements: Vec<Statement>,
}

/// What the last branch of a transaction does, whose siblings are prepared: its commit decides.
#[derive(Debug, Clone)]
pub struct Deciding {
    /// Its name, of which its commit marker's key is made.
    pub gid: Gid,
    /// What it does.
    pub work: Work,
    /// The server's own name. It runs on no other.
    pub system_identifier: u64,
    /// Its timeline.
    pub timeline: u32,
}

impl Deciding {
    /// Whether this is the server on which it may run.
    ///
    /// # Errors
    /// A refusal where it is not.
    pub fn may_run_on(&self, facts: &ServerFacts) -> Result<(), DatabaseError> {
        let found = (facts.system_identifier, facts.timeline);
        if found == (self.system_identifier, self.timeline) {
            return Ok(());
        }
        Err(DatabaseError {
            policy: Policy::VoteNo,
            aftermath: Aftermath::Answered,
            sqlstate: String::new(),
            message: format!(
                "the branch was to decide on server {} (timeline {}), and its session leads to {} (timeline {}): \
                 run the transaction again",
                self.system_identifier, self.timeline, facts.system_identifier, facts.timeline
            ),
            retryable: true,
            sql: None,
        })
    }
}

/// How far the work of a branch came whose commit decides.
#[derive(Debug)]
pub enum Decided {
    /// Every statement has run, and this is how its commit ended.
    Ended(OnePhase),
    /// A statement was not done. It can never commit; what is open is to be rolled back.
    Failed {
        /// Which, from 0.
        statement: usize,
        /// Why.
        error: DatabaseError,
    },
}

/// What each row and column counts beside its bytes: some have none.
const EACH: usize = 32;

/// How far a branch's work came.
#[derive(Debug)]
pub enum Worked {
    /// Every statement has run, and this is how it ended.
    Ended(Preparation),
    /// A statement was not done. Nothing is prepared; what is open is to be rolled back.
    Failed {
        /// Which, from 0.
        statement: usize,
        /// Why.
        error: DatabaseError,
    },
}

/// What the statements of a branch return, within a bound.
#[derive(Debug)]
pub struct Results {
    statements: Vec<v1::StatementResult>,
    /// In bytes.
    bound: usize,
    left: usize,
    too_large: bool,
}

impl Results {
    /// Takes at most `bound` bytes.
    pub fn new(bound: usize) -> Self {
        Self { statements: Vec::new(), bound, left: bound, too_large: false }
    }

    /// Forgets what came: the work begins anew.
    pub fn clear(&mut self) {
        *self = Self::new(self.bound);
    }

    /// What comes from here on is the next statement's.
    pub fn begin(&mut self) {
        self.statements.push(v1::StatementResult::default());
    }

    /// The statement has ended.
    ///
    /// # Errors
    /// When more has come, of all statements, than is taken.
    pub fn end(&mut self, rows: u64) -> Result<(), DatabaseError> {
        if let Some(result) = self.statements.last_mut() {
            result.row_count = rows;
        }
        if self.too_large { Err(self.too_large()) } else { Ok(()) }
    }

    /// What came.
    pub fn into_statements(self) -> Vec<v1::StatementResult> {
        self.statements
    }

    fn takes(&mut self, message: &impl prost::Message) -> bool {
        match self.left.checked_sub(message.encoded_len() + EACH) {
            Some(left) => self.left = left,
            None => self.too_large = true,
        }
        !self.too_large
    }

    fn too_large(&self) -> DatabaseError {
        DatabaseError {
            policy: Policy::VoteNo,
            aftermath: Aftermath::Answered,
            sqlstate: String::new(),
            message: format!(
                "the statements return more than {} bytes, which one answer does not carry: run them in a \
                 transaction that is begun and committed by calls of its own",
                self.bound
            ),
            retryable: false,
            sql: None,
        }
    }
}

#[async_trait]
impl RowSink for Results {
    async fn columns(&mut self, columns: Vec<v1::Column>) {
        if columns.iter().all(|column| self.takes(column))
            && let Some(result) = self.statements.last_mut()
        {
            result.columns = columns;
        }
    }

    async fn row(&mut self, row: v1::Row) {
        if self.takes(&row)
            && let Some(result) = self.statements.last_mut()
        {
            result.rows.push(row);
        }
    }
}

/// Does the work as a client would that sends one statement after another, then has the branch prepared.
pub(crate) async fn step_by_step<S: Session + ?Sized>(
    session: &mut S,
    work: &Work,
    gid: &Gid,
    one_phase: bool,
    results: &mut Results,
) -> Worked {
    if let Err(error) = session.begin(&work.options).await {
        return Worked::Failed { statement: 0, error };
    }
    for (number, statement) in work.statements.iter().enumerate() {
        results.begin();
        let ran = session.run(statement, results).await;
        if let Err(error) = ran.and_then(|rows| results.end(rows)) {
            return Worked::Failed { statement: number, error };
        }
    }
    Worked::Ended(session.prepare(gid, one_phase).await)
}

/// The same for a branch that decides.
pub(crate) async fn decide_step_by_step<S: Session + ?Sized>(
    session: &mut S,
    deciding: &Deciding,
    results: &mut Results,
) -> Decided {
    let Deciding { gid, work, .. } = deciding;
    if let Err(error) = session.begin(&work.options).await {
        return Decided::Failed { statement: 0, error };
    }
    for (number, statement) in work.statements.iter().enumerate() {
        results.begin();
        let ran = session.run(statement, results).await;
        if let Err(error) = ran.and_then(|rows| results.end(rows)) {
            return Decided::Failed { statement: number, error };
        }
    }
    Decided::Ended(match session.ready(gid).await {
        Ok(facts) => match deciding.may_run_on(&facts) {
            Ok(()) => session.commit_one_phase().await,
            Err(error) => OnePhase::Refused(error),
        },
        Err(error) => OnePhase::Refused(error),
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn row(text: &str) -> v1::Row {
        v1::Row { values: vec![v1::Value { kind: Some(v1::value::Kind::Text(text.into())) }] }
    }

    #[tokio::test]
    async fn results_are_kept_by_statement_up_to_the_bound_of_all_of_them() {
        let mut results = Results::new((row("abc").encoded_len() + EACH) * 2);
        results.begin();
        results.row(row("abc")).await;
        assert!(results.end(1).is_ok());
        results.begin();
        results.row(row("abc")).await;
        assert!(results.end(1).is_ok());
        results.begin();
        results.row(row("a")).await;
        let error = results.end(1).unwrap_err();
        assert!(error.message.contains("bytes"), "{error}");
        let rows: Vec<_> = results.into_statements().iter().map(|result| result.rows.len()).collect();
        assert_eq!(rows, [1, 1, 0]);
    }
}
