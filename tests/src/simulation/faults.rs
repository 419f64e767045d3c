//! What goes wrong, when its time has come.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use votum_coordinator::driver::request::{NOT_ANSWERED, Outcome, Request, RequestError, Resolve};
use votum_proto::names::Gid;

use super::book::Interference;
use super::database::{Change, Lost, Prepared, Wal, end_prepared};
use super::disk::Down;
use super::plan::{Fault, What};
use super::world::{COORDINATOR, World};
use super::{copies, network, operator};

/// Lets one fault happen.
pub async fn happen(world: Arc<World>, fault: Fault) {
    world.sleep(fault.at).await;
    if world.is_calm() {
        return;
    }
    world.note("FAULT", || format!("{:?}", fault.what));
    match fault.what {
        What::CoordinatorDies { how, away, again } => coordinator_dies(&world, how, away, again).await,
        What::CoordinatorStops { asleep, successor } => coordinator_stops(&world, asleep, successor).await,
        What::DiskFails { after, how } => {
            if let Some(machine) = world.machine() {
                machine.disk().fail_after(after, how);
            }
        }
        What::DiskIsSlow { by, lasts } => {
            let by = u64::try_from(by.as_micros()).unwrap_or(0);
            world.drag.store(by, Ordering::Relaxed);
            world.sleep(lasts).await;
            world.drag.store(0, Ordering::Relaxed);
        }
        What::AgentDies { agent, away } => agent_dies(&world, agent, away).await,
        What::DatabaseDies { database, away } => database_dies(&world, database, away, None).await,
        What::FailOver { database, behind, away } => {
            database_dies(&world, database, away, Some(Standby { behind, others: 0 })).await;
        }
        What::SessionsEnd { database } => sessions_end(&world, database),
        What::HandEnds { database, commit } => hand_ends(&world, database, commit).await,
        What::Departs { database } => departs(&world, database).await,
        What::Impostor { database } => impostor(&world, database).await,
        What::Stranger { database, forged } => stranger(&world, database, forged),
        What::Cut { agent, there, back, lasts, noticed } => {
            if let Some(wire) = world.wires.get(agent) {
                wire.cut(there, back);
                let noticing = network::notice(&world, agent, noticed);
                let healing = async {
                    world.sleep(lasts).await;
                    wire.cut(false, false);
                };
                futures::future::join(noticing, healing).await;
            }
        }
        What::Reset { agent } => {
            if let Some(wire) = world.wires.get(agent) {
                wire.reset();
            }
        }
        What::StoreUnreadable { lasts } => store_unreadable(&world, lasts).await,
        What::OldCopy { lasts } => copies::old_copy(&world, lasts).await,
        What::LogLost { anew, stale } => copies::log_lost(&world, anew, stale).await,
        What::Overtaken { database, behind, away, others } => {
            copies::until_a_commit_is_on_its_way(&world, database).await;
            database_dies(&world, database, away, Some(Standby { behind, others })).await;
        }
        What::Operator { lasts } => operator::works(&world, lasts).await,
    }
}

async fn coordinator_dies(world: &Arc<World>, how: Down, away: Duration, again: Option<Duration>) {
    let Some(machine) = world.machine() else { return };
    machine.die(world, how);
    world.sleep(away).await;
    machine.start_again(world).await;
    if let Some(after) = again {
        world.sleep(after).await;
        machine.die(world, how);
        world.sleep(away / 8).await;
        machine.start_again(world).await;
    }
}

async fn store_unreadable(world: &Arc<World>, lasts: Duration) {
    let Some(machine) = world.machine() else { return };
    machine.die(world, Down::Killed);
    machine.store().set_unreadable(true);
    machine.start_again(world).await;
    world.sleep(lasts).await;
    machine.die(world, Down::Killed);
    machine.store().set_unreadable(false);
    machine.start_again(world).await;
}

async fn coordinator_stops(world: &Arc<World>, asleep: Duration, successor: bool) {
    let Some(machine) = world.machine() else { return };
    let Some(running) = machine.running() else { return };
    running.process.stop();
    if !successor {
        world.sleep(asleep).await;
        running.process.go_on();
        return;
    }
    world.sleep(asleep / 2).await;
    // Another fault may have taken it away meanwhile.
    let still = machine.running().is_some_and(|now| Arc::ptr_eq(&now.process, &running.process));
    if still && let Some(old) = machine.let_go() {
        machine.start_again(world).await;
        world.sleep(asleep / 2).await;
        world.note("coordinator", || format!("life {} wakes after its successor", old.sender.life));
        old.process.go_on();
        world.sleep(Duration::from_secs(3)).await;
        old.process.kill();
    } else {
        running.process.go_on();
    }
}

