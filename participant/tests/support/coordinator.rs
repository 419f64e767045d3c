//! A coordinator, as a test plays it.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio_stream::StreamExt as _;
use votum_proto::exchange::CoordinatorEnd;
use votum_proto::names::{Gid, Gtid, Life};
use votum_proto::runtime::Seams;
use votum_proto::secret::EpochKey;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Report;
use votum_proto::v1::coordinator_message::Kind as Order;
use votum_tests::eventually::DEADLINE;

use super::{BANK, ClientBranch};

/// A coordinator, as a test plays it.
pub struct Coordinator {
    pub id: String,
    pub life: Life,
    pub key: EpochKey,
    pub hello: v1::AgentHello,
    pub position: u64,
    pub(super) end: CoordinatorEnd,
    pub(super) seen: VecDeque<Report>,
    /// Where branches wait for a session, as the newest frame says.
    pub queues: Vec<v1::SessionQueue>,
    pub(super) seams: Seams,
}

impl Coordinator {
    pub fn gtid(&self, seq: u64) -> Gtid {
        Gtid { coordinator_id: self.id.parse().unwrap(), life: self.life, seq }
    }

    pub fn gid(&self, seq: u64) -> Gid {
        Gid { gtid: self.gtid(seq), branch: 0, branches: 1 }
    }

    pub async fn send(&mut self, order: Order) {
        self.send_all(vec![order]).await;
    }

    /// Sends these in one frame.
    pub async fn send_all(&mut self, orders: Vec<Order>) {
        let frame = v1::CoordinatorFrame {
            witness: Some(v1::Witness {
                epoch: self.life.epoch.0,
                incarnation: self.life.incarnation.get(),
                position: self.position,
            }),
            messages: orders.into_iter().map(|order| v1::CoordinatorMessage { kind: Some(order) }).collect(),
        };
        let _ = self.end.outgoing.send(frame).await;
    }

