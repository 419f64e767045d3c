//! The history check for as long as one likes: round after round, each with the next seed, on an installation of
//! its own, under kills and cuts. Ends with 0 only if every round kept every promise.

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use votum_proto::runtime::Seams;
use votum_tests::history::figures::Figures;
use votum_tests::history::record::History;
use votum_tests::history::{checker, round};

#[derive(Parser)]
#[command(
    name = "history",
    about = "Runs random transactions under kills and cuts, and judges what became of them"
)]
struct Arguments {
    /// Begin no round after this many minutes.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// The seed of the first round; drawn if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// At most this many rounds.
    #[arg(long)]
    rounds: Option<u64>,
    /// Jobs of each round.
    #[arg(long, default_value_t = 2_500)]
    jobs: u64,
    /// Clients at the same time.
    #[arg(long, default_value_t = 16)]
    clients: u64,
    /// Judge a history that was kept, instead of making one.
    #[arg(long)]
    judge: Option<std::path::PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.judge {
        Some(path) => judge(path),
        None => Box::pin(campaign(&arguments)).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn judge(path: &std::path::Path) -> anyhow::Result<()> {
    let history: History = serde_json::from_reader(std::io::BufReader::new(std::fs::File::open(path)?))?;
    let violations = checker::check(&history);
    for violation in &violations {
        println!("{violation}");
    }
    anyhow::ensure!(violations.is_empty(), "{} promises were broken", violations.len());
    println!("{} transactions: every promise was kept", history.transactions.len());
    Ok(())
}

async fn campaign(arguments: &Arguments) -> anyhow::Result<()> {
    let seams = Seams::production();
    let first = arguments.seed.unwrap_or_else(|| seams.entropy.bits() % 1_000_000_000);
    let rounds = arguments.rounds.unwrap_or(if arguments.seed.is_some() { 1 } else { u64::MAX });
    let limit = Duration::from_secs(60 * arguments.minutes);
    let begun = seams.clock.now();
    let mut all = Figures::default();
    for seed in (first..).take(usize::try_from(rounds).unwrap_or(usize::MAX)) {
        println!("round {}, seed {seed}", all.rounds + 1);
        let shown = Mutex::new(begun);
        let progress = |figures: &Figures| {
            let now = seams.clock.now();
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            if now.since(*shown) >= Duration::from_secs(5) {
                *shown = now;
                println!("  {:>5} s  {}", now.since(begun).as_secs(), all.clone().plus(figures).brief());
            }
        };
        let extent = round::Extent::of(arguments.jobs, arguments.clients);
        let round = Box::pin(round::run(seed, extent, progress)).await;
        match round {
            Ok(figures) => all = all.plus(&figures),
            Err(error) => {
                println!("until then:\n{all}");
                return Err(error);
            }
        }
        if seams.clock.now().since(begun) >= limit {
            break;
        }
    }
    println!("{all}\nevery promise was kept, for {} s", seams.clock.now().since(begun).as_secs());
    Ok(())
}
