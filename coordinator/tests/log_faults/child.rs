//! A process whose log meets the faults: this test's own program, run again.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use votum_coordinator::log::{OnFailure, initialize};
use votum_proto::names::{Epoch, Incarnation, Life};
use votum_proto::runtime::Seams;

use super::place::{Session, acme, config};

/// The directory of its log.
const DIRECTORY: &str = "VOTUM_TEST_LOG_OF_CHILD";
/// How many transactions it commits; without a number, it makes a new log.
const COMMITS: &str = "VOTUM_TEST_COMMITS_OF_CHILD";
/// How long its log waits for a call to the disk, in milliseconds; without a number, for longer than any test.
const WATCHDOG: &str = "VOTUM_TEST_WATCHDOG_OF_CHILD";
/// It exits with this when its log is refused.
pub(crate) const EXIT_REFUSED: i32 = 3;
/// It exits with this when its log failed.
pub(crate) const EXIT_LOG_FAILED: i32 = 70;

/// What a child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Initialize,
    Commit(u64),
    /// As before, with a log that gives a call to the disk so many milliseconds.
    CommitWithin(u64, u64),
}

/// What a child said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    /// The life that it began, if it came to that.
    pub(crate) life: Option<Life>,
    /// How many transactions it was told are committed.
    pub(crate) committed: u64,
    /// Why its log or its store were not opened.
    pub(crate) refused: Option<String>,
    pub(crate) unreadable: Option<String>,
    pub(crate) transcript: String,
}

/// The command that plays `role`, behind `wrapper`: a program and arguments that run it in their own way.
pub(crate) fn command(role: Role, directory: &Path, wrapper: &[String]) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(this),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(this);
            command
        }
    };
    command.args(["--exact", "--nocapture", "--test-threads=1", "child::role"]).env(DIRECTORY, directory);
    match role {
        Role::Initialize => command.env_remove(COMMITS),
        Role::Commit(transactions) => command.env(COMMITS, transactions.to_string()),
        Role::CommitWithin(transactions, watchdog) => {
            command.env(COMMITS, transactions.to_string()).env(WATCHDOG, watchdog.to_string())
        }
    };
    command
}

/// Plays `role` to its end.
pub(crate) fn run(role: Role, directory: &Path, wrapper: &[String]) -> Said {
    Said::read(&command(role, directory, wrapper).output().unwrap())
}

impl Said {
    pub(crate) fn read(output: &Output) -> Self {
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let after = |word: &str| {
            stdout.lines().filter_map(|line| line.strip_prefix(word)).next_back().map(str::to_owned)
        };
        let life = after("life ").map(|said| {
            let (epoch, incarnation) = said.split_once(' ').unwrap();
            Life {
                epoch: Epoch(epoch.parse().unwrap()),
                incarnation: Incarnation::from_low_bits(incarnation.parse().unwrap()),
            }
        });
        Self {
            code: output.status.code(),
            life,
            committed: after("committed ").map_or(0, |seq| seq.parse().unwrap()),
            refused: after("refused "),
            unreadable: after("unreadable "),
            transcript: format!("{stdout}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

#[test]
fn role() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let Some(transactions) = std::env::var_os(COMMITS) else {
        let made =
            initialize(&config(directory, OnFailure::ExitProcess), &acme(), &*Seams::production().entropy);
        refused_if(made.err().map(|refusal| refusal.to_string()));
        return;
    };
    let mut config = config(directory, OnFailure::ExitProcess);
    if let Some(watchdog) = std::env::var_os(WATCHDOG) {
        config.watchdog = Duration::from_millis(watchdog.to_str().unwrap().parse().unwrap());
    }
    let mut session = match Session::open_with(&config) {
        Ok(session) => session,
        Err(refusal) => return refused_if(Some(refusal.to_string())),
    };
    let life = session.opened.life;
    say(&format!("life {} {}", life.epoch.0, life.incarnation.get()));
    if let Err(why) = session.history() {
        // As the coordinator does: nothing is begun.
        say(&format!("unreadable {why}"));
        session.close();
        return;
    }
    session.work(transactions.to_str().unwrap().parse().unwrap(), |seq| say(&format!("committed {seq}")));
    session.close();
    say("closed");
}

fn refused_if(refusal: Option<String>) {
    if let Some(refusal) = refusal {
        say(&format!("refused {refusal}"));
        std::process::exit(EXIT_REFUSED);
    }
}

/// On a line of its own, whatever the harness has begun to print, and at once: the next call may be the last.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    stdout.flush().unwrap();
}
