//! The judgement at the end: invariants over the databases' contents, the log, and what clients were told.
//! Each message begins with the invariant's number.

use std::collections::{BTreeMap, BTreeSet};

use votum_coordinator::driver::request::{Outcome, RequestError};
use votum_coordinator::protocol::record::{Heuristic, HeuristicKind};
use votum_proto::names::Gid;

use super::book::{Attempt, Interference, Told};
use super::clients::done_until;
use super::database::Lost;
use super::plan::What;
use super::world::World;

/// What a coordinator says at the very end, by gtid.
pub type LastWords = BTreeMap<String, Result<Outcome, RequestError>>;

/// The ordinals of an attempt's changes that stand at each participant: an ordinal twice stands there twice.
type Standing = BTreeMap<usize, Vec<u64>>;

/// A retention that no run outlives, in milliseconds.
pub const LONG_MS: u64 = 1_000_000;

/// Judges everything.
pub fn judge(world: &World, last_words: &LastWords) {
    let standing = standing(world);
    let pages = world.book.open();
    let attempts = pages.attempts.clone();
    let interfered = pages.interfered.clone();
    let strangers = pages.strangers.clone();
    let lost = pages.written_off.is_some();
    drop(pages);
    let nothing = Standing::new();
    let mut keys: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    let mut gtids: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    for (number, attempt) in attempts.iter().enumerate() {
        let Some(gtid) = &attempt.gtid else { continue };
        let gtid = gtid.to_string();
        let all_told = gtids.entry(gtid.clone()).or_default();
        all_told.extend(attempt.told.iter().map(|(_, told)| told.clone()));
        let stands = standing.get(&number).unwrap_or(&nothing);
        let last = last_words.get(&gtid);
        let case = Case { world, number, attempt, gtid: &gtid, stands, interfered: &interfered, last };
        case.judge();
        if let Some(key) = attempt.key
            && attempt.claimed.is_some()
            && stands.keys().any(|participant| !case.may_stand(*participant))
        {
            keys.entry(key).or_default().insert(gtid);
        }
    }
    departures_stay(world, last_words);
    for (gtid, told) in gtids {
        told_once(world, &gtid, &told, last_words.get(&gtid));
    }
    for (key, gtids) in keys.into_iter().filter(|(_, gtids)| gtids.len() > 1) {
        // A key is forgotten with its transaction, when retention is over, or with the log.
        if world.plan.log.retention_ms >= LONG_MS && !lost {
            world.broken(format!("I5: key {key} was committed more than once: {gtids:?}"));
        }
    }
    for host in &world.hosts {
        for (xid, change) in host.server().state.rows.iter().filter(|(_, change)| !change.tag.contains(':')) {
            world.broken(format!("I8: {} committed other work: {} (xid {xid})", host.name, change.tag));
        }
    }
    for (index, gid) in strangers {
        let host = world.hosts.get(index);
        if host.is_none_or(|host| !host.server().state.prepared.contains_key(&gid)) {
            // A failover may have lost it.
            if !interfered.contains_key(&(index, gid.clone())) {
                world.broken(format!("I8: {gid} at bank{index} is not ours, and is gone"));
            }
        }
    }
}

/// What stands in the databases, by attempt.
fn standing(world: &World) -> BTreeMap<usize, Standing> {
    let mut found: BTreeMap<usize, Standing> = BTreeMap::new();
    for (index, host) in world.hosts.iter().enumerate() {
        for (_, change) in &host.server().state.rows {
            let parts: Vec<&str> = change.tag.split(':').collect();
            let [attempt, participant, ordinal] = parts.as_slice() else { continue };
            if let (Ok(attempt), Ok(participant), Ok(ordinal)) =
                (attempt.parse::<usize>(), participant.parse::<usize>(), ordinal.parse::<u64>())
                && participant == index
            {
                found.entry(attempt).or_default().entry(index).or_default().push(ordinal);
            }
        }
    }
    found
}

struct Case<'a> {
    world: &'a World,
    number: usize,
    attempt: &'a Attempt,
    gtid: &'a str,
    stands: &'a Standing,
    interfered: &'a BTreeMap<(usize, String), BTreeSet<Interference>>,
    last: Option<&'a Result<Outcome, RequestError>>,
}

