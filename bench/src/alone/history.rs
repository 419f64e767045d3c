//! Whether a log is slower, or larger than it should be, with many transactions behind it.

use votum_proto::runtime::Seams;

use super::arguments::Alone;
use super::callers::Callers;
use super::place::{Place, Running};
use super::report;
use super::steady::steadily;
use crate::report::Spread;

/// An empty log is measured, filled, and measured again; then it is opened once more.
///
/// # Errors
/// When something does not work.
pub(crate) async fn measure(arguments: &Alone, behind: u64) -> anyhow::Result<()> {
    let seams = Seams::production();
    let place = Place::new(arguments, arguments.usual_participants(), &seams)?;
    let running = place.start(None).await?;
    let empty = rounds(arguments, &place, &running, "empty").await?;
    let begun = running.counts().await?.begun;
    fill(arguments, &place, &running, behind.saturating_sub(begun)).await?;
    let begun = running.counts().await?.begun;
    let full = rounds(arguments, &place, &running, &format!("{begun} behind it")).await?;
    println!("\nspeed with {begun} transactions behind it: {:.2} of an empty log's", full / empty);
    running.stop().await?;
    let closed = place.disk_mebibytes();
    let from = seams.clock.now();
    let running = place.start(None).await?;
    running.until("the log is counted", |status| status.log_state == "ready").await?;
    println!(
        "closed with {closed:.0} MiB on the disk; opened and counted again in {:.2} s",
        seams.clock.now().since(from).as_secs_f64()
    );
    running.stop().await
}

/// The median rate of some rounds.
async fn rounds(arguments: &Alone, place: &Place, running: &Running, what: &str) -> anyhow::Result<f64> {
    let bar = report::bar(u64::from(arguments.rounds), "measured");
    let mut rates = Vec::new();
    for _ in 0..arguments.rounds {
        let round = steadily(arguments, place, running, arguments.usual_in_flight(), &bar).await?;
        bar.inc(1);
        bar.suspend(|| println!("{what}, {:.0} MiB on the disk: {round}", place.disk_mebibytes()));
        rates.push(round.rate());
    }
    bar.finish_and_clear();
    Ok(Spread::of(rates).map_or(0.0, |spread| spread.median))
}

async fn fill(arguments: &Alone, place: &Place, running: &Running, more: u64) -> anyhow::Result<()> {
    let bar = report::bar(more, "transactions");
    let callers = Callers::start(place, running, arguments.usual_in_flight(), arguments.asks, more);
    let (from, mut last) = (place.seams.clock.now(), 0);
    while callers.told() < more && callers.are_at_it() {
        place.seams.clock.sleep(report::LOOK).await;
        let told = callers.told();
        bar.set_position(told);
        if told / MARK > last / MARK {
            let seconds = place.seams.clock.now().since(from).as_secs_f64();
            let disk = place.disk_mebibytes();
            bar.suspend(|| println!("{told} transactions after {seconds:.0} s, {disk:.0} MiB on the disk"));
        }
        last = told;
    }
    callers.end(false).await?;
    bar.finish_and_clear();
    Ok(())
}

/// After how many transactions a line is printed.
const MARK: u64 = 500_000;
