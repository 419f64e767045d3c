//! Agents without databases: they vote and acknowledge at once, as they are told to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use votum_coordinator::transport::Dialer;
use votum_proto::exchange::{self, AgentEnd, CoordinatorEnd};
use votum_proto::runtime::Seams;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Says;
use votum_proto::v1::coordinator_message::Kind as Told;

use super::arguments::Alone;

/// How often what is prepared is listed, as agents do it.
const SWEEP: Duration = Duration::from_secs(5);
/// Which server each of them claims to stand for.
const FIRST_SYSTEM: u64 = 7_000;

/// How the agents vote: by the number of the transaction, so that all votes on it agree.
#[derive(Debug, Clone, Copy)]
struct Votes {
    abort_percent: u64,
    read_percent: u64,
}

enum Vote {
    Yes,
    ReadOnly,
    No,
}

impl Votes {
    fn of(self, gtid: &str) -> Vote {
        let seq = gtid.rsplit('-').next().and_then(|seq| seq.parse::<u64>().ok()).unwrap_or(0) % 100;
        if seq < self.abort_percent {
            Vote::No
        } else if seq < self.abort_percent + self.read_percent {
            Vote::ReadOnly
        } else {
            Vote::Yes
        }
    }
}

/// All agents of one coordinator, over several lives of it.
pub(crate) struct Agents {
    seams: Seams,
    votes: Votes,
    /// They can be reached.
    there: AtomicBool,
    /// They acknowledge commits; otherwise they drop the orders.
    acknowledge: AtomicBool,
    next_xid: AtomicU64,
    acknowledged: AtomicU64,
    /// What each keeps prepared, by gid: only while nothing is acknowledged, and what is left of that.
    prepared: Vec<Mutex<BTreeMap<String, u32>>>,
}

impl Agents {
    /// So many, that are there and acknowledge.
    pub(crate) fn new(participants: u32, arguments: &Alone, seams: &Seams) -> Arc<Self> {
        let votes = Votes {
            abort_percent: arguments.abort_percent.into(),
            read_percent: arguments.read_percent.into(),
        };
        Arc::new(Self {
            seams: seams.clone(),
            votes,
            there: AtomicBool::new(true),
            acknowledge: AtomicBool::new(true),
            next_xid: AtomicU64::new(1_000),
            acknowledged: AtomicU64::new(0),
            prepared: (0..participants).map(|_| Mutex::default()).collect(),
        })
    }

    /// Whether they can be reached from now on.
    pub(crate) fn set_there(&self, there: bool) {
        self.there.store(there, Ordering::Relaxed);
    }

    /// Whether they acknowledge commits from now on.
    pub(crate) fn set_acknowledging(&self, acknowledge: bool) {
        self.acknowledge.store(acknowledge, Ordering::Relaxed);
    }

