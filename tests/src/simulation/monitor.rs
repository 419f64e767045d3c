//! Looks at every frame on the wires, and at every answer to a client, with the eyes of somebody who can see
//! all disks at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use votum_coordinator::protocol::record::{Decided, PreparedBranch};
use votum_proto::names::{Gid, Gtid, Life};
use votum_proto::v1::agent_message::Kind as FromAgent;
use votum_proto::v1::coordinator_message::Kind as ToAgent;
use votum_proto::v1::vote::Kind as Vote;
use votum_proto::v1::{AgentFrame, CommitBranch, CoordinatorFrame, Listing, Work};

use super::book::Interference;
use super::coordinator::Sender;
use super::database::Doing;
use super::describe::{describe, describe_report};
use super::network::Line;
use super::plan::What;
use super::world::World;

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Votes that reached a coordinator, by gid: whether the transaction may go on.
    votes: BTreeMap<String, bool>,
    /// Offers to commit in one phase that reached a coordinator, by gid. Their session's end takes them back.
    offers: BTreeSet<String>,
    /// Commits that are known to be on disk.
    forced: BTreeSet<Gtid>,
    /// Complete listings that left agents, by participant.
    listings: BTreeMap<String, u64>,
    /// The newest life that each agent has greeted, by agent and its life.
    greeted: BTreeMap<(usize, u64), Life>,
    /// The newest witness that each agent was given, by agent and its life: epoch and position.
    witnessed: BTreeMap<(usize, u64), (u64, u64)>,
    /// Whether an agent refused this life.
    refused: BTreeSet<Life>,
    /// The agent's life to which each Prepare was sent, by gid.
    prepares: BTreeMap<String, u64>,
    /// Branches that were given their work with the word that they decide, by gid.
    deciding: BTreeSet<String>,
    /// gids of whose end an agent has told.
    ended: BTreeSet<String>,
    /// The life that aborted with this branch's yes in hand, by gid: its order to roll back bears the vote's
    /// transaction id.
    undone_by: BTreeMap<String, Life>,
}

/// The monitor.
#[derive(Debug, Default)]
pub struct Monitor(Mutex<Seen>);

impl Monitor {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an agent refused this life.
    pub fn was_refused(&self, life: Life) -> bool {
        self.seen().refused.contains(&life)
    }

    /// Whether the commit of a transaction is known to be on disk.
    pub fn is_forced(&self, gtid: &Gtid) -> bool {
        self.seen().forced.contains(gtid)
    }

    /// Whether an agent has told of a branch's end.
    pub fn has_ended(&self, gid: &str) -> bool {
        self.seen().ended.contains(gid)
    }

    /// The newest life of a coordinator that an agent has greeted.
    pub fn greeted(&self, agent: usize, life: u64) -> Option<Life> {
        self.seen().greeted.get(&(agent, life)).copied()
    }

    /// The life that aborted a branch of whose yes it knew.
    pub fn undone_by(&self, gid: &str) -> Option<Life> {
        self.seen().undone_by.get(gid).copied()
    }

    /// The newest witness that an agent was given.
    pub fn witnessed(&self, agent: usize, life: u64) -> Option<(u64, u64)> {
        self.seen().witnessed.get(&(agent, life)).copied()
    }
}

/// The commit of `gtid` is on disk, or it is broken why: `what` was about to happen.
fn must_be_forced(world: &World, sender: &Sender, gtid: &Gtid, what: &str) {
    if world.monitor.seen().forced.contains(gtid) {
        return;
    }
    match sender.forced_commit(gtid) {
        None => world.broken(format!("I3: {what} before the commit of {gtid} was on disk")),
        Some(decided) => {
            if let Some(last) = last_of(&decided).filter(|last| !has_decided(world, &decided, last)) {
                let at = &last.participant;
                world.broken(format!(
                    "I3: {what}, and the branch of {gtid} that decides is not committed at {at}"
                ));
            }
            world.monitor.seen().forced.insert(gtid.clone());
            must_have_voted(world, &decided);
        }
    }
}

/// The word to commit in one phase: that it is the branch's own to decide is on disk. Of one that has siblings, only
/// its commit is a decision to which others may be held.
fn must_be_delegated(world: &World, sender: &Sender, gtid: &Gtid) {
    match sender.forced_commit(gtid).filter(|decided| last_of(decided).is_some()) {
        Some(decided) => must_have_voted(world, &decided),
        None => must_be_forced(world, sender, gtid, "COMMIT in one phase was ordered"),
    }
}

/// The branch that decided, or is to, for siblings that are prepared.
fn last_of(decided: &Decided) -> Option<&PreparedBranch> {
    decided.deciding().filter(|branch| branch.was_never_prepared())
}

