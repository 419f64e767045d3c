//! The wires between coordinators and agents, and the ways of clients' requests.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::StreamExt as _;
use votum_coordinator::transport::Dialer;
use votum_proto::exchange::{self, CoordinatorEnd, End};

use super::coordinator::Sender;
use super::monitor;
use super::world::World;

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the agent.
    There,
    /// From the agent.
    Back,
}

/// What is between the coordinators and one agent.
#[derive(Debug, Default)]
pub struct Wire {
    /// Whether nothing gets through: there, back.
    cut: watch::Sender<(bool, bool)>,
    /// Grows when everything that stands is reset.
    resets: watch::Sender<u64>,
}

impl Wire {
    /// Nothing gets through from now on, in these directions.
    pub fn cut(&self, there: bool, back: bool) {
        self.cut.send_replace((there, back));
    }

    /// Breaks every connection.
    pub fn reset(&self) {
        self.resets.send_modify(|count| *count += 1);
    }

    fn is_cut(&self, way: Way) -> bool {
        let (there, back) = *self.cut.borrow();
        match way {
            Way::There => there,
            Way::Back => back,
        }
    }

    /// Waits until something gets through.
    async fn open(&self, way: Way) {
        let mut cut = self.cut.subscribe();
        let _ = cut
            .wait_for(|(there, back)| match way {
                Way::There => !there,
                Way::Back => !back,
            })
            .await;
    }
}

/// Dials one agent from one coordinator.
pub struct SimulatedDialer {
    /// Where.
    pub world: Arc<World>,
    /// Which agent.
    pub agent: usize,
    /// Who dials.
    pub sender: Sender,
}

#[async_trait]
impl Dialer for SimulatedDialer {
    async fn dial(&self) -> Result<CoordinatorEnd, String> {
        let world = &self.world;
        let wire = world.wires.get(self.agent).ok_or("there is no such agent")?;
        travel(world).await;
        wire.open(Way::There).await;
        let running = world.agents.get(self.agent).and_then(|place| place.running());
        wire.open(Way::Back).await;
        let Some(running) = running else {
            travel(world).await;
            return Err("connection refused".into());
        };
        let (coordinator, towards_agent) = exchange::channel();
        let (towards_coordinator, agent) = exchange::channel();
        // `towards_agent` is what stands for the agent at the coordinator's side of the wire, and the other
        // way round.
        let line = Arc::new(Line {
            world: Arc::clone(world),
            wire: Arc::clone(wire),
            sender: self.sender.clone(),
            agent: self.agent,
            agent_life: running.life,
            broken: watch::Sender::new(false),
        });
        let there = relay(
            Arc::clone(&line),
            Way::There,
            towards_agent.incoming,
            towards_coordinator.outgoing,
            monitor::leaves_coordinator,
            monitor::arrives_at_agent,
        );
        let back = relay(
            Arc::clone(&line),
            Way::Back,
            towards_coordinator.incoming,
            towards_agent.outgoing,
            monitor::leaves_agent,
            monitor::arrives_at_coordinator,
        );
        world.spawn(there);
        world.spawn(back);
        let served = running.agent.clone();
        let End { outgoing, incoming } = agent;
        running.process.spawn(Box::pin(async move {
            served.serve_exchange(End { outgoing, incoming }).await;
        }));
        travel(world).await;
        Ok(coordinator)
    }

    fn address(&self) -> String {
        format!("agent {}", self.agent)
    }
}

/// One connection.
pub struct Line {
    world: Arc<World>,
    wire: Arc<Wire>,
    /// The coordinator's side.
    pub sender: Sender,
    /// The agent's side.
    pub agent: usize,
    /// Which life of it.
    pub agent_life: u64,
    broken: watch::Sender<bool>,
}

impl Line {
    async fn broken(&self) {
        let mut broken = self.broken.subscribe();
        let mut resets = self.wire.resets.subscribe();
        let told = std::pin::pin!(broken.wait_for(|broken| *broken));
        let reset = std::pin::pin!(resets.changed());
        futures::future::select(told, reset).await;
    }
}

