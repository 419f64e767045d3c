//! What Votum's tests on real servers and real processes are built from, and its demonstration.
//!
//! [`postgres`] starts servers, [`process`] the coordinator and the agents, [`world`] all of them together
//! with the accounts of a few banks; [`ledger`] writes down what clients were told, and [`invariants`] judges
//! databases against it. Whatever ends a test, [`guard`] ends what it started.

pub mod client;
pub mod embedded;
pub mod eventually;
pub mod expect;
pub mod gate;
pub mod guard;
pub mod history;
pub mod inspect;
pub mod invariants;
pub mod ledger;
pub mod load;
pub mod plain;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod scene;
pub mod scrape;
pub mod simulation;
pub mod splitmix;
pub mod teller;
pub mod terminal;
pub mod tool;
pub mod world;

use std::path::Path;

/// The last `lines` lines of a file; a sentence about it when it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
        }
        Err(error) => format!("({} cannot be read: {error})", path.display()),
    }
}
