//! A path through the model, in words.

use std::fmt::Write as _;

use stateright::Path;
use votum_proto::names::{Gid, Gtid};

use super::agent::Preparation;
use super::faults::Wrong;
use super::state::{
    Body, EndOrder, Link, Message, NAMES, Order, Remembered, SaidReport, SaidVote, Say, State,
};
use super::steps::Action;

/// The steps of a counterexample, one a line, and what is left at its end.
pub(crate) fn transcript(path: Path<State, Action>) -> String {
    let steps = path.into_vec();
    let mut text = String::new();
    for (number, (state, action)) in (1..).zip(&steps) {
        if let Some(action) = action {
            let fault = if action.is_wrong() { "! " } else { "  " };
            let _ = writeln!(text, "  {number:>3} {fault}{}", words(action, state));
        }
    }
    if let Some((last, _)) = steps.last() {
        text.push_str(&ending(last));
    }
    text
}

fn ending(state: &State) -> String {
    let mut text = String::from("      then:\n");
    for (at, database) in state.databases.iter().enumerate() {
        for (gid, work) in &database.prepared {
            let _ = writeln!(text, "        {}: {gid} is prepared (id {})", NAMES[at], work.xid8);
        }
        for (gtid, work) in &database.open {
            let _ = writeln!(text, "        {}: a session of {gtid} is open (id {})", NAMES[at], work.xid8);
        }
        for (work, fate) in database.fates.values() {
            let of = work.of.as_ref().map_or_else(|| "nobody".into(), ToString::to_string);
            let _ = writeln!(text, "        {}: id {} of {of}: {fate:?}", NAMES[at], work.xid8);
        }
    }
    for (gtid, said) in &state.seen.said {
        let _ = writeln!(text, "        it was said of {gtid}: {said:?}");
    }
    if let Some(coordinator) = &state.coordinator {
        for (gtid, live) in &coordinator.live {
            let _ = writeln!(text, "        {gtid} is live: {}", live.transaction.state());
        }
    }
    for (at, client) in state.clients.iter().enumerate() {
        let _ = writeln!(text, "        client {at}: {:?}", client.stage);
    }
    text
}

fn words(action: &Action, state: &State) -> String {
    let at = |at: &usize| NAMES[*at].to_string();
    match action {
        Action::Begin(client) => format!("client {client} begins"),
        Action::Execute(client, place) => statement(state, *client, *place),
        Action::Commit(client) => format!("client {client} asks for the commit"),
        Action::Deliver(place) => format!("{} arrives", message(&state.network[*place])),
        Action::Prepare(place, gtid, way) => prepared(&at(place), gtid, *way),
        Action::LatePrepare(place, gid) => format!("at {} the late backend prepares {gid}", at(place)),
        Action::EndBackend(place, gtid) => format!("agent {} ends the late backend of {gtid}", at(place)),
        Action::CarryOut(place, gtid) => carried_out(state, *place, gtid),
        Action::Force => {
            format!("on disk: {}", state.log.tail.first().map_or("nothing", |g| g.record.kind()))
        }
        Action::Count => "the log is counted".into(),
        Action::StartCoordinator => "the coordinator starts".into(),
        Action::StartAgent(place) => format!("agent {} starts", at(place)),
        Action::StartDatabase(place) => format!("database {} starts", at(place)),
        Action::Connect(place) => {
            format!("the coordinator dials agent {}, which answers its hello", at(place))
        }
        Action::Sweep(place) => format!("agent {} lists what is there", at(place)),
        Action::AskAgain(gtid, branch) => format!("{gtid}: branch {branch} is asked about again"),
        Action::Deadline(gtid) => format!("{gtid}: its time is over, nothing else going on"),
        Action::Wrong(wrong) => wrong_words(wrong, state),
    }
}

fn wrong_words(wrong: &Wrong, state: &State) -> String {
    let at = |at: &usize| NAMES[*at].to_string();
    match wrong {
        Wrong::Lose(place) => format!("LOST, with its stream: {}", message(&state.network[*place])),
        Wrong::Duplicate(place) => {
            format!("{} arrives, and WILL ARRIVE AGAIN", message(&state.network[*place]))
        }
        Wrong::Cut(place) => format!(
            "the stream to {} BREAKS{}",
            at(place),
            if state.link(*place) == Link::Greeting { " before the hello was heard" } else { "" }
        ),
        Wrong::CrashCoordinator(kept) => {
            format!(
                "the coordinator DIES; of its {} records on the way {kept} are on disk",
                state.log.tail.len()
            )
        }
        Wrong::WakeOldLife(place, life) => {
            format!("a coordinator of older life {} WAKES and dials agent {}", life.epoch, at(place))
        }
        Wrong::CrashAgent(place) => format!("agent {} DIES", at(place)),
        Wrong::CrashDatabase(place) => format!("database {} DIES", at(place)),
        Wrong::BreakPrepare(place) => {
            format!(
                "{} arrives; the connection BREAKS in it, and its backend goes on",
                message(&state.network[*place])
            )
        }
        Wrong::KillSession(place, gtid) => format!("the session of {gtid} at {} is KILLED", at(place)),
        Wrong::RefusePrepare(place) => {
            format!("{} arrives; the database REFUSES it", message(&state.network[*place]))
        }
        Wrong::SlowPrepare(place) => {
            format!("{} arrives, and takes its TIME", message(&state.network[*place]))
        }
        Wrong::LateHello(place) => {
            format!("the coordinator dials agent {}, whose hello will arrive LATE", at(place))
        }
        Wrong::LateListing(place) => format!("agent {} lists what is there, and it arrives LATE", at(place)),
        Wrong::TimeOut(gtid) => format!("{gtid}: its time is OVER"),
        Wrong::RollBack(client) => format!("client {client} asks for the ROLLBACK"),
        Wrong::Vanish(client) => format!("client {client} VANISHES"),
        Wrong::LoseReply(client, place) => {
            format!("{}; the reply is LOST", statement(state, *client, *place))
        }
        Wrong::RepeatStatement(client, place) => {
            format!("statement 1 of client {client} arrives at {} ONCE MORE", at(place))
        }
        Wrong::RollBackByHand(place, gid) => format!("a PERSON rolls back {gid} at {}", at(place)),
        Wrong::CommitByHand(place, gid) => format!("a PERSON commits {gid} at {}", at(place)),
        Wrong::Impostor(place, gid) => format!("SOMEBODY prepares other work as {gid} at {}", at(place)),
        Wrong::LosePrepared(place, gid) => {
            format!("database {} FAILS OVER without the PREPARE of {gid}", at(place))
        }
        Wrong::UndoCommit(place, gid) => {
            format!("database {} FAILS OVER without the COMMIT PREPARED of {gid}", at(place))
        }
        Wrong::OlderCopy(keep) => format!("the log is REPLACED by an older copy of {keep} records"),
    }
}

