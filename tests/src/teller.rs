//! A client that moves money between banks, and writes into the ledger what it was told.

use std::sync::Arc;

use votum_client::{Error, OneShot, Outcome, Transacted, Transaction, Votum};

use crate::ledger::{Ledger, Told};
use crate::world::World;

/// What one bank does in a transfer: an account's balance changes by `amount`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg<'a> {
    /// The participant.
    pub bank: &'a str,
    /// Which account.
    pub account: i64,
    /// By how much; negative where the money comes from.
    pub amount: i64,
}

/// A client of one world. Cheap to clone; clones share connections and ledger.
#[derive(Clone)]
pub struct Teller {
    votum: Votum,
    ledger: Arc<Ledger>,
}

impl Teller {
    /// Connects to a world's coordinator.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connect(world: &World, ledger: &Arc<Ledger>) -> Result<Self, Error> {
        Ok(Self::new(Votum::connect(&world.address().to_string()).await?, ledger))
    }

    /// Uses a connection that was made in some particular way.
    pub fn new(votum: Votum, ledger: &Arc<Ledger>) -> Self {
        Self { votum, ledger: ledger.clone() }
    }

    /// The connection, for what is not a transfer.
    pub fn votum(&self) -> &Votum {
        &self.votum
    }

    /// Begins, carries out every leg, commits. `name` is the transfer's own, and stands in the journal of
    /// each bank.
    ///
    /// # Errors
    /// What kept it from being committed, after it was rolled back.
    pub async fn transfer(&self, name: &str, legs: &[Leg<'_>]) -> Result<Outcome, Error> {
        let tx = Box::pin(self.open(name, legs)).await?;
        if let Err(error) = Box::pin(work(&tx, name, legs)).await {
            self.roll_back(tx, name).await;
            return Err(error);
        }
        self.commit(tx, name).await
    }

    /// A transfer in one request, which `shot` is to become.
    ///
    /// # Errors
    /// As the request's; the ledger then says unknown.
    pub async fn at_once(&self, shot: OneShot, name: &str, legs: &[Leg<'_>]) -> Result<Transacted, Error> {
        self.ledger.intend(name, legs.iter().map(|leg| leg.bank));
        let answer = all_of(shot.label(name), name, legs).await;
        if let Ok(done) = &answer
            && !done.gtid.is_empty()
        {
            self.ledger.begun(name, &done.gtid);
        }
        self.ledger.told(name, answer.as_ref().map_or(Told::Unknown, |done| told(&done.outcome)));
        answer
    }

    /// Begins a transfer, for a test that does the rest in its own way.
    ///
    /// # Errors
    /// When the coordinator refuses, or cannot be reached.
    pub async fn open(&self, name: &str, legs: &[Leg<'_>]) -> Result<Transaction, Error> {
        self.ledger.intend(name, legs.iter().map(|leg| leg.bank));
        let tx = self.votum.begin().label(name).await?;
        self.ledger.begun(name, tx.gtid());
        Ok(tx)
    }

    /// Commits, and notes the answer.
    ///
    /// # Errors
    /// As [`Transaction::commit`]; the ledger then says unknown.
    pub async fn commit(&self, tx: Transaction, name: &str) -> Result<Outcome, Error> {
        let answer = Box::pin(tx.commit()).await;
        self.ledger.told(name, answer.as_ref().map_or(Told::Unknown, told));
        answer
    }

    async fn roll_back(&self, tx: Transaction, name: &str) {
        let answer = Box::pin(tx.rollback()).await;
        self.ledger.told(name, answer.as_ref().map_or(Told::Unknown, told));
    }
}

/// Moves money over all banks, under an idempotency key that is its name; its gtid, and what its client was told at
/// last.
///
/// # Errors
/// At the first call that fails.
pub async fn transfer_under_key(
    world: &World,
    ledger: &Ledger,
    votum: &Votum,
    name: &str,
) -> Result<(String, Outcome), Error> {
    let legs = world.legs(10);
    ledger.intend(name, legs.iter().map(|leg| leg.bank));
    let tx = votum.begin().label(name).idempotency_key(name).digest(name).await?;
    let gtid = tx.gtid().to_owned();
    ledger.begun(name, &gtid);
    work(&tx, name, &legs).await?;
    let outcome = tx.commit().await?;
    ledger.told(name, told(&outcome));
    Ok((gtid, outcome))
}

const CHANGE: &str = "UPDATE accounts SET balance = balance + $1 WHERE id = $2";
const NOTE: &str = "INSERT INTO journal (transfer, amount) VALUES ($1, $2)";

/// Every leg's statements, in one request.
pub fn all_of(shot: OneShot, name: &str, legs: &[Leg<'_>]) -> OneShot {
    legs.iter().fold(shot, |shot, leg| {
        shot.statement(leg.bank, CHANGE, &[leg.amount.into(), leg.account.into()]).statement(
            leg.bank,
            NOTE,
            &[name.into(), leg.amount.into()],
        )
    })
}

/// Carries out every leg: changes the balance, and leaves one row in the journal.
///
/// # Errors
/// At the first statement that fails.
pub async fn work(tx: &Transaction, name: &str, legs: &[Leg<'_>]) -> Result<(), Error> {
    for leg in legs {
        change(tx, leg).await?;
        note(tx, name, leg).await?;
    }
    Ok(())
}

/// Changes the balance of one leg's account.
///
/// # Errors
/// As the statement.
pub async fn change(tx: &Transaction, leg: &Leg<'_>) -> Result<(), Error> {
    tx.execute(leg.bank, CHANGE, &[leg.amount.into(), leg.account.into()]).await.map(drop)
}

/// Leaves one leg's row in its bank's journal.
///
/// # Errors
/// As the statement.
pub async fn note(tx: &Transaction, name: &str, leg: &Leg<'_>) -> Result<(), Error> {
    tx.execute(leg.bank, NOTE, &[name.into(), leg.amount.into()]).await.map(drop)
}

/// An outcome, as the ledger keeps it.
pub fn told(outcome: &Outcome) -> Told {
    match outcome {
        Outcome::Committed(_) => Told::Committed,
        Outcome::ReadOnly => Told::ReadOnly,
        Outcome::Aborted(_) => Told::Aborted,
        Outcome::Unknown { .. } => Told::Unknown,
    }
}