async fn agent_dies(world: &Arc<World>, agent: usize, away: Duration) {
    let Some(place) = world.agents.get(agent) else { return };
    // What a log lacks is in agents' memories alone, where no database has a place for it: until that is
    // written off, they live.
    if !world.plan.rows && world.machine().is_some_and(|machine| machine.lacks_something()) {
        return;
    }
    place.kill(world);
    world.sleep(away).await;
    place.start(world);
}

/// What takes over.
#[derive(Debug, Clone, Copy)]
struct Standby {
    /// How many records it has not seen.
    behind: usize,
    /// How many transactions of others commit there before anybody else comes.
    others: u64,
}

async fn database_dies(world: &Arc<World>, index: usize, away: Duration, standby: Option<Standby>) {
    let Some(host) = world.hosts.get(index) else { return };
    if !host.server().up {
        return;
    }
    host.replace_process();
    {
        let mut server = host.server();
        match standby {
            None => host.random.draw(|random| server.crash(random)),
            Some(Standby { behind, .. }) => server.fail_over(behind),
        }
        for lost in &server.lost {
            match lost {
                Lost::Prepare(gid, _) => world.book.interfered(index, gid, Interference::LostPrepare),
                Lost::End(gid) => world.book.interfered(index, gid, Interference::LostEnd),
                // Its marker went with it, which says so.
                Lost::OnePhase(gid) => world.book.interfered(index, gid, Interference::LostOnePhase),
            }
        }
    }
    host.note(|| format!("is down; {} transactions stay prepared", host.server().state.prepared.len()));
    host.stir();
    host.breaks.send_modify(|count| *count += 1);
    world.sleep(away).await;
    host.server().others_commit(standby.map_or(0, |standby| standby.others));
    host.server().up = true;
    host.note(|| "is back".to_owned());
    host.stir();
}

fn sessions_end(world: &World, index: usize) {
    let Some(host) = world.hosts.get(index) else { return };
    {
        let mut server = host.server();
        let idle: Vec<i32> =
            server.backends.iter().filter(|(_, backend)| !backend.busy).map(|(pid, _)| *pid).collect();
        for pid in idle {
            server.abort(pid);
            server.backends.remove(&pid);
        }
    }
    host.stir();
    host.breaks.send_modify(|count| *count += 1);
}

/// Waits for something of ours to be prepared, and ends it.
async fn hand_ends(world: &Arc<World>, index: usize, commit: bool) {
    let Some(host) = world.hosts.get(index) else { return };
    for _ in 0..200 {
        if world.is_calm() {
            return;
        }
        let found = {
            let server = host.server();
            let pages = world.book.open();
            let ours = |gid: &&String| {
                let key = (index, (*gid).clone());
                !pages.strangers.contains(&key) && !pages.interfered.contains_key(&key)
            };
            server
                .up
                .then(|| {
                    let free = server.state.prepared.iter().filter(|(gid, _)| !server.busy.contains(*gid));
                    free.map(|(gid, _)| gid).find(ours).cloned()
                })
                .flatten()
        };
        let Some(gid) = found else {
            world.sleep(Duration::from_millis(3)).await;
            continue;
        };
        let how = if commit { Interference::HandCommits } else { Interference::HandRollsBack };
        world.book.interfered(index, &gid, how);
        host.note(|| format!("a person ends {gid} by hand"));
        if end_prepared(Arc::clone(host), None, gid.clone(), commit, "postgres").await.is_err() {
            world.book.did_not_interfere(index, &gid, how);
        }
        return;
    }
}

/// Waits for a branch whose decision is known and owed, and has the coordinator depart from it.
async fn departs(world: &Arc<World>, index: usize) {
    let Some(host) = world.hosts.get(index) else { return };
    for _ in 0..5_000 {
        if world.is_calm() {
            return;
        }
        let prepared: Vec<Gid> =
            host.server().state.prepared.keys().filter_map(|gid| gid.parse().ok()).collect();
        let Some(running) = world.machine().and_then(|machine| machine.running()) else {
            world.sleep(Duration::from_millis(3)).await;
            continue;
        };
        for gid in prepared.into_iter().filter(|gid| gid.gtid.coordinator_id.as_str() == COORDINATOR) {
            let decided = if world.monitor.is_forced(&gid.gtid) {
                Some(true)
            } else {
                let said = running.handle.ask(|answer| Request::Get(gid.gtid.clone(), answer)).await;
                matches!(said, Ok(Outcome::Aborted { reason: Some(_), .. })).then_some(false)
            };
            let Some(decided) = decided else { continue };
            let resolve = Resolve {
                gid: gid.clone(),
                participant: host.name.clone(),
                commit: !decided,
                operator: "operator".into(),
                reason: "it cannot wait".into(),
                apply: true,
                heuristic: true,
            };
            let name = gid.to_string();
            let known = world.book.open().interfered.contains_key(&(index, name.clone()));
            // What others have a hand in already is judged as theirs.
            if known {
                continue;
            }
            world.book.interfered(index, &name, Interference::Departs);
            let said = running.handle.ask(|answer| Request::Resolve(resolve, answer)).await;
            world.note("operator", || format!("departs with {gid}: {said:?}"));
            match said {
                Ok(response) if response.applied => return,
                Err(RequestError::Unavailable(why)) if why == NOT_ANSWERED => return,
                // Nothing was recorded.
                Ok(_) | Err(RequestError::Invalid(_) | RequestError::Unavailable(_))
                    if !running.process.is_dead() =>
                {
                    world.book.did_not_interfere(index, &name, Interference::Departs);
                }
                // Nobody knows how far it came.
                Ok(_) | Err(_) => return,
            }
        }
        world.sleep(Duration::from_millis(1)).await;
    }
}