/// The statement that a client runs next at a place.
fn statement(state: &State, client: usize, place: usize) -> String {
    let run = state.clients[client].replies.get(&place).map_or(0, |(_, last)| *last);
    format!("client {client} runs statement {} at {}", run + 1, NAMES[place])
}

fn prepared(at: &str, gtid: &Gtid, way: Preparation) -> String {
    match way {
        Preparation::Prepared => format!("agent {at} prepares {gtid} and votes yes"),
        Preparation::ReadOnly => {
            format!("agent {at} commits {gtid}, which wrote nothing, and votes read-only")
        }
        Preparation::Refused => format!("agent {at} does not prepare {gtid} and votes no"),
        Preparation::Broken => format!("agent {at} loses the session of {gtid} and votes no"),
    }
}

fn carried_out(state: &State, at: usize, gtid: &Gtid) -> String {
    let orders = state.agents[at].as_ref().and_then(|agent| agent.orders.get(gtid));
    match orders.and_then(|orders| orders.first()) {
        Some((_, order)) => format!("agent {} carries out: {}", NAMES[at], end_order(order)),
        None => format!("agent {} has nothing to do for {gtid}", NAMES[at]),
    }
}

fn end_order(order: &EndOrder) -> String {
    match order {
        EndOrder::Commit { gid, xid8, listed_xid, compare_first } => format!(
            "COMMIT {gid} (id {}){}",
            xid8.max(&u64::from(*listed_xid)),
            if *compare_first { ", compare first" } else { "" }
        ),
        EndOrder::Rollback { gid, xid8, listed_xid } => format!(
            "ROLLBACK {} (id {})",
            gid.as_ref().map_or_else(|| "the session".into(), Gid::to_string),
            xid8.max(&u64::from(*listed_xid))
        ),
    }
}

fn message(message: &Message) -> String {
    let agent = &NAMES[message.agent];
    match &message.body {
        Body::Order(order, _) => {
            let order = match order {
                Order::Prepare { gid, .. } => format!("Prepare {gid}"),
                Order::End(gtid, order) => format!("{}, of {gtid}", end_order(order)),
                Order::EndSession(gtid) => format!("end the session of {gtid}"),
            };
            format!("at agent {agent} (life {}): {order}", message.life.epoch)
        }
        Body::Say(say) => format!("from agent {agent}: {}", say_words(say)),
    }
}

fn say_words(say: &Say) -> String {
    let listed = |prepared: &[(Gid, u32)], sessions: usize| {
        let gids: Vec<String> = prepared.iter().map(|(gid, xid)| format!("{gid} (id {xid})")).collect();
        format!("prepared: [{}], {sessions} sessions open", gids.join(", "))
    };
    match say {
        Say::Hello { instance, listing, .. } => {
            format!("hello of instance {instance}, {}", listed(&listing.prepared, listing.sessions.len()))
        }
        Say::Enlisted(gtid, _) => format!("a session was opened for {gtid}"),
        Say::Vote(gid, SaidVote::Yes { xid8, .. }) => format!("yes to {gid} (id {xid8})"),
        Say::Vote(gid, SaidVote::ReadOnly) => format!("read-only to {gid}"),
        Say::Vote(gid, SaidVote::No) => format!("no to {gid}"),
        Say::Ended { gid, was_commit, report } => {
            let order = if *was_commit { "COMMIT" } else { "ROLLBACK" };
            let how = match report {
                SaidReport::Done => "done",
                SaidReport::NeverPrepared => "never prepared",
                SaidReport::OtherXid(_) => "other work is prepared",
                SaidReport::Gone { status: Remembered::Committed, .. } => "gone, committed",
                SaidReport::Gone { status: Remembered::Aborted, .. } => "gone, aborted",
                SaidReport::Gone { status: Remembered::InProgress, .. } => "gone, in progress",
                SaidReport::Gone { status: Remembered::NotReached, .. } => "gone, never reached",
                SaidReport::Gone { status: Remembered::NotAsked, .. } => "gone, nobody knows",
            };
            format!("{order} {gid}: {how}")
        }
        Say::SessionLost(gtid, _) => format!("the session of {gtid} was lost"),
        Say::Listing(listing) => {
            format!("a listing, {}", listed(&listing.prepared, listing.sessions.len()))
        }
    }
}
