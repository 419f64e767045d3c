//! A driver with its world in the test's hand: a log in memory that is durable when the test says so, and
//! one agent whose every message the test writes and reads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use votum_proto::names::{Epoch, Gid, Gtid, Incarnation, Life, ParticipantName, SessionName};
use votum_proto::runtime::Seams;
use votum_proto::service::metrics::Page;
use votum_proto::v1;

use super::super::request::{
    Begin, Begun, BranchClaim, Commit, DriverHandle, Outcome, Request, RequestError, Wait,
};
use super::super::{AgentSettings, Settings, start};
use super::memory_log::{MemoryHistory, MemoryLog};
use crate::log::{Entry, History, KnownLife, LogEvent, Opened, TransactionHistory};
use crate::metrics::{self, Metrics};
use crate::protocol::record::{Carried, Decision, EpochBegun, Identity, KeyRecord, Record, Resolved};
use crate::transport::{DurablePosition, Generation, LinkEvent, LinkHandle};

pub(super) const AGENT: u64 = 77;

pub(super) fn name(text: &str) -> ParticipantName {
    text.parse().unwrap()
}

pub(super) fn life(epoch: u64) -> Life {
    Life { epoch: Epoch(epoch), incarnation: Incarnation::from_low_bits(0xabc0 + epoch as u32) }
}

pub(super) fn gtid(epoch: u64, seq: u64) -> Gtid {
    Gtid { coordinator_id: "acme".parse().unwrap(), life: life(epoch), seq }
}

pub(super) fn gid(epoch: u64, seq: u64, branch: u16) -> Gid {
    Gid { gtid: gtid(epoch, seq), branch, branches: 2 }
}

/// A driver and the ends of everything it touches. Its present life is epoch 7; epoch 6 is in its log.
pub(super) struct World {
    pub(super) driver: DriverHandle,
    pub(super) log: Arc<MemoryLog>,
    /// What Prometheus is shown.
    page: Page,
    /// What the links' witness says.
    pub(super) durable: DurablePosition,
    log_events: mpsc::UnboundedSender<LogEvent>,
    pub(super) link_events: mpsc::UnboundedSender<LinkEvent>,
    pub(super) outbox: mpsc::UnboundedReceiver<(Generation, Vec<v1::CoordinatorMessage>)>,
    pub(super) generation: Generation,
    position: u64,
    /// Messages that arrived and were not read yet, each in a word.
    pub(super) received: Vec<v1::CoordinatorMessage>,
    /// The last request to let go of a branch.
    pub(super) held: u64,
}

impl World {
    /// Nothing is owed, the log is not counted yet, the agent not connected.
    pub(super) fn new() -> Self {
        Self::with_owed(Vec::new())
    }

    pub(super) fn with_owed(owed: Vec<TransactionHistory>) -> Self {
        Self::start(owed, None, 1)
    }

    /// Ready to work, where so many transactions may be live.
    pub(super) async fn ready_for(max_transactions: usize) -> Self {
        Self::ready_with((max_transactions, 1_000)).await
    }

    /// Where so many transactions may be live, and each participant may work at so many branches of whole ones.
    pub(super) async fn ready_with(bounds: (usize, usize)) -> Self {
        let mut world = Self::start_for(bounds, Vec::new(), None, 1);
        world.count();
        world.connect(Self::hello()).await;
        world.received.clear();
        world
    }

    /// What is lacking up to `epoch` was written off before this life.
    pub(super) fn written_off(epoch: u64) -> Self {
        Self::written_off_with(epoch, Vec::new())
    }

    /// The same, and this is owed.
    pub(super) fn written_off_with(epoch: u64, owed: Vec<TransactionHistory>) -> Self {
        Self::start(owed, Some(Epoch(epoch)), 1)
    }

    /// The second agent, of participant `c`, is never heard.
    pub(super) fn with_a_silent_agent() -> Self {
        Self::with_a_silent_agent_and_owed(Vec::new())
    }

    /// The same, and this is owed.
    pub(super) fn with_a_silent_agent_and_owed(owed: Vec<TransactionHistory>) -> Self {
        Self::start(owed, None, 2)
    }

    fn start(owed: Vec<TransactionHistory>, written_off: Option<Epoch>, agents: usize) -> Self {
        Self::start_for((5, 1_000), owed, written_off, agents)
    }

