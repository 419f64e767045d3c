//! Links against a fake agent, over a channel, on a clock that the test moves.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use futures::channel::oneshot;
use tokio::sync::mpsc;
use votum_proto::exchange::AgentEnd;
use votum_proto::names::{Epoch, Incarnation, Life};
use votum_proto::runtime::{BoxFuture, Clock, Entropy, Monotonic, Seams};
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as FromAgent;
use votum_proto::v1::coordinator_message::Kind as ToAgent;

use super::channel::ChannelDialer;
use super::link::start_link;
use super::{DurablePosition, LinkEvent, LinkHandle};

/// How often the world may stand still before a test gives up.
const TURNS: usize = 20_000;

/// Time that passes only when the test says so.
#[derive(Default)]
struct ManualClock(Mutex<ClockState>);

#[derive(Default)]
struct ClockState {
    now: Monotonic,
    sleepers: Vec<(Monotonic, oneshot::Sender<()>)>,
}

impl ManualClock {
    fn advance(&self, by: Duration) {
        let mut state = self.0.lock().unwrap();
        let now = state.now.after(by);
        state.now = now;
        let (due, later): (Vec<_>, Vec<_>) = state.sleepers.drain(..).partition(|(at, _)| *at <= now);
        state.sleepers = later;
        drop(state);
        for (_, wake) in due {
            let _ = wake.send(());
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Monotonic {
        self.0.lock().unwrap().now
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn sleep_until(&self, at: Monotonic) -> BoxFuture<()> {
        let (wake, woken) = oneshot::channel();
        let mut state = self.0.lock().unwrap();
        if at <= state.now {
            return Box::pin(std::future::ready(()));
        }
        state.sleepers.push((at, wake));
        Box::pin(async move {
            let _ = woken.await;
        })
    }
}

struct FixedEntropy;

impl Entropy for FixedEntropy {
    fn bits(&self) -> u64 {
        0
    }
}

/// One link, and the agent's side of each of its streams.
struct World {
    clock: Arc<ManualClock>,
    link: Option<LinkHandle>,
    durable: DurablePosition,
    events: mpsc::UnboundedReceiver<LinkEvent>,
    dialled: mpsc::UnboundedReceiver<AgentEnd>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let spawn = Seams::production().spawn;
        let seams = Seams { clock: clock.clone(), entropy: Arc::new(FixedEntropy), spawn: spawn.clone() };
        let (to_test, dialled) = mpsc::unbounded_channel();
        let host = Arc::new(move |end: AgentEnd| -> BoxFuture<()> {
            let _ = to_test.send(end);
            Box::pin(std::future::ready(()))
        });
        let dialer = Arc::new(ChannelDialer::new("agent", host, spawn));
        let hello = v1::CoordinatorHello { coordinator_id: "acme".into(), ..Default::default() };
        let life = Life { epoch: Epoch(7), incarnation: Incarnation::from_low_bits(0x3f_9ac2) };
        let (to_driver, events) = mpsc::unbounded_channel();
        let durable = DurablePosition::default();
        let link = start_link(0, dialer, hello, durable.clone(), life, to_driver, &seams);
        Self { clock, link: Some(link), durable, events, dialled }
    }

    /// Lets time pass in small steps until `ready` answers.
    async fn until<T>(&mut self, what: &str, mut ready: impl FnMut(&mut Self) -> Option<T>) -> T {
        for _ in 0..TURNS {
            if let Some(answer) = ready(self) {
                return answer;
            }
            self.clock.advance(Duration::from_millis(5));
            tokio::task::yield_now().await;
        }
        panic!("{what} never came");
    }

    async fn event(&mut self) -> LinkEvent {
        self.until("an event", |world| world.events.try_recv().ok()).await
    }

    /// The agent's end of the next stream.
    async fn agent(&mut self) -> Agent {
        Agent(self.until("a dialling", |world| world.dialled.try_recv().ok()).await)
    }

    /// The agent's end of the next stream, both hellos said, and the stream's generation.
    async fn up(&mut self) -> (Agent, u64) {
        let mut agent = self.agent().await;
        assert!(matches!(agent.frame().await.messages[0].kind, Some(ToAgent::Hello(_))));
        agent.say(vec![FromAgent::Hello(v1::AgentHello::default())]).await;
        let event = self.event().await;
        let LinkEvent::Up { generation, .. } = event else { panic!("expected Up, got {event:?}") };
        (agent, generation)
    }

    fn send(&self, generation: u64, gtids: &[&str]) {
        self.link.as_ref().unwrap().send(generation, gtids.iter().map(|gtid| order(gtid)).collect());
    }
}

struct Agent(AgentEnd);

impl Agent {
    async fn frame(&mut self) -> v1::CoordinatorFrame {
        self.0.incoming.next().await.unwrap().unwrap()
    }

    async fn say(&mut self, kinds: Vec<FromAgent>) {
        let messages = kinds.into_iter().map(|kind| v1::AgentMessage { kind: Some(kind) }).collect();
        self.0.outgoing.send(v1::AgentFrame { messages, ..Default::default() }).await.unwrap();
    }
}

fn order(gtid: &str) -> v1::CoordinatorMessage {
    let end = v1::EndSession { gtid: gtid.into(), participant: "bank".into() };
    v1::CoordinatorMessage { kind: Some(ToAgent::EndSession(end)) }
}

fn gtids(frame: &v1::CoordinatorFrame) -> Vec<String> {
    let gtid = |message: &v1::CoordinatorMessage| match &message.kind {
        Some(ToAgent::EndSession(end)) => end.gtid.clone(),
        other => panic!("expected EndSession, got {other:?}"),
    };
    frame.messages.iter().map(gtid).collect()
}

fn vote(gtid: &str) -> FromAgent {
    FromAgent::Vote(v1::Vote { gtid: gtid.into(), ..Default::default() })
}

#[tokio::test]
async fn the_hello_goes_first_and_alone_and_every_frame_behind_it_carries_the_durable_position() {
    let mut world = World::new();
    world.durable.advance(41);
    world.send(1, &["too-early"]);
    let mut agent = world.agent().await;
    let hello = agent.frame().await;
    assert_eq!(hello.messages.len(), 1);
    assert!(matches!(&hello.messages[0].kind, Some(ToAgent::Hello(hello)) if hello.coordinator_id == "acme"));
    assert_eq!(hello.witness, None, "the agent's own must be judged before it is replaced");

    agent.say(vec![FromAgent::Hello(v1::AgentHello { instance: 9, ..Default::default() })]).await;
    let up = world.event().await;
    assert!(matches!(&up, LinkEvent::Up { generation: 1, hello, .. } if hello.instance == 9), "{up:?}");

    world.durable.advance(42);
    world.send(1, &["a", "b"]);
    world.send(1, &["c"]);
    let frame = agent.frame().await;
    assert_eq!(gtids(&frame), ["a", "b", "c"], "what waits together goes in one frame");
    assert_eq!(frame.witness, Some(v1::Witness { epoch: 7, incarnation: 0x3f_9ac2, position: 42 }));
}

#[tokio::test]
async fn no_frame_carries_a_witness_before_the_hello_was_judged_or_once_the_log_is_stale() {
    let mut world = World::new();
    world.durable.advance(41);
    let (mut agent, generation) = world.up().await;
    let mut idle = Box::pin(agent.frame());
    let frame = world.until("an idle frame", |_| futures::FutureExt::now_or_never(&mut idle)).await;
    drop(idle);
    assert_eq!((frame.messages.len(), frame.witness), (0, None), "not judged yet");
    world.send(generation, &[]);
    let frame = agent.frame().await;
    assert_eq!((frame.messages.len(), frame.witness.unwrap().position), (0, 41), "judged: told at once");
    world.durable.withhold();
    world.send(generation, &["known commits are delivered all the same"]);
    let frame = agent.frame().await;
    assert_eq!((frame.messages.len(), frame.witness), (1, None));
}

#[tokio::test]
async fn a_frame_never_holds_more_than_its_bound_and_keeps_the_order() {
    let mut world = World::new();
    let (mut agent, generation) = world.up().await;
    let sent: Vec<String> = (0..600).map(|n| format!("t{n}")).collect();
    world.send(generation, &sent.iter().map(String::as_str).collect::<Vec<_>>());
    let mut arrived = Vec::new();
    while arrived.len() < sent.len() {
        let frame = agent.frame().await;
        assert!(frame.messages.len() <= 256);
        arrived.extend(gtids(&frame));
    }
    assert_eq!(arrived, sent);
}

#[tokio::test]
async fn a_message_meant_for_an_earlier_stream_is_never_sent_on_a_later_one() {
    let mut world = World::new();
    let (agent, first) = world.up().await;
    drop(agent);
    let down = world.event().await;
    assert!(matches!(down, LinkEvent::Down { generation: Some(1), .. }), "{down:?}");
    world.send(first, &["while-down"]);
    let (mut agent, second) = world.up().await;
    assert_ne!(first, second);
    world.send(first, &["stale"]);
    world.send(second, &["fresh"]);
    assert_eq!(gtids(&agent.frame().await), ["fresh"]);
}

#[tokio::test]
async fn frames_reach_the_driver_in_order_and_only_after_up() {
    let mut world = World::new();
    let mut agent = world.agent().await;
    agent.say(vec![FromAgent::Hello(v1::AgentHello::default())]).await;
    agent.say(vec![vote("a"), vote("b")]).await;
    agent.say(vec![]).await;
    agent.say(vec![vote("c")]).await;
    drop(agent);
    assert!(matches!(world.event().await, LinkEvent::Up { generation: 1, .. }));
    for expected in [2, 1] {
        let event = world.event().await;
        let LinkEvent::Frame { generation: 1, messages, .. } = event else { panic!("no frame: {event:?}") };
        assert_eq!(messages.len(), expected);
    }
    assert!(matches!(world.event().await, LinkEvent::Down { generation: Some(1), .. }));
}

#[tokio::test]
async fn a_refused_link_says_so_and_dials_again_slowly() {
    let mut world = World::new();
    let mut agent = world.agent().await;
    let refused_at = world.clock.now();
    let refusal = v1::Refusal { detail: "a newer epoch".into(), ..Default::default() };
    agent.say(vec![FromAgent::Refusal(refusal)]).await;
    let refused = world.event().await;
    assert!(matches!(&refused, LinkEvent::Refused { refusal, .. } if refusal.detail == "a newer epoch"));
    assert!(matches!(world.event().await, LinkEvent::Down { generation: None, .. }));
    world.agent().await;
    assert!(world.clock.now().since(refused_at) >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_refusal_amid_a_stream_ends_it() {
    let mut world = World::new();
    let (mut agent, _) = world.up().await;
    agent.say(vec![vote("a"), FromAgent::Refusal(v1::Refusal::default()), vote("never")]).await;
    let event = world.event().await;
    let LinkEvent::Frame { messages, .. } = event else { panic!("no frame: {event:?}") };
    assert_eq!(messages.len(), 1);
    assert!(matches!(world.event().await, LinkEvent::Refused { .. }));
    assert!(matches!(world.event().await, LinkEvent::Down { generation: Some(1), .. }));
}

#[tokio::test]
async fn an_agent_that_does_not_say_hello_is_hung_up_on() {
    let mut world = World::new();
    let mut agent = world.agent().await;
    agent.say(vec![vote("a")]).await;
    assert!(matches!(world.event().await, LinkEvent::Down { generation: None, .. }));
    let silent = world.agent().await;
    let event = world.event().await;
    let LinkEvent::Down { generation: None, why, .. } = event else { panic!("no Down: {event:?}") };
    assert!(why.contains("answer the hello"), "{why}");
    drop(silent);
}

#[tokio::test]
async fn an_idle_stream_repeats_the_witness() {
    let mut world = World::new();
    let (mut agent, generation) = world.up().await;
    world.send(generation, &[]);
    assert!(agent.frame().await.messages.is_empty());
    world.durable.advance(99);
    let mut next = Box::pin(async move { agent.frame().await });
    let frame = world.until("a frame", |_| futures::FutureExt::now_or_never(&mut next)).await;
    assert!(frame.messages.is_empty());
    assert_eq!(frame.witness.unwrap().position, 99);
}

#[tokio::test]
async fn a_link_that_nobody_holds_ends_its_stream_and_dials_no_more() {
    let mut world = World::new();
    let (mut agent, _) = world.up().await;
    world.link = None;
    assert!(agent.0.incoming.next().await.is_none());
    drop(agent);
    world.until("the end of the link", |world| world.events.is_closed().then_some(())).await;
    assert!(world.dialled.try_recv().is_err());
}

#[tokio::test]
async fn a_link_that_nobody_holds_ends_also_while_no_stream_stands() {
    let mut world = World::new();
    let mut agent = world.agent().await;
    agent.say(vec![FromAgent::Refusal(v1::Refusal::default())]).await;
    assert!(matches!(world.event().await, LinkEvent::Refused { .. }));
    let before = world.clock.now();
    world.link = None;
    world.until("the end of the link", |world| world.events.is_closed().then_some(())).await;
    assert!(world.clock.now().since(before) < Duration::from_secs(1), "it waited for the next dialling");
}