impl Case<'_> {
    fn broken(&self, what: &str) {
        self.world.broken(format!("{what} ({}, attempt {})", self.gtid, self.number));
    }

    /// Who had a hand in this transaction's branch here, by gid: there is one, as long as names are not forged.
    fn interfered_here(&self, participant: usize) -> impl Iterator<Item = (&str, &BTreeSet<Interference>)> {
        let here = self.interfered.iter().filter(move |((index, gid), _)| {
            *index == participant && gid.parse::<Gid>().is_ok_and(|gid| gid.gtid.to_string() == self.gtid)
        });
        here.map(|((_, gid), hands)| (gid.as_str(), hands))
    }

    /// Who had a hand in this branch.
    fn hands(&self, participant: usize) -> BTreeSet<Interference> {
        self.interfered_here(participant).flat_map(|(_, hands)| hands.iter().copied()).collect()
    }

    /// Whether it may stand although it was not committed: a person committed it. Nothing else commits what
    /// nobody decided; a branch that is prepared again is ended again as decided (R1, R14).
    fn may_stand(&self, participant: usize) -> bool {
        let hands = self.hands(participant);
        hands.contains(&Interference::HandCommits)
            || hands.contains(&Interference::ResolvedCommit)
            || hands.contains(&Interference::Departs)
                && self.is_on_record(participant, &[HeuristicKind::Commit, HeuristicKind::Hazard])
    }

    /// Whether the last word on the branch is such a departure; also where there is no last word.
    fn is_on_record(&self, participant: usize, kinds: &[HeuristicKind]) -> bool {
        let Some(Ok(Outcome::Committed { heuristics, .. } | Outcome::Aborted { heuristics, .. })) = self.last
        else {
            return true;
        };
        let here = |heuristic: &&Heuristic| {
            self.world.index_of(heuristic.participant.as_str()) == Some(participant)
                && kinds.contains(&heuristic.kind)
        };
        Heuristic::departures(heuristics).any(|heuristic| here(&heuristic))
    }

    /// Whether it may be missing although it was committed: a person rolled it back, or a failover lost it.
    /// One that is prepared again is committed again (R1), unless its record was dropped by then: a person
    /// decides (R10).
    fn may_be_missing(&self, participant: usize) -> bool {
        let hands = self.hands(participant);
        let quarantined =
            hands.contains(&Interference::LostEnd) && self.world.plan.log.retention_ms < LONG_MS;
        hands.contains(&Interference::LostPrepare)
            || hands.contains(&Interference::LostOnePhase)
            || hands.contains(&Interference::HandRollsBack)
            || hands.contains(&Interference::ResolvedRollback)
            || quarantined
            || hands.contains(&Interference::Departs)
                && self.is_on_record(participant, &[HeuristicKind::Rollback, HeuristicKind::Hazard])
            || self.has_lost_its_decision()
    }

    /// Whether it was decided by a branch's own commit that a failover took, with its marker, and the record of it went
    /// with a crash: who asks is told of the abort that it is now, with a hazard (docs/protocol.md, the last agent).
    fn has_lost_its_decision(&self) -> bool {
        let Some(Ok(Outcome::Aborted { heuristics, .. })) = self.last else { return false };
        heuristics.iter().any(|heuristic| {
            let index = self.world.index_of(heuristic.participant.as_str());
            let lost = |index: usize| self.hands(index).contains(&Interference::LostOnePhase);
            heuristic.kind == HeuristicKind::Hazard && index.is_some_and(lost)
        })
    }

    fn judge(&self) {
        let sure = |told: &Told| matches!(told, Told::Committed(_));
        let told_committed = self.attempt.told.iter().any(|(_, told)| sure(told));
        let told_aborted =
            self.attempt.told.iter().any(|(_, told)| matches!(told, Told::Aborted(_) | Told::ReadOnly));
        // A key's earlier work: its own attempt is judged.
        let Some(claimed) = &self.attempt.claimed else {
            if self.stands.keys().any(|participant| !self.may_stand(*participant)) {
                self.broken(&format!("I2: never asked to commit, and {:?} stands", self.stands));
            }
            return;
        };
        let mut whole = Vec::new();
        let mut missing = Vec::new();
        for (participant, last) in claimed {
            let expected = done_until(self.attempt.done.get(participant), *last);
            let found = self.stands.get(participant).cloned().unwrap_or_default();
            if expected.is_empty() && found.is_empty() {
                continue;
            }
            let as_expected = found.len() == expected.len() && found.iter().all(|o| expected.contains(o));
            if as_expected {
                whole.push(*participant);
            } else if found.is_empty() {
                missing.push(*participant);
            } else {
                self.broken(&format!(
                    "I15: the client saw {expected:?} done at bank{participant}, and {found:?} stands there"
                ));
            }
        }
        for participant in self.stands.keys().filter(|participant| !claimed.contains_key(participant)) {
            self.broken(&format!(
                "I15: bank{participant} was not named in Commit, and something stands there"
            ));
        }
        let stands: Vec<usize> = whole.iter().copied().filter(|at| !self.may_stand(*at)).collect();
        let lacks: Vec<usize> = missing.iter().copied().filter(|at| !self.may_be_missing(*at)).collect();
        if told_committed && !lacks.is_empty() {
            self.broken(&format!("I5: told COMMITTED, and nothing stands at {lacks:?}"));
        }
        if told_aborted && !stands.is_empty() {
            self.broken(&format!("I4: told ABORTED, and it stands at {stands:?}"));
        }
        if !stands.is_empty() && !lacks.is_empty() {
            self.broken(&format!("I1: it stands at {whole:?} and not at {missing:?}"));
        }
        self.judge_departures(&whole, &missing);
    }

    /// Departures are recorded where they can be seen, and only where somebody caused them.
    fn judge_departures(&self, whole: &[usize], missing: &[usize]) {
        let Some(Ok(last)) = self.last else { return };
        let (departed, recorded) = match last {
            Outcome::Committed { heuristics, .. } => (missing, heuristics),
            Outcome::Aborted { heuristics, .. } => (whole, heuristics),
            Outcome::ReadOnly | Outcome::InProgress(_) | Outcome::Unknown(_) | Outcome::Expired => return,
        };
        for heuristic in recorded {
            let index = self.world.index_of(heuristic.participant.as_str());
            // After a failover a transaction id may be another transaction's (R3).
            let failed_over =
                |index: usize| self.world.hosts.get(index).is_some_and(|host| host.server().timeline > 1);
            let uncaused = |index: usize| self.hands(index).is_empty() && !failed_over(index);
            // Of a branch that was to decide in an epoch of which something is lacking nobody knows what it was told.
            let of_what_is_lacking = heuristic.kind == HeuristicKind::Hazard
                && self.gtid.parse().is_ok_and(|gtid| self.world.book.is_written_off(&gtid));
            if index.is_none_or(uncaused) && !self.has_lost_its_decision() && !of_what_is_lacking {
                self.broken(&format!("I1: a heuristic that nobody caused was recorded: {heuristic}"));
            }
        }
        self.judge_operators(recorded, whole, missing);
        for participant in departed {
            let name = self.world.hosts.get(*participant).map(|host| host.name.to_string());
            let known = recorded.iter().any(|h| Some(h.participant.to_string()) == name);
            if !known && !self.cannot_be_seen(*participant, last) {
                self.broken(&format!(
                    "I1: bank{participant} departed from the outcome, and no record says so"
                ));
            }
        }
    }

    /// What is recorded of a branch that an operator had ended otherwise than decided is what happened; and
    /// where nobody else had a hand in it, what the operator said is what happened: the order to end it as
    /// decided was withdrawn before that was recorded.
    fn judge_operators(&self, recorded: &[Heuristic], whole: &[usize], missing: &[usize]) {
        let copied = self.world.plan.faults.iter().any(|fault| matches!(fault.what, What::OldCopy { .. }));
        for heuristic in recorded {
            let Some(index) = self.world.index_of(heuristic.participant.as_str()) else { continue };
            let failed_over = self.world.hosts.get(index).is_some_and(|host| host.server().timeline > 1);
            if self.hands(index) != BTreeSet::from([Interference::Departs]) || failed_over || copied {
                continue;
            }
            let untrue = match heuristic.kind {
                HeuristicKind::Rollback => whole.contains(&index),
                HeuristicKind::Commit => missing.contains(&index),
                HeuristicKind::Hazard => false,
                HeuristicKind::Mended => true,
            };
            if untrue {
                self.broken(&format!(
                    "I1: a departure was recorded while its order to end as decided stood: {heuristic}"
                ));
            }
        }
    }

    /// What Votum says that it cannot see.
    fn cannot_be_seen(&self, participant: usize, last: &Outcome) -> bool {
        match last {
            Outcome::Aborted { .. } => !self.must_be_seen_after_abort(participant),
            // Without a commit marker: a failover loses an acknowledged commit with its PREPARE. One that lost
            // the PREPARE alone took nothing that was acknowledged (R3).
            Outcome::Committed { .. } => {
                self.interfered_here(participant).any(|(_, hands)| {
                    // One that had left a marker is looked for as long as the log knows of it.
                    let forgotten = self.world.plan.log.retention_ms < LONG_MS;
                    hands.contains(&Interference::LostEnd)
                        || hands.contains(&Interference::LostOnePhase) && forgotten
                }) || self.is_hidden_by_another(participant, last)
            }
            Outcome::ReadOnly | Outcome::InProgress(_) | Outcome::Unknown(_) | Outcome::Expired => true,
        }
    }

    /// A failover took the PREPARE, and the new server gave its transaction id to a transaction that is still prepared:
    /// of that id the server says that it is in progress, and the coordinator, whose record of what it had heard before
    /// went with its log, asks on and says that the branch is pending.
    fn is_hidden_by_another(&self, participant: usize, last: &Outcome) -> bool {
        let Some(host) = self.world.hosts.get(participant) else { return false };
        let Outcome::Committed { pending, .. } = last else { return false };
        let server = host.server();
        let taken = |xid: u64| server.state.prepared.values().any(|(by, _)| *by == xid);
        let hidden = server.lost.iter().any(|lost| match lost {
            Lost::Prepare(gid, xid) => {
                gid.parse::<Gid>().is_ok_and(|gid| gid.gtid.to_string() == self.gtid) && taken(*xid)
            }
            Lost::End(_) | Lost::OnePhase(_) => false,
        });
        hidden && pending.contains(&host.name)
    }

    /// R15: whoever aborts with a branch's yes in hand asks its server until it has answered, and records what
    /// it then hears. It cannot be known where the life that aborted has ended, since an abort waits for no
    /// disk (I10) and its absence is only presumed; where the yes never arrived; nor where the rollback was
    /// carried out and a failover undid it, since nobody asks again.
    fn must_be_seen_after_abort(&self, participant: usize) -> bool {
        let present = self.world.machine().and_then(|machine| machine.running()).map(|now| now.sender.life);
        self.interfered_here(participant).any(|(gid, hands)| {
            let asked = present.is_some() && self.world.monitor.undone_by(gid) == present;
            asked && !hands.contains(&Interference::LostEnd)
        })
    }
}