/// Whether its commit is at its database, or was before a failover.
fn has_decided(world: &World, decided: &Decided, last: &PreparedBranch) -> bool {
    let Some(index) = world.index_of(last.participant.as_str()) else { return true };
    let gid = decided.gid(last.number).to_string();
    let host = world.hosts.get(index);
    host.is_some_and(|host| host.server().state.markers.get(&gid) == Some(&true))
        || world.book.is_touched(index, &gid)
}

fn must_have_voted(world: &World, decided: &Decided) {
    let seen = world.monitor.seen();
    // Where some are attached, nothing says how many there are.
    let named: Vec<u16> = match decided.branches_named {
        0 => decided.branches.iter().map(|branch| branch.number).collect(),
        branches => (0..branches).collect(),
    };
    let missing = named
        .into_iter()
        .filter(|branch| last_of(decided).is_none_or(|last| last.number != *branch))
        .map(|branch| decided.gid(branch).to_string())
        .find(|gid| seen.votes.get(gid) != Some(&true) && !seen.offers.contains(gid));
    drop(seen);
    if let Some(gid) = missing {
        world.broken(format!("I2: {} was decided to commit, and {gid} had not voted for it", decided.gtid));
    }
}

/// I1: nobody orders to roll back what others have been told to commit; unless somebody had a hand in it. What a
/// stranger prepares under the name of a branch that has ended is not that branch, and is judged by I8.
fn must_not_be_forced(world: &World, participant: &str, gid: &str) {
    let Some(index) = world.index_of(participant) else { return };
    let forced = gid.parse::<Gid>().is_ok_and(|gid| world.monitor.is_forced(&gid.gtid));
    let stranger = world.book.open().strangers.contains(&(index, gid.to_owned()));
    // A failover took the commit that decided, with its marker, and a crash the record of it: nobody knows it any more.
    // What is told of it then is judged at the end.
    let lost = gid.parse::<Gid>().is_ok_and(|gid| world.book.has_lost(&gid.gtid));
    if forced && !stranger && !lost && !world.book.is_touched(index, gid) {
        world.broken(format!("I1: {participant} was told to roll back {gid}, whose commit is decided"));
    }
}

/// Whether an operator may have ordered this commit, which rests on no decision then.
fn was_ordered(world: &World, participant: &str, gid: &str) -> bool {
    let index = world.index_of(participant);
    index.is_some_and(|index| world.book.open().ordered.contains(&(index, gid.to_owned())))
}

/// A coordinator told a client that a transaction is committed.
pub fn told_committed(world: &World, sender: &Sender, gtid: &Gtid) {
    must_be_forced(world, sender, gtid, "a client was told COMMITTED");
}

/// I10: an abort that a client asked for waited for nothing. Nobody else's time is judged: not where the
/// coordinator was stopped in between.
pub fn told_aborted(world: &World, gtid: Option<&Gtid>, arrived: std::time::Duration) {
    let stops = world.plan.faults.iter().any(|fault| matches!(fault.what, What::CoordinatorStops { .. }));
    let waited = world.now().saturating_sub(arrived);
    if !stops && waited > std::time::Duration::from_millis(1) {
        let gtid = gtid.map(ToString::to_string).unwrap_or_default();
        world.broken(format!("I10: the abort of {gtid} waited {} ms for something", waited.as_millis()));
    }
}

/// A frame leaves a coordinator.
pub fn leaves_coordinator(world: &World, line: &Line, frame: &CoordinatorFrame) {
    if let Some(witness) = &frame.witness {
        let told = line.sender.told.load(Ordering::Relaxed);
        if witness.epoch == line.sender.life.epoch.0 && witness.position > told {
            world.broken(format!(
                "I3: a witness named position {} of life {}, whose log is on disk as far as {told}",
                witness.position, line.sender.life
            ));
        }
    }
    for message in &frame.messages {
        world.note("to agent", || format!("{} {}", line.agent, describe(message.kind.as_ref())));
        if let Some(ToAgent::Prepare(order)) = &message.kind {
            note_work(world, &order.gtid, order.work.as_ref());
            let mut seen = world.monitor.seen();
            let first = *seen.prepares.entry(order.gid.clone()).or_insert(line.agent_life);
            drop(seen);
            if first != line.agent_life {
                let gid = &order.gid;
                world.broken(format!("I15: Prepare of {gid} was sent again to an agent that has restarted"));
            }
        }
        if let Some(ToAgent::Rollback(order)) = &message.kind
            && order.xid8 != 0
        {
            world.monitor.seen().undone_by.insert(order.gid.clone(), line.sender.life);
        }
        if let Some(ToAgent::CommitOnePhase(order)) = &message.kind
            && let Ok(gtid) = order.gtid.parse()
        {
            must_be_delegated(world, &line.sender, &gtid);
            note_work(world, &order.gtid, order.work.as_ref());
            let again = order.work.is_some() && !world.monitor.seen().deciding.insert(order.gid.clone());
            if again {
                world.broken(format!("I15: the work of {}, which decides, was given twice", order.gid));
            }
        }
        if let Some(ToAgent::Rollback(order)) = &message.kind {
            must_not_be_forced(world, &order.participant, &order.gid);
        }
        if let Some(ToAgent::Commit(order)) = &message.kind
            && let Ok(gtid) = order.gtid.parse()
            && !was_ordered(world, &order.participant, &order.gid)
            && !departs(world, order)
        {
            must_be_forced(world, &line.sender, &gtid, "COMMIT PREPARED was ordered");
        }
    }
}

