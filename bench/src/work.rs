//! What is asked of every contender: transfers, and transactions that only read.

use votum_proto::runtime::Entropy;

/// Each worker has this many accounts at each bank for itself, so that no two workers meet.
pub(crate) const ACCOUNTS_PER_WORKER: u32 = 1_000;

/// The only statement of a transfer's branch, the same for every contender.
pub(crate) const MOVE: &str = "UPDATE votum_bench_accounts SET balance = balance + $1 WHERE id = $2";

/// The only statement of a reading branch.
pub(crate) const LOOK: &str = "SELECT balance FROM votum_bench_accounts WHERE id = $1";

/// What happens at one bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leg {
    /// Whose balance changes.
    pub(crate) account: i64,
    /// By how much.
    pub(crate) amount: i64,
}

/// When a transfer goes to which bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// To all banks at the same time.
    AtOnce,
    /// To the first bank, and to the others when it has the row there. Rows that transfers share are the
    /// same row at every bank, so whoever waits at a later bank waits for one that holds everything it needs:
    /// no deadlock across banks, which no bank could see. A way that must send all at once has its deadlocks
    /// counted among the errors, when a timeout has ended them.
    FirstBankFirst,
}

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    /// Moves money: one leg at each bank.
    Transfer {
        /// In the order of the banks.
        legs: Vec<Leg>,
        /// When each may begin.
        order: Order,
    },
    /// Looks at one account at each bank, and changes nothing.
    Read {
        /// In the order of the banks.
        accounts: Vec<i64>,
    },
}

/// From what the work of a run is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) banks: usize,
    /// The most workers of any measurement.
    pub(crate) workers: u32,
    /// How many accounts at each bank are a worker's own.
    pub(crate) own: u32,
    /// How many of a hundred transactions only read.
    pub(crate) read_percent: u8,
    /// How many rows all transfers share, where they do.
    pub(crate) hot_rows: Option<u32>,
}

impl Mix {
    /// How many accounts each bank needs: those of the workers, and after them the shared ones.
    pub(crate) fn accounts(&self) -> i64 {
        self.first_shared() + i64::from(self.hot_rows.unwrap_or(0))
    }

    fn first_shared(&self) -> i64 {
        i64::from(self.workers) * i64::from(self.own)
    }

    /// What worker `worker` does next, at random.
    pub(crate) fn next(&self, worker: u32, entropy: &dyn Entropy) -> Work {
        let accounts = self.pick(worker, entropy);
        if below(100, entropy) < u32::from(self.read_percent) {
            return Work::Read { accounts };
        }
        let leg = |(bank, account)| Leg { account, amount: amount(bank, self.banks) };
        let legs = accounts.into_iter().enumerate().map(leg).collect();
        let order = if self.hot_rows.is_some() { Order::FirstBankFirst } else { Order::AtOnce };
        Work::Transfer { legs, order }
    }

    /// An account for each bank: the same shared one everywhere, or any of the worker's own.
    fn pick(&self, worker: u32, entropy: &dyn Entropy) -> Vec<i64> {
        if let Some(rows) = self.hot_rows {
            return vec![self.first_shared() + i64::from(below(rows, entropy)); self.banks];
        }
        let own = i64::from(worker) * i64::from(self.own);
        (0..self.banks).map(|_| own + i64::from(below(self.own, entropy))).collect()
    }
}

/// By how much a committed transfer changes the money at bank number `bank` of `banks`: the first gives one
/// to each of the others. A single bank is given one, so that also there a lost transfer is seen.
pub(crate) fn amount(bank: usize, banks: usize) -> i64 {
    match (bank, banks) {
        (0, 2..) => 1 - i64::try_from(banks).unwrap_or(i64::MAX),
        _ => 1,
    }
}

/// At random from 0 to `bound` - 1; 0 if there is nothing below it.
fn below(bound: u32, entropy: &dyn Entropy) -> u32 {
    // The remainder of 64 bits: what it prefers is not seen in a run.
    let drawn = entropy.bits() % u64::from(bound.max(1));
    u32::try_from(drawn).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use votum_proto::runtime::Seams;

    use super::*;

    const MIX: Mix = Mix { own: ACCOUNTS_PER_WORKER, banks: 2, workers: 8, read_percent: 0, hot_rows: None };

    fn draw(mix: &Mix, times: usize) -> Vec<Work> {
        let seams = Seams::production();
        (0..times).map(|_| mix.next(3, &*seams.entropy)).collect()
    }

    fn legs(work: &Work) -> &[Leg] {
        match work {
            Work::Transfer { legs, .. } => legs,
            Work::Read { .. } => panic!("{work:?} is no transfer"),
        }
    }

    #[test]
    fn a_transfer_makes_no_money_and_stays_among_its_workers_accounts() {
        for banks in 2..=4 {
            for work in draw(&Mix { own: ACCOUNTS_PER_WORKER, banks, ..MIX }, 500) {
                let legs = legs(&work);
                assert_eq!(legs.len(), banks);
                assert_eq!(legs.iter().map(|leg| leg.amount).sum::<i64>(), 0);
                assert!(legs.iter().all(|leg| (3_000..4_000).contains(&leg.account)), "{legs:?}");
                assert!(matches!(work, Work::Transfer { order: Order::AtOnce, .. }));
            }
        }
    }

    #[test]
    fn a_single_bank_is_given_money_so_that_a_lost_transfer_shows() {
        assert_eq!(amount(0, 1), 1);
    }

    #[test]
    fn transfers_that_contend_meet_in_the_same_row_at_every_bank_after_those_of_the_workers() {
        let mix = Mix { hot_rows: Some(3), ..MIX };
        let mut met = [0; 3];
        for work in draw(&mix, 300) {
            assert!(matches!(work, Work::Transfer { order: Order::FirstBankFirst, .. }), "{work:?}");
            let accounts: Vec<i64> = legs(&work).iter().map(|leg| leg.account).collect();
            assert_eq!(accounts[0], accounts[1]);
            met[usize::try_from(accounts[0] - 8_000).unwrap()] += 1;
        }
        assert!(met.iter().all(|&times| times > 0), "{met:?}");
        assert_eq!(mix.accounts(), 8_003);
    }

    #[test]
    fn as_many_transactions_only_read_as_were_asked_for() {
        let reads = |read_percent, times| {
            let drawn = draw(&Mix { read_percent, ..MIX }, times);
            drawn.iter().filter(|work| matches!(work, Work::Read { .. })).count()
        };
        assert_eq!((reads(0, 500), reads(100, 500)), (0, 500));
        // Nine standard deviations to either side.
        assert!((2_800..=3_200).contains(&reads(75, 4_000)));
    }
}
