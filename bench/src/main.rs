//! Closed-loop transfers through Votum, and the floor beneath them: the same transfers by a client that
//! prepares and commits by itself, without a coordinator.
//!
//! Both take turns on the same servers, so that whatever else the machine does falls on both. Ends with 0
//! only if no money was lost or made and no prepared transaction was left.

mod arguments;
mod bank;
mod cpu;
mod direct;
mod installation;
mod load;
mod report;
#[cfg(test)]
mod tests;
mod transfer;
mod votum;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use arguments::Arguments;
use bank::Banks;
use clap::Parser as _;
use indicatif::{ProgressBar, ProgressStyle};
use installation::Installation;
use load::{Contender, Load};
use report::{Report, Round};
use votum_proto::runtime::Seams;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match arguments.threads {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        many => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(usize::from(many)).enable_all().build()
        }
    };
    let done = runtime.context("starting the runtime").and_then(|rt| rt.block_on(bench(&arguments)));
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
    let banks = Banks::open(&seams, installation.banks(), arguments.most_workers()).await?;
    let machine = report::Machine::look(&banks).await?;
    println!("{machine}\n");

    let contenders = arguments.contenders();
    let load = Load::new(&seams, &installation, arguments).await?;
    let bar = progress_bar(arguments, contenders.len());
    let mut rounds: Vec<Round> = Vec::new();
    for &workers in &arguments.workers {
        for number in 1..=arguments.rounds {
            for contender in in_turn(&contenders, number) {
                bar.set_message(format!("{workers} workers, {contender}, round {number}"));
                let measured = load.run(contender, workers, &bar).await?;
                let settled = banks.settle(&seams).await?;
                let round = Round::new(contender, workers, number, &measured, settled);
                bar.suspend(|| println!("{round}"));
                rounds.push(round);
            }
        }
    }
    bar.finish_and_clear();

    let judged = banks.judge(&load.promised()).await;
    let report = Report::new(arguments, machine, rounds);
    println!("\n{report}");
    if let Some(file) = &arguments.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(file, json).with_context(|| format!("writing {}", file.display()))?;
    }
    println!("{}", judged?);
    banks.close().await
}

/// The contenders in an order that differs from round to round, so that none of them always follows the same
/// other.
fn in_turn(contenders: &[Contender], round: u32) -> impl Iterator<Item = Contender> {
    let first = usize::try_from(round).unwrap_or(0);
    contenders.iter().copied().cycle().skip(first % contenders.len().max(1)).take(contenders.len())
}

fn progress_bar(arguments: &Arguments, contenders: usize) -> ProgressBar {
    let runs = arguments.workers.len() * contenders * usize::try_from(arguments.rounds).unwrap_or(1);
    let each: Duration = arguments.warmup() + arguments.window();
    let bar = ProgressBar::new(u64::try_from(runs).unwrap_or(0) * each.as_secs());
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} s  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━╌"));
    bar
}
