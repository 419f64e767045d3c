//! Embeds Votum, transfers money, says on its standard output what it knows, and lives on until it is killed: for
//! the tests of the embedded coordinator. Not for anything else.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use votum_client::embedded::Participant;
use votum_client::{Outcome, Votum};
use votum_tests::embedded::{opening, says};
use votum_tests::ledger::Told;
use votum_tests::teller::{Leg, told, work};

#[derive(Parser)]
struct Arguments {
    /// Where the log is.
    #[arg(long)]
    directory: PathBuf,
    /// Whose it is.
    #[arg(long)]
    coordinator_id: String,
    /// NAME:CONNECTION
    #[arg(long = "bank", required = true)]
    banks: Vec<String>,
    /// Names of transfers, each its idempotency key too. They run one after another.
    #[arg(long = "transfer")]
    transfers: Vec<String>,
    /// So many clients make transfers of names of their own until the end of this process.
    #[arg(long, default_value_t = 0)]
    clients: u32,
    /// What these names begin with.
    #[arg(long, default_value = "c")]
    name: String,
    /// How long a write may take before the log counts as failed, in milliseconds.
    #[arg(long, default_value_t = 20_000)]
    watchdog_ms: u64,
    /// Where a transfer was refused, or nobody knew what became of it, the directory is opened again, and this
    /// transfer is made; then it ends.
    #[arg(long)]
    reopen: Option<String>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let banks = arguments.banks.iter().map(|bank| bank.split_once(':').context("NAME:CONNECTION"));
    let banks: Vec<(&str, &str)> = banks.collect::<Result<_, _>>()?;
    let names: Vec<&str> = banks.iter().map(|(name, _)| *name).collect();
    let open = async || {
        let participant =
            |(name, connection): &(&str, &str)| anyhow::Ok(Participant::new(name.parse()?, *connection));
        let participants = banks.iter().map(participant).collect::<anyhow::Result<_>>()?;
        let opening = opening(&arguments.directory, &arguments.coordinator_id, participants)
            .log(|log| log.watchdog_ms = arguments.watchdog_ms);
        let opened = Box::pin(opening.open()).await?;
        say(says::OPEN, "", "")?;
        anyhow::Ok(opened)
    };
    let mut votum = open().await?;
    let mut fine = true;
    for name in &arguments.transfers {
        fine &= transfer(&votum, name, 1, &names).await?;
    }
    let client = async |number: u32| {
        for n in 0.. {
            // An account for each, so that none waits for another's locks.
            let account = 1 + i64::from(number);
            transfer(&votum, &format!("{}-{number}-{n}", arguments.name), account, &names).await?;
        }
        anyhow::Ok(())
    };
    futures::future::try_join_all((0..arguments.clients).map(client)).await?;
    if let Some(name) = arguments.reopen.as_deref().filter(|_| !fine) {
        votum.shutdown().await?;
        votum = open().await?;
        transfer(&votum, name, 1, &names).await?;
        return votum.shutdown().await.map_err(Into::into);
    }
    say(says::DONE, "", "")?;
    std::future::pending().await
}

/// Makes one transfer between accounts of this number; whether it was told an outcome.
async fn transfer(votum: &Votum, name: &str, account: i64, banks: &[&str]) -> anyhow::Result<bool> {
    let begin = votum.begin().label(name).idempotency_key(name).digest(name);
    let tx = match begin.await {
        Ok(tx) => tx,
        Err(error) => return say(says::REFUSED, name, &error.to_string()).map(|()| false),
    };
    say(says::BEGUN, name, tx.gtid())?;
    // The first bank pays one to each other.
    let others = i64::try_from(banks.len())? - 1;
    let amount = |place: usize| if place == 0 { -others } else { 1 };
    let legs: Vec<Leg<'_>> =
        banks.iter().enumerate().map(|(place, bank)| Leg { bank, account, amount: amount(place) }).collect();
    if let Err(error) = work(&tx, name, &legs).await {
        say(says::REFUSED, name, &error.to_string())?;
        let outcome = tx.rollback().await;
        say(says::TOLD, name, &format!("{:?}", outcome.as_ref().map_or(Told::Unknown, told)))?;
        return Ok(false);
    }
    match tx.commit().await {
        Ok(outcome) => {
            say(says::TOLD, name, &format!("{:?}", told(&outcome)))?;
            Ok(!matches!(outcome, Outcome::Unknown { .. }))
        }
        Err(error) => say(says::REFUSED, name, &error.to_string()).map(|()| false),
    }
}

fn say(word: &str, name: &str, what: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word} {name} {what}")?;
    Ok(out.flush()?)
}
