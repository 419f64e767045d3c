//! One stream of a coordinator: its hello is judged, older lives are ended, everything is listed; then
//! orders come in and reports go out until the stream ends.

mod hello;
mod last;

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _, select_all};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use votum_proto::exchange::{AgentEnd, Incoming};
use votum_proto::names::{Gid, Gtid, ParticipantName, SessionName};
use votum_proto::v1;
use votum_proto::v1::abort_reason::Kind as Cause;
use votum_proto::v1::agent_message::Kind as Report;
use votum_proto::v1::coordinator_message::Kind as Order;
use votum_proto::v1::refusal::Kind as Refused;

use self::hello::{Accepted, Hello, greet, read_hello, refusal};
use crate::agent::{Inner, NOT_SERVED, Participant};
use crate::attached;
use crate::branch::{Branch, Ending, Phase, no, reason};
use crate::host::{Command, Host, PrepareOrder};
use crate::listing;
use crate::outbox::Frames;
use crate::phase2::{self, hold::Hold};
use crate::registry::{Coordinator, Key, Registry};
use crate::verification;
use crate::witness;
use crate::work::Work;

/// The longest that a coordinator may have a hold wait.
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);

/// Serves one stream to its end.
pub(crate) async fn serve(agent: &Arc<Inner>, end: AgentEnd) {
    let AgentEnd { outgoing, mut incoming } = end;
    let frame = |message| v1::AgentFrame {
        messages: vec![v1::AgentMessage { kind: Some(message) }],
        ..Default::default()
    };
    let hello = match incoming.next().await {
        Some(Ok(first)) => read_hello(&first),
        Some(Err(_)) | None => return,
    };
    let greeted = match hello {
        Ok(hello) => greet(agent, &hello).await.map(|accepted| (hello, accepted)),
        Err(why) => Err(refusal(agent, Refused::Malformed, why, None)),
    };
    let (hello, (answer, accepted)) = match greeted {
        Ok(greeted) => greeted,
        Err(refusal) => {
            tracing::warn!(detail = refusal.detail, "a coordinator's hello was refused");
            let _ = outgoing.send(frame(Report::Refusal(refusal))).await;
            return;
        }
    };
    tracing::info!(coordinator = %hello.id, life = %hello.life, "a coordinator's stream stands");
    for expected in unserved(agent, &hello) {
        tracing::error!(
            code = NOT_SERVED,
            coordinator = %hello.id,
            participant = expected,
            "the coordinator expects a participant that this agent does not serve: correct the name in one of \
             the two configurations"
        );
    }
    if outgoing.send(frame(Report::Hello(answer))).await.is_ok() {
        run(agent, &hello, accepted, incoming, &outgoing).await;
    } else {
        leave(agent, &hello, accepted.number);
    }
    tracing::info!(coordinator = %hello.id, life = %hello.life, "a coordinator's stream has ended");
}

/// Reads, writes and sweeps until the first of the three ends.
async fn run(
    agent: &Arc<Inner>,
    hello: &Hello,
    accepted: Accepted,
    incoming: Incoming<v1::CoordinatorFrame>,
    outgoing: &mpsc::Sender<v1::AgentFrame>,
) {
    let Accepted { number, frames, unlisted } = accepted;
    let mut stopping = agent.stopping.subscribe();
    let mut parts: Vec<BoxFuture<'_, ()>> = vec![
        write(agent, frames, outgoing).boxed(),
        read(agent, hello, number, incoming).boxed(),
        async move {
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
        .boxed(),
    ];
    for participant in agent.participants.values() {
        let listed = !unlisted.contains(participant.name());
        parts.push(listing::sweep(agent, participant, &hello.id, number, listed).boxed());
        parts.push(witness::keep_up(agent, participant, &hello.id).boxed());
    }
    // Polls in this order, so that what is said to the coordinator goes out first.
    select_all(parts).await;
    leave(agent, hello, number);
}

/// Forgets the stream, unless a newer one has taken its place.
fn leave(agent: &Inner, hello: &Hello, number: u64) {
    let mut registry = agent.lock();
    if let Some(coordinator) = registry.coordinators.get_mut(&hello.id)
        && coordinator.stream.as_ref().is_some_and(|stream| stream.number == number)
    {
        coordinator.stream = None;
    }
}

async fn write(agent: &Inner, mut frames: Frames, outgoing: &mpsc::Sender<v1::AgentFrame>) {
    while let Some(mut frame) = frames.next().await {
        frame.session_queues = session_queues(agent);
        if outgoing.send(frame).await.is_err() {
            return;
        }
    }
}

/// Where branches wait for a session now.
fn session_queues(agent: &Inner) -> Vec<v1::SessionQueue> {
    let waits =
        agent.participants.iter().map(|(name, participant)| (name, participant.sessions.expected_wait()));
    waits
        .filter(|(_, expected)| !expected.is_zero())
        .map(|(name, expected)| v1::SessionQueue {
            participant: name.to_string(),
            expected_ms: u64::try_from(expected.as_millis()).unwrap_or(u64::MAX),
        })
        .collect()
}

