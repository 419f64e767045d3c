//! A whole transaction is decided by its last branch, and somebody dies at each of its points: the coordinator, that
//! branch's agent and database, or a sibling's; also whoever finds out how it ended. At the points of the agent also the
//! second time, when the work goes in one trip.

use votum_coordinator::crash::CrashPoint as AtCoordinator;
use votum_participant::crash::CrashPoint as AtAgent;

use crate::case::{Blow, Case, Fate, Who, Work};
use crate::cases::{COMMIT, kind};

/// The points of the branch that decides.
const LAST: [AtAgent; 5] = [
    AtAgent::BeforeCommitPrepared,
    AtAgent::BeforeBegin,
    AtAgent::DuringCommitOnePhase,
    AtAgent::AfterCommitOnePhase,
    AtAgent::AcknowledgementSent,
];

/// Those of its siblings.
const SIBLING: [AtAgent; 6] = [
    AtAgent::DuringWork,
    AtAgent::AfterPrepare,
    AtAgent::VoteSent,
    AtAgent::BeforeCommitPrepared,
    AtAgent::DuringCommitPrepared,
    AtAgent::AcknowledgementSent,
];

/// Where the coordinator dies with the decision handed over, and no record of its answer.
const HANDED_OVER: [AtCoordinator; 4] = [
    AtCoordinator::DecisionAppended,
    AtCoordinator::DecisionForced,
    AtCoordinator::HandedOver,
    AtCoordinator::OnePhaseAnswered,
];

fn case(banks: usize) -> Case {
    Case::new(kind::LAST_AGENT, banks, Work::LastAgent).with_markers()
}

fn coordinators(banks: usize) -> impl Iterator<Item = &'static AtCoordinator> {
    // With two banks one branch alone is asked to prepare.
    let there = move |point: &&AtCoordinator| banks > 2 || **point != AtCoordinator::BetweenPrepares;
    COMMIT.iter().filter(there).chain(&[AtCoordinator::HandedOver, AtCoordinator::OnePhaseAnswered])
}

/// Everybody once.
pub(crate) fn last_agent_singles(banks: usize) -> Vec<Case> {
    let coordinator = |point: &AtCoordinator| case(banks).life(Who::Coordinator, Fate::dies(point.name()));
    let agent = |who| move |point: AtAgent| case(banks).life(Who::Agent(who), Fate::dies(point.name()));
    let lasts = LAST.into_iter().map(agent(banks - 1));
    coordinators(banks).map(coordinator).chain(lasts).chain(SIBLING.into_iter().map(agent(0))).collect()
}

/// Everybody at each point, in company, and again.
pub(crate) fn last_agent(banks: usize) -> Vec<Case> {
    let last = banks - 1;
    let mut cases = last_agent_singles(banks);
    // It is found out by the next life how what was handed over ended.
    for point in HANDED_OVER {
        let dies = || case(banks).life(Who::Coordinator, Fate::dies(point.name()));
        for second in
            [AtCoordinator::JudgedR13, AtCoordinator::LogCounted, AtCoordinator::FirstParticipantTold]
        {
            cases.push(dies().life(Who::Coordinator, Fate::dies(second.name())));
        }
        cases.push(dies().life(Who::Agent(last), Fate::dies(AtAgent::BranchSettled.name())));
    }
    for point in LAST {
        for time in ["", "@2"] {
            let at = format!("{}{time}", point.name());
            for blow in [
                Blow::Dies,
                Blow::Meanwhile(vec![Who::Database(last)]),
                Blow::Together(vec![Who::Database(last)]),
                Blow::Together(vec![Who::Coordinator, Who::Database(last)]),
                Blow::Together(vec![Who::Coordinator, Who::Agent(0)]),
            ] {
                cases.push(case(banks).life(Who::Agent(last), Fate::with(at.clone(), blow)));
            }
        }
        cases.push(
            case(banks)
                .life(Who::Agent(last), Fate::dies(point.name()))
                .life(Who::Coordinator, Fate::dies(AtCoordinator::OnePhaseAnswered.name())),
        );
    }
    for point in SIBLING {
        for blow in [
            Blow::Meanwhile(vec![Who::Database(0)]),
            Blow::Together(vec![Who::Database(0), Who::Coordinator]),
        ] {
            cases.push(case(banks).life(Who::Agent(0), Fate::with(point.name(), blow)));
        }
    }
    cases
}
