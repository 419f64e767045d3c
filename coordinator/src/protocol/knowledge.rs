//! What the log, and memory, say of a transaction: of a prepared branch in the recovery table's terms, and
//! of an outcome that somebody asks for. What rests on the absence of a record is judged here, and last.

use votum_proto::canary::{Canary, sings};
use votum_proto::names::{CoordinatorId, Gid, Gtid, Life, ParticipantName};

use super::lives::Lives;
use super::record::{Decided, Decision};
use super::recovery::{Absence, LogSays, Settled, low_half};
use super::transaction::Transaction;
use crate::log::TransactionHistory;

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
    /// It may have ended longer ago than the log remembers.
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
    /// where the agent itself vouches for the branch (a vote); `mark` is the participant's.
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
        if let Some(settled) = self.settled(participant, gid) {
            return settled;
        }
        if let Some(decision) = decided {
            let live = self.live.map(|live| live.acknowledged(gid.branch));
            let acknowledged = live.unwrap_or(self.history.ended);
            return LogSays::Decided { decision: Box::new(decision.clone()), acknowledged };
        }
        if self.history.delegated.is_some() {
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
        if self.lives.get(gid.gtid.life).is_none() {
            return if self.lives.is_complete() {
                LogSays::NotOurs { looks_like_ours: true }
            } else {
                unproven("the coordinator is still reading its log".into())
            };
        }
        if self.live.is_some() {
            return LogSays::Nothing(Absence::Live);
        }
        if let Some(why) = absence_unproven(self.stale, self.readable) {
            return unproven(why);
        }
        match mark() {
            Ok(Some(mark)) if order(&gid.gtid) <= order(&mark) => LogSays::Nothing(Absence::BelowMark),
            Ok(_) => LogSays::Nothing(Absence::Proven),
            Err(error) => unproven(error),
        }
    }

    /// What was recorded of this branch outside the protocol: the newest record counts.
    fn settled(&self, participant: &ParticipantName, gid: &Gid) -> Option<LogSays> {
        let here = |settled: &Gid, at: &ParticipantName| settled == gid && at == participant;
        let resolved = self.history.resolved.iter().rev().find(|r| here(&r.gid, &r.participant));
        if let Some(resolved) = resolved {
            let how = Settled::Resolved { commit: resolved.commit };
            return Some(LogSays::Settled { how, xid: resolved.xid });
        }
        let heuristic = self.history.heuristics.iter().rev().find(|h| here(&h.gid, &h.participant))?;
        let decided = self.history.decided.as_ref();
        let decided_commit = decided.is_some_and(|decided| decided.decision == Decision::Commit);
        let how = Settled::Heuristic { kind: heuristic.kind, decided_commit };
        Some(LogSays::Settled { how, xid: low_half(heuristic.xid8) })
    }

    /// What is answered to a question about `gtid`, whose outcome does not stand in memory. The order is part
    /// of the contract (docs/protocol.md): what is known is said even by a stale log; what would rest on
    /// absence is not. `present` is the life that answers and the next seq that it hands out.
    pub fn became(&self, gtid: &Gtid, present: (Life, u64), horizon: Dropped<'_>) -> Became {
        if self.recorded().is_some() {
            return Became::Recorded;
        }
        if let Some(why) = absence_unproven(self.stale, self.readable) {
            return Became::Unproven(why);
        }
        let (life, next_seq) = present;
        if self.lives.get(gtid.life).is_none() {
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
            Err(error) => Became::Unproven(error),
            Ok(Some(horizon)) if order(gtid) <= order(&horizon) => Became::Expired,
            Ok(_) if self.lives.handed_out(gtid) => Became::PresumedAborted,
            Ok(_) => Became::BeyondLease,
        }
    }
}

/// Why the absence of a record proves nothing now, if it does not.
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
