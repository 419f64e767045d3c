//! The cases: one for each point, by a table over the enumerations of points, so that a point without a row does
//! not compile; and those that a seed draws.

use std::collections::BTreeSet;

use votum_coordinator::crash::CrashPoint as AtCoordinator;
use votum_participant::crash::CrashPoint as AtAgent;
use votum_tests::client::CrashPoint as AtClient;

use super::case::{Blow, Case, Fate, Frozen, Who, Work};
use super::draw::Draw;
use super::scenes::Scene;

/// Names of the rows of the final table.
pub(crate) mod kind {
    pub(crate) const COORDINATOR: &str = "coordinator at each point";
    pub(crate) const AGENT: &str = "agent at each point";
    pub(crate) const DATABASE: &str = "database at each point of the agent";
    pub(crate) const CLIENT: &str = "client at each point";
    pub(crate) const TWICE: &str = "coordinator twice in a row";
    pub(crate) const AGED: &str = "coordinator, journal turned over and restarted";
    pub(crate) const FROZEN: &str = "frozen sync";
    pub(crate) const POWER: &str = "power cut";
    pub(crate) const PAIR: &str = "drawn pairs";
    pub(crate) const LOAD: &str = "drawn, under load";
    pub(crate) const ROW: &str = "coordinator at a row of the recovery table";
    pub(crate) const ONE_PHASE: &str = "one phase: anybody at each point";
    pub(crate) const LAST_AGENT: &str = "the last branch decides: anybody at each point";
    pub(crate) const AT_ONCE: &str = "in one request: anybody at each point";
}

/// How a point of the coordinator is met.
pub(crate) enum Meets {
    Case(Box<Case>),
    /// By a scene of its own.
    Scene(Scene),
    /// Only where there are more banks.
    Never,
}

/// The coordinator dies at `point`.
pub(crate) fn coordinator(point: AtCoordinator, banks: usize) -> Meets {
    use AtCoordinator::{
        AfterLastPrepare, AllAcknowledged, BatchForced, BatchWritten, BeforeFirstPrepare, Begun,
        BetweenPrepares, BranchHeld, ClientTold, DecisionAppended, DecisionForced, DepartureRecorded, Ended,
        FirstParticipantTold, HalfCarried, HalfClosed, HalfStored, HandedOver, JudgedR0, JudgedR1, JudgedR1x,
        JudgedR3, JudgedR5, JudgedR6, JudgedR8, JudgedR10, JudgedR11, JudgedR12, JudgedR13, JudgedR14,
        JudgedR15, JudgedR16, LifeBegun, LogCounted, OnePhaseAnswered, RetentionDropped, RetentionDropping,
        RetentionMarked, VotesIn,
    };
    let case = |work| Case::new(kind::COORDINATOR, banks, work);
    let this = Fate::dies(point.name());
    let after = |first: AtCoordinator| {
        case(Work::Transfer)
            .life(Who::Coordinator, Fate::dies(first.name()))
            .life(Who::Coordinator, Fate::dies(point.name()))
    };
    // The agent dies over a rollback that the coordinator has ordered: another bank had refused.
    let undone = |at: AtAgent| {
        case(Work::Refused)
            .life(Who::Agent(0), Fate::dies(at.name()))
            .life(Who::Coordinator, Fate::dies(point.name()))
    };
    let met = match point {
        Begun | BeforeFirstPrepare | BetweenPrepares | AfterLastPrepare | VotesIn | DecisionAppended
        | DecisionForced | ClientTold | FirstParticipantTold | AllAcknowledged | Ended | LifeBegun
        | LogCounted => case(Work::Transfer).life(Who::Coordinator, this),
        // The first is the start's own; then a decision's, then that of what follows it. A slow machine writes
        // other ones between, and what it had begun dies with them.
        BatchWritten | BatchForced => (1..=3).fold(case(Work::Transfers), |case, time| {
            case.life(Who::Coordinator, Fate::dies(format!("{}@{time}", point.name())))
        }),
        HalfStored | HalfCarried | HalfClosed | RetentionMarked | RetentionDropping | RetentionDropped => {
            case(Work::Fill).small_log().life(Who::Coordinator, this)
        }
        JudgedR1 => after(DecisionForced),
        JudgedR5 => after(VotesIn),
        // A late answer of the case before may be the first that is judged so, and kill the coordinator under the
        // first transfer.
        JudgedR3 => case(Work::Transfers)
            .life(Who::Agent(0), Fate::dies(AtAgent::AfterCommitPrepared.name()))
            .life(Who::Coordinator, this),
        JudgedR11 => {
            let gone = Blow::Meanwhile(vec![Who::Database(0)]);
            case(Work::Transfer)
                .life(Who::Agent(0), Fate::with(AtAgent::BeforePrepare.name(), gone))
                .life(Who::Coordinator, this)
        }
        JudgedR14 | JudgedR15 | JudgedR6 if banks == 1 => return Meets::Never,
        // `one_phase` and `last_agent` have them.
        HandedOver | OnePhaseAnswered | JudgedR13 => return Meets::Never,
        // `departures.rs` comes by them.
        BranchHeld | DepartureRecorded => return Meets::Never,
        JudgedR14 => undone(AtAgent::BeforeRollbackPrepared),
        JudgedR15 => undone(AtAgent::AfterRollbackPrepared),
        JudgedR0 => return Meets::Scene(Scene::LateStatement),
        JudgedR1x => return Meets::Scene(Scene::OtherWork),
        JudgedR6 => return Meets::Scene(Scene::StillVoting),
        JudgedR8 => return Meets::Scene(Scene::OlderLog),
        JudgedR10 | JudgedR16 => return Meets::Scene(Scene::Forgotten),
        JudgedR12 => return Meets::Scene(Scene::Stranger),
    };
    Meets::Case(Box::new(met))
}

