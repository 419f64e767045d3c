//! Transactions, drawn from a seed.
//!
//! Each kind is there for what it makes visible: lists for the order of commits, transfers for atomicity and lost
//! updates, claims for refusals at a statement and at PREPARE, reads for isolation, savepoints for statements that
//! must leave nothing.

use std::time::Duration;

use super::dice::Dice;
use super::record::Isolation;

/// Accounts at each participant.
pub const ACCOUNTS: u64 = 16;
/// What each holds at first.
pub const BALANCE: i64 = 1_000;
/// Lists that are appended to at one time.
const LISTS: u64 = 10;
/// Jobs after which new lists are used, so that none becomes long.
const GENERATION: u64 = 300;

/// What a client sets out to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number in the run.
    pub number: u64,
    /// The isolation of its branches.
    pub isolation: Isolation,
    /// Opened READ ONLY.
    pub read_only: bool,
    /// The transaction's timeout.
    pub timeout: Duration,
    /// Bears an idempotency key, and is tried again under it until it is committed.
    pub keyed: bool,
    /// Its branches, in the order in which they are opened; no participant twice.
    pub branches: Vec<Branch>,
    /// The branches run at the same time.
    pub at_once: bool,
    /// How it ends when every statement ran.
    pub ending: Ending,
    /// Asks for the commit although a statement was refused; otherwise rolls back then.
    pub stubborn: bool,
    /// How its client waits for the commit.
    pub patience: Patience,
}

/// What it does at one participant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// The place of the participant.
    pub participant: usize,
    /// What is done there.
    pub steps: Vec<Step>,
}

/// One step of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Appends to a list.
    Append(u64),
    /// Reads a list.
    ReadList(u64),
    /// Changes a balance by an amount.
    Move(u64, i64),
    /// Reads an account under a row lock, then sets what it computed.
    Put(u64, i64),
    /// Reads an account.
    ReadAccount(u64),
    /// Takes a unique key.
    Claim(u64),
    /// Appends to a list behind a savepoint, and goes back.
    UndoneAppend(u64),
    /// Takes a unique key behind a savepoint, and goes back, whether it was refused or not.
    UndoneClaim(u64),
}

/// How a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Commits.
    Commit,
    /// Rolls back.
    Rollback,
    /// Leaves after so many statements, without a word.
    Vanish(u32),
    /// Asks for the commit, and leaves before the answer.
    CommitAndVanish(Duration),
    /// Two processes ask for the commit at once.
    CommitTwice,
    /// One asks for the commit, and another for the rollback, at once.
    CommitAndRollBack,
}

/// How a client waits for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Until every branch has acknowledged, or long.
    Completed,
    /// Until the decision stands, or long.
    Decided,
    /// For a moment: then the outcome is unknown.
    Short,
}

/// The job of this number, at `participants` participants.
pub fn job(seed: u64, number: u64, participants: usize) -> Job {
    let mut dice = Dice::part(seed, number);
    let read_only = dice.chance(8);
    let isolation = dice.weighted(
        &[(55, Isolation::ReadCommitted), (25, Isolation::RepeatableRead), (20, Isolation::Serializable)],
        Isolation::ReadCommitted,
    );
    let timeout = if dice.chance(4) { dice.between(20, 300) } else { dice.between(1_500, 4_000) };
    let mut branches = if read_only {
        reads(&mut dice, number, participants)
    } else {
        work(&mut dice, number, participants)
    };
    // In one order nobody waits in a circle across databases, which only a timeout would end. A few do.
    if !dice.chance(8) {
        branches.sort_by_key(|branch| branch.participant);
    }
    Job {
        number,
        isolation,
        read_only,
        timeout: Duration::from_millis(timeout),
        keyed: !read_only && dice.chance(15),
        at_once: dice.chance(12),
        ending: ending(&mut dice),
        stubborn: dice.chance(40),
        patience: dice.weighted(
            &[(55, Patience::Completed), (25, Patience::Decided), (20, Patience::Short)],
            Patience::Completed,
        ),
        branches,
    }
}

fn ending(dice: &mut Dice) -> Ending {
    let statements = u32::try_from(dice.between(1, 4)).unwrap_or(1);
    let moment = Duration::from_micros(dice.below(12_000));
    dice.weighted(
        &[
            (82, Ending::Commit),
            (5, Ending::Rollback),
            (3, Ending::Vanish(statements)),
            (4, Ending::CommitAndVanish(moment)),
            (4, Ending::CommitTwice),
            (2, Ending::CommitAndRollBack),
        ],
        Ending::Commit,
    )
}

fn list(dice: &mut Dice, number: u64) -> u64 {
    number / GENERATION * LISTS + dice.below(LISTS)
}

/// Keys are claimed by a few jobs each.
fn claim(dice: &mut Dice, number: u64) -> u64 {
    number / 8 + dice.below(8)
}