    /// The next message; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Report> {
        while self.seen.is_empty() {
            let clock = Arc::clone(&self.seams.clock);
            let frame =
                clock.timeout(DEADLINE, self.end.incoming.next()).await.expect("no frame within 30 s");
            let v1::AgentFrame { messages, session_queues } = frame?.unwrap();
            self.queues = session_queues;
            self.seen.extend(messages.into_iter().filter_map(|message| message.kind));
        }
        self.seen.pop_front()
    }

    /// The first message that `pick` takes; others are passed over.
    pub async fn expect<T>(&mut self, what: &str, mut pick: impl FnMut(&Report) -> Option<T>) -> T {
        let mut passed = Vec::new();
        let clock = Arc::clone(&self.seams.clock);
        let looking = async {
            loop {
                let report = self.next().await?;
                if let Some(found) = pick(&report) {
                    return Some(found);
                }
                passed.push(report);
            }
        };
        let found = clock.timeout(DEADLINE, looking).await;
        found.ok().flatten().unwrap_or_else(|| panic!("no {what}, but: {passed:#?}"))
    }

    pub async fn prepare(&mut self, branch: &ClientBranch) {
        self.prepare_as(branch, branch.session, branch.ordinal).await;
    }

    pub async fn prepare_as(
        &mut self,
        branch: &ClientBranch,
        session: Option<v1::SessionName>,
        last_ordinal: u64,
    ) {
        self.send(Order::Prepare(self.prepare_order(branch, session, last_ordinal))).await;
    }

    fn prepare_order(
        &self,
        branch: &ClientBranch,
        session: Option<v1::SessionName>,
        last_ordinal: u64,
    ) -> v1::Prepare {
        v1::Prepare {
            gtid: branch.gtid.to_string(),
            participant: BANK.into(),
            gid: self.gid(branch.gtid.seq).to_string(),
            session,
            last_ordinal,
            one_phase: false,
            work: None,
        }
    }

    fn whole(timeout_ms: u64, statements: &[(&str, &[i64])]) -> v1::Work {
        let statement = |(text, numbers): &(&str, &[i64])| v1::WorkStatement {
            statement: (*text).into(),
            parameters: numbers
                .iter()
                .map(|number| v1::Value { kind: Some(v1::value::Kind::Int64(*number)) })
                .collect(),
            raw_binary: false,
        };
        let options = v1::BranchOptions { timeout_ms, ..Default::default() };
        v1::Work { statements: statements.iter().map(statement).collect(), options: Some(options) }
    }

    /// As the last branch of several: has the agent do all its work, and commit, within `timeout_ms`.
    pub async fn decide_for(&mut self, timeout_ms: u64, seq: u64, statements: &[(&str, &[i64])]) {
        let listing = self.hello.listings.iter().find(|listing| listing.participant == BANK);
        let (system_identifier, timeline) =
            listing.map(|listing| (listing.system_identifier, listing.timeline)).unwrap();
        self.send(Order::CommitOnePhase(v1::CommitOnePhase {
            gtid: self.gtid(seq).to_string(),
            participant: BANK.into(),
            gid: self.gid(seq).to_string(),
            work: Some(Self::whole(timeout_ms, statements)),
            session: Some(v1::SessionName { agent_instance: self.hello.instance, counter: 0 }),
            system_identifier,
            timeline,
        }))
        .await;
    }

    /// The same, with time enough; how it ended, whole.
    pub async fn decided(&mut self, seq: u64, statements: &[(&str, &[i64])]) -> v1::BranchEnd {
        self.decide_for(60_000, seq, statements).await;
        self.whole_end(seq).await
    }

    /// How a branch ended, with what goes with that.
    pub async fn whole_end(&mut self, seq: u64) -> v1::BranchEnd {
        let gid = self.gid(seq).to_string();
        self.expect("branch end", |report| match report {
            Report::BranchEnd(end) if end.gid == gid => Some(end.clone()),
            _ => None,
        })
        .await
    }

    /// Has the agent do all the work of a branch, for `timeout_ms`.
    pub async fn work_for(&mut self, timeout_ms: u64, seq: u64, statements: &[(&str, &[i64])]) {
        self.send(Order::Prepare(v1::Prepare {
            gtid: self.gtid(seq).to_string(),
            participant: BANK.into(),
            gid: self.gid(seq).to_string(),
            session: Some(v1::SessionName { agent_instance: self.hello.instance, counter: 0 }),
            last_ordinal: statements.len() as u64,
            one_phase: false,
            work: Some(Self::whole(timeout_ms, statements)),
        }))
        .await;
    }

    /// The same, with time enough; the vote, whole.
    pub async fn worked(&mut self, seq: u64, statements: &[(&str, &[i64])]) -> v1::Vote {
        self.work_for(60_000, seq, statements).await;
        self.whole_vote(seq).await
    }

    /// A vote, with what goes with it.
    pub async fn whole_vote(&mut self, seq: u64) -> v1::Vote {
        let gid = self.gid(seq).to_string();
        self.expect("vote", |report| match report {
            Report::Vote(vote) if vote.gid == gid => Some(vote.clone()),
            _ => None,
        })
        .await
    }

    /// Has the only branch of a transaction prepared, or offered to be committed in one phase.
    pub async fn prepare_alone(&mut self, branch: &ClientBranch) {
        let order = self.prepare_order(branch, branch.session, branch.ordinal);
        self.send(Order::Prepare(v1::Prepare { one_phase: true, ..order })).await;
    }

    /// Has a branch committed that was offered to be committed in one phase.
    pub async fn commit_one_phase(&mut self, seq: u64) {
        self.send(Order::CommitOnePhase(v1::CommitOnePhase {
            gtid: self.gtid(seq).to_string(),
            participant: BANK.into(),
            gid: self.gid(seq).to_string(),
            ..Default::default()
        }))
        .await;
    }

    /// The next vote of a transaction.
    pub async fn vote(&mut self, seq: u64) -> v1::vote::Kind {
        let gtid = self.gtid(seq).to_string();
        self.expect("vote", |report| match report {
            Report::Vote(vote) if vote.gtid == gtid => vote.kind.clone(),
            _ => None,
        })
        .await
    }

    pub async fn vote_yes(&mut self, seq: u64) -> v1::VoteYes {
        match self.vote(seq).await {
            v1::vote::Kind::Yes(yes) => yes,
            other => panic!("not a yes: {other:?}"),
        }
    }

    /// Prepares a branch that votes yes: its transaction id.
    pub async fn prepared(&mut self, branch: &ClientBranch) -> u64 {
        self.prepare(branch).await;
        self.vote_yes(branch.gtid.seq).await.xid8
    }

    /// Prepares a branch that votes yes, and commits it.
    pub async fn committed(&mut self, branch: &ClientBranch) {
        let (seq, xid8) = (branch.gtid.seq, self.prepared(branch).await);
        self.commit(seq, xid8, false).await;
        self.branch_end(seq).await;
    }

    pub async fn vote_no(&mut self, seq: u64) -> v1::AbortReason {
        match self.vote(seq).await {
            v1::vote::Kind::No(no) => no.reason.unwrap(),
            other => panic!("not a no: {other:?}"),
        }
    }

    pub async fn commit(&mut self, seq: u64, xid8: u64, compare_first: bool) {
        let order = v1::CommitBranch { compare_first, ..self.commit_order(seq, xid8) };
        self.send(Order::Commit(order)).await;
    }

    /// Has a branch committed whose acknowledgement may take its time.
    pub async fn commit_unhurried(&mut self, seq: u64, xid8: u64) {
        let order = v1::CommitBranch { nobody_waits: true, ..self.commit_order(seq, xid8) };
        self.send(Order::Commit(order)).await;
    }

    fn commit_order(&self, seq: u64, xid8: u64) -> v1::CommitBranch {
        v1::CommitBranch {
            gtid: self.gtid(seq).to_string(),
            participant: BANK.into(),
            gid: self.gid(seq).to_string(),
            xid8,
            ..Default::default()
        }
    }

    pub async fn rollback(&mut self, seq: u64, gid: bool, xid8: u64, listed_xid: u32) {
        self.send(Order::Rollback(v1::RollbackBranch {
            gtid: self.gtid(seq).to_string(),
            participant: BANK.into(),
            gid: if gid { self.gid(seq).to_string() } else { String::new() },
            xid8,
            listed_xid,
        }))
        .await;
    }

    /// How a branch ended.
    pub async fn branch_end(&mut self, seq: u64) -> v1::branch_end::Kind {
        let gtid = self.gtid(seq).to_string();
        self.expect("branch end", |report| match report {
            Report::BranchEnd(end) if end.gtid == gtid => end.kind.clone(),
            _ => None,
        })
        .await
    }

    pub async fn session_lost(&mut self, seq: u64) -> v1::AbortReason {
        let gtid = self.gtid(seq).to_string();
        self.expect("session lost", |report| match report {
            Report::SessionLost(lost) if lost.gtid == gtid => lost.reason.clone(),
            _ => None,
        })
        .await
    }

    /// Asks for a listing.
    pub async fn list(&mut self, details: bool) -> v1::Listing {
        self.send(Order::List(v1::ListParticipant { participant: BANK.into(), request: 77, details })).await;
        self.expect("listing", |report| match report {
            Report::Listing(listing) if listing.request == 77 => Some(listing.clone()),
            _ => None,
        })
        .await
    }

    /// The next listing that nobody asked for and that `wanted` takes.
    pub async fn swept(&mut self, mut wanted: impl FnMut(&v1::Listing) -> bool) -> v1::Listing {
        self.expect("sweep", |report| match report {
            Report::Listing(listing) if listing.request == 0 && wanted(listing) => Some(listing.clone()),
            _ => None,
        })
        .await
    }
}
