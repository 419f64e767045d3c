//! A client: carries out one job after another, and writes down what it was told.

use std::sync::atomic::{AtomicU32, Ordering};

use votum_client::{Begin, Error, Outcome, Row, Transaction, Value, Votum};
use votum_proto::runtime::Seams;

use super::dice::Dice;
use super::record::{Action, Answer, Asked, Effect, Isolation, Question, Recorded, Statement, Told};
use super::stage::Stage;
use super::workload::{Branch, Ending, Job, Patience, Step, job};

/// Attempts that a job with an idempotency key makes at most. Each is a transaction of its own.
pub const ATTEMPTS: u64 = 3;
/// Statements that one branch has at most.
const STATEMENTS: u32 = 100;
/// The savepoint of a step that goes back.
const SAVEPOINT: &str = "here";

const APPEND: &str = "INSERT INTO lists AS list (key, effects) VALUES ($1, ARRAY[$2::text])
    ON CONFLICT (key) DO UPDATE SET effects = list.effects || excluded.effects
    RETURNING array_to_string(effects, ',') AS effects";
const READ_LIST: &str = "SELECT array_to_string(effects, ',') AS effects FROM lists WHERE key = $1";
const MOVE: &str = "WITH changed AS (UPDATE purses SET balance = balance + $2, version = version + 1
     WHERE id = $1 RETURNING version, balance)
    INSERT INTO moves (purse, version, effect, amount, balance)
    SELECT $1, version, $3, $2, balance FROM changed RETURNING version, balance";
const PUT: &str = "WITH changed AS (UPDATE purses SET balance = $4, version = version + 1
     WHERE id = $1 RETURNING version, balance)
    INSERT INTO moves (purse, version, effect, amount, balance)
    SELECT $1, version, $3, $2, balance FROM changed RETURNING version, balance";
const READ_ACCOUNT: &str = "SELECT version, balance FROM purses WHERE id = $1";
const LOCK_ACCOUNT: &str = "SELECT version, balance FROM purses WHERE id = $1 FOR UPDATE";
const CLAIM: &str = "INSERT INTO claims (key, effect) VALUES ($1, $2)";

/// Works until no job is left. `number` is the client's own.
pub async fn work(stage: &Stage, number: u64) {
    let mut dice = Dice::part(stage.seed, u64::MAX - number);
    while let Some(ticket) = stage.next_job() {
        // Somebody always looks back: what was told must not change.
        if dice.chance(8)
            && let Some((number, gtid)) = stage.some_gtid(dice.bits())
        {
            stage.ask(number, &gtid, Question::Find).await;
        }
        let drawn = job(stage.seed, ticket, stage.participants.len());
        let attempts = if drawn.keyed { ATTEMPTS } else { 1 };
        for attempt in 0..attempts {
            let job = Job { number: ticket * ATTEMPTS + attempt, ..drawn.clone() };
            let key = drawn.keyed.then(|| format!("k{ticket}"));
            if let Next::Done = Box::pin(attempt_at(stage, &job, key)).await {
                break;
            }
        }
    }
}

/// Whether a job with a key is to be tried again.
enum Next {
    Done,
    TryAgain,
}

async fn attempt_at(stage: &Stage, job: &Job, key: Option<String>) -> Next {
    let mut recorded = Recorded {
        number: job.number,
        gtid: None,
        key,
        isolation: job.isolation,
        read_only: job.read_only,
        begun: stage.tick(),
        statements: Vec::new(),
        asked: Vec::new(),
    };
    let votum = stage.votum(job.patience);
    let tx = match begin(votum, job, &recorded).await {
        Ok(tx) => tx,
        Err(error) => {
            stage.keep(recorded);
            return refused_to_begin(stage, job, error).await;
        }
    };
    recorded.gtid = Some(tx.gtid().to_owned());
    let statements = Statements { stage, job, tx: &tx, left: AtomicU32::new(vanishes_after(job.ending)) };
    let (done, all_ran) = statements.run().await;
    recorded.statements = done;
    end(stage, job, tx, all_ran, &mut recorded).await;
    let told = recorded.asked.last().map(|asked| asked.told.clone());
    let gtid = recorded.gtid.clone();
    stage.keep(recorded);
    let told = match (told, gtid) {
        (Some(Told::Unknown | Told::Nothing), Some(gtid)) => {
            stage.ask(job.number, &gtid, Question::Find).await
        }
        (told, _) => told.unwrap_or(Told::Nothing),
    };
    match told {
        Told::Committed { .. } | Told::ReadOnly => Next::Done,
        Told::Aborted(_) | Told::Unknown | Told::Nothing | Told::Heuristic(_) | Told::Forgotten(_) => {
            Next::TryAgain
        }
    }
}

