//! So many transactions in flight, all the time.

use anyhow::Context as _;
use indicatif::ProgressBar;
use votum_proto::runtime::Seams;

use super::arguments::Alone;
use super::callers::Callers;
use super::place::{Place, Running};
use super::report::{self, Measured, Point};
use super::resident::{self, Processor};

/// Everything that was asked for, one point after another, each on a log of its own.
///
/// # Errors
/// When something does not work.
pub(crate) async fn measure(arguments: &Alone) -> anyhow::Result<()> {
    let seams = Seams::production();
    let points = arguments.participants.iter().flat_map(|&participants| {
        arguments.in_flight.iter().map(move |&in_flight| Point { participants, in_flight })
    });
    let points: Vec<Point> = points.collect();
    let each = arguments.warmup() + arguments.window();
    let runs = u64::try_from(points.len()).unwrap_or(0) * u64::from(arguments.rounds);
    println!("{runs} measurements, {} s:\n", runs * each.as_secs());
    let bar = report::bar(runs, "measured");
    let mut rounds: Vec<(Point, Vec<Measured>)> = points.iter().map(|point| (*point, Vec::new())).collect();
    for _ in 0..arguments.rounds {
        for (point, measured) in &mut rounds {
            bar.set_message(point.to_string());
            let place = Place::new(arguments, point.participants, &seams)?;
            let running = place.start(None).await?;
            let round = steadily(arguments, &place, &running, point.in_flight, &bar).await?;
            running.stop().await?;
            bar.inc(1);
            bar.suspend(|| println!("{point}: {round}"));
            measured.push(round);
        }
    }
    bar.finish_and_clear();
    println!("\n{}", report::table(arguments.asks, &rounds));
    Ok(())
}

/// One measurement of a coordinator that is ready, or will be.
///
/// # Errors
/// When a transaction is refused.
pub(crate) async fn steadily(
    arguments: &Alone,
    place: &Place,
    running: &Running,
    in_flight: u32,
    bar: &ProgressBar,
) -> anyhow::Result<Measured> {
    let clock = &*place.seams.clock;
    running
        .until("the log is counted and all agents are heard", |status| {
            status.log_state == "ready" && status.participants.iter().all(|one| one.heard)
        })
        .await?;
    let callers = Callers::start(place, running, in_flight, arguments.asks, u64::MAX);
    clock.sleep(arguments.warmup()).await;
    let (counts, processor) = (running.counts().await?, Processor::now());
    callers.keep_latencies()?;
    let (from, told) = (clock.now(), callers.told());
    let until = from.after(arguments.window());
    let mut mebibytes = resident::mebibytes();
    while clock.now() < until {
        clock.sleep_until(until.min(clock.now().after(report::LOOK))).await;
        mebibytes = mebibytes.max(resident::mebibytes());
        bar.tick();
    }
    let told = callers.told() - told;
    let seconds = clock.now().since(from).as_secs_f64();
    let processor = Processor::now().since(processor);
    let latencies = callers.take_latencies().context("latencies were kept")?;
    let later = running.counts().await?;
    callers.end(true).await?;
    Ok(Measured {
        told,
        seconds,
        forced: later.forced_writes - counts.forced_writes,
        forced_us: later.forced_writes_us - counts.forced_writes_us,
        decided: later.committed - counts.committed,
        processor,
        mebibytes,
        latencies,
    })
}
