//! A client as a process of its own, which dies where it is told to: `votum-test-client`.

use std::fmt;
use std::process::Stdio;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use votum_client::Export;

use crate::guard;
use crate::ledger::{Ledger, Told};
use crate::teller::Leg;
use crate::world::World;

votum_proto::crash_points! {
    /// Every point at which a test may kill the client, in the order in which it meets them.
    pub enum CrashPoint {
        /// It knows its gtid.
        Begun = "client-begun",
        /// Its first statement was answered.
        BetweenStatements = "client-between-statements",
        /// Every statement was answered; Commit was not sent.
        WorkDone = "client-work-done",
        /// Commit was sent; nothing was heard.
        CommitSent = "client-commit-sent",
        /// The outcome was heard, and nobody was told of it.
        OutcomeHeard = "client-outcome-heard",
    }
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CrashPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|point| point.name() == text);
        found.ok_or_else(|| format!("the client has no crash point {text:?}"))
    }
}

/// The words with which the program says what it knows, each at the beginning of a line of its output.
pub mod says {
    /// The gtid follows.
    pub const BEGUN: &str = "begun ";
    /// The transaction's [`Export`](votum_client::Export) follows, before Commit is sent.
    pub const EXPORT: &str = "export ";
    /// The outcome follows, as [`told`](super::told) reads it.
    pub const TOLD: &str = "told ";
}

/// What a client that has ended left.
#[derive(Debug)]
pub struct Left {
    /// Whether a signal ended it.
    pub killed: bool,
    /// The transaction as another client may go on with it, where it came so far.
    pub export: Option<Export>,
}

/// The client program at work. Dropping it kills it.
pub struct Client {
    child: tokio::process::Child,
    _watch: Option<guard::Watched>,
}

impl Client {
    /// Starts `program`, which is to transfer `legs` under `name`, and to die at `point` where one is given.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        program: &str,
        world: &World,
        name: &str,
        legs: &[Leg<'_>],
        point: Option<CrashPoint>,
    ) -> anyhow::Result<Self> {
        let mut command = tokio::process::Command::new(program);
        command.args(["--coordinator", &world.address().to_string(), "--name", name]);
        for Leg { bank, account, amount } in legs {
            command.arg(format!("--leg={bank}:{account}:{amount}"));
        }
        command.args(point.map(|point| format!("--dies-at={point}")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).process_group(0);
        let child = command.spawn().with_context(|| format!("starting {program}"))?;
        let watch = child.id().map(guard::process).transpose()?;
        Ok(Self { child, _watch: watch })
    }

    /// Its process id, until it was waited for.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Writes what it says into the ledger, until it has ended.
    ///
    /// # Errors
    /// When it says what cannot be understood.
    pub async fn heard(&mut self, ledger: &Ledger, name: &str) -> anyhow::Result<Left> {
        let mut export = None;
        let mut lines = BufReader::new(self.child.stdout.take().context("it is heard already")?).lines();
        while let Some(line) = lines.next_line().await? {
            if let Some(gtid) = line.strip_prefix(says::BEGUN) {
                ledger.begun(name, gtid);
            } else if let Some(text) = line.strip_prefix(says::EXPORT) {
                export = Some(serde_json::from_str(text)?);
            } else if let Some(outcome) = line.strip_prefix(says::TOLD) {
                ledger.told(name, told(outcome)?);
            } else {
                bail!("the client said {line:?}");
            }
        }
        let status = self.child.wait().await?;
        Ok(Left { killed: status.code().is_none(), export })
    }
}

/// Reads an outcome that the program printed: the ledger's word in its `Debug` form.
///
/// # Errors
/// When it is none of them.
pub fn told(text: &str) -> anyhow::Result<Told> {
    let all = [Told::Committed, Told::ReadOnly, Told::Aborted, Told::Unknown];
    let found = all.into_iter().find(|told| format!("{told:?}") == text);
    found.with_context(|| format!("the client was told {text:?}"))
}
