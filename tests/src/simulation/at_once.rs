//! Clients that ask for a whole transaction at once, and repeat the request as the client crate does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use votum_coordinator::driver::request::{Begin, Outcome, RequestError, Transact, Wait};
use votum_coordinator::protocol::record::KeyRecord;
use votum_proto::v1;

use super::asking::{Ask, Said, ask};
use super::clients::{ask_once, name, told, told_of};
use super::database::{Change, Doing};
use super::judge::LONG_MS;
use super::network::NoAnswer;
use super::plan::{Ending, Fault, Plan, What, Work};
use super::random::Random;
use super::world::World;

/// Where nobody waits for room.
pub const ROOM: usize = 64;

/// Whether a piece of work is asked for in one request. Drawn apart from everything else.
pub fn is_drawn(plan: &Plan, work: &Work) -> bool {
    let commits = matches!(work.ending, Ending::Commit { races_rollback: false, .. });
    let mut random = Random::new(plan.seed, &format!("at once {}", work.number));
    commits && !work.statements.is_empty() && random.chance(350)
}

/// Whether it asks for a last agent, where one can be found. Drawn apart, too, and for whole seeds: of those that once
/// found something none has any.
pub fn is_last_agent(plan: &Plan, work: &Work) -> bool {
    let participants: BTreeSet<usize> = work.statements.iter().map(|(participant, _)| *participant).collect();
    let may = plan.markers && participants.len() > 1 && is_drawn(plan, work);
    may && Random::new(plan.seed, "last agents 0").chance(700)
        && Random::new(plan.seed, &format!("last agent {}", work.number)).chance(500)
}

/// How many branches of whole transactions a participant works on at once: in a third of the runs so few that others
/// wait for room. By remainders that no seed has which once found something.
pub fn room(plan: &Plan) -> usize {
    match plan.seed % 9 {
        1 | 7 => 1,
        4 => 2,
        _ => ROOM,
    }
}

/// Does one piece of work.
pub async fn work(world: Arc<World>, work: Work) {
    let mut random = Random::new(world.plan.seed, &format!("client {}", work.number));
    let attempt = world.book.begin(work.number, work.key);
    let mut transact = request(&world, &work, attempt, &mut random);
    world.note(&name(&work), || format!("attempt {attempt} asks for all of its work at once"));
    // As in the client crate: what is open is repeated for the life that it was meant for, and for no other.
    let (mut open, mut pinned) = (false, false);
    for _ in 0..work.tries {
        match ask(&world, work.patience, Ask::Transact(transact.clone())).await {
            Ok(Said::Transacted(done)) => {
                world.note(&name(&work), || format!("is told of {}: {:?}", done.gtid, done.outcome));
                told_of_this(&world, attempt, &done.gtid, &done.outcome);
                if !matches!(done.outcome, Outcome::InProgress(_) | Outcome::Unknown(_)) {
                    break;
                }
            }
            Ok(Said::Refused(RequestError::OtherLife { present, .. })) => {
                transact.life = present.life.to_string();
                pinned = false;
                if open && !key_knows(&world, &work) {
                    break;
                }
                continue;
            }
            Ok(Said::Refused(RequestError::Invalid(_) | RequestError::KeyMismatch(_))) => break,
            Ok(Said::Refused(RequestError::NotBegun(_))) => {}
            Ok(Said::Refused(_)) | Err(NoAnswer) => {
                (open, pinned) = (true, true);
                transact.repeated = true;
            }
            Ok(Said::Begun(_) | Said::Outcome(_) | Said::OfKey(..)) => {}
        }
        if !pinned {
            transact.life = world.a_known_life().unwrap_or_default();
        }
        let pause = random.millis(5, 400);
        world.sleep(pause).await;
    }
    let gtid = world.book.write(attempt, |lines| lines.gtid.clone()).flatten();
    if let Some(gtid) = gtid {
        let pause = random.millis(10, 5_000);
        world.sleep(pause).await;
        ask_once(&world, work.patience, attempt, gtid).await;
    }
}

/// Whether the key still knows of what an earlier life committed under it: not where the log forgets soon, or was
/// lost.
fn key_knows(world: &World, work: &Work) -> bool {
    let lost = |fault: &Fault| matches!(fault.what, What::OldCopy { .. } | What::LogLost { .. });
    work.key.is_some() && world.plan.log.retention_ms >= LONG_MS && !world.plan.faults.iter().any(lost)
}

/// The answer may be about a transaction that another request with the same key began.
fn told_of_this(world: &World, attempt: usize, gtid: &votum_proto::names::Gtid, outcome: &Outcome) {
    let known = world.book.write(attempt, |lines| lines.gtid.clone()).flatten();
    if known.as_ref() == Some(gtid) || known.is_none() {
        world.book.write(attempt, |lines| lines.gtid = Some(gtid.clone()));
        told(world, attempt, outcome);
    } else {
        told_of(world, gtid, outcome);
    }
}

fn request(world: &World, work: &Work, attempt: usize, random: &mut Random) -> Transact {
    let mut branches: BTreeMap<usize, Vec<v1::WorkStatement>> = BTreeMap::new();
    let mut changes: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    for (participant, doing) in &work.statements {
        let statements = branches.entry(*participant).or_default();
        let ordinal = statements.len() as u64 + 1;
        let doing = match doing.clone() {
            Doing::Change(change) => {
                changes.entry(*participant).or_default().insert(ordinal);
                Doing::Change(Change { tag: format!("{attempt}:{participant}:{ordinal}"), ..change })
            }
            other @ (Doing::Look(_) | Doing::Fail) => other,
        };
        statements.push(v1::WorkStatement { statement: doing.text(), ..Default::default() });
    }
    let claimed = branches.iter().map(|(at, statements)| (*at, statements.len() as u64)).collect();
    // It is done with all of them, or not at all.
    world.book.write(attempt, |lines| (lines.claimed, lines.done) = (Some(claimed), changes));
    let completed = matches!(work.ending, Ending::Commit { completed: true, .. });
    let number = u8::try_from(work.number).unwrap_or(u8::MAX);
    let key = work.key.map(|key| KeyRecord {
        client: "shop".into(),
        key: format!("order-{key}"),
        request_hash: [number.wrapping_add(100); 32],
    });
    let branch = |(participant, statements): (usize, Vec<v1::WorkStatement>)| {
        let host = world.hosts.get(participant)?;
        let read_only = !work
            .statements
            .iter()
            .any(|(at, doing)| *at == participant && matches!(doing, Doing::Change(_)));
        Some((host.name.clone(), v1::BranchWork { statements, read_only, ..Default::default() }))
    };
    Transact {
        begin: Begin {
            timeout: work.timeout,
            key,
            client: "shop".into(),
            label: format!("{attempt}"),
            attached: Vec::new(),
            participants: Vec::new(),
        },
        isolation: v1::Isolation::ReadCommitted,
        read_only: work.read_only,
        branches: branches.into_iter().filter_map(branch).collect(),
        wait: if completed { Wait::Completed } else { Wait::Decided },
        attempt: Some(random.bits().max(1)),
        life: world.a_known_life().unwrap_or_default(),
        repeated: false,
        last_agent: is_last_agent(&world.plan, work),
    }
}
