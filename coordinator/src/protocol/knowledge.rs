//! What the log, and memory, say of a transaction: of a prepared branch in the recovery table's terms, and
//! of an outcome that somebody asks for. What rests on the absence of a record is judged here, and last.

use votum_proto::canary::{Canary, sings};
use votum_proto::names::{CoordinatorId, Gid, Gtid, Life, ParticipantName};

use super::history::TransactionHistory;
use super::lives::Lives;
use super::record::{Decided, Decision, Heuristic, HeuristicKind, MAX_TEXT, Record, cut};
use super::recovery::{Absence, LogSays, Settled, low_half};
use super::transaction::Transaction;

/// Whose a prepared transaction is, as a listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The agent's own role, or one declared for attached work.
    pub by_agent: bool,
    /// It is in the participant's own database.
    pub in_database: bool,
}

impl Owner {
    /// Whether the agent, or somebody who works for it, prepared it here. A name proves nothing: anyone may
    /// forge one.
    pub fn is_the_agents(&self) -> bool {
        self.by_agent && self.in_database
    }
}

/// How much of the log can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable<'a> {
    /// The journal alone: the store is being counted.
    Journal,
    /// All of it.
    Whole,
    /// The journal alone, and no more: why.
    Damaged(&'a str),
    /// A write failed: nobody knows what is on disk. Why.
    Doubtful(&'a str),
}

/// All that is known of one transaction, and how far that can be trusted.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Whose log it is.
    pub coordinator_id: &'a CoordinatorId,
    /// Every life that the log has seen.
    pub lives: &'a Lives,
    /// How much of it can be read.
    pub readable: Readable<'a>,
    /// What proves that the log is stale, if something does.
    pub stale: Option<&'a str>,
    /// An agent that has not been heard in this life, if there is one: it may be the one that proves the log
    /// stale.
    pub unheard: Option<&'a str>,
    /// The transaction, while it is in memory.
    pub live: Option<&'a Transaction>,
    /// Its records; none while the log cannot be read.
    pub history: &'a TransactionHistory,
}

/// What is answered about a transaction whose outcome does not stand in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Became {
    /// As its recorded decision says.
    Recorded,
    /// Nothing now: absence proves nothing, for this reason.
    Unproven(String),
    /// It is of a life that this log does not hold.
    UnknownLife,
    /// It was never begun.
    NeverBegun,
    /// It is live.
    Live,
    /// Its decision was handed to one branch, whose answer is awaited.
    Delegated,
    /// It may have ended longer ago than the log remembers, or in what a person has written off.
    Expired,
    /// Aborted: it is not live, and no decision was ever recorded (I4).
    PresumedAborted,
    /// It lies beyond what its life leased.
    BeyondLease,
}

/// Reads the highest gtid that retention dropped, at a participant or at all.
type Dropped<'a> = &'a dyn Fn() -> Result<Option<Gtid>, String>;