async fn read(agent: &Arc<Inner>, hello: &Hello, number: u64, mut incoming: Incoming<v1::CoordinatorFrame>) {
    while let Some(Ok(frame)) = incoming.next().await {
        let mut registry = agent.lock();
        let Some(coordinator) = registry.coordinators.get_mut(&hello.id) else { return };
        // A stream that was superseded or fenced off has no effect any more (I12).
        let newest = coordinator.stream.as_ref().is_some_and(|stream| stream.number == number);
        if !newest || coordinator.fence.speaking() != Some(hello.life) {
            return;
        }
        if let Some(witness) = frame.witness {
            coordinator.note_witness(witness, agent.seams.clock.now());
        }
        for message in frame.messages {
            if let Err(why) = obey(agent, &mut registry, hello, message) {
                tracing::warn!(coordinator = %hello.id, %why, "a message of the coordinator was ignored");
            }
        }
    }
}

/// What every order names.
struct Target {
    participant: Arc<Participant>,
    gtid: Gtid,
    gid: Option<Gid>,
}

fn target(agent: &Inner, hello: &Hello, gtid: &str, participant: &str, gid: &str) -> Result<Target, String> {
    let text = |error: votum_proto::names::NameError| error.to_string();
    let gtid: Gtid = gtid.parse().map_err(text)?;
    if gtid.coordinator_id != hello.id {
        return Err(format!("{gtid} is another coordinator's transaction"));
    }
    let participant = find_participant(agent, participant)?;
    let gid: Option<Gid> = if gid.is_empty() { None } else { Some(gid.parse().map_err(text)?) };
    if gid.as_ref().is_some_and(|gid| gid.gtid != gtid) {
        return Err(format!("the gid does not belong to {gtid}"));
    }
    Ok(Target { participant, gtid, gid })
}

/// The participants that the coordinator expects here, and that are not served.
fn unserved(agent: &Inner, hello: &Hello) -> Vec<String> {
    let expected = hello.participants.iter();
    expected.filter(|name| find_participant(agent, name).is_err()).cloned().collect()
}

fn find_participant(agent: &Inner, name: &str) -> Result<Arc<Participant>, String> {
    name.parse::<ParticipantName>()
        .ok()
        .and_then(|name| agent.participants.get(&name))
        .map(Arc::clone)
        .ok_or_else(|| format!("this agent serves no participant named {name:?}"))
}

/// Takes in one message; the work itself runs in tasks of its own.
fn obey(
    agent: &Arc<Inner>,
    registry: &mut Registry,
    hello: &Hello,
    message: v1::CoordinatorMessage,
) -> Result<(), String> {
    match message.kind.ok_or("a message of a kind that this agent does not know")? {
        Order::Hello(_) => Err("a second hello on one stream".into()),
        Order::Prepare(order) => prepare(agent, registry, hello, order),
        Order::Commit(order) => {
            let Target { participant, gtid, gid } =
                target(agent, hello, &order.gtid, &order.participant, &order.gid)?;
            let gid = gid.ok_or("an order to commit names a gid")?;
            let key = (gtid, participant.name().clone());
            let order = phase2::Order::Commit {
                gid,
                xid8: order.xid8,
                listed_xid: order.listed_xid,
                compare_first: order.compare_first,
                nobody_waits: order.nobody_waits,
            };
            phase2::admit(agent, registry, &participant, key, hello.life, order);
            Ok(())
        }
        Order::CommitOnePhase(order) => {
            let Target { participant, gtid, gid } =
                target(agent, hello, &order.gtid, &order.participant, &order.gid)?;
            let gid = gid.ok_or("an order to commit names a gid")?;
            let key = (gtid, participant.name().clone());
            if order.work.is_some() {
                last::open(agent, registry, hello, &participant, &key, &gid, order);
            }
            phase2::admit(agent, registry, &participant, key, hello.life, phase2::Order::OnePhase { gid });
            Ok(())
        }
        Order::Rollback(order) => {
            let Target { participant, gtid, gid } =
                target(agent, hello, &order.gtid, &order.participant, &order.gid)?;
            let key = (gtid, participant.name().clone());
            let order = phase2::Order::Rollback { gid, xid8: order.xid8, listed_xid: order.listed_xid };
            phase2::admit(agent, registry, &participant, key, hello.life, order);
            Ok(())
        }
        Order::EndSession(order) => {
            let Target { participant, gtid, .. } = target(agent, hello, &order.gtid, &order.participant, "")?;
            if let Some(branch) = registry.branch(&(gtid, participant.name().clone())) {
                branch.end(Ending {
                    reason: reason(Cause::RolledBack, &branch.participant, "the transaction has ended"),
                    report: false,
                });
            }
            Ok(())
        }
        Order::List(ask) => {
            let participant = find_participant(agent, &ask.participant)?;
            listing::answer(agent, &participant, hello.id.clone(), &ask);
            Ok(())
        }
        Order::VerifyBranches(ask) => {
            let participant = find_participant(agent, &ask.participant)?;
            verification::answer(agent, &participant, hello.id.clone(), &ask)
        }
        Order::PruneMarkers(order) => {
            let participant = find_participant(agent, &order.participant)?;
            verification::prune(agent, &participant, hello.id.clone(), &order);
            Ok(())
        }
        Order::Hold(ask) => {
            let Target { participant, gtid, gid } =
                target(agent, hello, &ask.gtid, &ask.participant, &ask.gid)?;
            let gid = gid.ok_or("a request to let go of a branch names a gid")?;
            let patience = Duration::from_millis(ask.patience_ms).min(LONGEST_PATIENCE);
            let hold = Hold { gid, request: ask.request, patience };
            let key = (gtid, participant.name().clone());
            phase2::hold::hold(agent, registry, &participant, key, hold);
            Ok(())
        }
        Order::VerifyAttached(ask) => {
            let Target { participant, gtid, gid } =
                target(agent, hello, &ask.gtid, &ask.participant, &ask.gid)?;
            let gid = gid.ok_or("a question about an attached branch names a gid")?;
            // I12: of an older life's branches the listings tell.
            if gtid.life != hello.life {
                return Err(format!("{gtid} is of another life, for which nobody votes any more"));
            }
            attached::verify(agent, registry, &participant, (gtid, participant.name().clone()), gid);
            Ok(())
        }
    }
}