fn vanishes_after(ending: Ending) -> u32 {
    match ending {
        Ending::Vanish(statements) => statements,
        Ending::Commit
        | Ending::Rollback
        | Ending::CommitAndVanish(_)
        | Ending::CommitTwice
        | Ending::CommitAndRollBack => u32::MAX,
    }
}

async fn begin(votum: &Votum, job: &Job, recorded: &Recorded) -> Result<Transaction, Error> {
    let isolation = match job.isolation {
        Isolation::ReadCommitted => votum_client::Isolation::ReadCommitted,
        Isolation::RepeatableRead => votum_client::Isolation::RepeatableRead,
        Isolation::Serializable => votum_client::Isolation::Serializable,
    };
    let mut begin: Begin = votum.begin().isolation(isolation).timeout(job.timeout).label(recorded.name());
    if let Some(key) = &recorded.key {
        begin = begin.idempotency_key(key).digest(key);
    }
    if job.read_only { begin.read_only().await } else { begin.await }
}

/// Where the key stands for a committed transaction, that is an answer about it.
async fn refused_to_begin(stage: &Stage, job: &Job, error: Error) -> Next {
    let Error::KeyTaken { gtid, alive, .. } = error else { return Next::TryAgain };
    let first = job.number - job.number % ATTEMPTS;
    for number in first..job.number {
        let earlier = stage.look(|all| all.get(&number).and_then(|one| one.gtid.clone()));
        if earlier.as_ref() == Some(&gtid) {
            stage.ask(number, &gtid, Question::Find).await;
        }
    }
    if alive { Next::TryAgain } else { Next::Done }
}

/// The statements of one job on their way.
struct Statements<'a> {
    stage: &'a Stage,
    job: &'a Job,
    tx: &'a Transaction,
    /// How many may still be sent before the client vanishes.
    left: AtomicU32,
}

impl Statements<'_> {
    /// All that were sent, and whether all of them were, and ran.
    async fn run(&self) -> (Vec<Statement>, bool) {
        let places = (0u32..).zip(&self.job.branches);
        let (mut done, mut all_ran) = (Vec::new(), true);
        if self.job.at_once {
            let branches = places.map(|(place, branch)| self.branch(place, branch));
            for (statements, ran) in futures::future::join_all(branches).await {
                done.extend(statements);
                all_ran &= ran;
            }
            return (done, all_ran);
        }
        for (place, branch) in places {
            let (statements, ran) = self.branch(place, branch).await;
            done.extend(statements);
            all_ran &= ran;
            if !ran {
                break;
            }
        }
        (done, all_ran)
    }

    async fn branch(&self, place: u32, branch: &Branch) -> (Vec<Statement>, bool) {
        let Some(participant) = self.stage.participants.get(branch.participant) else {
            return (Vec::new(), false);
        };
        let mut run = BranchRun { all: self, participant, number: place * STATEMENTS, done: Vec::new() };
        for step in &branch.steps {
            if run.step(*step).await.is_none() {
                return (run.done, false);
            }
        }
        (run.done, true)
    }
}

/// The statements of one branch on their way. `None` everywhere: the branch cannot go on.
struct BranchRun<'a> {
    all: &'a Statements<'a>,
    participant: &'a str,
    number: u32,
    done: Vec<Statement>,
}