fn work(dice: &mut Dice, number: u64, participants: usize) -> Vec<Branch> {
    #[derive(Clone, Copy)]
    enum Kind {
        Append,
        Transfer,
        Claim,
        Mixed,
    }
    let kinds = [(32, Kind::Append), (34, Kind::Transfer), (12, Kind::Claim), (22, Kind::Mixed)];
    match dice.weighted(&kinds, Kind::Append) {
        Kind::Append => {
            // The same list everywhere: its orders must not contradict each other.
            let list = list(dice, number);
            some(dice, participants, |_| vec![Step::Append(list)])
        }
        Kind::Transfer => transfer(dice, participants),
        Kind::Claim => {
            let key = claim(dice, number);
            some(dice, participants, |_| vec![Step::Claim(key)])
        }
        Kind::Mixed => mixed(dice, number, participants),
    }
}

/// The same number of steps at one, two or all participants, mostly two.
fn some(dice: &mut Dice, participants: usize, mut steps: impl FnMut(&mut Dice) -> Vec<Step>) -> Vec<Branch> {
    let count = dice.weighted(&[(12, 1), (58, 2), (30, 3)], 2);
    let places = dice.some(count, participants);
    places.into_iter().map(|participant| Branch { participant, steps: steps(dice) }).collect()
}

/// Money leaves one participant and arrives at the others; the sum stays.
fn transfer(dice: &mut Dice, participants: usize) -> Vec<Branch> {
    let mut branches = some(dice, participants.max(2), |_| Vec::new());
    let amount = i64::try_from(dice.between(1, 9)).unwrap_or(1);
    let others = i64::try_from(branches.len()).unwrap_or(1) - 1;
    for (place, branch) in branches.iter_mut().enumerate() {
        let amount = if place == 0 { -amount * others } else { amount };
        // Alone at one participant: between two of its accounts.
        if others == 0 {
            let [from, to] = [dice.below(ACCOUNTS / 2), ACCOUNTS / 2 + dice.below(ACCOUNTS / 2)];
            branch.steps = vec![Step::Put(from, -1), Step::Move(to, 1)];
            continue;
        }
        let account = dice.below(ACCOUNTS);
        let step = if dice.chance(50) { Step::Move(account, amount) } else { Step::Put(account, amount) };
        branch.steps = vec![step];
    }
    branches
}

fn mixed(dice: &mut Dice, number: u64, participants: usize) -> Vec<Branch> {
    some(dice, participants, |dice| {
        let count = dice.between(1, 4);
        let one = |dice: &mut Dice| {
            let (list, account, key) = (list(dice, number), dice.below(ACCOUNTS), claim(dice, number));
            dice.weighted(
                &[
                    (25, Step::Append(list)),
                    (25, Step::ReadList(list)),
                    (20, Step::ReadAccount(account)),
                    (10, Step::UndoneAppend(list)),
                    (8, Step::UndoneClaim(key)),
                    // Nothing moves: an account is written all the same.
                    (12, Step::Put(account, 0)),
                ],
                Step::ReadList(list),
            )
        };
        (0..count).map(|_| one(dice)).collect()
    })
}

fn reads(dice: &mut Dice, number: u64, participants: usize) -> Vec<Branch> {
    some(dice, participants, |dice| {
        let one = |dice: &mut Dice| match dice.chance(60) {
            true => Step::ReadList(list(dice, number)),
            false => Step::ReadAccount(dice.below(ACCOUNTS)),
        };
        (0..dice.between(2, 5)).map(|_| one(dice)).collect()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn jobs() -> impl Iterator<Item = Job> {
        (0..3_000).map(|number| job(11, number, 3))
    }

    #[test]
    fn a_job_is_the_same_whenever_it_is_drawn() {
        assert_eq!(job(11, 5, 3), job(11, 5, 3));
        assert_ne!(job(11, 5, 3).branches, job(12, 5, 3).branches);
    }

    #[test]
    fn no_job_makes_or_loses_money() {
        let amount = |step: &Step| match step {
            Step::Move(_, amount) | Step::Put(_, amount) => *amount,
            Step::Append(_)
            | Step::ReadList(_)
            | Step::ReadAccount(_)
            | Step::Claim(_)
            | Step::UndoneAppend(_)
            | Step::UndoneClaim(_) => 0,
        };
        for job in jobs() {
            let sum: i64 = job.branches.iter().flat_map(|branch| &branch.steps).map(amount).sum();
            assert_eq!(sum, 0, "{job:?}");
        }
    }

    #[test]
    fn no_job_opens_two_branches_at_one_participant_and_all_have_one() {
        for job in jobs() {
            let places: BTreeSet<usize> = job.branches.iter().map(|branch| branch.participant).collect();
            assert_eq!(places.len(), job.branches.len(), "{job:?}");
            assert!(!places.is_empty() && job.branches.iter().all(|branch| !branch.steps.is_empty()));
        }
    }

    #[test]
    fn every_kind_of_ending_and_step_is_drawn() {
        let endings = jobs().map(|job| std::mem::discriminant(&job.ending));
        assert_eq!(endings.collect::<Vec<_>>().into_iter().fold(Vec::new(), push_new).len(), 6);
        let steps = jobs().flat_map(|job| job.branches).flat_map(|branch| branch.steps);
        let kinds = steps.map(|step| std::mem::discriminant(&step)).fold(Vec::new(), push_new);
        assert_eq!(kinds.len(), 8);
    }

    fn push_new<T: PartialEq>(mut all: Vec<T>, one: T) -> Vec<T> {
        if !all.contains(&one) {
            all.push(one);
        }
        all
    }
}
