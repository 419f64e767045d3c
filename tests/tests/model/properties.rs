//! The invariants, by number. Each must hold in every state that can be reached; those of the calm must hold
//! wherever nothing goes on any more, whatever went wrong before.

use stateright::{Model as _, Property};
use votum_coordinator::protocol::record::{Decided, Decision, Heuristic, Record};
use votum_proto::names::Gtid;

use super::bounds::Bounds;
use super::knowledge::Answer;
use super::state::{BranchPhase, Entry, Fate, Link, Said, Stage, State, Work, index};
use super::steps::Action;

pub(crate) fn all() -> Vec<Property<Bounds>> {
    vec![
        Property::always("I1 no branch is rolled back where another was committed", agreement),
        Property::always("I2 a commit is decided only when every branch has voted for it", all_voted),
        Property::always("I3 no branch is committed before the decision is on disk", forced_before_commit),
        Property::always("I3 nobody is told of a commit before it is on disk", forced_before_told),
        Property::always("I4 an abort is said only of what never commits", aborted_for_ever),
        Property::always("I5 what was said is never contradicted", never_contradicted),
        Property::always("I6 in the calm nothing of ours is prepared or open", calm_is_settled),
        Property::always("I6 in the calm nobody waits, and nothing is owed", calm_owes_nothing),
        Property::always(
            "I1 in the calm every branch ended as decided, or a record says otherwise",
            calm_agrees,
        ),
        Property::always("I7 I13 a commit that was told is known ever after", told_is_known),
        Property::always("I8 what is not ours is never touched", foreign_stays),
        Property::always(
            "I10 only a commit, or a departure, waits for a forced write",
            forced_for_commits_only,
        ),
        Property::always("I10 an abort is told at once", aborts_are_told),
        Property::always(
            "I12 nothing of an older life is under way once a newer one was heard",
            older_is_over,
        ),
        Property::always("I12 an agent hears the newest life alone", newest_speaks),
        Property::always("I15 a committed branch holds what its client was told", holds_what_was_told),
        Property::always("I15 no agent is asked to prepare what another life of it was asked", asked_once),
        Property::always("R8 a log that was proven stale presumes nothing", stale_presumes_nothing),
        Property::always("completed is said only when every branch has ended", completed_is_true),
    ]
}

/// The works of one transaction that were committed by our order, with their participants.
fn committed(state: &State) -> impl Iterator<Item = (usize, &Gtid, &Work)> {
    works(state, Fate::Committed).filter_map(|(at, work)| Some((at, work.of.as_ref()?, work)))
}

fn works(state: &State, how: Fate) -> impl Iterator<Item = (usize, &Work)> {
    let all = state.databases.iter().enumerate();
    let fates =
        all.flat_map(|(at, database)| database.fates.values().map(move |(work, fate)| (at, work, *fate)));
    fates.filter(move |(_, _, fate)| *fate == how).map(|(at, work, _)| (at, work))
}

fn records(state: &State) -> impl Iterator<Item = &Record> {
    let durable = state.log.durable.iter().filter_map(|entry| match entry {
        Entry::Record(record) => Some(record),
        Entry::Life(_) => None,
    });
    durable.chain(state.log.tail.iter().map(|given| &given.record))
}

fn decisions(state: &State) -> impl Iterator<Item = &Decided> {
    records(state)
        .filter_map(|record| if let Record::Decided(decided) = record { Some(decided) } else { None })
}

fn commits(state: &State) -> impl Iterator<Item = &Decided> {
    decisions(state).filter(|decided| decided.decision == Decision::Commit)
}

fn departures(state: &State) -> impl Iterator<Item = &Heuristic> {
    records(state).filter_map(|record| if let Record::Heuristic(known) = record { Some(known) } else { None })
}

fn agreement(_: &Bounds, state: &State) -> bool {
    let rolled_back = |gtid: &Gtid| {
        let of_it =
            |(at, work): (usize, &Work)| work.of.as_ref() == Some(gtid) && !is_other(state, at, gtid, work);
        works(state, Fate::RolledBack).any(of_it)
    };
    state.seen.rolled_back || committed(state).all(|(_, gtid, _)| !rolled_back(gtid))
}

/// Whether the decision names another id there: a statement that came once more opened the branch again after
/// its end, and what it did is nobody's (R1x).
fn is_other(state: &State, at: usize, gtid: &Gtid, work: &Work) -> bool {
    commits(state).filter(|decided| decided.gtid == *gtid).any(|decided| {
        decided.branches.iter().any(|branch| index(&branch.participant) == at && branch.xid8 != work.xid8)
    })
}

