//! What can be seen from outside while the coordinator is dead, and after.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Command;
use votum_client::{Status, Votum};
use votum_proto::names::Gid;
use votum_tests::eventually::{Found, eventually};
use votum_tests::process::{Build, program};
use votum_tests::world::{Bank, World};

/// A prepared transaction: its locks are held until somebody says how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub(crate) bank: String,
    pub(crate) gid: String,
    pub(crate) age: Duration,
}

/// Every prepared transaction in every bank, as `pg_prepared_xacts` shows them; the branches of one
/// transaction beside each other.
pub(crate) async fn prepared(world: &World) -> anyhow::Result<Vec<Prepared>> {
    let mut found = Vec::new();
    for bank in &world.banks {
        found.extend(prepared_at(bank).await.with_context(|| format!("looking into {}", bank.name))?);
    }
    found.sort_by(|one, other| one.gid.cmp(&other.gid));
    Ok(found)
}

async fn prepared_at(bank: &Bank) -> anyhow::Result<Vec<Prepared>> {
    let rows = "SELECT gid, (extract(epoch FROM clock_timestamp() - prepared) * 1000)::int8
                  FROM pg_prepared_xacts WHERE database = current_database()";
    let rows = bank.client().await?.query(rows, &[]).await?;
    let prepared = |row: &tokio_postgres::Row| Prepared {
        bank: bank.name.clone(),
        gid: row.get(0),
        age: Duration::from_millis(row.get::<_, i64>(1).try_into().unwrap_or(0)),
    };
    Ok(rows.iter().map(prepared).collect())
}

/// Waits until none of `branches` is prepared any more.
pub(crate) async fn settled(world: &World, branches: &[Prepared]) -> anyhow::Result<()> {
    eventually("every branch that was in doubt is settled", async || {
        let left = prepared(world).await?.into_iter().filter(|now| branches.iter().any(|b| b.gid == now.gid));
        Ok(match left.count() {
            0 => Found::Yes(()),
            left => Found::NotYet(format!("{left} branches are still prepared")),
        })
    })
    .await
}

/// The coordinator's own line about what it found at its start and how that was settled; `written` is how
/// long its output was before.
pub(crate) async fn settlement_report(world: &World, written: u64) -> anyhow::Result<String> {
    /// The line's code.
    const SETTLED: &str = "VOTUM-1001";
    eventually("the coordinator reports what it settled", async || {
        let output = std::fs::read(world.coordinator.log())?;
        let since = output.get(usize::try_from(written)?..).unwrap_or_default();
        let since = String::from_utf8_lossy(since);
        let line = since.lines().find_map(|line| line.find(SETTLED).and_then(|at| line.get(at..)));
        Ok(line.map_or(Found::NotYet("no such line".into()), |line| Found::Yes(line.to_owned())))
    })
    .await
}

/// How the transactions ended that were in doubt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) committed: usize,
    pub(crate) aborted: usize,
}

/// Asks the coordinator about each transaction in doubt.
pub(crate) async fn ends(votum: &Votum, in_doubt: &[Prepared]) -> anyhow::Result<Ends> {
    let mut gtids = BTreeSet::new();
    for branch in in_doubt {
        gtids.insert(branch.gid.parse::<Gid>()?.gtid.to_string());
    }
    let mut ends = Ends::default();
    for gtid in gtids {
        match votum.transaction(&gtid).await?.status {
            Status::Committed(_) => ends.committed += 1,
            Status::Aborted(_) => ends.aborted += 1,
            other @ (Status::ReadOnly
            | Status::InProgress { .. }
            | Status::Unknown { .. }
            | Status::Expired) => anyhow::bail!("{gtid} was in doubt, and now reads {other:?}"),
        }
    }
    Ok(ends)
}

/// A command that an operator would type, and what it printed.
pub(crate) struct Said {
    pub(crate) command: String,
    pub(crate) output: String,
    code: Option<i32>,
}

/// What votumctl says of a dead coordinator's log. It reads a copy: the log is the coordinator's alone.
pub(crate) async fn votumctl_offline(world: &World, arguments: &[&str]) -> anyhow::Result<Said> {
    let copy = world.dir().join("decisions-copy");
    let copied = Command::new("cp").arg("-r").arg(world.log_directory()).arg(&copy).status().await?;
    anyhow::ensure!(copied.success(), "the log could not be copied to {}", copy.display());
    let directory = copy.display().to_string();
    let said = votumctl(&[arguments, &["--directory", &directory]].concat()).await;
    std::fs::remove_dir_all(&copy)?;
    said
}

/// What votumctl hears from the coordinator, as soon as that answers.
pub(crate) async fn votumctl_online(world: &World, arguments: &[&str]) -> anyhow::Result<Said> {
    /// votumctl's exit code for a coordinator that does not answer.
    const NO_ANSWER: i32 = 3;
    let address = world.address().to_string();
    eventually("the coordinator answers votumctl", async || {
        let said = votumctl(&[arguments, &["--coordinator", &address]].concat()).await?;
        Ok(if said.code == Some(NO_ANSWER) { Found::NotYet(said.output) } else { Found::Yes(said) })
    })
    .await
}

async fn votumctl(arguments: &[&str]) -> anyhow::Result<Said> {
    let program = program(Build::CrashPoints, "votumctl")?;
    let output = Command::new(&program).args(arguments).output().await;
    let output = output.with_context(|| format!("running {}", program.display()))?;
    let [said, complained] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    Ok(Said {
        command: format!("votumctl {}", arguments.join(" ")),
        output: format!("{said}{complained}"),
        code: output.status.code(),
    })
}
