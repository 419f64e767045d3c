//! A start with many commits that no agent has acknowledged.

use anyhow::ensure;
use votum_coordinator::driver::request::{Request, RequestError};
use votum_proto::runtime::{Monotonic, Seams};

use super::arguments::Alone;
use super::callers::{Callers, begin};
use super::place::{Place, Running};
use super::report;
use super::resident;

/// So many transactions are committed and none acknowledged; the coordinator stops, starts while all agents are
/// away, and settles when they are back.
///
/// # Errors
/// When something does not work, or a branch is left.
pub(crate) async fn measure(arguments: &Alone, undelivered: u64) -> anyhow::Result<()> {
    let seams = Seams::production();
    let clock = &*seams.clock;
    let place = Place::new(arguments, arguments.usual_participants(), &seams)?;
    let branches = undelivered * place.participants.len() as u64;
    commit(arguments, &place, undelivered).await?;
    println!(
        "{} branches are left prepared by {undelivered} committed transactions",
        place.agents.prepared()
    );

    place.agents.set_there(false);
    place.agents.set_acknowledging(true);
    let started = clock.now();
    let running = place.start(None).await?;
    println!("the log is open after {:.3} s", since(&seams, started));
    until_it_begins(&place, &running).await?;
    println!("it begins transactions after {:.3} s, while all agents are away", since(&seams, started));

    let back = clock.now();
    place.agents.set_there(true);
    let bar = report::bar(branches, "branches");
    let (mut first, mut most) = (None, resident::mebibytes());
    let mut acknowledged = 0;
    while acknowledged < branches {
        clock.sleep(report::LOOK / 50).await;
        acknowledged = place.agents.acknowledged();
        if acknowledged > 0 {
            first.get_or_insert_with(|| clock.now());
        }
        most = most.max(resident::mebibytes());
        bar.set_position(acknowledged);
        ensure!(since(&seams, back) < PATIENCE, "{acknowledged} of {branches} branches are settled");
    }
    bar.finish_and_clear();
    let first = first.unwrap_or(back);
    let settling = since(&seams, first).max(f64::EPSILON);
    println!(
        "agents are back: the first branch is committed {:.3} s later (they are dialled again within 2 s), all \
         {branches} in {settling:.3} s more: {:.0} a second",
        first.since(back).as_secs_f64(),
        branches as f64 / settling,
    );
    running.until("nothing is owed", |status| status.undelivered == 0).await?;
    ensure!(place.agents.prepared() == 0, "{} branches are left prepared", place.agents.prepared());
    println!("the most that was resident: {most:.0} MiB");
    running.stop().await
}

/// How long settling may take, in seconds.
const PATIENCE: f64 = 500.0;

fn since(seams: &Seams, from: Monotonic) -> f64 {
    seams.clock.now().since(from).as_secs_f64()
}

async fn commit(arguments: &Alone, place: &Place, transactions: u64) -> anyhow::Result<()> {
    place.agents.set_acknowledging(false);
    let running = place.start(Some(usize::MAX)).await?;
    running
        .until("the log is counted and all agents are heard", |status| {
            status.log_state == "ready" && status.participants.iter().all(|one| one.heard)
        })
        .await?;
    let bar = report::bar(transactions, "commits");
    let callers = Callers::start(place, &running, arguments.usual_in_flight(), arguments.asks, transactions);
    while callers.told() < transactions && callers.are_at_it() {
        place.seams.clock.sleep(report::LOOK).await;
        bar.set_position(callers.told());
    }
    callers.end(false).await?;
    bar.finish_and_clear();
    running.stop().await
}

async fn until_it_begins(place: &Place, running: &Running) -> anyhow::Result<()> {
    loop {
        match running.driver.ask(|answer| Request::Begin(begin(), answer)).await {
            Ok(begun) => {
                let (gtid, secret) = (begun.gtid, begun.secret);
                let ended = running.driver.ask(|answer| Request::Rollback {
                    gtid,
                    secret,
                    reason: String::new(),
                    answer,
                });
                ended.await?;
                return Ok(());
            }
            Err(RequestError::Unavailable(_)) => place.seams.clock.sleep(report::LOOK / 100).await,
            Err(error) => return Err(error.into()),
        }
    }
}