/// I5: an outcome told never changes; READ_ONLY may later read ABORTED.
fn told_once(world: &World, gtid: &str, told: &[Told], last_word: Option<&Result<Outcome, RequestError>>) {
    let written_off = gtid.parse().is_ok_and(|gtid| world.book.is_written_off(&gtid));
    if written_off && matches!(last_word, Some(Ok(Outcome::Aborted { reason: None, .. }))) {
        world.broken(format!("I4: {gtid} may have been decided in what was written off, and reads ABORTED"));
    }
    let last = last_word.and_then(|last| last.as_ref().ok()).map(Told::of);
    let all = || told.iter().chain(last.as_ref());
    let committed = all().any(|told| matches!(told, Told::Committed(_)));
    let aborted = all().any(|told| matches!(told, Told::Aborted(_)));
    let read_only = all().any(|told| matches!(told, Told::ReadOnly));
    // A commit in one phase is answered before its record is on disk: one that a failover then takes with it, and
    // the coordinator's crash the record, is a hazard, which says so.
    let is_hazard = |heuristics: &[Heuristic]| heuristics.iter().any(|h| h.kind == HeuristicKind::Hazard);
    let named = matches!(last_word, Some(Ok(Outcome::Aborted { heuristics, .. })) if is_hazard(heuristics));
    if committed
        && (aborted || read_only)
        && !(named && gtid.parse().is_ok_and(|gtid| world.book.has_lost(&gtid)))
    {
        let all: Vec<&Told> = all().collect();
        world.broken(format!("I5: {gtid} was told {all:?}"));
    }
    if all().any(|told| matches!(told, Told::NotFound)) {
        world.broken(format!("I5: {gtid} was begun, and is not found"));
    }
    if let Some(Told::Expired) = last
        && world.plan.log.retention_ms >= LONG_MS
        && !written_off
    {
        world.broken(format!("I7: {gtid} is forgotten long before its retention is over"));
    }
}

