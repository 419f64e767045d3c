//! Many clients that transfer money without a pause, while a test kills what it likes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::teller::{Leg, Teller};

/// Told to stop, and counting.
#[derive(Debug, Default)]
pub struct Load {
    stop: AtomicBool,
    ended: AtomicU64,
}

impl Load {
    /// Begins none after this; those under way go on to their end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// How many transfers have ended, in whichever way.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// `clients` clients, each on the account of its own number at the first two of `banks`, until stopped.
    /// Transfers are named after `name`.
    pub async fn run(&self, teller: &Teller, banks: [&str; 2], clients: i64, name: &str) {
        let client = async |number: i64| {
            let mut turn = 0;
            while !self.stop.load(Ordering::Relaxed) {
                turn += 1;
                let amount = if turn % 2 == 0 { 1 } else { -1 };
                let [from, to] = banks;
                let legs = [
                    Leg { bank: from, account: number, amount },
                    Leg { bank: to, account: number, amount: -amount },
                ];
                // What became of it stands in the ledger.
                let _ = teller.transfer(&format!("{name}-{number}-{turn}"), &legs).await;
                self.ended.fetch_add(1, Ordering::Relaxed);
            }
        };
        futures::future::join_all((1..=clients).map(client)).await;
    }
}
