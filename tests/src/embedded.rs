//! A world whose coordinator and agents live in one process: in the test's own, or in the program
//! `votum-test-embedded`, which a test may kill.

use std::path::Path;

use anyhow::Context as _;
use votum_client::Votum;
use votum_client::embedded::{Embedded, Participant};

use crate::client::told;
use crate::ledger::Ledger;
use crate::postgres::ROLE;
use crate::process::{Build, Process, program};
use crate::world::World;

/// The program that hosts all of it.
pub const PROGRAM: &str = "votum-test-embedded";

/// The words with which the program says what it knows, each at the beginning of a line of its output, before
/// the transfer's name.
pub mod says {
    /// The gtid follows the name.
    pub const BEGUN: &str = "begun";
    /// The outcome follows the name, as [`told`](crate::client::told) reads it.
    pub const TOLD: &str = "told";
    /// Why it was refused follows the name.
    pub const REFUSED: &str = "refused";
    /// It has opened the log.
    pub const OPEN: &str = "open";
    /// It has done all that it was to do, and goes on living.
    pub const DONE: &str = "done";
}

/// As tests open one: a small journal, quick sweeps.
pub fn opening(directory: &Path, coordinator_id: &str, participants: Vec<Participant>) -> Embedded {
    Votum::embedded(directory, participants)
        .coordinator_id(coordinator_id)
        .log(|log| log.half_bytes = 1 << 20)
        .agents(|agents| agents.sweep_ms = 200)
}

impl World {
    /// The banks as participants.
    ///
    /// # Errors
    /// When a bank's name is no participant's.
    pub fn participants(&self) -> anyhow::Result<Vec<Participant>> {
        let participant = |bank: &crate::world::Bank| {
            anyhow::Ok(Participant::new(bank.name.parse()?, bank.server.connection(&bank.database, ROLE)))
        };
        self.banks.iter().map(participant).collect()
    }

    /// An embedded coordinator on this world's log and databases, whose own processes must not run.
    ///
    /// # Errors
    /// As [`World::participants`].
    pub fn embedded(&self) -> anyhow::Result<Embedded> {
        Ok(opening(self.log_directory(), self.coordinator_id(), self.participants()?))
    }

    /// The command that does the same in a process of its own, and transfers money under each of `names` in turn.
    ///
    /// # Errors
    /// When the program is missing.
    pub fn embedded_command(&self, names: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut words = vec![
            program(Build::CrashPoints, PROGRAM)?.display().to_string(),
            format!("--directory={}", self.log_directory().display()),
            format!("--coordinator-id={}", self.coordinator_id()),
        ];
        for participant in self.participants()? {
            words.push(format!("--bank={}:{}", participant.name, participant.connection));
        }
        words.extend(names.iter().map(|name| format!("--transfer={name}")));
        Ok(words)
    }

    /// That process, not started yet; `more` are words for the program.
    ///
    /// # Errors
    /// When the program is missing.
    pub fn embedded_process(&self, names: &[&str], more: &[&str]) -> anyhow::Result<Process> {
        let words = self.embedded_command(names)?;
        let (program, words) = words.split_first().context("no program")?;
        let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let log = self.dir().join(format!("{PROGRAM}.log"));
        Ok(Process::new(PROGRAM, program.into(), &words, log))
    }

    /// Writes what the program has said into the ledger; answers the names of the transfers of which it said
    /// `word`.
    ///
    /// # Errors
    /// When it said what cannot be understood.
    pub fn hear(&self, text: &str, ledger: &Ledger, word: &str) -> anyhow::Result<Vec<String>> {
        let mut named = Vec::new();
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let (Some(said), Some(name), rest) = (words.next(), words.next(), words.next()) else { continue };
            match (said, rest) {
                (says::BEGUN, Some(gtid)) => {
                    ledger.intend(name, self.banks.iter().map(|bank| bank.name.as_str()));
                    ledger.begun(name, gtid);
                }
                (says::TOLD, Some(outcome)) => ledger.told(name, told(outcome)?),
                _ => {}
            }
            if said == word {
                named.push(name.to_owned());
            }
        }
        Ok(named)
    }
}
