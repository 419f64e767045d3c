//! The load: clients that move money between the banks, at the same time, until all transfers are done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use indicatif::ProgressBar;
use votum_client::{Error, Outcome};
use votum_proto::runtime::{Clock, Seams};
use votum_tests::teller::{Leg, Teller};

use crate::{ACCOUNTS, BALANCE};

/// Before a transfer that found nobody is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// How the transfers ended, by number.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Committed.
    pub(crate) committed: AtomicU64,
    /// Refused by a bank: the account did not hold enough.
    pub(crate) refused: AtomicU64,
    /// Aborted for another reason: the coordinator died before it had decided.
    pub(crate) aborted: AtomicU64,
    /// The client never learned it.
    pub(crate) unknown: AtomicU64,
}

/// Carries out `transfers` transfers, `at_once` at a time.
pub(crate) async fn run(teller: &Teller, transfers: u64, at_once: u64, bar: ProgressBar) -> Arc<Tally> {
    let (tally, next) = (Arc::new(Tally::default()), AtomicU64::new(1));
    join_all((0..at_once).map(|_| work(teller, transfers, &next, &tally, &bar))).await;
    tally
}

async fn work(teller: &Teller, transfers: u64, next: &AtomicU64, tally: &Tally, bar: &ProgressBar) {
    let seams = Seams::production();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number > transfers {
            return;
        }
        let counter = one(teller, number, &*seams.clock, tally).await;
        counter.fetch_add(1, Ordering::Relaxed);
        bar.inc(1);
        let (committed, aborted) = (&tally.committed, &tally.aborted);
        let [committed, aborted] = [committed, aborted].map(|counter| counter.load(Ordering::Relaxed));
        bar.set_message(format!("{committed} committed, {aborted} aborted"));
    }
}

/// One transfer; which counter it belongs to.
async fn one<'a>(teller: &Teller, number: u64, clock: &dyn Clock, tally: &'a Tally) -> &'a AtomicU64 {
    let (from, to) = legs(number);
    // Every client takes its locks in the same order, the first bank first: clients that wait for each other
    // in two databases are seen by neither, and only a timeout would end it.
    let legs = if from.bank < to.bank { [from, to] } else { [to, from] };
    for attempt in 1u64.. {
        // A name of its own for each attempt: each is a transaction of its own.
        match teller.transfer(&format!("transfer-{number}-{attempt}"), &legs).await {
            Ok(Outcome::Committed(_) | Outcome::ReadOnly) => return &tally.committed,
            Ok(Outcome::Aborted(_)) => return &tally.aborted,
            Ok(Outcome::Unknown { .. }) => return &tally.unknown,
            Err(Error::Sql(_)) => return &tally.refused,
            // The coordinator is away, or just back.
            Err(Error::Unreachable { .. }) => {}
            Err(Error::Refused(refusal)) if refusal.retryable => {}
            Err(_) => return &tally.aborted,
        }
        clock.sleep(PAUSE).await;
    }
    &tally.unknown
}

/// Where the money of a transfer comes from and goes to: spread over all accounts, in both directions, and
/// once in a while more than an account can hold.
fn legs(number: u64) -> (Leg<'static>, Leg<'static>) {
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let account = |bits: u64| i64::try_from(bits % ACCOUNTS.unsigned_abs()).unwrap_or(0) + 1;
    let amount = match number % 50 {
        0 => BALANCE * 100,
        _ => i64::try_from(spread >> 48 & 0x3FFF).unwrap_or(0) + 1,
    };
    let (from, to) = if spread >> 40 & 1 == 0 { ("bank-a", "bank-b") } else { ("bank-b", "bank-a") };
    (
        Leg { bank: from, account: account(spread >> 16), amount: -amount },
        Leg { bank: to, account: account(spread >> 28), amount },
    )
}