impl BranchRun<'_> {
    async fn step(&mut self, step: Step) -> Option<()> {
        match step {
            Step::Append(list) => self.statement(Action::Append { list }, None).await.map(drop),
            Step::ReadList(list) => self.statement(Action::ReadList { list }, None).await.map(drop),
            Step::Move(account, amount) => {
                self.statement(Action::Move { account, amount }, None).await.map(drop)
            }
            Step::Put(account, amount) => {
                let read = self.statement(Action::ReadAccount { account, lock: true }, None).await?;
                let Answer::Account { balance, .. } = read else { return None };
                self.statement(Action::Put { account, amount }, Some(balance + amount)).await.map(drop)
            }
            Step::ReadAccount(account) => {
                self.statement(Action::ReadAccount { account, lock: false }, None).await.map(drop)
            }
            Step::Claim(key) => self.statement(Action::Claim { key }, None).await.map(drop),
            Step::UndoneAppend(list) => self.undone(Action::Append { list }).await,
            Step::UndoneClaim(key) => self.undone(Action::Claim { key }).await,
        }
    }

    /// Behind a savepoint, to which the branch goes back, also where the database refused the statement.
    async fn undone(&mut self, action: Action) -> Option<()> {
        self.savepoint(true).await?;
        let from = self.done.len();
        if self.statement(action, None).await.is_none() {
            let refused = self.done.last().is_some_and(|last| matches!(last.answer, Answer::Refused(_)));
            if !refused {
                return None;
            }
        }
        self.savepoint(false).await?;
        for statement in self.done.iter_mut().skip(from) {
            statement.undone = true;
        }
        Some(())
    }

    async fn savepoint(&mut self, set: bool) -> Option<()> {
        let (number, begun) = self.next()?;
        let tx = self.all.tx;
        let answer = match set {
            true => tx.savepoint(self.participant, SAVEPOINT).await,
            false => tx.rollback_to(self.participant, SAVEPOINT).await,
        };
        let answer = answer.map_or_else(refused, |()| Answer::Done);
        self.note(number, begun, Action::Savepoint, answer).map(drop)
    }

    async fn statement(&mut self, action: Action, put: Option<i64>) -> Option<Answer> {
        let (number, begun) = self.next()?;
        let effect = Effect { transaction: self.all.job.number, statement: number };
        let (sql, parameters) = text(action, effect, put);
        let answer = match self.all.tx.query(self.participant, sql, &parameters).await {
            Ok(rows) => read(action, &rows),
            Err(error) => refused(error),
        };
        self.note(number, begun, action, answer)
    }

    /// The number of the next statement, and this moment; none once the client is to vanish.
    fn next(&mut self) -> Option<(u32, u64)> {
        let left = &self.all.left;
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).ok()?;
        self.number += 1;
        Some((self.number, self.all.stage.tick()))
    }

    /// Writes a statement down; none if it did not run.
    fn note(&mut self, number: u32, begun: u64, action: Action, answer: Answer) -> Option<Answer> {
        let statement = Statement {
            number,
            participant: self.participant.to_owned(),
            begun,
            ended: self.all.stage.tick(),
            action,
            answer: answer.clone(),
            undone: false,
        };
        let ran = statement.ran();
        self.done.push(statement);
        ran.then_some(answer)
    }
}

fn text(action: Action, effect: Effect, put: Option<i64>) -> (&'static str, Vec<Value>) {
    let name = effect.to_string();
    let number = |number: u64| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
    match action {
        Action::Append { list } => (APPEND, vec![number(list), name.into()]),
        Action::ReadList { list } => (READ_LIST, vec![number(list)]),
        Action::Move { account, amount } => (MOVE, vec![number(account), amount.into(), name.into()]),
        Action::Put { account, amount } => {
            (PUT, vec![number(account), amount.into(), name.into(), put.unwrap_or(0).into()])
        }
        Action::ReadAccount { account, lock } => {
            (if lock { LOCK_ACCOUNT } else { READ_ACCOUNT }, vec![number(account)])
        }
        Action::Claim { key } => (CLAIM, vec![number(key), name.into()]),
        // Sent in its own way.
        Action::Savepoint => ("SELECT", Vec::new()),
    }
}

/// The answer in the rows; one that is not of its form counts as none.
fn read(action: Action, rows: &[Row]) -> Answer {
    let strange = |error: &dyn std::fmt::Display| Answer::Nothing(format!("not of its form: {error}"));
    match action {
        Action::Append { .. } | Action::ReadList { .. } => {
            // A list that nobody has appended to is not there.
            let Some(row) = rows.first() else { return Answer::List(Vec::new()) };
            let text: Result<String, Error> = row.get("effects");
            match text.map(|text| text.split(',').map(str::parse).collect::<Result<Vec<Effect>, _>>()) {
                Ok(Ok(effects)) => Answer::List(effects),
                Ok(Err(error)) => strange(&error),
                Err(error) => strange(&error),
            }
        }
        Action::Move { .. } | Action::Put { .. } | Action::ReadAccount { .. } => {
            let Some(row) = rows.first() else { return strange(&"no such account") };
            let [version, balance]: [Result<i64, Error>; 2] = [row.get("version"), row.get("balance")];
            match (version, balance) {
                (Ok(version), Ok(balance)) => {
                    Answer::Account { version: u64::try_from(version).unwrap_or(0), balance }
                }
                (Err(error), _) | (_, Err(error)) => strange(&error),
            }
        }
        Action::Claim { .. } | Action::Savepoint => Answer::Done,
    }
}

