//! Coordinator, log and agents within the application's own process: no server to run, the same guarantees.
//!
//! ```no_run
//! use votum_client::embedded::Participant;
//! use votum_client::{Outcome, Votum};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let votum = Votum::embedded(
//!     "/var/lib/shop/votum",
//!     [
//!         Participant::new("bank_a".parse()?, "host=db-a.example user=votum dbname=bank"),
//!         Participant::new("bank_b".parse()?, "host=db-b.example user=votum dbname=bank"),
//!     ],
//! )
//! .coordinator_id("shop")
//! .initialize_if_empty()
//! .open()
//! .await?;
//!
//! let tx = votum.begin().await?;
//! let sql = "UPDATE account SET balance = balance + $1 WHERE id = $2";
//! tx.execute("bank_a", sql, &[(-5).into(), 1.into()]).await?;
//! tx.execute("bank_b", sql, &[5.into(), 1.into()]).await?;
//! match tx.commit().await? {
//!     Outcome::Committed(_) | Outcome::ReadOnly => println!("moved"),
//!     Outcome::Aborted(abort) => println!("nothing happened: {abort}"),
//!     Outcome::Unknown { gtid, .. } => println!("ask again about {gtid}"),
//! }
//! votum.shutdown().await?;
//! # Ok(()) }
//! ```
//!
//! What comes back is a [`Votum`] like any other. A call goes straight to the code that answers a server's
//! clients, as the same messages, without a socket, an encoding or a task in between.
//!
//! **The directory is the truth about every transaction in doubt.** It holds the same log as a server's, and
//! all that is said of that holds here: one process at a time has it, `votumctl` reads it when nobody does,
//! and a `votum-coordinator` with the same `coordinator_id` can go on with it. A process that dies leaves
//! prepared branches, and their locks, until the directory is opened again; that settles them, at once.
//!
//! **A log that fails is shut for good.** Where a write to it fails or hangs, nobody knows what is on the disk:
//! a commit on its way is then [`Outcome::Unknown`](crate::Outcome::Unknown), and every later call is refused
//! (VOTUM-1209). The process lives on. [`Votum::shutdown`], and open the directory again: that begins a new
//! epoch, reads the disk, and knows.
//!
//! The tokio runtime in which it was opened has to run for as long as it is open, with its timers and its I/O.

mod error;
mod group;
mod here;
mod open;
mod running;

use std::path::PathBuf;

pub use votum_coordinator::config::{Limits, LogSection as Log};
pub use votum_participant::{AgentConfig as Agents, ParticipantConfig as Participant, Tls};

pub use self::error::OpenError;
pub(crate) use self::here::Here;
pub(crate) use self::running::Running;
use crate::{Error, Options, Votum};

/// A coordinator to be opened within this process: set what is to be set, then [`open`](Embedded::open).
///
/// ```no_run
/// # async fn example(participants: Vec<votum_client::embedded::Participant>) -> anyhow::Result<()> {
/// use votum_client::Votum;
/// let votum = Votum::embedded("/var/lib/shop/votum", participants)
///     .coordinator_id("shop")
///     .options(Votum::options().client_name("shop"))
///     .operator("unix:/run/shop/votum.sock")
///     .agents(|agents| agents.sessions = 64)
///     .open()
///     .await?;
/// # Ok(()) }
/// ```
#[must_use = "nothing is opened before .open()"]
#[derive(Clone)]
pub struct Embedded {
    coordinator_id: String,
    initialize_if_empty: bool,
    log: Log,
    limits: Limits,
    agents: Agents,
    operator: Option<String>,
    options: Options,
}

impl Embedded {
    /// Names the coordinator and its log for ever: 1 to 16 of `a-z0-9`. It has to be given. It is in the log,
    /// and in the name of every branch: no other coordinator that works on the same databases may have it.
    pub fn coordinator_id(mut self, id: impl Into<String>) -> Self {
        self.coordinator_id = id.into();
        self
    }

    /// Makes the log where the directory is empty or not there. Otherwise that is refused, because it may be
    /// the wrong directory, or a disk that is not mounted: a log begun by mistake knows nothing of what is in
    /// doubt. `votum-coordinator init` does the same, once.
    pub fn initialize_if_empty(mut self) -> Self {
        self.initialize_if_empty = true;
        self
    }

    /// The coordinator's bounds, as section `[limits]` of its configuration.
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// The log's sizes and times, as section `[log]` of a coordinator's configuration.
    pub fn log(mut self, change: impl FnOnce(&mut Log)) -> Self {
        change(&mut self.log);
        self
    }

    /// What an agent's configuration sets for all of its participants: sessions, sweeps, times. Where it would
    /// listen, log lines and metrics say nothing here.
    pub fn agents(mut self, change: impl FnOnce(&mut Agents)) -> Self {
        change(&mut self.agents);
        self
    }

    /// Serves operators at `address`, `unix:/PATH` or a loopback `HOST:PORT`, so that `votumctl --coordinator`
    /// shows and settles while this is open. Nothing is served there to applications. Without it nobody
    /// listens anywhere.
    pub fn operator(mut self, address: impl Into<String>) -> Self {
        self.operator = Some(address.into());
        self
    }

    /// How the client behaves: its name, when a commit answers, how patient it is.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }
}

impl Votum {
    /// A coordinator within this process, with its log in `directory` and an agent for all `participants`,
    /// each as a table `[[participants]]` of an agent's configuration has it. See the module
    /// [`embedded`](crate::embedded).
    pub fn embedded(
        directory: impl Into<PathBuf>,
        participants: impl IntoIterator<Item = Participant>,
    ) -> Embedded {
        Embedded {
            coordinator_id: String::new(),
            initialize_if_empty: false,
            log: Log::new(directory),
            limits: Limits::default(),
            agents: Agents::embedded(participants.into_iter().collect()),
            operator: None,
            options: Options::default(),
        }
    }

    /// Closes an embedded coordinator, for all clones. Nothing new is begun; what is undecided may go on for
    /// `limits.drain_ms`, then it is rolled back; what is prepared and decided, but not delivered, the next
    /// opening delivers. When this returns nothing of it runs any more and the directory can be opened again,
    /// also by this process. Open transactions cannot go on.
    ///
    /// The same happens, in the background, once every clone and every transaction is dropped. Where the
    /// coordinator is a server there is nothing to close.
    ///
    /// # Errors
    /// [`Error::Unreachable`] where the log did not close in time, because the disk hangs: the directory stays
    /// locked until the disk answers or this process ends. What was decided is in the log all the same.
    pub async fn shutdown(&self) -> Result<(), Error> {
        match &self.inner.running {
            Some(running) => running.shutdown(&self.inner.options.seams).await,
            None => Ok(()),
        }
    }
}