    fn start_for(
        (max_transactions, work_in_flight): (usize, usize),
        owed: Vec<TransactionHistory>,
        written_off: Option<Epoch>,
        agents: usize,
    ) -> Self {
        let log = Arc::new(MemoryLog::default());
        let (log_events, events) = mpsc::unbounded_channel();
        let (link_events, links) = mpsc::unbounded_channel();
        let (outbox_sender, outbox) = mpsc::unbounded_channel();
        let opened = Opened {
            identity: Identity { coordinator_id: "acme".parse().unwrap(), key: [1; 32] },
            life: life(7),
            leased_until: 10,
            lives: Self::lives(),
            written_off,
            restored: None,
            owed,
            position: 100,
            log: Arc::<MemoryLog>::clone(&log),
            events,
        };
        let durable = DurablePosition::default();
        let metrics = Metrics::default();
        let settings = Settings {
            max_transactions,
            completed_wait: Duration::from_secs(10),
            max_undelivered: 2,
            max_wait: Duration::from_secs(1),
            work_in_flight,
            lease: 10,
            least_reach: Duration::from_secs(7200),
            durable: durable.clone(),
            counted: metrics.counted(),
        };
        let agent = |(address, participants): (&str, &[&str])| AgentSettings {
            link: LinkHandle::new(outbox_sender.clone()),
            address: address.into(),
            participants: participants.iter().copied().map(name).collect(),
        };
        let known: [(&str, &[&str]); 2] = [("agent", &["a", "b"]), ("silent", &["c"])];
        let agents = known.into_iter().take(agents).map(agent).collect();
        let seams = Seams::production();
        let driver = start(settings, opened, agents, links, &seams);
        let page = metrics::page(metrics, driver.clone(), seams.clock);
        let (generation, position, received, held) = (0, 100, Vec::new(), 0);
        Self {
            driver,
            log,
            page,
            durable,
            log_events,
            link_events,
            outbox,
            generation,
            position,
            received,
            held,
        }
    }

    fn lives() -> Vec<KnownLife> {
        let known = |epoch, last_position| KnownLife {
            begun: EpochBegun { life: life(epoch), first_position: 1 },
            leased_until: 10,
            last_position,
        };
        vec![known(6, 90), known(7, 100)]
    }

    /// Counted, connected: ready to work.
    pub(super) async fn ready() -> Self {
        let mut world = Self::new();
        world.count();
        world.connect(Self::hello()).await;
        world.settle().await;
        world.received.clear();
        world
    }

    pub(super) fn count(&self) {
        self.count_lives(Self::lives());
    }

    /// The store remembers epoch 5, which the journal does not hold any more, as far as `last_position`.
    pub(super) fn count_with_epoch_5(&self, last_position: u64) {
        let begun = EpochBegun { life: life(5), first_position: 1 };
        let older = KnownLife { begun, leased_until: 10, last_position };
        self.count_lives([vec![older], Self::lives()].concat());
    }

    fn count_lives(&self, lives: Vec<KnownLife>) {
        let history: Arc<dyn History> = Arc::<MemoryHistory>::clone(&self.log.durable);
        self.log_events.send(LogEvent::Counted { history, lives }).unwrap();
    }

    /// Everything that was appended reaches the disk.
    pub(super) async fn force(&mut self) {
        let entries: Vec<Entry> = self.log.queued.lock().unwrap().drain(..).collect();
        let Some(last) = entries.last() else { return };
        let through = last.token;
        self.position += entries.len() as u64;
        self.log.durable.records.lock().unwrap().extend(entries.into_iter().map(|entry| entry.record));
        self.log_events.send(LogEvent::Durable { through, position: self.position }).unwrap();
        self.settle().await;
    }

    pub(super) async fn unreadable(&mut self) {
        self.log_events.send(LogEvent::Unreadable { why: "damaged at 5".into() }).unwrap();
        self.settle().await;
    }

    pub(super) async fn doubtful(&mut self) {
        self.log_events.send(LogEvent::Doubtful { why: "EIO".into() }).unwrap();
        self.settle().await;
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.log.closed.lock().unwrap()
    }

    pub(super) fn close(&self) {
        self.log_events.send(LogEvent::Closed).unwrap();
    }

    /// Lets the driver take everything that waits. On this runtime of one thread a round trip through the
    /// driver's queue proves that it has.
    pub(super) async fn settle(&mut self) {
        for _ in 0..3 {
            let _ = self.driver.ask(Request::Status).await;
            tokio::task::yield_now().await;
        }
        while let Ok((_, messages)) = self.outbox.try_recv() {
            self.received.extend(messages);
        }
    }

    pub(super) async fn begin(&self) -> Result<Begun, RequestError> {
        self.begin_with(None).await
    }

    pub(super) async fn begin_with(&self, key: Option<KeyRecord>) -> Result<Begun, RequestError> {
        self.begin_at(key, Vec::new()).await
    }

    /// With attached branches.
    pub(super) async fn begin_at(
        &self,
        key: Option<KeyRecord>,
        attached: Vec<ParticipantName>,
    ) -> Result<Begun, RequestError> {
        self.begin_as(Begin { key, attached, ..plain() }).await
    }

    pub(super) async fn begin_as(&self, begin: Begin) -> Result<Begun, RequestError> {
        self.driver.ask(|answer| Request::Begin(begin, answer)).await
    }