/// How the first bank's agent is brought to `point`: the time that is meant, and what clients do.
fn agent_meets(point: AtAgent) -> (&'static str, Work) {
    use AtAgent::{
        AcknowledgementSent, AfterBegin, AfterCommitOnePhase, AfterCommitPrepared, AfterPrepare,
        AfterRollbackPrepared, AttachedVerified, BeforeBegin, BeforeCommitPrepared, BeforePrepare,
        BeforeRollbackPrepared, BeforeStatement, BranchSettled, DuringBegin, DuringCommitOnePhase,
        DuringCommitPrepared, DuringPrepare, DuringRollbackPrepared, DuringStatement, DuringWork, Listed,
        StatementRun, VoteSent,
    };
    match point {
        BeforeBegin
        | DuringBegin
        | AfterBegin
        | BeforeStatement
        | BeforePrepare
        | AfterPrepare
        | VoteSent
        | BeforeCommitPrepared
        | DuringCommitPrepared
        | AfterCommitPrepared
        | BeforeRollbackPrepared
        | DuringRollbackPrepared
        | AfterRollbackPrepared
        | DuringCommitOnePhase
        | AfterCommitOnePhase
        | BranchSettled
        | AttachedVerified
        | AcknowledgementSent => ("", Work::Transfer),
        StatementRun => ("@2", Work::Transfer),
        DuringWork => ("", Work::AtOnce),
        // The server goes on with it when the agent is gone.
        DuringStatement | DuringPrepare => ("", Work::Slow),
        // Not in the hello, but while it works.
        Listed => ("@2", Work::Slow),
    }
}

/// Whether the agent comes by there only where a branch that had prepared is rolled back.
fn rolls_back(point: AtAgent) -> bool {
    use AtAgent::{AfterRollbackPrepared, BeforeRollbackPrepared, DuringRollbackPrepared};
    [BeforeRollbackPrepared, DuringRollbackPrepared, AfterRollbackPrepared].contains(&point)
}

/// Whether it comes by there only where a branch is committed in one phase, or the application prepares it: for the
/// latter see `attached.rs`.
fn otherwise(point: AtAgent) -> bool {
    use AtAgent::{AfterCommitOnePhase, AttachedVerified, BranchSettled, DuringCommitOnePhase};
    [DuringCommitOnePhase, AfterCommitOnePhase, BranchSettled, AttachedVerified].contains(&point)
}

/// Something happens to the first bank's agent, or at it, at `point`.
fn at_agent(kind: &'static str, point: AtAgent, banks: usize, blow: Blow) -> Case {
    let (time, work) = agent_meets(point);
    let mut case = Case::new(kind, banks, work);
    if rolls_back(point) {
        // Nobody has decided: the restart presumes an abort.
        case = case.life(Who::Coordinator, Fate::dies(AtCoordinator::VotesIn.name()));
    }
    case.life(Who::Agent(0), Fate::with(format!("{}{time}", point.name()), blow))
}

