//! What a campaign amounts to, in figures.

use std::collections::BTreeMap;
use std::fmt;

use super::faults::Deeds;
use super::record::{Question, Recorded, Told};

/// The figures of one round, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Rounds, each on an installation of its own.
    pub rounds: u64,
    /// Transactions by what their clients were told first.
    pub told: BTreeMap<&'static str, u64>,
    /// Transactions that were to be committed in one phase.
    pub one_phase: u64,
    /// Processes killed, by what they were and how.
    pub kills: BTreeMap<String, u64>,
    /// Connections cut or disturbed, and processes stopped for a while.
    pub cuts: BTreeMap<String, u64>,
    /// Branches that restarts of the coordinator found in doubt and settled.
    pub settled: u64,
    /// The longest of these recoveries, from start to end, in milliseconds.
    pub longest_recovery_ms: u64,
}

impl Figures {
    /// Takes in what clients were told.
    pub fn count<'r>(&mut self, recorded: impl IntoIterator<Item = &'r Recorded>) {
        for one in recorded {
            *self.told.entry(first_told(one)).or_default() += 1;
        }
    }

    /// Takes in what was done to them.
    pub fn suffer(&mut self, deeds: &Deeds) {
        add(&mut self.kills, &deeds.kills);
        add(&mut self.cuts, &deeds.cuts);
    }

    /// Takes in one line VOTUM-1001.
    pub fn settle(&mut self, committed: u64, rolled_back: u64, line: &str) {
        self.settled += committed + rolled_back;
        let ms = line.rsplit_once(" branches in ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        self.longest_recovery_ms = self.longest_recovery_ms.max(ms.unwrap_or(0));
    }

    /// The sum of this and another.
    pub fn plus(mut self, other: &Self) -> Self {
        self.rounds += other.rounds;
        self.one_phase += other.one_phase;
        for (told, count) in &other.told {
            *self.told.entry(told).or_default() += count;
        }
        add(&mut self.kills, &other.kills);
        add(&mut self.cuts, &other.cuts);
        self.settled += other.settled;
        self.longest_recovery_ms = self.longest_recovery_ms.max(other.longest_recovery_ms);
        self
    }

    /// On one line, while it runs.
    pub fn brief(&self) -> String {
        let unknown = self.told.get("unknown").copied().unwrap_or(0);
        format!(
            "{} transactions, {} kills, {} cuts, {unknown} unknown, {} in doubt settled",
            sum(&self.told),
            sum(&self.kills),
            sum(&self.cuts),
            self.settled
        )
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rounds                       {:>9}", self.rounds)?;
        writeln!(f, "transactions                 {:>9}", sum(&self.told))?;
        for (told, count) in &self.told {
            writeln!(f, "  told {told:<22} {count:>9}")?;
        }
        writeln!(f, "handed over, in one phase    {:>9}", self.one_phase)?;
        writeln!(f, "kills                        {:>9}", sum(&self.kills))?;
        for (kind, count) in &self.kills {
            writeln!(f, "  {kind:<32} {count:>4}")?;
        }
        writeln!(f, "cuts and disturbances        {:>9}", sum(&self.cuts))?;
        for (kind, count) in &self.cuts {
            writeln!(f, "  {kind:<32} {count:>4}")?;
        }
        writeln!(f, "in-doubt branches settled    {:>9}", self.settled)?;
        write!(f, "longest recovery             {:>6} ms", self.longest_recovery_ms)
    }
}

fn add(to: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (kind, count) in from {
        *to.entry(kind.clone()).or_default() += count;
    }
}

fn sum<K>(counts: &BTreeMap<K, u64>) -> u64 {
    counts.values().sum()
}

/// What the client heard when it ended the transaction itself.
fn first_told(one: &Recorded) -> &'static str {
    let own = one.asked.iter().find(|asked| match asked.question {
        Question::Commit | Question::Rollback => true,
        Question::Find | Question::FindAtTheEnd => false,
    });
    match own.map(|asked| &asked.told) {
        Some(Told::Committed { .. }) => "committed",
        Some(Told::ReadOnly) => "read-only",
        Some(Told::Aborted(_)) => "aborted",
        Some(Told::Unknown) => "unknown",
        Some(Told::Heuristic(_) | Told::Forgotten(_)) => "something else",
        Some(Told::Nothing) => "nothing (no answer, or left)",
        None if one.gtid.is_none() => "not begun",
        None => "nothing (left before)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settlement_is_read_from_its_line() {
        let mut figures = Figures::default();
        figures.settle(
            3,
            2,
            "VOTUM-1001 settled what earlier lives left: committed 3, rolled back 2 branches in 17 ms",
        );
        figures.settle(1, 0, "VOTUM-1001 settled …: committed 1, rolled back 0 branches in 9 ms: bank-a 1");
        assert_eq!((figures.settled, figures.longest_recovery_ms), (6, 17));
    }
}