/// The work itself says for which attempt it is done.
fn note_work(world: &World, gtid: &str, work: Option<&Work>) {
    let statements = work.into_iter().flat_map(|work| &work.statements);
    for statement in statements {
        if let (Some(Doing::Change(change)), Ok(gtid)) =
            (Doing::parse(&statement.statement), gtid.parse::<Gtid>())
            && let Some(attempt) = change.tag.split(':').next().and_then(|number| number.parse().ok())
        {
            world.book.write(attempt, |lines| lines.gtid = Some(gtid));
        }
    }
}

/// Whether an operator had this branch ended otherwise than decided: what is on record of that is judged at the
/// end.
fn departs(world: &World, order: &CommitBranch) -> bool {
    let Some(index) = world.index_of(&order.participant) else { return false };
    let pages = world.book.open();
    let hands = pages.interfered.get(&(index, order.gid.clone()));
    hands.is_some_and(|hands| hands.contains(&Interference::Departs))
}

/// A frame arrives at an agent.
pub fn arrives_at_agent(world: &World, line: &Line, frame: &CoordinatorFrame) {
    if let Some(witness) = &frame.witness {
        let mut seen = world.monitor.seen();
        let place = seen.witnessed.entry((line.agent, line.agent_life)).or_default();
        *place = (*place).max((witness.epoch, witness.position));
    }
}

/// A frame leaves an agent.
pub fn leaves_agent(world: &World, line: &Line, frame: &AgentFrame) {
    for message in &frame.messages {
        world.note("from agent", || format!("{} {}", line.agent, describe_report(message.kind.as_ref())));
        match &message.kind {
            Some(FromAgent::Hello(hello)) => {
                let life = line.sender.life;
                let key = (line.agent, line.agent_life);
                let newest = world.monitor.seen().greeted.get(&key).copied();
                if newest.is_some_and(|newest| newest.epoch > life.epoch) {
                    world.broken(format!("I12: agent {} greeted life {life} after a newer one", line.agent));
                }
                world.monitor.seen().greeted.insert(key, newest.map_or(life, |newest| newest.max(life)));
                for listing in &hello.listings {
                    count_listing(world, listing);
                }
            }
            Some(FromAgent::Listing(listing)) => count_listing(world, listing),
            Some(FromAgent::BranchEnd(end)) => {
                world.monitor.seen().ended.insert(end.gid.clone());
            }
            Some(FromAgent::Refusal(_)) => {
                world.monitor.seen().refused.insert(line.sender.life);
            }
            Some(
                FromAgent::Enlisted(_)
                | FromAgent::Vote(_)
                | FromAgent::SessionLost(_)
                | FromAgent::Trouble(_)
                | FromAgent::BranchesVerified(_)
                | FromAgent::Held(_),
            )
            | None => {}
        }
    }
}

/// R11: an agent shows a complete listing only for one that its database gave.
fn count_listing(world: &World, listing: &Listing) {
    if !listing.failure.is_empty() {
        return;
    }
    let shown = {
        let mut seen = world.monitor.seen();
        let shown = seen.listings.entry(listing.participant.clone()).or_default();
        *shown += 1;
        *shown
    };
    let given = world
        .index_of(&listing.participant)
        .and_then(|index| world.hosts.get(index))
        .map_or(0, |host| host.server().listings);
    if shown > given {
        world.broken(format!(
            "R11: {} was listed as complete for the {shown}th time, and its database was listed {given} times",
            listing.participant
        ));
    }
}

/// A frame arrives at a coordinator.
pub fn arrives_at_coordinator(world: &World, _: &Line, frame: &AgentFrame) {
    for message in &frame.messages {
        if let Some(FromAgent::Vote(vote)) = &message.kind {
            let mut seen = world.monitor.seen();
            let goes_on = match vote.kind {
                Some(Vote::Yes(_) | Vote::ReadOnly(_)) => true,
                Some(Vote::Ready(_)) => {
                    seen.offers.insert(vote.gid.clone());
                    continue;
                }
                Some(Vote::No(_)) | None => false,
            };
            if seen.votes.get(&vote.gid).is_some_and(|before| *before != goes_on) {
                drop(seen);
                world.broken(format!("a vote on {} changed", vote.gid));
            } else {
                seen.votes.insert(vote.gid.clone(), goes_on);
            }
        }
    }
}