impl Known<'_> {
    /// What is said of `gid`, found prepared at `participant` with transaction id `xid`. `owner` is `None`
    /// where the agent itself vouches for the branch (a vote), `xid` 0 where any will do; `mark` is the
    /// participant's.
    pub fn of_prepared(
        &self,
        participant: &ParticipantName,
        gid: &Gid,
        xid: u32,
        owner: Option<&Owner>,
        mark: Dropped<'_>,
    ) -> LogSays {
        if gid.gtid.coordinator_id != *self.coordinator_id {
            return LogSays::NotOurs { looks_like_ours: false };
        }
        let decided = self.decision();
        let by_agent = owner.is_none_or(Owner::is_the_agents);
        // A gid that the log lists with that xid is ours, whatever its owner has become.
        if !by_agent && !decided.is_some_and(|decided| lists(decided, participant, gid, xid)) {
            return LogSays::NotOurs { looks_like_ours: false };
        }
        // It is judged again when that is on disk (R16), or when nothing comes of it: what is recorded of it has
        // to hold.
        let departing = self.live.is_some_and(|live| live.is_departing(gid.branch));
        if departing && decided.is_some_and(|decided| lists(decided, participant, gid, xid)) {
            return LogSays::Nothing(Absence::Live);
        }
        if let Some(how) = self.settled(participant, gid, xid) {
            return LogSays::Settled { how };
        }
        if let Some(decision) = decided {
            let live = self.live.map(|live| live.acknowledged(gid.branch));
            let acknowledged = live.unwrap_or(self.history.ended);
            return LogSays::Decided { decision: Box::new(decision.clone()), acknowledged };
        }
        if self.history.delegated.is_some() && !sings(Canary::PresumeAbortDelegated) {
            return LogSays::Delegated { deciding: false, answer_may_come: false };
        }
        self.nothing(gid, mark)
    }

    fn decision(&self) -> Option<&Decided> {
        self.live.and_then(Transaction::decided).or_else(|| self.recorded())
    }

    fn recorded(&self) -> Option<&Decided> {
        let forgotten = self.history.ended && sings(Canary::ForgetEnded);
        self.history.decided.as_ref().filter(|_| !forgotten)
    }

    /// No decision is known: what that is worth.
    fn nothing(&self, gid: &Gid, mark: Dropped<'_>) -> LogSays {
        let unproven = |why: String| LogSays::Nothing(Absence::Unproven(why));
        let written_off = self.lives.is_written_off(gid.gtid.life);
        if self.lives.get(gid.gtid.life).is_none() && !written_off {
            return if self.lives.is_complete() {
                LogSays::NotOurs { looks_like_ours: true }
            } else {
                unproven("the coordinator is still reading its log".into())
            };
        }
        let presumed = |live: &Transaction| live.is_one_phase() && sings(Canary::PresumeAbortDelegated);
        if self.live.is_some_and(|live| !presumed(live)) {
            return LogSays::Nothing(Absence::Live);
        }
        if let Some(why) = self.absence_unproven(gid.gtid.life) {
            return unproven(why);
        }
        match mark() {
            _ if written_off && !sings(Canary::PresumeAbortWrittenOff) => {
                LogSays::Nothing(Absence::WrittenOff)
            }
            Ok(Some(mark)) if order(&gid.gtid) <= order(&mark) => LogSays::Nothing(Absence::BelowMark),
            Ok(_) => LogSays::Nothing(Absence::Proven),
            Err(error) => unproven(error),
        }
    }

    /// What was recorded of this branch outside the protocol, under this transaction id: the newest record
    /// counts. Under another id it was of other work, and the rows below judge what is there now.
    fn settled(&self, participant: &ParticipantName, gid: &Gid, xid: u32) -> Option<Settled> {
        let here = |settled: &Gid, at: &ParticipantName, id: u32| {
            settled == gid && at == participant && (xid == 0 || id == xid)
        };
        // What is carried knows of its own before the history can be read.
        let carried = self.live.map_or(&[][..], Transaction::resolved);
        let mut resolved = self.history.resolved.iter().chain(carried).rev();
        let resolved = resolved.find(|r| here(&r.gid, &r.participant, r.xid));
        if let Some(resolved) = resolved.filter(|_| !self.came_to_nothing(gid)) {
            return Some(Settled::Resolved { commit: resolved.commit });
        }
        let in_memory = self.live.map_or(&[][..], Transaction::heuristics);
        let mut newest = self.history.heuristics.iter().chain(in_memory).rev();
        let heuristic = newest.find(|h| here(&h.gid, &h.participant, low_half(h.xid8)))?;
        let decided_commit = self.decision().is_some_and(|decided| decided.decision == Decision::Commit);
        Some(Settled::Heuristic { kind: heuristic.kind, decided_commit })
    }

    /// Whether the newest word on a branch that a person resolved is that it had ended as decided before.
    fn came_to_nothing(&self, gid: &Gid) -> bool {
        let in_memory = self.live.map_or(&[][..], Transaction::heuristics);
        let mended = |heuristic: &Heuristic| heuristic.gid == *gid && heuristic.kind == HeuristicKind::Mended;
        let is_mended = |record: &Record| matches!(record, Record::Heuristic(it) if mended(it));
        let is_resolved = |record: &Record| matches!(record, Record::Resolved(it) if it.gid == *gid);
        let records = || self.history.records.iter().rev().map(|(_, _, record)| record);
        let newest = records().find(|record| is_mended(record) || is_resolved(record));
        in_memory.iter().any(mended) || newest.is_some_and(is_mended)
    }

    /// How a branch departs from the decision if it is ended as a person resolved it, where no record says yet
    /// that it did.
    pub fn departs(&self, participant: &ParticipantName, gid: &Gid, xid: u32) -> Option<Heuristic> {
        let decided = self.decision()?;
        let branch = decided.branches.iter().find(|branch| {
            branch.number == gid.branch && branch.participant == *participant && low_half(branch.xid8) == xid
        })?;
        let resolved = self.history.resolved.iter().rev().find(|resolved| resolved.gid == *gid)?;
        let (kind, decided_word) = match (&decided.decision, resolved.commit) {
            (Decision::Commit, false) => (HeuristicKind::Rollback, "commit"),
            (Decision::Abort(_), true) => (HeuristicKind::Commit, "abort"),
            (Decision::Commit, true) | (Decision::Abort(_), false) => return None,
        };
        let newest = self.history.heuristics.iter().rev().find(|heuristic| heuristic.gid == *gid);
        if newest.is_some_and(|newest| newest.kind == kind) {
            return None;
        }
        let detail = format!("decided {decided_word}; {resolved}");
        Some(Heuristic {
            gid: gid.clone(),
            participant: participant.clone(),
            xid8: branch.xid8,
            kind,
            detail: cut(&detail, MAX_TEXT),
        })
    }

    /// What is answered to a question about `gtid`, whose outcome does not stand in memory. The order is part
    /// of the contract (docs/protocol.md): what is known is said even by a stale log; what would rest on
    /// absence is not. `present` is the life that answers and the next seq that it hands out.
    pub fn became(&self, gtid: &Gtid, present: (Life, u64), horizon: Dropped<'_>) -> Became {
        if self.recorded().is_some() {
            return Became::Recorded;
        }
        if let Some(why) = self.absence_unproven(gtid.life) {
            return Became::Unproven(why);
        }
        let (life, next_seq) = present;
        let written_off = self.lives.is_written_off(gtid.life);
        if self.lives.get(gtid.life).is_none() && !written_off {
            return Became::UnknownLife;
        }
        if gtid.life == life && gtid.seq >= next_seq {
            return Became::NeverBegun;
        }
        if self.live.is_some() {
            return Became::Live;
        }
        if self.history.delegated.is_some() {
            return Became::Delegated;
        }
        match horizon() {
            _ if written_off && !sings(Canary::PresumeAbortWrittenOff) => Became::Expired,
            Err(error) => Became::Unproven(error),
            Ok(Some(horizon)) if order(gtid) <= order(&horizon) => Became::Expired,
            Ok(_) if self.lives.handed_out(gtid) => Became::PresumedAborted,
            Ok(_) => Became::BeyondLease,
        }
    }
}

