//! Persons with votumctl: one who settles what is in doubt, rightly or not, and acknowledges departures; one
//! who writes off what a log lacks, and then ends what was left to a person as clients were told.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use votum_coordinator::driver::request::{
    Acknowledge, Answer, Outcome, Request, RequestError, Resolve, WriteOff,
};
use votum_coordinator::protocol::record::Heuristic;
use votum_proto::names::{Gid, Gtid, ParticipantName};
use votum_proto::v1;

use super::book::{Interference, Told};
use super::coordinator::{Machine, Running};
use super::disk::Down;
use super::random::Random;
use super::world::{COORDINATOR, World};

/// How long a person waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a write-off may be refused: every agent is back by then, and the log is read.
const WRITE_OFF: Duration = Duration::from_secs(60);

/// Asks what runs now, on its own machine; `None` when no answer comes.
async fn ask<T>(
    world: &World,
    running: &Running,
    make: impl FnOnce(Answer<T>) -> Request,
) -> Option<Result<T, RequestError>> {
    let asked = std::pin::pin!(running.handle.ask(make));
    match select(asked, world.executor.sleep(PATIENCE)).await {
        Either::Left((said, _)) => Some(said),
        Either::Right(_) => None,
    }
}

/// The coordinator at the address.
fn present(world: &World) -> Option<Running> {
    world.machine()?.running()
}

/// Settles branches at random, and acknowledges departures, for a while.
pub(super) async fn works(world: &World, lasts: Duration) {
    let until = world.now() + lasts;
    let mut random = Random::new(world.plan.seed, &format!("operator until {}", until.as_micros()));
    while world.now() < until && !world.is_calm() {
        let pause = random.millis(20, 500);
        world.sleep(pause).await;
        let Some(running) = present(world) else { continue };
        if random.chance(300) {
            acknowledges(world, &running, &mut random).await;
        } else {
            settles(world, &running, &mut random).await;
        }
    }
}

async fn acknowledges(world: &World, running: &Running, random: &mut Random) {
    let Some(Ok(status)) = ask(world, running, Request::Status).await else { return };
    let departed: Vec<_> = status.alarms.iter().filter(|alarm| alarm.code == "VOTUM-1407").collect();
    let Some(alarm) = random.pick(&departed) else { return };
    let (Ok(gtid), Ok(participant)) =
        (alarm.gtid.parse::<Gtid>(), alarm.participant.parse::<ParticipantName>())
    else {
        return;
    };
    world.note("operator", || format!("acknowledges what departed of {gtid} at {participant}"));
    // Before the answer, which may be lost.
    world.book.open().acknowledged.insert((gtid.to_string(), participant.to_string()));
    let acknowledge = Acknowledge {
        gtid,
        participant: Some(participant),
        operator: "ann".into(),
        reason: "put right".into(),
        apply: true,
    };
    ask(world, running, |answer| Request::Acknowledge(acknowledge, answer)).await;
}

async fn in_doubt(world: &World, running: &Running) -> Vec<v1::InDoubt> {
    let wait = Duration::from_secs(1);
    let asked = ask(world, running, |answer| Request::InDoubt { participant: None, wait, answer });
    match asked.await {
        Some(Ok(response)) => response.branches,
        Some(Err(_)) | None => Vec::new(),
    }
}

/// One branch, where it is, and what a person sees of it.
struct Branch {
    gid: Gid,
    participant: ParticipantName,
    index: usize,
    decision: String,
    rule: String,
}

impl Branch {
    fn of(world: &World, shown: &v1::InDoubt) -> Option<Self> {
        Some(Self {
            gid: shown.row.as_ref()?.gid.parse().ok()?,
            participant: shown.participant.parse().ok()?,
            index: world.index_of(&shown.participant)?,
            decision: shown.decision.clone(),
            rule: shown.rule.clone(),
        })
    }

    /// Whether it is somebody else's work under one of our names, as anyone can see in the database.
    fn is_other_work(&self, world: &World) -> bool {
        let Some(host) = world.hosts.get(self.index) else { return false };
        let server = host.server();
        let prepared = server.state.prepared.get(&self.gid.to_string());
        prepared.is_some_and(|(_, work)| work.changes.iter().any(|change| !change.tag.contains(':')))
    }
}

/// Picks one branch and orders its end, whatever is known of it: what contradicts a decision is refused.
async fn settles(world: &World, running: &Running, random: &mut Random) {
    let branches = in_doubt(world, running).await;
    let Some(branch) = random.pick(&branches).and_then(|shown| Branch::of(world, shown)) else { return };
    let commit = random.chance(500) && !branch.is_other_work(world);
    let contradicts = branch.decision == if commit { "abort" } else { "commit" };
    let how = if commit { Interference::ResolvedCommit } else { Interference::ResolvedRollback };
    let gid = branch.gid.to_string();
    let before = {
        let pages = world.book.open();
        let hands = pages.interfered.get(&(branch.index, gid.clone()));
        hands.is_some_and(|hands| hands.contains(&how))
    };
    // Before the answer, which may be lost.
    world.book.interfered(branch.index, &gid, how);
    let applied = resolve(world, running, &branch, commit, false).await;
    if applied == Some(true) && contradicts {
        world.broken(format!(
            "I1: an operator's order about {gid} was carried out against the decision, {}",
            branch.decision
        ));
    }
    if applied == Some(false) && !before {
        world.book.did_not_interfere(branch.index, &gid, how);
    }
}

