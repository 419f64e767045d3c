//! Logs that lack something: an older copy that stands in for the true log for a while, and a log that is lost
//! for good, until a person writes off what is lacking.

use std::sync::Arc;
use std::time::Duration;

use votum_participant::database::{Kept, Stood};
use votum_proto::names::Gid;

use super::agents::AgentPlace;
use super::coordinator::Machine;
use super::database::Host;
use super::disk::Down;
use super::world::World;
use super::{clients, operator};

/// Puts an older copy of the log in the place of the true one, once everybody has heard of more than it holds.
/// Clients cannot tell, and go on with it.
pub(super) async fn old_copy(world: &Arc<World>, lasts: Duration) {
    let Some(machine) = world.machine().filter(|machine| !machine.is_copy) else { return };
    let Some((copy, end)) = machine.copy(world) else { return };
    if !until_everybody_knows_more(world, &machine, end).await {
        return;
    }
    machine.die(world, Down::Killed);
    world.note("coordinator", || format!("an older copy of its log is started, which ends at {end}"));
    world.address(&copy);
    copy.start_again(world).await;
    everybody_asks(world);
    world.sleep(lasts).await;
    copy.retire(world);
    world.address(&machine);
    machine.start_again(world).await;
}

/// The log is lost. What is put in its place is stale until a person writes off what it lacks, and then the
/// coordinator's for good.
pub(super) async fn log_lost(world: &Arc<World>, anew: bool, stale: Duration) {
    let Some(machine) = world.machine().filter(|machine| !machine.is_copy) else { return };
    let found = if anew { Machine::anew(world).ok().map(|log| (log, 0)) } else { machine.copy(world) };
    let Some((other, end)) = found else { return };
    if !until_everybody_knows_more(world, &machine, end).await {
        return;
    }
    machine.retire(world);
    world.note("coordinator", || format!("its log is lost; another one is started, which ends at {end}"));
    world.address(&other);
    // What people knew from the lost log, nobody can show them any more.
    world.book.open().departures.clear();
    other.start_again(world).await;
    everybody_asks(world);
    world.sleep(stale).await;
    operator::writes_off(world, &other).await;
    everybody_asks(world);
}

/// Waits until everybody who may tell has heard of more than a log holds that ends at `end`: for participants
/// behind another one it would decide as a whole log does, and nobody promises better (docs/protocol.md,
/// fencing and the stale log). False where that did not come to pass.
async fn until_everybody_knows_more(world: &World, machine: &Arc<Machine>, end: u64) -> bool {
    for tries in 0..300 {
        world.sleep(Duration::from_millis(10)).await;
        if world.is_calm() {
            return false;
        }
        if !world.agents.iter().all(|place| knows_more(world, place, end)) {
            continue;
        }
        // Best while a commit that the copy lacks is on its way; but not for ever.
        if tries < 150 && !world.hosts.iter().any(|host| has_a_commit_on_its_way(world, host)) {
            continue;
        }
        let still = world.machine().is_some_and(|now| Arc::ptr_eq(&now, machine));
        return still && machine.running().is_some();
    }
    false
}

/// Whether the agent has heard of more; and, where it may restart and forget, its databases as well.
fn knows_more(world: &World, place: &AgentPlace, end: u64) -> bool {
    let life = place.running().map(|running| running.life);
    let witnessed = life.and_then(|life| world.monitor.witnessed(place.index, life));
    let written = |host: &Arc<Host>| match host.server().row {
        Stood::Nowhere => true,
        Stood::Nothing => false,
        Stood::Kept(Kept { witness, .. }) => witness.is_some_and(|seen| seen.position > end),
    };
    let mut here = place.participants.iter().filter_map(|index| world.hosts.get(*index));
    witnessed.is_some_and(|(_, position)| position > end) && here.all(written)
}

/// Everybody who asked for a commit asks what became of it, some before the first agent is heard.
fn everybody_asks(world: &Arc<World>) {
    let attempts = world.book.open().attempts.clone();
    for (number, attempt) in attempts.into_iter().enumerate() {
        let Some(gtid) = attempt.gtid.filter(|_| attempt.claimed.is_some()) else { continue };
        let asking = Arc::clone(world);
        world.spawn(async move {
            let pause = asking.random.draw(|random| random.micros(0, 20_000));
            asking.sleep(pause).await;
            clients::ask_once(&asking, Duration::from_secs(2), number, gtid).await;
        });
    }
}

/// Waits until something is prepared at a database whose commit is on disk; but not for ever.
pub(super) async fn until_a_commit_is_on_its_way(world: &World, database: usize) {
    let Some(host) = world.hosts.get(database) else { return };
    for _ in 0..600 {
        if world.is_calm() || host.server().up && has_a_commit_on_its_way(world, host) {
            return;
        }
        world.sleep(Duration::from_millis(3)).await;
    }
}

/// Whether something is prepared whose commit is on disk.
fn has_a_commit_on_its_way(world: &World, host: &Host) -> bool {
    let server = host.server();
    let prepared = server.state.prepared.keys();
    prepared.filter_map(|gid| gid.parse::<Gid>().ok()).any(|gid| world.monitor.is_forced(&gid.gtid))
}
