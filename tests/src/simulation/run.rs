//! One run, from an empty world to its judgement.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{join, join_all};
use votum_coordinator::driver::request::{Outcome, Request};
use votum_proto::names::{Gid, Gtid};

use super::agents::AgentPlace;
use super::book::Interference;
use super::coordinator::{Machine, Running};
use super::judge::{LastWords, judge};
use super::plan::Plan;
use super::trace::LogLines;
use super::world::World;
use super::{clients, faults, operator};

/// How long everything may take to end once all is well (I6).
const BOUND: Duration = Duration::from_secs(60);
/// How often the end is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Invariants that were broken, in order.
    pub broken: Vec<String>,
    /// What happened, where it was kept.
    pub transcript: String,
    /// Simulated time.
    pub lasted: Duration,
    /// How many times a task went on.
    pub turns: u64,
    /// How many transactions were begun, and how many committed.
    pub transactions: (usize, usize),
}

/// Runs `plan`; `kept`: with a transcript.
pub fn run(plan: &Plan, kept: bool) -> Report {
    let world = match World::new(plan.clone(), kept) {
        Ok(world) => world,
        Err(error) => return failed(&error.to_string()),
    };
    let director = direct(Arc::clone(&world));
    let going = || world.executor.run(&world.always, director);
    let ended = if kept {
        tracing::subscriber::with_default(LogLines::subscriber(&world.trace, &world.executor), going)
    } else {
        going()
    };
    if let Err(stuck) = ended {
        world.broken(format!("I6: {stuck}"));
    }
    let report = {
        let pages = world.book.open();
        let committed = pages.attempts.iter().filter(|attempt| {
            attempt.told.iter().any(|(_, told)| matches!(told, super::book::Told::Committed(_)))
        });
        Report {
            broken: pages.broken.clone(),
            transcript: world.trace.text(),
            lasted: world.now(),
            turns: world.executor.turns(),
            transactions: (pages.attempts.len(), committed.count()),
        }
    };
    world.executor.clear();
    report
}

fn failed(why: &str) -> Report {
    Report {
        broken: vec![why.to_owned()],
        transcript: String::new(),
        lasted: Duration::ZERO,
        turns: 0,
        transactions: (0, 0),
    }
}

async fn direct(world: Arc<World>) {
    let machine = match Machine::new(&world) {
        Ok(machine) => machine,
        Err(error) => {
            world.broken(format!("a new log cannot be made: {error}"));
            return;
        }
    };
    world.address(&machine);
    for agent in &world.agents {
        agent.start(&world);
    }
    machine.start_again(&world).await;
    if world.plan.has_people() {
        world.spawn(operator::audits(Arc::clone(&world)));
    }

    let work = world.plan.work.iter().cloned();
    let work: Vec<_> = work.map(|work| clients::work(Arc::clone(&world), work)).collect();
    let faults = world.plan.faults.iter().cloned();
    let faults: Vec<_> = faults.map(|fault| faults::happen(Arc::clone(&world), fault)).collect();
    let (done, calmed) = tokio::sync::oneshot::channel();
    let troubles = Arc::clone(&world);
    world.spawn(async move {
        join_all(faults).await;
        let left = troubles.plan.calm_at.saturating_sub(troubles.now());
        troubles.sleep(left).await;
        calm(&troubles);
        let _ = done.send(());
    });
    let (working, calming) = (join_all(work), calmed);
    let _ = join(working, calming).await;
    settle(&world).await;
    let last_words = last_words(&world).await;
    judge(&world, &last_words);
}

/// From now on nothing goes wrong.
fn calm(world: &World) {
    world.note("CALM", || "from now on nothing goes wrong".into());
    world.calm.send_replace(true);
    for host in &world.hosts {
        host.calm.send_replace(true);
    }
    world.drag.store(0, std::sync::atomic::Ordering::Relaxed);
    if let Some(machine) = world.machine() {
        machine.disk().heal();
    }
}

