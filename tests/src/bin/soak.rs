//! `make soak MINUTES=n`: simulates seed after seed, and says how it goes.

use std::process::ExitCode;

use clap::Parser;
use votum_proto::runtime::Seams;
use votum_tests::simulation::campaign::{Sum, explain, one};
use votum_tests::simulation::{Plan, Size, run};

/// Simulates seed after seed until the time is over or a seed breaks an invariant.
#[derive(Parser)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// The first seed; without it, one that nobody has chosen.
    #[arg(long)]
    from: Option<u64>,
    /// Only the first one: prints its transcript, not shrunk.
    #[arg(long)]
    one: bool,
    /// Goes on after a seed that broke something, and prints no transcripts.
    #[arg(long)]
    all: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seams = Seams::production();
    let size = Size::default();
    let first = arguments.from.unwrap_or_else(|| seams.entropy.bits() >> 24);
    if arguments.one {
        let report = run(&Plan::draw(first, size), true);
        println!("{}\n{:?}\n{:?}, {} turns", report.transcript, report.broken, report.lasted, report.turns);
        return if report.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    println!("from seed {first}");
    let (begin, mut told) = (seams.clock.now(), 0);
    let mut sum = Sum::default();
    let mut failures = 0;
    for seed in first.. {
        let since = seams.clock.now().since(begin).as_secs_f64();
        if since > arguments.minutes * 60.0 {
            break;
        }
        if since as u64 / 10 > told {
            told = since as u64 / 10;
            progress(&sum, since);
        }
        if let Err(broken) = one(seed, size, &mut sum) {
            failures += 1;
            if !arguments.all {
                println!("{}", explain(&broken, size));
                return ExitCode::FAILURE;
            }
            println!("seed {seed}: {}", broken.what.join(" | "));
        }
    }
    progress(&sum, seams.clock.now().since(begin).as_secs_f64());
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn progress(sum: &Sum, seconds: f64) {
    println!("{seconds:>6.0} s  {:.1} seeds/s  {sum}", sum.seeds as f64 / seconds.max(0.001));
}