    /// Has a transaction rolled back that nothing was committed of.
    pub(super) async fn roll_back(&self, begun: &Begun) {
        let Begun { gtid, secret, .. } = begun.clone();
        let rolled_back =
            self.driver.ask(|answer| Request::Rollback { gtid, secret, reason: String::new(), answer });
        assert!(matches!(rolled_back.await, Ok(Outcome::Aborted { .. })));
    }

    /// Asks for the commit of branches at a and b; the answer comes by the receiver.
    pub(super) async fn commit(
        &mut self,
        begun: &Begun,
        wait: Wait,
    ) -> tokio::sync::oneshot::Receiver<Result<Outcome, RequestError>> {
        self.commit_at(begun, ["a", "b"], wait).await
    }

    pub(super) async fn commit_at(
        &mut self,
        begun: &Begun,
        participants: [&str; 2],
        wait: Wait,
    ) -> tokio::sync::oneshot::Receiver<Result<Outcome, RequestError>> {
        let claim = |participant: &str| BranchClaim {
            participant: name(participant),
            session: SessionName { agent_instance: AGENT, counter: 1 },
            last_ordinal: 1,
        };
        let commit = Commit {
            gtid: begun.gtid.clone(),
            secret: begun.secret.clone(),
            branches: participants.map(claim).into(),
            wait,
        };
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.driver.send(Request::Commit(commit, answer)).await;
        self.settle().await;
        answered
    }

    pub(super) async fn get(&self, gtid: Gtid) -> Result<Outcome, RequestError> {
        self.driver.ask(|answer| Request::Get(gtid, answer)).await
    }

    pub(super) async fn page(&self) -> Result<String, String> {
        (self.page)().await
    }

    /// The value of one series on the page of metrics; `None` where it is not shown.
    pub(super) async fn shown(&self, series: &str) -> Option<f64> {
        let page = self.page().await.unwrap();
        let mut values = page.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        values.next().map(|value| value.parse().unwrap())
    }

    pub(super) async fn alarms(&self) -> Vec<String> {
        let status = self.driver.ask(Request::Status).await.unwrap();
        status.alarms.into_iter().map(|alarm| alarm.code).collect()
    }

    /// A transaction whose branches at a and b have voted yes; its decision waits for the disk.
    pub(super) async fn deciding(
        &mut self,
        wait: Wait,
    ) -> (Begun, tokio::sync::oneshot::Receiver<Result<Outcome, RequestError>>) {
        let begun = self.begin().await.unwrap();
        let answered = self.commit(&begun, wait).await;
        assert_eq!(self.told().await, "prepare@a prepare@b");
        for (branch, participant) in [(0, "a"), (1, "b")] {
            let gid = Gid { gtid: begun.gtid.clone(), branch, branches: 2 };
            self.agent_votes_yes(&gid, participant, 700 + u64::from(branch)).await;
        }
        (begun, answered)
    }
}

/// What comes without anybody doing more, at the latest when every timeout has passed; a test ends where it
/// does not.
/// A transaction of which nothing is asked.
pub(super) fn plain() -> Begin {
    Begin {
        timeout: Duration::from_secs(30),
        key: None,
        client: String::new(),
        label: String::new(),
        attached: Vec::new(),
        participants: Vec::new(),
    }
}

pub(super) async fn heard<T>(answer: impl Future<Output = T>) -> T {
    let clock = Seams::production().clock;
    clock.timeout(Duration::from_secs(120), answer).await.expect("no answer within two minutes")
}

/// A commit of an earlier life, as the journal gives it: owed.
pub(super) fn owed_commit(epoch: u64, seq: u64) -> TransactionHistory {
    let record = Record::Decided(decided_commit(epoch, seq));
    TransactionHistory {
        decided: Some(decided_commit(epoch, seq)),
        records: vec![(5, 0, Record::Carried(Box::new(Carried { position: 5, running_ms: 0, record })))],
        ..Default::default()
    }
}

pub(super) fn decided_commit(epoch: u64, seq: u64) -> crate::protocol::record::Decided {
    let branch = |number: u16, participant: &str| crate::protocol::record::PreparedBranch {
        number,
        participant: name(participant),
        xid8: 700 + u64::from(number),
        system_identifier: 11,
        timeline: 1,
        marker: false,
    };
    crate::protocol::record::Decided {
        gtid: gtid(epoch, seq),
        decision: Decision::Commit,
        branches_named: 2,
        branches: vec![branch(0, "a"), branch(1, "b")],
        key: None,
        label: String::new(),
    }
}

pub(super) fn resolved(gid: &Gid, xid: u32) -> Resolved {
    Resolved {
        gid: gid.clone(),
        participant: name("a"),
        xid,
        commit: true,
        operator: "op".into(),
        reason: "why".into(),
    }
}