/// Every point of every process, once.
pub(crate) fn singles(banks: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for point in AtCoordinator::ALL {
        match coordinator(*point, banks) {
            Meets::Case(case) => cases.push(*case),
            Meets::Scene(_) | Meets::Never => {}
        }
    }
    for point in AtAgent::ALL.iter().filter(|point| !otherwise(**point)) {
        cases.push(at_agent(kind::AGENT, *point, banks, Blow::Dies));
        cases.push(at_agent(kind::DATABASE, *point, banks, Blow::Meanwhile(vec![Who::Database(0)])));
    }
    for point in AtClient::ALL {
        cases.push(Case::new(kind::CLIENT, banks, Work::Client(Some(*point))));
    }
    cases
}

/// A transaction of one branch is committed in one phase, and somebody dies at each of its points; also the
/// coordinator, and then whoever finds out how it ended.
pub(crate) fn one_phase() -> Vec<Case> {
    use AtAgent::{
        AcknowledgementSent, AfterCommitOnePhase, AfterPrepare, BeforeCommitPrepared, BeforePrepare,
        BranchSettled, DuringCommitOnePhase, DuringPrepare, VoteSent,
    };
    let case = || Case::new(kind::ONE_PHASE, 1, Work::Transfer).with_markers();
    let handed_over = [AtCoordinator::HandedOver, AtCoordinator::OnePhaseAnswered];
    let not_here = [AtCoordinator::FirstParticipantTold, AtCoordinator::BetweenPrepares];
    let points = COMMIT.iter().filter(|point| !not_here.contains(point)).chain(&handed_over);
    let mut cases = Vec::new();
    for point in points {
        let dies = || case().life(Who::Coordinator, Fate::dies(point.name()));
        cases.push(dies());
        let twice = |second: AtCoordinator| {
            let mut twice = dies().life(Who::Coordinator, Fate::dies(second.name()));
            twice.must = false;
            twice
        };
        cases.extend([AtCoordinator::JudgedR13, AtCoordinator::LogCounted].map(twice));
        cases.push(
            Case { kind: kind::POWER, ..power_cut(Who::Coordinator, point.name(), 1, Work::Transfer) }
                .with_markers(),
        );
    }
    let dies_after = |first: AtCoordinator, point: &str| {
        case().life(Who::Coordinator, Fate::dies(first.name())).life(Who::Agent(0), Fate::dies(point))
    };
    for point in [
        BeforePrepare,
        DuringPrepare,
        AfterPrepare,
        VoteSent,
        BeforeCommitPrepared,
        DuringCommitOnePhase,
        AfterCommitOnePhase,
        AcknowledgementSent,
    ] {
        for blow in
            [Blow::Dies, Blow::Meanwhile(vec![Who::Database(0)]), Blow::Together(vec![Who::Database(0)])]
        {
            cases.push(case().life(Who::Agent(0), Fate::with(point.name(), blow)));
        }
        let together = Blow::Together(vec![Who::Coordinator, Who::Database(0)]);
        cases.push(case().life(Who::Agent(0), Fate::with(point.name(), together)));
    }
    cases.extend([
        dies_after(AtCoordinator::DecisionForced, BranchSettled.name()),
        dies_after(AtCoordinator::OnePhaseAnswered, BranchSettled.name()),
        case()
            .life(Who::Coordinator, Fate::dies(AtCoordinator::OnePhaseAnswered.name()))
            .life(Who::Coordinator, Fate::dies(AtCoordinator::JudgedR13.name())),
    ]);
    cases
}

