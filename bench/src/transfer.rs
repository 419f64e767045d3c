//! One transfer, as every contender carries it out.

use votum_proto::runtime::Entropy;

use crate::arguments::ACCOUNTS_PER_WORKER;

/// The only statement of a branch, the same for every contender.
pub(crate) const MOVE: &str = "UPDATE votum_bench_accounts SET balance = balance + $1 WHERE id = $2";

/// What happens at one bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leg {
    /// Whose balance changes.
    pub(crate) account: i64,
    /// By how much.
    pub(crate) amount: i64,
}

/// How a transfer ended, as far as its worker knows.
#[derive(Debug)]
pub(crate) enum Ended {
    /// At every bank.
    Committed,
    /// At no bank; why.
    NotCommitted(String),
    /// One or the other; why nobody can say.
    Unknown(String),
}

/// By how much a committed transfer changes the money at bank number `bank` of `banks`: the first gives one
/// to each of the others.
pub(crate) fn amount(bank: usize, banks: usize) -> i64 {
    if bank == 0 { 1 - i64::try_from(banks).unwrap_or(i64::MAX) } else { 1 }
}

/// The legs of worker `worker`'s next transfer, on accounts at random among its own.
pub(crate) fn legs(worker: u32, banks: usize, entropy: &dyn Entropy) -> Vec<Leg> {
    let account = || {
        let within = entropy.bits() % u64::from(ACCOUNTS_PER_WORKER);
        i64::from(worker) * i64::from(ACCOUNTS_PER_WORKER) + i64::try_from(within).unwrap_or(0)
    };
    (0..banks).map(|bank| Leg { account: account(), amount: amount(bank, banks) }).collect()
}

#[cfg(test)]
mod tests {
    use votum_proto::runtime::Seams;

    use super::*;

    #[test]
    fn a_transfer_makes_no_money_and_stays_among_its_workers_accounts() {
        let seams = Seams::production();
        for banks in 1..=4 {
            for _ in 0..1_000 {
                let legs = legs(3, banks, &*seams.entropy);
                assert_eq!(legs.len(), banks);
                assert_eq!(legs.iter().map(|leg| leg.amount).sum::<i64>(), 0);
                assert!(legs.iter().all(|leg| (3_000..4_000).contains(&leg.account)), "{legs:?}");
            }
        }
    }
}