/// Whether an order was recorded, and is carried out; `None` when no answer came. `heuristic` says that whatever can be
/// known of its siblings is not about this.
async fn resolve(
    world: &World,
    running: &Running,
    branch: &Branch,
    commit: bool,
    heuristic: bool,
) -> Option<bool> {
    let gid = branch.gid.to_string();
    if commit {
        world.book.open().ordered.insert((branch.index, gid.clone()));
    }
    let order = Resolve {
        gid: branch.gid.clone(),
        participant: branch.participant.clone(),
        commit,
        operator: "ann".into(),
        reason: "the shop was asked".into(),
        apply: true,
        heuristic,
    };
    let contradicted = is_contradicted(world, branch, commit);
    let said = ask(world, running, |answer| Request::Resolve(order, answer)).await;
    // A failover may take a marker between the two.
    if contradicted && is_contradicted(world, branch, commit) && !heuristic && applied(said.as_ref()) {
        world.broken(format!(
            "I1: an operator's order about {gid} was carried out against a sibling's marker"
        ));
    }
    world.note("operator", || {
        let word = if commit { "commit" } else { "roll back" };
        format!("orders to {word} {gid} at {} ({}): {said:?}", branch.participant, branch.rule)
    });
    match said? {
        Ok(response) => Some(response.applied),
        Err(RequestError::Invalid(_)) => Some(false),
        Err(_) => None,
    }
}

fn applied(said: Option<&Result<v1::ResolveResponse, RequestError>>) -> bool {
    matches!(said, Some(Ok(response)) if response.applied)
}

/// Whether the commit marker of a sibling says otherwise. A tombstone may stand where its branch never was.
fn is_contradicted(world: &World, branch: &Branch, commit: bool) -> bool {
    let siblings = (0..branch.gid.branches).filter(|number| *number != branch.gid.branch);
    let mut gids = siblings.map(|number| Gid { branch: number, ..branch.gid.clone() }.to_string());
    let says = |gid: &str, said: bool| {
        world.hosts.iter().any(|host| host.server().state.markers.get(gid) == Some(&said))
    };
    let prepared = |gid: &str| world.hosts.iter().any(|host| host.server().state.prepared.contains_key(gid));
    if commit {
        let committed = gids.clone().any(|gid| says(&gid, true));
        !committed && gids.any(|gid| says(&gid, false) && !prepared(&gid))
    } else {
        gids.any(|gid| says(&gid, true))
    }
}

/// Writes off what the log of `machine` lacks, and starts it again.
pub(super) async fn writes_off(world: &Arc<World>, machine: &Arc<Machine>) {
    let until = world.now() + WRITE_OFF;
    let order = WriteOff {
        coordinator_id: COORDINATOR.into(),
        operator: "ann".into(),
        reason: "the disk is gone".into(),
        apply: true,
    };
    while machine.lacks_something() {
        world.sleep(Duration::from_millis(100)).await;
        let said = match machine.running() {
            Some(running) => {
                let order = order.clone();
                ask(world, &running, |answer| Request::WriteOff(order, answer)).await
            }
            None => None,
        };
        let recorded = match &said {
            Some(Ok(response)) => response.applied,
            // The answer to an earlier order was lost.
            Some(Err(RequestError::Invalid(why))) => why.contains("restart the coordinator"),
            Some(Err(_)) | None => false,
        };
        if recorded {
            world.note("operator", || format!("restarts the coordinator after {said:?}"));
            machine.die(world, Down::Killed);
            machine.start_again(world).await;
        } else if world.now() > until {
            world.broken(format!("I6: what the log lacks cannot be written off: {said:?}"));
            return;
        }
    }
}

/// Ends what was left to a person since a log was written off, as clients were told and as its other branches
/// ended.
pub(super) async fn settles_by_what_is_known(world: &World) {
    let Some(running) = present(world) else { return };
    for shown in in_doubt(world, &running).await {
        let Some(branch) = Branch::of(world, &shown).filter(|branch| branch.rule == "R10") else { continue };
        if branch.is_other_work(world) {
            resolve(world, &running, &branch, false, true).await;
            continue;
        }
        let commit = was_committed(world, &branch.gid.gtid);
        // What a sibling's commit marker says counts for more.
        let refused = resolve(world, &running, &branch, commit, false).await == Some(false);
        if refused && is_contradicted(world, &branch, commit) {
            resolve(world, &running, &branch, !commit, false).await;
        }
    }
}

fn was_committed(world: &World, gtid: &Gtid) -> bool {
    let pages = world.book.open();
    let mut of_it = pages.attempts.iter().filter(|attempt| attempt.gtid.as_ref() == Some(gtid));
    let told = of_it.any(|attempt| attempt.told.iter().any(|(_, told)| matches!(told, Told::Committed(_))));
    told || world.monitor.is_forced(gtid)
}

/// Looks again and again at what people had a hand in, and writes down which departures are told of.
pub(super) async fn audits(world: Arc<World>) {
    loop {
        world.sleep(Duration::from_millis(300)).await;
        let Some(machine) = world.machine().filter(|machine| !machine.lacks_something()) else { continue };
        let Some(running) = machine.running() else { continue };
        let gtids: Vec<Gtid> = {
            let pages = world.book.open();
            let gids = pages.interfered.keys().filter_map(|(_, gid)| gid.parse::<Gid>().ok());
            gids.map(|gid| gid.gtid).collect()
        };
        for gtid in gtids {
            let said = ask(&world, &running, |answer| Request::Get(gtid.clone(), answer)).await;
            if let Some(Ok(Outcome::Committed { heuristics, .. } | Outcome::Aborted { heuristics, .. })) =
                said
            {
                let mut pages = world.book.open();
                for departure in Heuristic::departures(&heuristics) {
                    let key = (gtid.to_string(), departure.participant.to_string());
                    pages.departures.insert(key);
                }
            }
        }
    }
}