/// A whole transaction comes in one request, with and without commit markers, and somebody dies at each of its
/// points; at those of its work also the second time, when that goes in one trip.
pub(crate) fn at_once(banks: usize) -> Vec<Case> {
    use AtAgent::{
        AcknowledgementSent, AfterCommitPrepared, AfterPrepare, BeforeBegin, BeforeCommitPrepared,
        DuringCommitPrepared, DuringWork, VoteSent,
    };
    let not_here = |point: &&AtCoordinator| banks > 1 || **point != AtCoordinator::BetweenPrepares;
    let mut cases = Vec::new();
    for markers in [false, true] {
        let case = || {
            let case = Case::new(kind::AT_ONCE, banks, Work::AtOnce);
            // What is committed in one phase has cases of its own.
            if markers && banks > 1 { case.with_markers() } else { case }
        };
        let coordinators = COMMIT.iter().filter(not_here);
        cases.extend(coordinators.map(|point| case().life(Who::Coordinator, Fate::dies(point.name()))));
        for point in [BeforeBegin, DuringWork, AfterPrepare, VoteSent] {
            for blow in
                [Blow::Dies, Blow::Meanwhile(vec![Who::Database(0)]), Blow::Together(vec![Who::Database(0)])]
            {
                cases.push(case().life(Who::Agent(0), Fate::with(point.name(), blow.clone())));
                cases.push(case().life(Who::Agent(0), Fate::with(format!("{}@2", point.name()), blow)));
            }
        }
        for point in [BeforeCommitPrepared, DuringCommitPrepared, AfterCommitPrepared, AcknowledgementSent] {
            cases.push(case().life(Who::Agent(0), Fate::dies(point.name())));
        }
    }
    cases
}

/// The scenes that the coordinator's points need.
pub(crate) fn scenes(banks: usize) -> BTreeSet<Scene> {
    let needed = AtCoordinator::ALL.iter().filter_map(|point| match coordinator(*point, banks) {
        Meets::Scene(scene) => {
            assert!(scene.points().contains(point), "{scene:?} does not come by {}", point.name());
            Some(scene)
        }
        Meets::Case(_) | Meets::Never => None,
    });
    needed.collect()
}

/// The points of the coordinator that every transfer comes by.
pub(crate) const COMMIT: [AtCoordinator; 13] = [
    AtCoordinator::Begun,
    AtCoordinator::BeforeFirstPrepare,
    AtCoordinator::BetweenPrepares,
    AtCoordinator::AfterLastPrepare,
    AtCoordinator::VotesIn,
    AtCoordinator::DecisionAppended,
    AtCoordinator::DecisionForced,
    AtCoordinator::ClientTold,
    AtCoordinator::FirstParticipantTold,
    AtCoordinator::AllAcknowledged,
    AtCoordinator::Ended,
    AtCoordinator::BatchWritten,
    AtCoordinator::BatchForced,
];

/// The points of its recovery.
const RECOVERY: [AtCoordinator; 6] = [
    AtCoordinator::LifeBegun,
    AtCoordinator::LogCounted,
    AtCoordinator::FirstParticipantTold,
    AtCoordinator::BatchForced,
    AtCoordinator::JudgedR1,
    AtCoordinator::JudgedR5,
];

/// It dies again where it has just died, or as soon as it is back.
pub(crate) fn twice(banks: usize) -> Vec<Case> {
    let again = |point: &AtCoordinator| {
        let late = COMMIT.iter().position(|other| other == point) >= Some(5);
        // What the second life comes by depends on what the first one had decided.
        let second = if late { AtCoordinator::JudgedR1 } else { AtCoordinator::LogCounted };
        let mut case = Case::new(kind::TWICE, banks, Work::Transfer)
            .life(Who::Coordinator, Fate::dies(point.name()))
            .life(Who::Coordinator, Fate::dies(second.name()))
            .life(Who::Coordinator, Fate::dies(AtCoordinator::LifeBegun.name()));
        case.must = false;
        case
    };
    COMMIT.iter().map(again).collect()
}

/// Each point of a commit, on a journal that has changed halves and been restarted.
pub(crate) fn aged(banks: usize) -> Vec<Case> {
    let one = |point: &AtCoordinator| {
        Case::new(kind::AGED, banks, Work::Transfer)
            .small_log()
            .life(Who::Coordinator, Fate::dies(point.name()))
    };
    COMMIT.iter().map(one).collect()
}

/// What is written from the `sync`th sync of a life on never reaches the disk.
pub(crate) fn frozen(banks: usize, sync: u64, part: Frozen, work: Work) -> Case {
    let point = format!("{}@{sync}", AtCoordinator::BatchForced.name());
    let mut case =
        Case::new(kind::FROZEN, banks, work).life(Who::Coordinator, Fate::with(point, Blow::Frozen(part)));
    if work == Work::Fill {
        case = case.small_log();
    }
    case
}