impl Known<'_> {
    /// Why the absence of a record of a transaction of `life` proves nothing now, if it does not. Of the
    /// present life, which is the newest, nobody holds a record but this log; of one before it an older copy
    /// may lack what was decided, and the agents' hellos tell.
    fn absence_unproven(&self, life: Life) -> Option<String> {
        let unheard = || {
            let counts = self.lives.is_newest(life) || sings(Canary::PresumeAbortUnheard);
            let agent = self.unheard.filter(|_| !counts)?;
            Some(format!(
                "the agent at {agent} has not been heard since the coordinator's start; if this log is an older \
                 copy, it may be the one that knows"
            ))
        };
        absence_unproven(self.stale, self.readable).or_else(unheard)
    }
}

/// Why the absence of any record proves nothing now, if it does not.
pub fn absence_unproven(stale: Option<&str>, readable: Readable<'_>) -> Option<String> {
    if let Some(why) = stale.filter(|_| !sings(Canary::PresumeAbortWhenStale)) {
        return Some(format!("the coordinator's log is stale: {why}"));
    }
    match readable {
        Readable::Whole => None,
        Readable::Journal if sings(Canary::PresumeAbortUncounted) => None,
        Readable::Journal => Some("the coordinator is still reading its log".into()),
        Readable::Damaged(why) => Some(format!("the log's history cannot be read: {why}")),
        Readable::Doubtful(why) => Some(format!("the log failed: {why}")),
    }
}

/// The order in which one log's transactions begin.
fn order(gtid: &Gtid) -> (Life, u64) {
    (gtid.life, gtid.seq)
}

fn lists(decided: &Decided, participant: &ParticipantName, gid: &Gid, xid: u32) -> bool {
    decided.branches.iter().any(|branch| {
        branch.number == gid.branch && branch.participant == *participant && low_half(branch.xid8) == xid
    })
}

#[cfg(test)]
mod tests {
    use votum_proto::names::{Epoch, Incarnation};