/// Prepares a branch once, over all streams; repeats its vote after that.
fn prepare(
    agent: &Arc<Inner>,
    registry: &mut Registry,
    hello: &Hello,
    order: v1::Prepare,
) -> Result<(), String> {
    let Target { participant, gtid, gid } =
        target(agent, hello, &order.gtid, &order.participant, &order.gid)?;
    let gid = gid.ok_or("an order to prepare names a gid")?;
    // I12: what an older life left was ended, and may not even have ended yet.
    if gtid.life != hello.life {
        return Err(format!("{gtid} is of another life, whose branches are never prepared any more"));
    }
    let key = (gtid.clone(), participant.name().clone());
    let session = order.session.map(SessionName::from);
    let Some(branch) = registry.branch(&key) else {
        let unnamed = SessionName { agent_instance: agent.instance, counter: 0 };
        let absent = match order.work {
            // Of an earlier life of this agent it is not known what has become (I9).
            Some(work) if session == Some(unnamed) && !registry.stopping => match Work::read(agent, work) {
                Ok(work) => {
                    begin_work(agent, registry, &participant, key, gid, work, order.one_phase);
                    return Ok(());
                }
                Err(why) => why,
            },
            Some(_) if registry.stopping => "the agent is stopping".to_owned(),
            Some(_) | None => "the branch's session is not open at this agent".to_owned(),
        };
        let vote = no(reason(Cause::BranchLost, &key.1, absent));
        let branch = Arc::new(Branch::absent(gtid, key.1.clone(), unnamed, gid.clone(), vote.clone()));
        report_vote(registry.coordinators.get(&hello.id), &branch, &gid, vote);
        registry.branches.insert(key, Arc::clone(&branch));
        registry.retire(&branch);
        return Ok(());
    };
    let standing = branch.standing();
    if let Some(vote) = standing.vote {
        let other = standing.gid.as_ref().is_some_and(|known| *known != gid);
        let vote = if other {
            no(reason(Cause::BranchLost, &key.1, "the branch has voted under another gid"))
        } else {
            vote
        };
        report_vote(registry.coordinators.get(&hello.id), &branch, &gid, vote);
        return Ok(());
    }
    match standing.phase {
        Phase::Open if branch.start_preparing(&gid) => {
            registry.busy(&key.1, &gid);
            let command = Command::Prepare(PrepareOrder {
                gid,
                session,
                last_ordinal: order.last_ordinal,
                one_phase: order.one_phase,
            });
            if branch.command(command).is_err() {
                branch.end(Ending {
                    reason: reason(Cause::BranchLost, &key.1, "statements were still waiting at Commit"),
                    report: false,
                });
            }
            Ok(())
        }
        // Its vote comes when it is known, on the newest stream.
        Phase::Open
        | Phase::Preparing
        | Phase::Ready
        | Phase::Committing
        | Phase::Unsettled
        | Phase::Settled => Ok(()),
    }
}

/// Opens a branch whose work came with the order to prepare it.
fn begin_work(
    agent: &Arc<Inner>,
    registry: &mut Registry,
    participant: &Arc<Participant>,
    key: Key,
    gid: Gid,
    work: Work,
    one_phase: bool,
) {
    let session = SessionName { agent_instance: agent.instance, counter: 0 };
    let (branch, commands) = Branch::new(key.0.clone(), key.1.clone(), session);
    let branch = Arc::new(branch);
    branch.start_preparing(&gid);
    registry.busy(&key.1, &gid);
    registry.branches.insert(key, Arc::clone(&branch));
    let options = work.options.clone();
    Host::new(Arc::clone(agent), Arc::clone(participant), branch, commands, options)
        .spawn_work(work, gid, one_phase);
}

fn report_vote(coordinator: Option<&Coordinator>, branch: &Branch, gid: &Gid, vote: v1::vote::Kind) {
    if let Some(coordinator) = coordinator {
        coordinator.report(Report::Vote(branch.vote_on(gid, vote)));
    }
}