fn refused(error: Error) -> Answer {
    match error {
        Error::Sql(sql) => Answer::Refused(sql.sqlstate),
        Error::Refused(refusal) => Answer::TurnedAway(refusal.to_string()),
        other @ (Error::Address(_)
        | Error::KeyTaken { .. }
        | Error::Unreachable { .. }
        | Error::BranchLost { .. }
        | Error::NoSuchParticipant { .. }
        | Error::Attachment { .. }
        | Error::Column { .. }
        | Error::RowCount(_)
        | Error::Contract(_)) => Answer::Nothing(other.to_string()),
    }
}

/// Ends a transaction in the way of its job, and writes down what was asked and told.
async fn end(stage: &Stage, job: &Job, tx: Transaction, all_ran: bool, recorded: &mut Recorded) {
    let ending = match job.ending {
        Ending::Vanish(_) => Ending::Vanish(0),
        // Without a step that was never run the job would not be what it is.
        _ if !all_ran && (!job.stubborn || turned_away(&recorded.statements)) => Ending::Rollback,
        ending @ (Ending::Commit
        | Ending::Rollback
        | Ending::CommitAndVanish(_)
        | Ending::CommitTwice
        | Ending::CommitAndRollBack) => ending,
    };
    match ending {
        Ending::Commit => recorded.asked.push(ask(stage, tx, Question::Commit).await),
        Ending::Rollback => recorded.asked.push(ask(stage, tx, Question::Rollback).await),
        Ending::Vanish(_) => drop(tx),
        Ending::CommitAndVanish(moment) => {
            let begun = stage.tick();
            let clock = Seams::production().clock;
            let told = match clock.timeout(moment, tx.commit()).await {
                Ok(answer) => told(answer),
                Err(_) => Told::Nothing,
            };
            recorded.asked.push(Asked { question: Question::Commit, begun, ended: stage.tick(), told });
        }
        Ending::CommitTwice => recorded.asked.extend(two(stage, tx, Question::Commit).await),
        Ending::CommitAndRollBack => recorded.asked.extend(two(stage, tx, Question::Rollback).await),
    }
}

fn turned_away(statements: &[Statement]) -> bool {
    statements.iter().any(|statement| matches!(statement.answer, Answer::TurnedAway(_)))
}

async fn ask(stage: &Stage, tx: Transaction, question: Question) -> Asked {
    let begun = stage.tick();
    let answer = match question {
        Question::Rollback => tx.rollback().await,
        Question::Commit | Question::Find | Question::FindAtTheEnd => tx.commit().await,
    };
    Asked { question, begun, ended: stage.tick(), told: told(answer) }
}

/// Hands the transaction to two others, of which one commits and the other asks for `second`, at once.
async fn two(stage: &Stage, tx: Transaction, second: Question) -> Vec<Asked> {
    // A branch is lost: nobody goes on with it.
    let Ok(export) = tx.export() else { return Vec::new() };
    let [one, other] =
        [Patience::Completed, Patience::Decided].map(|by| stage.votum(by).import(export.clone()));
    let (Ok(one), Ok(other)) = (one, other) else { return Vec::new() };
    let (one, other) =
        futures::future::join(ask(stage, one, Question::Commit), ask(stage, other, second)).await;
    vec![one, other]
}

fn told(answer: Result<Outcome, Error>) -> Told {
    match answer {
        Ok(Outcome::Committed(committed)) if !committed.heuristics.is_empty() => {
            Told::Heuristic(committed.to_string())
        }
        Ok(Outcome::Committed(committed)) => Told::Committed { completed: committed.completed },
        Ok(Outcome::ReadOnly) => Told::ReadOnly,
        Ok(Outcome::Aborted(abort)) if !abort.heuristics.is_empty() => Told::Heuristic(abort.to_string()),
        Ok(Outcome::Aborted(abort)) => Told::Aborted(abort.to_string()),
        Ok(Outcome::Unknown { .. }) => Told::Unknown,
        Err(_) => Told::Nothing,
    }
}