    use super::*;
    use crate::protocol::lives::LifeSeen;
    use crate::protocol::record::PreparedBranch;
    use crate::protocol::recovery::{Action, Row, judge_prepared};

    /// A commit whose branch a failover lost, which is recorded; what is said of `xid` under its name, from
    /// what is `carried` in memory while the history is still being read, or from the history alone.
    fn row_after_a_lost_branch(xid: u32, carried: bool) -> (Row, Action) {
        let gid: Gid = "votum_acme_7_3f9ac2_1042_0_2".parse().unwrap();
        let participant: ParticipantName = "bank_a".parse().unwrap();
        let branch = PreparedBranch {
            number: 0,
            participant: participant.clone(),
            xid8: 700,
            system_identifier: 11,
            timeline: 1,
            marker: false,
        };
        let decided = Decided {
            gtid: gid.gtid.clone(),
            decision: Decision::Commit,
            branches_named: 2,
            branches: vec![branch.clone(), PreparedBranch { number: 1, ..branch }],
            key: None,
            label: String::new(),
        };
        let lost = Heuristic {
            gid: gid.clone(),
            participant: participant.clone(),
            xid8: 700,
            kind: HeuristicKind::Rollback,
            detail: String::new(),
        };
        let records = [Record::Decided(decided.clone()), Record::Heuristic(lost.clone())];
        let live = Transaction::recover(&records).filter(|_| carried);
        let history = match carried {
            true => TransactionHistory::default(),
            false => {
                TransactionHistory { decided: Some(decided), heuristics: vec![lost], ..Default::default() }
            }
        };
        let life = Life { epoch: Epoch(7), incarnation: Incarnation::from_low_bits(0x3f9ac2) };
        let lives = Lives::new(vec![LifeSeen { life, leased_until: 2000, last_position: 9 }], true);
        let known = Known {
            coordinator_id: &gid.gtid.coordinator_id,
            lives: &lives,
            readable: if carried { Readable::Journal } else { Readable::Whole },
            stale: None,
            unheard: None,
            live: live.as_ref(),
            history: &history,
        };
        let says = known.of_prepared(&participant, &gid, xid, None, &|| Ok(None));
        let verdict = judge_prepared(&participant, 0, xid, &says);
        (verdict.row, verdict.action)
    }

    #[test]
    fn r16_what_is_recorded_of_a_branch_holds_for_its_transaction_id() {
        for carried in [false, true] {
            let (row, action) = row_after_a_lost_branch(700, carried);
            assert_eq!((row, action), (Row::R16, Action::Rollback { alarm: None }), "carried: {carried}");
        }
    }

    /// R8: an abort of an earlier life is presumed once every agent was heard; of the present one at once.
    #[test]
    fn r8_absence_proves_nothing_of_an_earlier_life_while_an_agent_is_unheard() {
        let at = |epoch| Life { epoch: Epoch(epoch), incarnation: Incarnation::from_low_bits(0x3f9ac2) };
        let seen = |epoch| LifeSeen { life: at(epoch), leased_until: 2000, last_position: 9 };
        let lives = Lives::new(vec![seen(6), seen(7)], true);
        let says = |gid: &str, unheard| {
            let gid: Gid = gid.parse().unwrap();
            let known = Known {
                coordinator_id: &gid.gtid.coordinator_id,
                lives: &lives,
                readable: Readable::Whole,
                stale: None,
                unheard,
                live: None,
                history: &TransactionHistory::default(),
            };
            known.nothing(&gid, &|| Ok(None))
        };
        let (earlier, present) = ("votum_acme_6_3f9ac2_3_0_2", "votum_acme_7_3f9ac2_3_0_2");
        let unproven = |says: LogSays| matches!(says, LogSays::Nothing(Absence::Unproven(why)) if why.contains("bank-b:7420"));
        assert!(unproven(says(earlier, Some("bank-b:7420"))));
        assert_eq!(says(earlier, None), LogSays::Nothing(Absence::Proven));
        assert_eq!(says(present, Some("bank-b:7420")), LogSays::Nothing(Absence::Proven));
    }

    #[test]
    fn r1x_other_work_under_the_name_of_a_settled_branch_is_rolled_back_with_an_alarm() {
        for carried in [false, true] {
            let (row, action) = row_after_a_lost_branch(701, carried);
            let foreign = matches!((row, &action), (Row::R1x, Action::Rollback { alarm: Some(_) }));
            assert!(foreign, "{row} {action:?}, carried: {carried}");
        }
    }
}