/// I7: of what departed from a decision, and was told of, nothing is forgotten before a person has acknowledged
/// it. What a failover brought back may have been mended, and is a departure no more.
fn departures_stay(world: &World, last_words: &LastWords) {
    let pages = world.book.open();
    let (departures, acknowledged) = (pages.departures.clone(), pages.acknowledged.clone());
    let interfered = pages.interfered.clone();
    drop(pages);
    let is_back = |gtid: &str, participant: &str| {
        interfered.iter().any(|((index, gid), hands)| {
            world.index_of(participant) == Some(*index)
                && gid.parse::<Gid>().is_ok_and(|gid| gid.gtid.to_string() == gtid)
                && hands.contains(&Interference::LostEnd)
        })
    };
    // With a log that was lost its records were, too.
    let is_written_off = |gtid: &str| gtid.parse().is_ok_and(|gtid| world.book.is_written_off(&gtid));
    let is_kept = |gtid: &str, at: &str| !is_back(gtid, at) && !is_written_off(gtid);
    let open = departures.difference(&acknowledged).filter(|(gtid, at)| is_kept(gtid, at));
    for (gtid, participant) in open {
        let Some(Ok(last)) = last_words.get(gtid) else { continue };
        let told = match last {
            Outcome::Committed { heuristics, .. } | Outcome::Aborted { heuristics, .. } => {
                heuristics.iter().any(|departure| departure.participant.as_str() == participant.as_str())
            }
            Outcome::ReadOnly | Outcome::InProgress(_) | Outcome::Unknown(_) | Outcome::Expired => false,
        };
        if !told {
            world.broken(format!(
                "I7: {gtid} departed from its decision at {participant}, which nobody has acknowledged, and it \
                 reads {last:?}"
            ));
        }
    }
}