fn all_voted(bounds: &Bounds, state: &State) -> bool {
    commits(state).all(|decided| {
        let prepared = decided.branches.iter().all(|branch| {
            let database = &state.databases[index(&branch.participant)];
            let ended = database.fates.contains_key(&branch.xid8);
            ended || database.prepared.values().any(|work| work.xid8 == branch.xid8)
        });
        let silent = usize::from(decided.branches_named) - decided.branches.len();
        prepared && silent <= bounds.read_only.len()
    })
}

fn forced_before_commit(_: &Bounds, state: &State) -> bool {
    committed(state).all(|(_, gtid, _)| state.seen.forced.contains(gtid))
}

fn forced_before_told(_: &Bounds, state: &State) -> bool {
    state.seen.said.iter().all(|(gtid, said)| *said != Said::Committed || state.seen.forced.contains(gtid))
}

fn aborted_for_ever(_: &Bounds, state: &State) -> bool {
    let aborted = |(_, said): &&(Gtid, Said)| *said == Said::Aborted;
    let mut of = state.seen.said.iter().filter(aborted).map(|(gtid, _)| gtid);
    state.seen.rolled_back
        || of.all(|gtid| {
            !state.seen.forced.contains(gtid) && committed(state).all(|(_, committed, _)| committed != gtid)
        })
}

fn never_contradicted(_: &Bounds, state: &State) -> bool {
    let said = |gtid: &Gtid, said: Said| state.seen.said.contains(&(gtid.clone(), said));
    let gtids = state.clients.iter().filter_map(|client| client.gtid.as_ref());
    state.seen.rolled_back
        || gtids.into_iter().all(|gtid| {
            // Read-only may read as aborted later: it had no effect anywhere, and that is true of both.
            !said(gtid, Said::Committed) || !(said(gtid, Said::Aborted) || said(gtid, Said::ReadOnly))
        })
}

/// Whether nothing goes on any more: what could happen by itself changes nothing.
fn calm(bounds: &Bounds, state: &State) -> bool {
    let mut actions = Vec::new();
    bounds.progress(state, &mut actions);
    let idle = |action: &Action| {
        matches!(action, Action::Execute(..) | Action::Sweep(_) | Action::AskAgain(..) | Action::Deadline(_))
    };
    actions.iter().all(idle) && actions.into_iter().all(|a| bounds.next_state(state, a).is_none())
}

/// A stale log leaves everything to a person.
fn left_to_a_person(state: &State) -> bool {
    state.coordinator.as_ref().is_some_and(|coordinator| coordinator.stale) || state.seen.rolled_back
}

fn calm_is_settled(bounds: &Bounds, state: &State) -> bool {
    let ours = |work: &Work| work.xid8 < 700_000 || work.xid8 >= 900_000;
    let settled = state.databases.iter().all(|database| {
        database.open.is_empty() && database.late.is_empty() && !database.prepared.values().any(ours)
    });
    settled || left_to_a_person(state) || !calm(bounds, state)
}

fn calm_owes_nothing(bounds: &Bounds, state: &State) -> bool {
    let waiting = state.clients.iter().any(|client| client.stage == Stage::Waiting);
    let live = state.coordinator.as_ref().is_none_or(|coordinator| !coordinator.live.is_empty());
    !(waiting || live) || left_to_a_person(state) || !calm(bounds, state)
}

fn calm_agrees(bounds: &Bounds, state: &State) -> bool {
    let departed = |gtid: &Gtid, at: usize| {
        departures(state).any(|known| known.gid.gtid == *gtid && index(&known.participant) == at)
    };
    let fate = |at: usize, xid8: u64| state.databases[at].fates.get(&xid8).map(|(_, fate)| *fate);
    let decided: Vec<&Decided> = commits(state).collect();
    let as_decided = decided.iter().all(|decided| {
        decided.branches.iter().all(|branch| {
            let at = index(&branch.participant);
            let committed = matches!(fate(at, branch.xid8), Some(Fate::Committed | Fate::CommittedByHand));
            committed || departed(&decided.gtid, at)
        })
    });
    // Of a branch that had not voted, and after a crash, an abort knows nothing: what a person commits behind
    // it is seen by a commit marker only (R15).
    let by_hand = works(state, Fate::CommittedByHand).all(|(at, work)| {
        let Some(gtid) = &work.of else { return true };
        state.seen.starts > 1 || !aborted_with(state, gtid, at) || departed(gtid, at)
    });
    (as_decided && by_hand) || left_to_a_person(state) || !calm(bounds, state)
}

