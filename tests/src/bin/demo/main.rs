//! The demonstration: money moves between two PostgreSQL servers while the coordinator is killed at the worst
//! moment, and nothing is lost.
//!
//! Everything is real: two servers, two agents and a coordinator as processes of their own, on free ports, in
//! temporary directories. Ends with 0 only if every promise was seen to be kept.

mod evidence;
mod keep;
mod screen;
mod transfers;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use evidence::{Ends, Prepared};
use screen::{Screen, count, money};
use transfers::Tally;
use votum_proto::runtime::Seams;
use votum_tests::ledger::Ledger;
use votum_tests::postgres;
use votum_tests::teller::Teller;
use votum_tests::world::World;

/// At each bank.
const ACCOUNTS: i64 = 200;
/// On each account at first, in cents.
const BALANCE: i64 = 100_000;
/// How many rows of a long list are shown.
const SHOWN: usize = 6;

#[derive(Parser)]
#[command(
    name = "demo",
    about = "Moves money between two PostgreSQL servers, and kills the coordinator meanwhile"
)]
struct Arguments {
    /// Leave everything running afterwards, and print how to talk to it and how to stop it.
    #[arg(long)]
    keep: bool,
    /// How many transfers there are.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(50..))]
    transfers: u64,
    /// How many of them are under way at the same time.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=48))]
    at_once: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let screen = Screen::open();
    match Box::pin(demonstrate(screen, &arguments)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.heading("The demonstration failed");
            screen.verdict(false, &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate(screen: Screen, arguments: &Arguments) -> anyhow::Result<()> {
    screen.heading("1  Two banks");
    // The last forced write that carries decisions: clients that commit together share one, so there are
    // fewer of them than transfers.
    let fatal = arguments.transfers / 10;
    let world = open_banks(screen, fatal).await?;

    screen.heading("2  Transfers, and a coordinator that dies");
    let ledger = Arc::new(Ledger::new());
    let teller = Teller::connect(&world, &ledger).await?;
    let bar = screen.bar(arguments.transfers);
    screen.line(&format!(
        "{} transfers between the banks, {} at a time, each in both databases or in none",
        count(arguments.transfers),
        arguments.at_once
    ));
    let load = transfers::run(&teller, arguments.transfers, arguments.at_once, bar.clone());
    let crash = async {
        let result = watch_crash(screen, &world, &teller, &bar, fatal).await;
        if result.is_err() {
            bar.abandon();
        }
        result
    };
    let (tally, crash) = futures::future::try_join(async { anyhow::Ok(load.await) }, crash).await?;
    bar.finish_and_clear();

    screen.heading("4  The money");
    judge(screen, &world, &ledger, &tally, &crash).await?;
    if arguments.keep {
        return keep::leave_running(screen, world);
    }
    let directories: Vec<_> =
        world.banks.iter().map(|bank| bank.server.dir().to_owned()).chain([world.dir().to_owned()]).collect();
    drop(world);
    let clean = directories.iter().all(|directory| !directory.exists());
    screen.verdict(clean, "every process is stopped and every file removed");
    anyhow::ensure!(clean, "something is left in {directories:?}");
    Ok(())
}

async fn open_banks(screen: Screen, fatal: u64) -> anyhow::Result<World> {
    let world = World::builder()
        .own_servers(postgres::Options::default())
        .tcp()
        .coordinator_id("demo")
        .accounts(ACCOUNTS, BALANCE)
        .half_bytes(8 << 20)
        .prepare()
        .await?;
    for bank in &world.banks {
        bank.agent.start(None)?;
    }
    world.start_coordinator(Some(&format!("decision-forced@{fatal}"))).await?;
    let mut rows = Vec::new();
    for bank in &world.banks {
        let version: String = bank.client().await?.query_one("SHOW server_version", &[]).await?.get(0);
        rows.push(vec![
            bank.name.clone(),
            format!("PostgreSQL {} on port {}", version.split(' ').next().unwrap_or("?"), bank.server.port()),
            format!("agent {}", bank.agent.pid().unwrap_or(0)),
            format!("{ACCOUNTS} accounts of {}", money(BALANCE)),
        ]);
    }
    rows.push(vec![
        "coordinator".into(),
        format!("{}", world.address()),
        format!("process {}", world.coordinator.pid().unwrap_or(0)),
        format!("{} in all", money(total(&world))),
    ]);
    screen.table(&rows);
    Ok(world)
}

/// What the coordinator's death and return were like.
struct Crash {
    in_doubt: Vec<Prepared>,
    settled: Duration,
    ends: Ends,
}

async fn watch_crash(
    screen: Screen,
    world: &World,
    teller: &Teller,
    bar: &indicatif::ProgressBar,
    fatal: u64,
) -> anyhow::Result<Crash> {
    let clock = Seams::production().clock;
    world.coordinator.wait_crash().await.context("the coordinator was to die in the middle of the load")?;
    let dead = clock.now();
    let in_doubt = evidence::prepared(world).await?;
    let log = evidence::votumctl_offline(world, &["list", "--state", "committing"]).await?;
    bar.suspend(|| {
        screen.line(&format!(
            "SIGKILL: the coordinator is dead. Its {fatal}th write of decisions was on disk, and nobody had been told."
        ));
        screen.line("(It is built with crash points for this; a released one has none.)");
        show_in_doubt(screen, &in_doubt);
        screen.line("Its log lists what was decided, and not known to have reached the banks; all else aborts:");
        screen.quote(&log.command, &log.output);
        screen.heading("3  It comes back");
    });

    let written = std::fs::metadata(world.coordinator.log())?.len();
    let begun = clock.now();
    world.coordinator.start(None)?;
    evidence::settled(world, &in_doubt).await?;
    let settled = clock.now().since(begun);
    world.ready().await?;
    let report = evidence::settlement_report(world, written).await?;
    let answer = evidence::votumctl_online(world, &["in-doubt"]).await?;
    let ends = evidence::ends(teller.votum(), &in_doubt).await?;
    bar.suspend(|| {
        screen.line(&format!(
            "Started again {} after its death; {} later every branch was settled. Its log says so:",
            seconds(begun.since(dead)),
            seconds(settled)
        ));
        screen.quote(&format!("grep VOTUM-1001 {}", world.coordinator.log().display()), &report);
        screen.line("What stands prepared now is of its new life, and on its way:");
        screen.quote(&answer.command, &answer.output);
        screen.line(&format!(
            "Of {} transactions in doubt: decided, hence committed: {}; undecided, hence rolled back: {}.",
            ends.committed + ends.aborted,
            ends.committed,
            ends.aborted
        ));
    });
    Ok(Crash { in_doubt, settled, ends })
}

fn show_in_doubt(screen: Screen, in_doubt: &[Prepared]) {
    screen.line(&format!(
        "{} branches stand prepared in the banks, their locks held, and no database knows how they end:",
        in_doubt.len()
    ));
    let row = |branch: &Prepared| {
        vec![
            String::new(),
            branch.bank.clone(),
            branch.gid.clone(),
            format!("prepared {} ago", seconds(branch.age)),
        ]
    };
    screen.table(&in_doubt.iter().take(SHOWN).map(row).collect::<Vec<_>>());
    if in_doubt.len() > SHOWN {
        screen.line(&format!("  … and {} more", in_doubt.len() - SHOWN));
    }
}

async fn judge(
    screen: Screen,
    world: &World,
    ledger: &Ledger,
    tally: &Tally,
    crash: &Crash,
) -> anyhow::Result<()> {
    let [committed, refused, aborted, unknown] =
        [&tally.committed, &tally.refused, &tally.aborted, &tally.unknown]
            .map(|counter| counter.load(Ordering::Relaxed));
    let mut rows = Vec::new();
    let mut sum = 0;
    for bank in &world.banks {
        let held = "SELECT sum(balance)::int8 FROM accounts";
        let held: i64 = bank.client().await?.query_one(held, &[]).await?.get(0);
        sum += held;
        rows.push(vec![bank.name.clone(), format!("{:>14}", money(held))]);
    }
    rows.push(vec!["in all".into(), format!("{:>14}", money(sum))]);
    screen.table(&rows);
    screen.verdict(sum == total(world), "to the cent what it was at the beginning");

    let checked = world.check(ledger).await;
    screen.verdict(
        checked.is_ok(),
        &format!(
            "{} transfers committed, in both banks; {} refused for lack of money, {} aborted by the crash, in \
             neither",
            count(committed),
            count(refused),
            count(aborted)
        ),
    );
    let unanswered = if unknown == 0 { "no client was".into() } else { format!("{unknown} clients were") };
    screen.verdict(unknown == 0, &format!("{unanswered} left without an answer"));
    screen.verdict(
        crash.settled < Duration::from_secs(30),
        &format!(
            "{} branches in doubt settled {} after the coordinator's start",
            crash.in_doubt.len(),
            seconds(crash.settled)
        ),
    );
    checked?;
    anyhow::ensure!(sum == total(world), "the banks hold {sum} cents and held {} at first", total(world));
    anyhow::ensure!(unknown == 0, "{unknown} clients never learned how their transfers ended");
    anyhow::ensure!(
        crash.ends.committed > 0,
        "no decided transaction was in doubt: the crash showed nothing"
    );
    Ok(())
}

/// All money there is, in cents.
fn total(world: &World) -> i64 {
    i64::try_from(world.banks.len()).unwrap_or(0) * ACCOUNTS * BALANCE
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
