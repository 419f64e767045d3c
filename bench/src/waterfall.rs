//! Where the time of one transaction goes: transfers one after another, each alone, and what the processes wrote
//! into their logs about each; the medians of it as a table and as a picture.
//!
//! Writing these lines costs some time, too, and none of the servers' own steps is seen: it is the order of things
//! and their proportions that are to be had from this, not figures to compare with those of `votum-bench` itself.

mod events;
mod picture;

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use indicatif::ProgressBar;
use votum_client::{Outcome, Votum, Wait};
use votum_proto::runtime::Seams;
use votum_tests::postgres;
use votum_tests::process::Build;
use votum_tests::world::World;

use self::events::{Event, Events};

/// See [`crate::arguments::Arguments::waterfall`].
#[derive(Debug, clap::Args)]
pub(crate) struct Waterfall {
    /// How many transfers are measured, after a tenth as many that are not.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    transactions: u32,
    /// At how many banks each of them is.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=8))]
    participants: u32,
    /// Also draws them, as an SVG file.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

/// Which lines the processes write: those about steps of transactions.
const FILTER: &str = "info,votum_coordinator=debug,votum_participant=debug";

const MOVE: &str = "UPDATE accounts SET balance = balance + $1 WHERE id = $2";

/// One step of a transaction: somebody's, from one moment to another, in µs after the client sent it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub(crate) whose: String,
    pub(crate) what: &'static str,
    pub(crate) from_us: f64,
    pub(crate) until_us: f64,
}

/// Measures, prints, and draws what was asked for.
///
/// # Errors
/// When something does not start, or a transfer is not committed.
pub(crate) async fn measure(arguments: &Waterfall) -> anyhow::Result<()> {
    let world = start(arguments).await?;
    let events = transfer(arguments, &world).await?;
    let steps = steps(&world, &events)?;
    println!("{}", table(&steps));
    if let Some(file) = &arguments.picture {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        std::fs::write(file, picture::draw(&steps)?)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

async fn start(arguments: &Waterfall) -> anyhow::Result<World> {
    let logging = format!("{{ filter = \"{FILTER}\", format = \"json\" }}");
    let fsync = [("fsync".to_owned(), "on".to_owned())].into();
    World::builder()
        .tcp()
        .banks(usize::try_from(arguments.participants)?)
        .own_servers(postgres::Options { settings: fsync, ..postgres::Options::default() })
        .build(Build::Beside)
        .half_bytes(16 << 20)
        .agent_setting("sweep_ms", "5000")
        .agent_setting("logging", &logging)
        .coordinator_tables(&format!("[logging]\nfilter = \"{FILTER}\"\nformat = \"json\""))
        .start()
        .await
}

/// Carries the transfers out, and adds to what the logs say when the client sent each and heard of its end.
async fn transfer(arguments: &Waterfall, world: &World) -> anyhow::Result<Events> {
    let clock = Seams::production().clock;
    let votum: Votum = Votum::options().wait(Wait::Completed).connect(&world.address().to_string()).await?;
    let mut called = Events::default();
    let bar = ProgressBar::new(u64::from(arguments.transactions));
    let unmeasured = arguments.transactions / 10;
    for number in 0..unmeasured + arguments.transactions {
        let shot = world.banks.iter().enumerate().fold(votum.transact(), |shot, (place, bank)| {
            let amount: i64 = if place == 0 { -1 } else { 1 };
            let account = 1 + i64::from(number % 2);
            shot.statement(&bank.name, MOVE, &[amount.into(), account.into()])
        });
        let sent = clock.wall();
        let done = shot.await?;
        let told = clock.wall();
        ensure!(matches!(done.outcome, Outcome::Committed(_)), "not committed: {:?}", done.outcome);
        if number >= unmeasured {
            called.add(&done.gtid, "", Event::Sent, sent)?;
            called.add(&done.gtid, "", Event::Told, told)?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    world.until_prepared(0).await?;
    let logs = std::iter::once(&world.coordinator).chain(world.banks.iter().map(|bank| &bank.agent));
    for process in logs {
        called.read(process.log())?;
    }
    Ok(called)
}

/// The steps of a transaction as the medians of its events have them.
fn steps(world: &World, events: &Events) -> anyhow::Result<Vec<Step>> {
    let median = |whose: &str, event: Event| {
        let missing = || format!("no log has a line for {event:?} of {whose:?}");
        events.median_us(whose, event).with_context(missing)
    };
    let mut steps = Vec::new();
    let mut step = |whose: &str, what, from_us, until_us| {
        steps.push(Step { whose: whose.to_owned(), what, from_us, until_us });
    };
    let (begun, decides) = (median("", Event::Begun)?, median("", Event::Decides)?);
    let decided = median("", Event::Decided)?;
    step("client", "waits for the decision", 0.0, decided);
    step("client", "waits for the completion", decided, median("", Event::Told)?);
    step("coordinator", "waits for the votes", begun, decides);
    step("coordinator", "forces the decision", decides, decided);
    for bank in &world.banks {
        let (ordered, votes) = (median(&bank.name, Event::Works)?, median(&bank.name, Event::Votes)?);
        step(&bank.name, "BEGIN, statement, PREPARE", ordered, votes);
        let (commits, ended) = (median(&bank.name, Event::Commits)?, median(&bank.name, Event::Ended)?);
        step(&bank.name, "COMMIT PREPARED", commits, ended);
    }
    Ok(steps)
}

fn table(steps: &[Step]) -> String {
    let mut text = String::from("| who | what | from µs | until µs | takes µs |\n|---|---|---|---|---|\n");
    for Step { whose, what, from_us, until_us } in steps {
        let takes = until_us - from_us;
        // A String takes all that is written to it.
        let _ = writeln!(text, "| {whose} | {what} | {from_us:.0} | {until_us:.0} | {takes:.0} |");
    }
    text
}