/// Carries frames one way until the connection ends. What one side sent before it ended arrives; what is on
/// its way when the connection breaks does not.
async fn relay<T: Send + Clone + 'static>(
    line: Arc<Line>,
    way: Way,
    mut from: exchange::Incoming<T>,
    to: mpsc::Sender<T>,
    leaves: impl Fn(&World, &Line, &T) + Send + 'static,
    arrives: impl Fn(&World, &Line, &T) + Send + 'static,
) {
    let world = Arc::clone(&line.world);
    let carrying = async {
        let mut last = Duration::ZERO;
        while let Some(Ok(frame)) = from.next().await {
            leaves(&world, &line, &frame);
            let at = last.max(world.now() + draw_travel(&world));
            last = at;
            world.sleep(at.saturating_sub(world.now())).await;
            line.wire.open(way).await;
            arrives(&world, &line, &frame);
            if to.send(frame).await.is_err() {
                return;
            }
        }
        // The end of a stream travels as everything does.
        line.wire.open(way).await;
    };
    {
        let carrying = std::pin::pin!(carrying);
        let broken = std::pin::pin!(line.broken());
        futures::future::select(carrying, broken).await;
    }
    // The other direction does not outlive this one by much, unless nobody can tell it.
    let far = match way {
        Way::There => Way::Back,
        Way::Back => Way::There,
    };
    if !line.wire.is_cut(far) {
        line.broken.send_replace(true);
    }
    drop(to);
}

fn draw_travel(world: &World) -> Duration {
    let (from, to) = world.plan.network.travel;
    world.random.draw(|random| random.micros(from, to))
}

async fn travel(world: &World) {
    world.sleep(draw_travel(world)).await;
}

/// Sides of connections that were cut notice by themselves after a while.
pub async fn notice(world: &World, agent: usize, after: Duration) {
    world.sleep(after).await;
    if let Some(wire) = world.wires.get(agent)
        && (wire.is_cut(Way::There) || wire.is_cut(Way::Back))
    {
        wire.reset();
    }
}

/// How a client's request fares on its way.
#[derive(Debug, Clone, Copy)]
struct Fate {
    request_lost: bool,
    reply_lost: bool,
    repeated: bool,
    there: Duration,
    back: Duration,
    again: Duration,
}

fn fate(world: &World) -> Fate {
    let calm = world.is_calm();
    let plan = &world.plan.network;
    let (from, to) = plan.travel;
    world.random.draw(|random| {
        let mut trip = || {
            let late = !calm && random.chance(plan.late);
            let trip = random.micros(from, to);
            if late { trip + random.millis(50, 6_000) } else { trip }
        };
        let (there, back, again) = (trip(), trip(), trip());
        Fate {
            request_lost: !calm && random.chance(plan.loses_request),
            reply_lost: !calm && random.chance(plan.loses_reply),
            repeated: !calm && random.chance(plan.repeats),
            there,
            back,
            again,
        }
    })
}

/// Nothing came back in time, or nobody was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAnswer;

/// Sends a request, which `serve` answers at the other end, and waits for the reply.
///
/// # Errors
/// When no reply arrives within `patience`.
pub async fn request<T, F>(
    world: &Arc<World>,
    patience: Duration,
    serve: impl Fn() -> F + Send + Sync + 'static,
) -> Result<T, NoAnswer>
where
    T: Send + 'static,
    F: Future<Output = Option<T>> + Send + 'static,
{
    let fate = fate(world);
    let (reply, replied) = oneshot::channel();
    let there = Arc::clone(world);
    let serve = Arc::new(serve);
    if fate.repeated {
        let (there, serve) = (Arc::clone(world), Arc::clone(&serve));
        world.spawn(async move {
            there.sleep(fate.there + fate.again).await;
            let _ = serve().await;
        });
    }
    if !fate.request_lost {
        world.spawn(async move {
            there.sleep(fate.there).await;
            let answer = serve().await;
            there.sleep(fate.back).await;
            if !fate.reply_lost
                && let Some(answer) = answer
            {
                let _ = reply.send(answer);
            } else if fate.reply_lost {
                // The connection hangs: only the client's patience ends the wait.
                there.sleep(Duration::from_secs(60)).await;
                drop(reply);
            }
        });
    } else {
        drop(reply);
        world.sleep(patience).await;
        return Err(NoAnswer);
    }
    let waiting = std::pin::pin!(world.executor.sleep(patience));
    match futures::future::select(replied, waiting).await {
        futures::future::Either::Left((Ok(answer), _)) => Ok(answer),
        futures::future::Either::Left((Err(_), _)) | futures::future::Either::Right(_) => Err(NoAnswer),
    }
}
