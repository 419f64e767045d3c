//! The one agent of a test's world: what it says, and what it was told.

use votum_proto::names::Gid;
use votum_proto::v1;
use votum_proto::v1::branch_end::Kind as End;
use votum_proto::v1::coordinator_message::Kind;
use votum_proto::v1::gone::XidStatus;

use super::world::{AGENT, World};
use crate::transport::LinkEvent;

impl World {
    pub(super) fn hello() -> v1::AgentHello {
        let listing = |participant: &str| Self::listing(participant, Vec::new());
        v1::AgentHello {
            instance: AGENT,
            listings: vec![listing("a"), listing("b")],
            can_hold: true,
            can_commit_one_phase: true,
            can_verify_attached: true,
            ..Default::default()
        }
    }

    pub(super) fn listing(participant: &str, prepared: Vec<v1::PreparedTransaction>) -> v1::Listing {
        v1::Listing {
            participant: participant.into(),
            prepared,
            role: "votum".into(),
            database: "bank".into(),
            ..Default::default()
        }
    }

    pub(super) fn row(gid: &Gid, xid: u32) -> v1::PreparedTransaction {
        v1::PreparedTransaction {
            gid: gid.to_string(),
            xid,
            owner: "votum".into(),
            database: "bank".into(),
            ..Default::default()
        }
    }

    pub(super) async fn connect(&mut self, hello: v1::AgentHello) {
        self.generation += 1;
        self.link_events.send(LinkEvent::Up { agent: 0, generation: self.generation, hello }).unwrap();
        self.settle().await;
    }

    pub(super) async fn refuse(&mut self, hello: v1::AgentHello) {
        let detail = "a newer life has spoken".into();
        let refusal = v1::Refusal { detail, hello: Some(hello), ..Default::default() };
        self.link_events.send(LinkEvent::Refused { agent: 0, refusal }).unwrap();
        self.settle().await;
    }

    pub(super) async fn disconnect(&mut self) {
        let generation = Some(self.generation);
        self.link_events.send(LinkEvent::Down { agent: 0, generation, why: "cut".into() }).unwrap();
        self.settle().await;
    }

    pub(super) async fn agent_says(&mut self, kind: v1::agent_message::Kind) {
        self.agent_sends(vec![v1::AgentMessage { kind: Some(kind) }]).await;
    }

    /// The driver takes it when it comes to it.
    pub(super) fn agent_tells(&self, kind: v1::agent_message::Kind) {
        let messages = vec![v1::AgentMessage { kind: Some(kind) }];
        let event = LinkEvent::Frame { agent: 0, generation: self.generation, messages, queues: Vec::new() };
        self.link_events.send(event).unwrap();
    }

    pub(super) async fn agent_sends(&mut self, messages: Vec<v1::AgentMessage>) {
        let event = LinkEvent::Frame { agent: 0, generation: self.generation, messages, queues: Vec::new() };
        self.link_events.send(event).unwrap();
        self.settle().await;
    }

    /// Says how long a branch waits for a session, by participant, in milliseconds.
    pub(super) async fn agent_has_queues(&mut self, queues: &[(&str, u64)]) {
        let queue = |(participant, expected_ms): &(&str, u64)| v1::SessionQueue {
            participant: (*participant).to_owned(),
            expected_ms: *expected_ms,
        };
        let queues = queues.iter().map(queue).collect();
        let event = LinkEvent::Frame { agent: 0, generation: self.generation, messages: Vec::new(), queues };
        self.link_events.send(event).unwrap();
        self.settle().await;
    }

    pub(super) async fn agent_lists(&mut self, listing: v1::Listing) {
        self.agent_says(v1::agent_message::Kind::Listing(listing)).await;
    }

    pub(super) async fn agent_votes_yes(&mut self, gid: &Gid, participant: &str, xid8: u64) {
        let yes = v1::VoteYes { xid8, system_identifier: 11, timeline: 1, marker: false };
        let vote = v1::Vote {
            gtid: gid.gtid.to_string(),
            participant: participant.into(),
            gid: gid.to_string(),
            kind: Some(v1::vote::Kind::Yes(yes)),
            ..Default::default()
        };
        self.agent_says(v1::agent_message::Kind::Vote(vote)).await;
    }

