//! Transactions over several databases through Votum, and the floors beneath them: the same transactions by
//! clients that prepare and commit by themselves, without a coordinator.
//!
//! All take turns on the same servers, so that whatever else the machine does falls on all. Ends with 0 only if
//! no money was lost or made and no prepared transaction was left.

mod alone;
mod arguments;
mod arrivals;
mod bank;
mod carrier;
mod contender;
mod cpu;
mod ended;
mod floor;
mod installation;
mod latency;
mod load;
mod overload;
mod plots;
mod point;
mod report;
mod schedule;
mod shape;
mod tally;
#[cfg(test)]
mod tests;
mod waterfall;
mod work;

use std::process::ExitCode;

use anyhow::Context as _;
use arguments::Arguments;
use bank::Banks;
use clap::Parser as _;
use contender::{Contender, in_turn};
use indicatif::{ProgressBar, ProgressStyle};
use installation::Installation;
use load::Load;
use point::Point;
use report::{Machine, Report, Round};
use votum_proto::runtime::Seams;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let threads = arguments.alone().map_or(arguments.threads, |alone| alone.threads);
    let runtime = match threads {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        many => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(usize::from(many)).enable_all().build()
        }
    };
    let done = runtime.context("starting the runtime").and_then(|rt| {
        rt.block_on(async {
            match (arguments.alone(), arguments.waterfall()) {
                (Some(alone), _) => alone::measure(alone).await,
                (None, Some(waterfall)) => waterfall::measure(waterfall).await,
                (None, None) => bench(&arguments).await,
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("votum-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(arguments: &Arguments) -> anyhow::Result<()> {
    let seams = Seams::production();
    let installation = Installation::open(arguments).await?;
    let banks = Banks::open(&seams, installation.banks(), arguments.mix()?.accounts()).await?;
    let machine = Machine::look(&banks).await?;
    println!("{machine}\n");

    let load = Load::new(&seams, &installation, arguments).await?;
    let mut rounds = Vec::new();
    let bench = Bench { seams: &seams, arguments, load: &load, banks: &banks };
    let measured = if arguments.overload {
        overload::measure(&bench, &mut rounds).await
    } else {
        measure(&bench, &mut rounds).await
    };
    let judged = banks.judge(&load.promised()).await;
    // Whatever failed, what was measured until then is not lost.
    let report = Report::new(arguments, machine, rounds)?;
    println!("\n{report}");
    keep(arguments, &report)?;
    measured?;
    println!("{}", judged?);
    banks.close().await
}

/// What measurements are made of.
struct Bench<'a> {
    seams: &'a Seams,
    arguments: &'a Arguments,
    load: &'a Load,
    banks: &'a Banks,
}

impl Bench<'_> {
    /// One measurement, added to `rounds`, and its throughput. Where it is to `settle`, until nothing is prepared any
    /// more; the next one begins at once otherwise.
    async fn round(
        &self,
        (contender, point, number): (Contender, Point, u32),
        settle: bool,
        bar: &ProgressBar,
        rounds: &mut Vec<Round>,
    ) -> anyhow::Result<f64> {
        bar.set_message(format!("{point}, {contender}, round {number}"));
        let measured = self.load.run(contender, point, bar).await?;
        let settled = if settle { Some(self.banks.settle(self.seams).await) } else { None };
        let took = settled.as_ref().and_then(|settled| settled.as_ref().ok().copied());
        let round = Round::new(contender, point, number, measured, took);
        bar.suspend(|| println!("{round}"));
        let done = round.transactions_per_second;
        rounds.push(round);
        settled.transpose()?;
        Ok(done)
    }
}

/// Everything that was asked for, one measurement after another, each added to `rounds`.
async fn measure(bench: &Bench<'_>, rounds: &mut Vec<Round>) -> anyhow::Result<()> {
    let arguments = bench.arguments;
    let (points, contenders) = (arguments.points(), arguments.contenders());
    let bar = progress_bar(arguments, points.len() * contenders.len());
    for &point in &points {
        for number in 1..=arguments.rounds {
            for contender in in_turn(&contenders, number) {
                bench.round((contender, point, number), true, &bar, rounds).await?;
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Writes the files that were asked for.
fn keep(arguments: &Arguments, report: &Report) -> anyhow::Result<()> {
    if let Some(file) = &arguments.json {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        std::fs::write(file, serde_json::to_string(report)?)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    match &arguments.plots {
        Some(folder) => plots::write(folder, report),
        None => Ok(()),
    }
}

pub(crate) fn progress_bar(arguments: &Arguments, each_round: usize) -> ProgressBar {
    let runs = u64::try_from(each_round).unwrap_or(0) * u64::from(arguments.rounds);
    let seconds = runs * (arguments.warmup() + arguments.window()).as_secs();
    println!("{runs} measurements, {seconds} s, and some moments for each to begin and to settle:\n");
    let bar = ProgressBar::new(seconds);
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} s  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━╌"));
    bar
}