/// Early and late syncs of a life, with more or less of the store on the disk.
pub(crate) fn frozen_syncs(banks: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for part in [Frozen::Everything, Frozen::Journal, Frozen::Store] {
        // One transfer may come with fewer: what it forces and what follows it may share a batch.
        cases.extend((1..=3).map(|sync| frozen(banks, sync, part, Work::Transfers)));
        // Where the journal changes halves, the store is synced: it may not lag behind that.
        if part != Frozen::Store {
            cases.extend((2..=5).map(|sync| frozen(banks, sync * 4, part, Work::Fill)));
        }
        if banks > 1 {
            cases.extend((2..=6).map(|sync| frozen(banks, sync * 5, part, Work::Load)));
        }
    }
    cases
}

/// Coordinator, agents and databases at once.
pub(crate) fn power_cut(who: Who, point: impl Into<String>, banks: usize, work: Work) -> Case {
    let everything = (0..banks).flat_map(|bank| [Who::Agent(bank), Who::Database(bank)]);
    let others = std::iter::once(Who::Coordinator).chain(everything).filter(|other| *other != who).collect();
    Case::new(kind::POWER, banks, work).life(who, Fate::with(point, Blow::Together(others)))
}

/// A power cut at each point of a commit; and under load.
pub(crate) fn power_cuts(banks: usize) -> Vec<Case> {
    let commit = COMMIT.iter().map(|point| power_cut(Who::Coordinator, point.name(), banks, Work::Transfer));
    let mut cases: Vec<Case> = commit.collect();
    if banks > 1 {
        let agent = AtAgent::ALL.iter().filter(|point| !rolls_back(**point) && !otherwise(**point));
        cases.extend(
            agent.map(|point| power_cut(Who::Agent(0), format!("{}@5", point.name()), banks, Work::Load)),
        );
    }
    cases
}

/// Two deaths of anyone: at once, one after another, or the second during recovery from the first.
pub(crate) fn pair(draw: &mut Draw, banks: usize) -> Case {
    let load = draw.below(4) == 0 && banks > 1;
    let by_client = !load && draw.below(4) == 0;
    let work = match (load, by_client) {
        (true, _) => Work::Load,
        (false, true) => {
            Work::Client(draw.of(&[None, None, Some(AtClient::CommitSent), Some(AtClient::WorkDone)]))
        }
        (false, false) => draw.of(&[Work::Transfer, Work::Transfer, Work::Slow]),
    };
    let mut case = Case::new(if load { kind::LOAD } else { kind::PAIR }, banks, work);
    case.must = false;
    let (first, point) = place(draw, banks, load);
    let mut others = vec![Who::Coordinator, Who::Agent(draw.below(banks)), Who::Database(draw.below(banks))];
    others.retain(|other| *other != first);
    if by_client {
        others.push(Who::Client);
    }
    let other = draw.of(&others);
    match draw.below(4) {
        // At once.
        0 => case.life(first, Fate::with(point, Blow::Together(vec![other]))),
        // At once, and the first of them again while it recovers.
        1 => {
            let again = Fate::dies(recovers(draw, first));
            case.life(first, Fate::with(point, Blow::Together(vec![other]))).life(first, again)
        }
        // One after another, each where it comes by.
        2 => {
            let (second, later) = place(draw, banks, load);
            case.life(first, Fate::dies(point)).life(second, Fate::dies(later))
        }
        // The other one goes on, or the database is away while the first dies.
        _ => {
            let again = Fate::dies(recovers(draw, first));
            let blow = Blow::Meanwhile(vec![other]);
            case.life(first, Fate::with(point, blow)).life(first, again)
        }
    }
}

/// Somewhere on the way of a commit. Under load, perhaps later.
fn place(draw: &mut Draw, banks: usize, load: bool) -> (Who, String) {
    let forward = AtAgent::ALL.iter().copied().filter(|point| !rolls_back(*point) && !otherwise(*point));
    let forward: Vec<AtAgent> = forward.collect();
    let (who, name) = if draw.below(2) == 0 {
        (Who::Coordinator, draw.of(&COMMIT).name())
    } else {
        (Who::Agent(draw.below(banks)), draw.of(&forward).name())
    };
    let time = if load { 1 + draw.below(40) } else { 1 };
    (who, format!("{name}@{time}"))
}

/// Somewhere on the way back.
fn recovers(draw: &mut Draw, who: Who) -> String {
    let name = match who {
        Who::Coordinator => draw.of(&RECOVERY).name(),
        Who::Agent(_) | Who::Database(_) | Who::Client => draw.of(AtAgent::ALL).name(),
    };
    name.to_owned()
}