/// Whether an abort is recorded that names the branch at a participant: it had voted yes.
fn aborted_with(state: &State, gtid: &Gtid, at: usize) -> bool {
    let mut aborts = decisions(state).filter(|decided| decided.decision != Decision::Commit);
    aborts.any(|decided| {
        decided.gtid == *gtid && decided.branches.iter().any(|branch| index(&branch.participant) == at)
    })
}

fn told_is_known(_: &Bounds, state: &State) -> bool {
    state.seen.rolled_back
        || state.seen.said.iter().filter(|(_, said)| *said == Said::Committed).all(|(gtid, _)| {
            match state.answer(gtid) {
                None | Some(Answer::Said(Said::Committed) | Answer::Unavailable) => true,
                Some(Answer::Said(_) | Answer::InProgress | Answer::Forgotten) => false,
            }
        })
}

fn foreign_stays(bounds: &Bounds, state: &State) -> bool {
    let untouched = |xid8| {
        state.databases.iter().all(|database| database.prepared.values().any(|work| work.xid8 == xid8))
    };
    !bounds.foreign || (untouched(700_001) && untouched(700_002))
}

fn forced_for_commits_only(_: &Bounds, state: &State) -> bool {
    let commit = |record: &Record| {
        let abort = matches!(record, Record::Decided(Decided { decision: Decision::Abort(_), .. }));
        matches!(record, Record::Decided(_) | Record::Heuristic(_)) && !abort
    };
    state.log.tail.iter().filter(|given| given.forced).all(|given| commit(&given.record))
}

fn aborts_are_told(_: &Bounds, state: &State) -> bool {
    state.clients.iter().filter(|client| client.stage == Stage::Waiting).all(|client| {
        let answer = client.gtid.as_ref().and_then(|gtid| state.answer(gtid));
        !matches!(answer, Some(Answer::Said(Said::Aborted | Said::ReadOnly)))
    })
}

fn newest_speaks(_: &Bounds, state: &State) -> bool {
    let streams = state.agents.iter().enumerate().filter(|(at, _)| state.link(*at) != Link::Down);
    streams.filter_map(|(_, agent)| agent.as_ref()).all(|agent| agent.fence.speaking() == state.life())
}

fn older_is_over(_: &Bounds, state: &State) -> bool {
    state.agents.iter().flatten().all(|agent| {
        let speaking = agent.fence.speaking();
        let orders = agent.orders.values().flatten().all(|(life, _)| Some(*life) == speaking);
        let open = agent.branches.iter().filter(|(_, branch)| branch.phase == BranchPhase::Open);
        orders && open.into_iter().all(|(gtid, _)| Some(gtid.life) == speaking)
    })
}

fn holds_what_was_told(_: &Bounds, state: &State) -> bool {
    let nobodys = works(state, Fate::Committed).any(|(_, work)| work.of.is_none());
    !nobodys
        && committed(state).all(|(at, gtid, work)| {
            let client = state.clients.iter().find(|client| client.gtid.as_ref() == Some(gtid));
            let told = client.and_then(|client| client.replies.get(&at));
            told == Some(&(work.session, work.statements))
        })
}

fn asked_once(_: &Bounds, state: &State) -> bool {
    state.seen.asked_to_prepare.values().all(|instances| instances.len() <= 1)
}

fn stale_presumes_nothing(_: &Bounds, state: &State) -> bool {
    !state.seen.presumed_all_the_same
}

fn completed_is_true(_: &Bounds, state: &State) -> bool {
    let Some(coordinator) = &state.coordinator else { return true };
    coordinator.live.values().all(|live| {
        let Some(decided) = live.transaction.decided().filter(|d| d.decision == Decision::Commit) else {
            return true;
        };
        decided.branches.iter().filter(|branch| live.transaction.acknowledged(branch.number)).all(|branch| {
            let database = &state.databases[index(&branch.participant)];
            matches!(
                database.fates.get(&branch.xid8).map(|(_, fate)| *fate),
                Some(Fate::Committed | Fate::CommittedByHand)
            )
        })
    })
}