/// I6: waits until nothing of ours is left anywhere.
async fn settle(world: &Arc<World>) {
    let until = world.now() + BOUND;
    let mut restarts = 0;
    let mut looked = world.now();
    loop {
        // What was left to persons since a log was written off is theirs to end.
        if world.book.open().written_off.is_some() && world.now() >= looked {
            operator::settles_by_what_is_known(world).await;
            looked = world.now() + Duration::from_secs(1);
        }
        let mut left = left_over(world);
        let running = world.machine().and_then(|machine| machine.running());
        let refused = running.is_some_and(|now| world.monitor.was_refused(now.sender.life));
        if refused {
            left.push("the coordinator is refused by an agent".into());
        }
        if left.is_empty() {
            return;
        }
        if world.now() > until {
            world.broken(format!(
                "I6: after {} s of calm there is left: {}",
                BOUND.as_secs(),
                left.join("; ")
            ));
            return;
        }
        // Where two lives of one epoch have spoken, agents ask for a restart of the true one.
        if let Some(machine) = world.machine()
            && refused
            && restarts < 40
        {
            restarts += 1;
            machine.die(world, super::disk::Down::Killed);
            machine.start_again(world).await;
        }
        world.sleep(LOOK).await;
    }
}

/// What of ours is still prepared, or open.
fn left_over(world: &World) -> Vec<String> {
    let mut left = Vec::new();
    let strangers = world.book.open().strangers.clone();
    let interfered = world.book.open().interfered.clone();
    for (index, host) in world.hosts.iter().enumerate() {
        let server = host.server();
        for gid in server.state.prepared.keys().filter(|gid| gid.parse::<Gid>().is_ok()) {
            let key = (index, gid.clone());
            // Prepared again after its record was dropped: that waits for a person (R10).
            let again = interfered.get(&key).is_some_and(|hands| {
                hands.contains(&Interference::LostEnd) || hands.contains(&Interference::Impostor)
            });
            // Prepared by an application when younger transactions were forgotten already: so does that (R10).
            let late = gid.parse::<Gid>().is_ok_and(|gid| gid.branches == 0);
            let quarantined = (again || late) && world.plan.log.retention_ms < 1_000_000;
            if !strangers.contains(&key) && !quarantined {
                left.push(format!("{gid} is prepared at {}", host.name));
            }
        }
        for (pid, backend) in server.backends.iter().filter(|(_, backend)| backend.open.is_some()) {
            left.push(format!("session {pid} of {} has a transaction ({backend:?})", host.name));
        }
    }
    match world.machine().and_then(|machine| machine.running()) {
        None => left.push("no coordinator runs".into()),
        // What branches did while it was away, or another life had the address, it has yet to hear.
        Some(running) => {
            let greeted = |place: &&AgentPlace| {
                let agent = place.running();
                let life = agent.and_then(|agent| world.monitor.greeted(place.index, agent.life));
                life == Some(running.sender.life)
            };
            let unheard = world.agents.iter().filter(|place| !greeted(place));
            left.extend(
                unheard.map(|place| format!("agent {} has not greeted the coordinator", place.index)),
            );
        }
    }
    left
}

/// Whether the coordinator still has something to do for it.
async fn is_live(running: &Running, gtid: &Gtid) -> bool {
    let shown = running.handle.ask(|answer| Request::Show(gtid.clone(), answer)).await;
    shown.is_ok_and(|(shown, _)| shown.summary.is_some_and(|summary| summary.live))
}

/// What the coordinator says of every transaction at the end.
async fn last_words(world: &Arc<World>) -> LastWords {
    let mut words = LastWords::new();
    let gtids: Vec<Gtid> =
        world.book.open().attempts.iter().filter_map(|attempt| attempt.gtid.clone()).collect();
    let Some(running) = world.machine().and_then(|machine| machine.running()) else { return words };
    for gtid in gtids {
        // Acknowledgements may still be on their way; an outcome is not.
        let mut said = running.handle.ask(|answer| Request::Get(gtid.clone(), answer)).await;
        for _ in 0..100 {
            let pending = matches!(&said, Ok(Outcome::Committed { pending, .. }) if !pending.is_empty());
            let open = matches!(&said, Ok(Outcome::InProgress(_)) | Err(_));
            // Nor is how its branches ended otherwise, once they have answered.
            let undoing = matches!(&said, Ok(Outcome::Aborted { .. })) && is_live(&running, &gtid).await;
            // Nor what the look after a failover finds.
            let looking = matches!(&said, Ok(Outcome::Committed { heuristics, .. }) if heuristics.is_empty())
                && world.book.has_lost(&gtid);
            if !pending && !open && !undoing && !looking {
                break;
            }
            world.sleep(LOOK).await;
            said = running.handle.ask(|answer| Request::Get(gtid.clone(), answer)).await;
        }
        world.note("end", || format!("{gtid}: {said:?}"));
        words.insert(gtid.to_string(), said);
    }
    words
}