    /// The agent answers the last request to let go of a branch.
    pub(super) async fn agent_held(&mut self, gid: &Gid, participant: &str, kind: v1::branch_held::Kind) {
        let held = v1::BranchHeld {
            gtid: gid.gtid.to_string(),
            participant: participant.into(),
            gid: gid.to_string(),
            request: self.held,
            kind: Some(kind),
        };
        self.agent_says(v1::agent_message::Kind::Held(held)).await;
    }

    /// It has let go of a branch, and found it prepared.
    pub(super) async fn agent_lets_go(&mut self, gid: &Gid, participant: &str, xid: u32) {
        let prepared = v1::HeldPrepared { xid, system_identifier: 11 };
        self.agent_held(gid, participant, v1::branch_held::Kind::Prepared(prepared)).await;
    }

    pub(super) async fn agent_has(&mut self, gid: &Gid, participant: &str, was_commit: bool) {
        self.agent_ended(gid, participant, was_commit);
        self.settle().await;
    }

    /// The same; the driver takes it when it comes to it.
    pub(super) fn agent_ended(&self, gid: &Gid, participant: &str, was_commit: bool) {
        let end = Self::end(gid, participant, was_commit, End::Done(v1::Done {}));
        self.agent_tells(end);
    }

    /// An agent's answer to an order at `a` to end a branch: it is not prepared, and this is what the server
    /// says of its transaction.
    pub(super) async fn agent_finds_gone(&mut self, gid: &Gid, was_commit: bool, status: XidStatus) {
        let gone = v1::Gone {
            system_identifier: 11,
            timeline: 1,
            in_recovery: false,
            status: status.into(),
            marker: 0,
        };
        self.agent_says(Self::end(gid, "a", was_commit, End::Gone(gone))).await;
    }

    pub(super) fn end(gid: &Gid, participant: &str, was_commit: bool, kind: End) -> v1::agent_message::Kind {
        v1::agent_message::Kind::BranchEnd(v1::BranchEnd {
            gtid: gid.gtid.to_string(),
            participant: participant.into(),
            gid: gid.to_string(),
            was_commit,
            kind: Some(kind),
            ..Default::default()
        })
    }

    /// What the agent was told since the last look, a word each.
    pub(super) async fn told(&mut self) -> String {
        self.settle().await;
        let mut word = |message: v1::CoordinatorMessage| match message.kind.unwrap() {
            Kind::Hello(_) => "hello".to_owned(),
            Kind::Prepare(prepare) => format!("prepare@{}", prepare.participant),
            Kind::Commit(commit) => {
                let compare = if commit.compare_first { "?" } else { "" };
                let unhurried = if commit.nobody_waits { "~" } else { "" };
                format!("commit@{}{compare}{unhurried}", commit.participant)
            }
            Kind::Rollback(rollback) => format!("rollback@{}", rollback.participant),
            Kind::EndSession(end) => format!("end@{}", end.participant),
            Kind::List(list) => format!("list@{}", list.participant),
            Kind::VerifyBranches(ask) => format!("verify{}@{}", ask.branches.len(), ask.participant),
            Kind::PruneMarkers(order) => {
                let v1::PruneMarkers { participant, above_epoch, below_epoch, below_seq } = order;
                format!("prune@{participant} above {above_epoch} below {below_epoch}-{below_seq}")
            }
            Kind::Hold(hold) => {
                self.held = hold.request;
                format!("hold@{}", hold.participant)
            }
            Kind::CommitOnePhase(order) => format!("one-phase@{}", order.participant),
            Kind::VerifyAttached(order) => format!("attached@{}", order.participant),
        };
        std::mem::take(&mut self.received).into_iter().map(&mut word).collect::<Vec<_>>().join(" ")
    }
}
