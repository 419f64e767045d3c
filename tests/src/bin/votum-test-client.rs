//! Transfers money once, says on its standard output what it knows, and dies where it is told to: the client of
//! the crash matrix. Not for anything else.

use std::io::Write as _;
use std::time::Duration;

use clap::Parser;
use futures::future::{Either, select};
use rustix::process::{Signal, getpid, kill_process};
use votum_client::{Outcome, Transaction, Votum};
use votum_proto::runtime::Seams;
use votum_tests::client::{CrashPoint, says};
use votum_tests::ledger::Told;
use votum_tests::teller::{Leg, change, note, told};

#[derive(Parser)]
struct Arguments {
    /// Where the coordinator listens.
    #[arg(long)]
    coordinator: String,
    /// The transfer's own name, which is also its idempotency key.
    #[arg(long)]
    name: String,
    /// BANK:ACCOUNT:AMOUNT
    #[arg(long = "leg", required = true, allow_hyphen_values = true)]
    legs: Vec<String>,
    /// Where to die.
    #[arg(long)]
    dies_at: Option<CrashPoint>,
}

impl Arguments {
    /// Ends this process as `kill -9` would, if this is the point.
    fn dies(&self, at: CrashPoint) {
        if self.dies_at == Some(at) {
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }

    fn legs(&self) -> anyhow::Result<Vec<Leg<'_>>> {
        let read = |text: &'_ String| -> anyhow::Result<(usize, i64, i64)> {
            let words: Vec<&str> = text.split(':').collect();
            let [bank, account, amount] = words.as_slice() else { anyhow::bail!("not a leg: {text}") };
            Ok((bank.len(), account.parse()?, amount.parse()?))
        };
        let leg = |text| {
            let (bank, account, amount) = read(text)?;
            Ok(Leg { bank: text.get(..bank).unwrap_or_default(), account, amount })
        };
        self.legs.iter().map(leg).collect()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let votum = Votum::options().client_name("teller").connect(&arguments.coordinator).await?;
    let name = &arguments.name;
    let begin = votum.begin().label(name).idempotency_key(name).digest(name);
    // What it leaves when it dies ends after this time.
    let tx = begin.timeout(Duration::from_secs(3)).await?;
    say(says::BEGUN, tx.gtid())?;
    arguments.dies(CrashPoint::Begun);
    let outcome = match work(&tx, &arguments).await {
        Ok(()) => {
            arguments.dies(CrashPoint::WorkDone);
            let export = tx.export()?;
            say(says::EXPORT, &serde_json::to_string(&export)?)?;
            commit(votum.import(export)?, &arguments).await
        }
        Err(_) => tx.rollback().await,
    };
    arguments.dies(CrashPoint::OutcomeHeard);
    say(says::TOLD, &format!("{:?}", outcome.as_ref().map_or(Told::Unknown, told)))
}

async fn work(tx: &Transaction, arguments: &Arguments) -> anyhow::Result<()> {
    for leg in arguments.legs()? {
        change(tx, &leg).await?;
        arguments.dies(CrashPoint::BetweenStatements);
        note(tx, &arguments.name, &leg).await?;
    }
    Ok(())
}

/// Commits; where it is to die with its Commit sent, it hears no answer, however quickly that comes.
async fn commit(tx: Transaction, arguments: &Arguments) -> Result<Outcome, votum_client::Error> {
    let commit = std::pin::pin!(tx.commit());
    if arguments.dies_at != Some(CrashPoint::CommitSent) {
        return commit.await;
    }
    let sent = std::pin::pin!(Seams::production().clock.sleep(Duration::from_millis(5)));
    match select(commit, sent).await {
        Either::Left(_) | Either::Right(_) => arguments.dies(CrashPoint::CommitSent),
    }
    std::future::pending().await
}

fn say(word: &str, what: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word}{what}")?;
    Ok(out.flush()?)
}