/// Waits for a branch of ours to have ended, and prepares other work under its name.
async fn impostor(world: &Arc<World>, index: usize) {
    let Some(host) = world.hosts.get(index) else { return };
    for _ in 0..200 {
        if world.is_calm() {
            return;
        }
        let ended = {
            let server = host.server();
            let ends = server.wal.get(..server.flushed).unwrap_or_default().iter().rev();
            let found = ends.into_iter().find_map(|record| match record {
                Wal::CommitPrepared(_, gid) => Some(gid.clone()),
                Wal::Prepared(..)
                | Wal::RollbackPrepared(..)
                | Wal::Wrote(_)
                | Wal::Committed(..)
                | Wal::OnePhase(..)
                | Wal::Tombstone(_) => None,
            });
            // COMMIT PREPARED names no transaction id: while one for this name is on its way or at the server,
            // also one whose connection broke, whatever bears the name is committed (docs/protocol.md, one
            // commit). Where a person ended the branch, that one is still to come.
            let untouched = |gid: &String| {
                let at_work = server.backends.values().any(|backend| backend.ends.as_ref() == Some(gid));
                !world.book.open().interfered.contains_key(&(index, gid.clone()))
                    && world.monitor.has_ended(gid)
                    && !at_work
                    && !server.state.prepared.contains_key(gid)
                    && !server.busy.contains(gid)
            };
            found.filter(untouched)
        };
        match ended {
            Some(gid) if host.server().up => {
                world.book.interfered(index, &gid, Interference::Impostor);
                prepare(world, index, &gid, super::database::ROLE, "impostor");
                return;
            }
            Some(_) | None => world.sleep(Duration::from_millis(7)).await,
        }
    }
}

/// Somebody prepares something, with the agents' role or another.
fn prepare(world: &World, index: usize, gid: &str, owner: &str, tag: &str) {
    let Some(host) = world.hosts.get(index) else { return };
    {
        let mut server = host.server();
        if !server.up || server.state.prepared.contains_key(gid) || server.busy.contains(gid) {
            return;
        }
        let xid = server.draw_xid();
        let change = Change { account: 1_000, delta: 0, tag: tag.to_owned(), unique: None };
        let prepared = Prepared {
            gid: gid.to_owned(),
            owner: owner.to_owned(),
            changes: vec![change],
            at: host.executor.now(),
            marker: false,
        };
        let number = server.write(Wal::Prepared(xid, prepared));
        server.flush(number);
        server.carry_out(number);
    }
    host.note(|| format!("{owner} prepares {gid} ({tag})"));
}

fn stranger(world: &World, index: usize, forged: bool) {
    let gid = if forged {
        // Of a life that never was, by the agents' own role; or of the present one, by somebody else.
        let life = world.machine().and_then(|machine| machine.running()).map(|running| running.sender.life);
        match life {
            Some(life) if world.now().as_millis().is_multiple_of(2) => {
                format!("votum_acme_{}_{}_1_0_2", life.epoch, life.incarnation)
            }
            Some(_) | None => "votum_acme_999_abcdef_7_0_2".to_owned(),
        }
    } else {
        "pg_gid_16394_745".to_owned()
    };
    if world.hosts.get(index).is_none_or(|host| host.server().state.prepared.contains_key(&gid)) {
        return;
    }
    world.book.open().strangers.insert((index, gid.clone()));
    let present = gid.starts_with("votum_acme_") && !gid.contains("_999_");
    let owner = if present || !forged { "somebody" } else { super::database::ROLE };
    prepare(world, index, &gid, owner, "stranger");
    let there = world.hosts.get(index).is_some_and(|host| host.server().state.prepared.contains_key(&gid));
    if !there {
        world.book.open().strangers.remove(&(index, gid));
    }
}