    /// How many commits they have acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// How many branches are left prepared.
    pub(crate) fn prepared(&self) -> usize {
        self.prepared.iter().map(|rows| rows.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// How the coordinator reaches number `number`.
    pub(crate) fn dialer(self: &Arc<Self>, number: usize) -> Arc<dyn Dialer> {
        Arc::new(Dials { agents: Arc::clone(self), number })
    }

    async fn serve(self: Arc<Self>, number: usize, end: AgentEnd) {
        let AgentEnd { outgoing, mut incoming } = end;
        let mut participant = String::new();
        let mut listed = self.seams.clock.now();
        while let Some(Ok(frame)) = incoming.next().await {
            let mut says = Vec::with_capacity(frame.messages.len());
            for told in frame.messages.into_iter().filter_map(|message| message.kind) {
                if let Told::Hello(hello) = &told {
                    participant = hello.participants.first().cloned().unwrap_or_default();
                }
                says.extend(self.answer(number, &participant, told));
            }
            let now = self.seams.clock.now();
            if now.since(listed) >= SWEEP {
                listed = now;
                says.push(Says::Listing(self.listing(number, &participant, 0)));
            }
            let messages: Vec<_> =
                says.into_iter().map(|kind| v1::AgentMessage { kind: Some(kind) }).collect();
            if !messages.is_empty()
                && outgoing.send(v1::AgentFrame { messages, ..Default::default() }).await.is_err()
            {
                return;
            }
        }
    }

    fn answer(&self, number: usize, participant: &str, told: Told) -> Option<Says> {
        match told {
            Told::Hello(_) => Some(Says::Hello(v1::AgentHello {
                instance: number as u64 + 1,
                listings: vec![self.listing(number, participant, 0)],
                can_work: true,
                can_hold: true,
                ..Default::default()
            })),
            Told::Prepare(prepare) => Some(Says::Vote(self.vote(number, prepare))),
            Told::Commit(order) => self.commit(number, order).map(Says::BranchEnd),
            Told::Rollback(order) => Some(Says::BranchEnd(v1::BranchEnd {
                gtid: order.gtid,
                participant: order.participant,
                gid: order.gid,
                was_commit: false,
                kind: Some(v1::branch_end::Kind::NeverPrepared(v1::NeverPrepared {})),
                ..Default::default()
            })),
            Told::List(list) => Some(Says::Listing(self.listing(number, participant, list.request))),
            // Nothing of it is said to agents that stand for one server each and keep no sessions.
            Told::EndSession(_)
            | Told::VerifyAttached(_)
            | Told::VerifyBranches(_)
            | Told::PruneMarkers(_)
            | Told::Hold(_)
            | Told::CommitOnePhase(_) => None,
        }
    }

    fn vote(&self, number: usize, prepare: v1::Prepare) -> v1::Vote {
        let v1::Prepare { gtid, participant, gid, .. } = prepare;
        let kind = match self.votes.of(&gtid) {
            Vote::Yes => {
                let xid8 = self.next_xid.fetch_add(1, Ordering::Relaxed);
                if !self.acknowledge.load(Ordering::Relaxed) {
                    self.keep(number, gid.clone(), u32::try_from(xid8).unwrap_or(0));
                }
                let system_identifier = FIRST_SYSTEM + number as u64;
                v1::vote::Kind::Yes(v1::VoteYes { xid8, system_identifier, timeline: 1, marker: false })
            }
            Vote::ReadOnly => v1::vote::Kind::ReadOnly(v1::VoteReadOnly {}),
            Vote::No => v1::vote::Kind::No(v1::VoteNo { reason: None }),
        };
        v1::Vote { gtid, participant, gid, kind: Some(kind), ..Default::default() }
    }

    fn keep(&self, number: usize, gid: String, xid: u32) {
        if let Some(rows) = self.prepared.get(number) {
            rows.lock().unwrap_or_else(PoisonError::into_inner).insert(gid, xid);
        }
    }

    fn commit(&self, number: usize, order: v1::CommitBranch) -> Option<v1::BranchEnd> {
        if !self.acknowledge.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(rows) = self.prepared.get(number) {
            rows.lock().unwrap_or_else(PoisonError::into_inner).remove(&order.gid);
        }
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        Some(v1::BranchEnd {
            gtid: order.gtid,
            participant: order.participant,
            gid: order.gid,
            was_commit: true,
            kind: Some(v1::branch_end::Kind::Done(v1::Done {})),
            ..Default::default()
        })
    }

    fn listing(&self, number: usize, participant: &str, request: u64) -> v1::Listing {
        let row = |(gid, xid): (&String, &u32)| v1::PreparedTransaction {
            gid: gid.clone(),
            xid: *xid,
            owner: "votum".into(),
            database: "bank".into(),
            ..Default::default()
        };
        let rows = self.prepared.get(number);
        let rows = rows.map(|rows| rows.lock().unwrap_or_else(PoisonError::into_inner));
        v1::Listing {
            participant: participant.to_owned(),
            request,
            prepared: rows.map(|rows| rows.iter().map(row).collect()).unwrap_or_default(),
            role: "votum".into(),
            database: "bank".into(),
            system_identifier: FIRST_SYSTEM + number as u64,
            timeline: 1,
            ..Default::default()
        }
    }
}

struct Dials {
    agents: Arc<Agents>,
    number: usize,
}

#[async_trait]
impl Dialer for Dials {
    async fn dial(&self) -> Result<CoordinatorEnd, String> {
        if !self.agents.there.load(Ordering::Relaxed) {
            return Err("the agent is away".into());
        }
        let (coordinator, agent) = exchange::channel();
        self.agents.seams.spawn(Arc::clone(&self.agents).serve(self.number, agent));
        Ok(coordinator)
    }

    fn address(&self) -> String {
        format!("agent {}", self.number + 1)
    }
}
