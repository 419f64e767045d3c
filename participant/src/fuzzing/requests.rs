//! Requests of clients and frames of coordinators, as an agent takes them.

use prost::Message as _;
use tonic::Status;
use votum_proto::error;
use votum_proto::names::{Gid, Gtid};
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind as Report;
use votum_proto::v1::coordinator_message::Kind as Order;
use votum_proto::v1::execute_response::Part;

use super::statements::{Meaning, meaning};
use super::world::{World, gtid, key, life};

type Parts = Vec<Result<v1::ExecuteResponse, Status>>;

/// A request is refused in words, with a code, and nothing has run; or its statement has run, once, and is
/// no transaction control.
///
/// Bits of the first byte: 0, the request shows the secret of its transaction; 1, it is sent twice.
pub fn execute(bytes: &[u8]) {
    let [how, rest @ ..] = bytes else { return };
    let Ok(mut request) = v1::ExecuteRequest::decode(rest) else { return };
    if how & 1 != 0
        && let Ok(gtid) = request.gtid.parse()
    {
        request.secret = key().secret(&gtid);
    }
    let world = World::new();
    world.send(&mut world.connect(), hello());
    let reply = world.execute(request.clone());
    let finished = judge(&reply);
    if how & 2 != 0 {
        let again = world.execute(request.clone());
        assert_eq!(judge(&again), finished);
        assert!(!finished || parts(&again) == parts(&reply));
    }
    let ran = &world.database.done().ran;
    if !finished {
        assert!(ran.is_empty(), "refused, and ran: {ran:?}");
        return;
    }
    assert_eq!(*ran, [request.statement]);
    assert!(matches!(meaning(&ran[0]), Meaning::Other | Meaning::Error), "{ran:?}");
    let gtid: Gtid = request.gtid.parse().unwrap();
    assert!(gtid.life == life() && key().admits(&gtid, &request.secret), "I12: {gtid}");
    assert_eq!((&*request.participant, request.ordinal), ("bank", 1));
}

/// Whether a reply is that of a statement which has run. It is whole either way.
fn judge(reply: &Parts) -> bool {
    let (last, before) = reply.split_last().unwrap();
    for (at, part) in before.iter().enumerate() {
        let started = matches!(part.as_ref().unwrap().part, Some(Part::Started(_)));
        assert_eq!(started, at == 0);
    }
    match last {
        Ok(last) => {
            assert!(matches!(last.part, Some(Part::Finished(_))), "{reply:?}");
            true
        }
        Err(status) => {
            let detail = error::detail(status).unwrap();
            assert!(detail.code.starts_with("VOTUM-20") && !status.message().is_empty(), "{status:?}");
            false
        }
    }
}

fn parts(reply: &Parts) -> Vec<&v1::ExecuteResponse> {
    reply.iter().flatten().collect()
}

/// A frame does what it orders and no more: only what it names is committed or rolled back, only what it
/// orders votes yes, and after it the agent serves as before.
///
/// Bits of the first byte: 0, it is the stream's first, else a hello came before; 1, a branch is open; 2, it
/// is prepared, too.
pub fn orders(bytes: &[u8]) {
    let [how, rest @ ..] = bytes else { return };
    let Ok(frame) = v1::CoordinatorFrame::decode(rest) else { return };
    let world = World::new();
    let mut greeted = world.connect();
    world.send(&mut greeted, hello());
    if how & 2 != 0 {
        assert!(judge(&world.execute(request(1042))));
    }
    if how & 4 != 0 {
        world.send(&mut greeted, frame_of([prepare()]));
    }
    let prepared_before = world.database.done().prepared.clone();
    assert_eq!(prepared_before.len(), usize::from(how & 6 == 6));
    let reports = if how & 1 == 0 {
        world.send(&mut greeted, frame.clone())
    } else {
        world.send(&mut world.connect(), frame.clone())
    };
    for report in reports {
        readable(report.kind.unwrap());
    }
    let ordered = Ordered::by(&frame, how & 1 == 0);
    {
        let done = world.database.done();
        assert!(done.committed.iter().all(|gid| ordered.commits.contains(&gid.to_string())));
        assert!(done.rolled_back.iter().all(|gid| ordered.rollbacks.contains(&gid.to_string())));
        let mut prepared = done.prepared.keys().filter(|gid| !prepared_before.contains_key(*gid));
        assert!(prepared.all(|gid| ordered.prepares.contains(&gid.to_string())));
    }
    // A frame that is a hello of its own may have brought another life to speak, and one may name this
    // transaction by chance.
    let fresh = gtid(987_654_321).to_string();
    if how & 1 == 0 && !rest.windows(fresh.len()).any(|named| named == fresh.as_bytes()) {
        assert!(judge(&world.execute(request(987_654_321))), "the agent serves no more");
    }
}

/// The gids of a frame's orders.
#[derive(Default)]
struct Ordered {
    prepares: Vec<String>,
    commits: Vec<String>,
    rollbacks: Vec<String>,
}

impl Ordered {
    /// Nothing, where the stream has no hello.
    fn by(frame: &v1::CoordinatorFrame, greeted: bool) -> Self {
        let mut ordered = Self::default();
        for order in frame.messages.iter().filter(|_| greeted).filter_map(|message| message.kind.as_ref()) {
            match order {
                Order::Prepare(order) => ordered.prepares.push(order.gid.clone()),
                Order::Commit(order) => ordered.commits.push(order.gid.clone()),
                Order::CommitOnePhase(order) => ordered.commits.push(order.gid.clone()),
                Order::Rollback(order) => ordered.rollbacks.push(order.gid.clone()),
                Order::Hello(_)
                | Order::EndSession(_)
                | Order::List(_)
                | Order::VerifyBranches(_)
                | Order::PruneMarkers(_)
                | Order::VerifyAttached(_)
                | Order::Hold(_) => {}
            }
        }
        ordered
    }
}

/// The names in a report parse, and are of this agent's participant.
fn readable(report: Report) {
    let named = |gtid: &str, participant: &str, gid: &str| {
        let gtid: Gtid = gtid.parse().unwrap();
        assert_eq!(participant, "bank");
        assert!(gid.is_empty() || gid.parse::<Gid>().unwrap().gtid == gtid);
    };
    match report {
        Report::Hello(hello) => assert_eq!(hello.listings.len(), 1),
        Report::Refusal(refusal) => assert!(!refusal.detail.is_empty()),
        Report::Enlisted(enlisted) => named(&enlisted.gtid, &enlisted.participant, ""),
        Report::Vote(vote) => {
            named(&vote.gtid, &vote.participant, &vote.gid);
            assert!(vote.kind.is_some());
        }
        Report::BranchEnd(end) => {
            named(&end.gtid, &end.participant, &end.gid);
            assert!(end.kind.is_some());
        }
        Report::SessionLost(lost) => named(&lost.gtid, &lost.participant, ""),
        Report::Listing(listing) => assert_eq!(listing.participant, "bank"),
        Report::Trouble(trouble) => named(&trouble.gtid, &trouble.participant, &trouble.gid),
        Report::BranchesVerified(verified) => assert_eq!(verified.participant, "bank"),
        Report::Held(held) => {
            named(&held.gtid, &held.participant, &held.gid);
            assert!(held.kind.is_some());
        }
    }
}

fn frame_of(orders: impl IntoIterator<Item = Order>) -> v1::CoordinatorFrame {
    let messages = orders.into_iter().map(|order| v1::CoordinatorMessage { kind: Some(order) }).collect();
    v1::CoordinatorFrame { witness: None, messages }
}

fn hello() -> v1::CoordinatorFrame {
    frame_of([Order::Hello(v1::CoordinatorHello {
        coordinator_id: "acme".into(),
        epoch: life().epoch.0,
        incarnation: life().incarnation.get(),
        epoch_key: key().to_bytes(),
        participants: vec!["bank".into()],
    })])
}

/// The first statement of a transaction.
fn request(seq: u64) -> v1::ExecuteRequest {
    let gtid = gtid(seq);
    v1::ExecuteRequest {
        gtid: gtid.to_string(),
        secret: key().secret(&gtid),
        participant: "bank".into(),
        ordinal: 1,
        statement: "update accounts set balance = balance + $1".into(),
        parameters: vec![v1::Value { kind: Some(v1::value::Kind::Int64(-7)) }],
        options: Some(v1::BranchOptions { isolation: 2, read_only: false, timeout_ms: 5_000 }),
        ..Default::default()
    }
}

fn gid() -> String {
    Gid { gtid: gtid(1042), branch: 0, branches: 2 }.to_string()
}

/// The order to prepare what [`request`] opened. The world's chance makes 1 of the agent's instance.
fn prepare() -> Order {
    Order::Prepare(v1::Prepare {
        gtid: gtid(1042).to_string(),
        participant: "bank".into(),
        gid: gid(),
        session: Some(v1::SessionName { agent_instance: 1, counter: 1 }),
        last_ordinal: 1,
        one_phase: false,
        work: None,
    })
}

/// The order to do all the work of a branch.
fn work() -> Order {
    let statement = |text: &str| v1::WorkStatement { statement: text.into(), ..Default::default() };
    Order::Prepare(v1::Prepare {
        gtid: gtid(1042).to_string(),
        participant: "bank".into(),
        gid: gid(),
        session: Some(v1::SessionName { agent_instance: 1, counter: 0 }),
        last_ordinal: 2,
        one_phase: true,
        work: Some(v1::Work {
            statements: vec![statement("update accounts set balance = 0"), statement("/**/;commit")],
            options: Some(v1::BranchOptions { isolation: 3, read_only: false, timeout_ms: 5_000 }),
        }),
    })
}

/// The order to commit in one phase what was offered.
fn commit_one_phase() -> Order {
    Order::CommitOnePhase(v1::CommitOnePhase {
        gtid: gtid(1042).to_string(),
        participant: "bank".into(),
        gid: gid(),
        ..Default::default()
    })
}

/// The order to run the last of several branches, and to decide by its commit.
fn decide() -> Order {
    let statement = "update accounts set balance = 0".into();
    let statement = v1::WorkStatement { statement, ..Default::default() };
    Order::CommitOnePhase(v1::CommitOnePhase {
        gtid: gtid(1043).to_string(),
        participant: "bank".into(),
        gid: gid().replace("1042", "1043"),
        work: Some(v1::Work {
            statements: vec![statement],
            options: Some(v1::BranchOptions { isolation: 3, read_only: false, timeout_ms: 5_000 }),
        }),
        session: Some(v1::SessionName { agent_instance: 1, counter: 0 }),
        system_identifier: 7,
        timeline: 1,
    })
}

/// Examples of requests to begin with.
pub fn examples() -> Vec<Vec<u8>> {
    let (first, mut control, mut late) = (request(1042), request(1042), request(1042));
    control.statement = ";/**/commit and chain".into();
    late.ordinal = 2;
    let mut bare = v1::ExecuteRequest { options: None, parameters: Vec::new(), ..first.clone() };
    bare.statement.clear();
    let requests = [first, control, late, bare].map(|request| request.encode_to_vec());
    requests.iter().flat_map(|request| (0..4).map(move |how| [&[how][..], request].concat())).collect()
}

/// Examples of frames to begin with: every order, alone and with the others.
pub fn frames() -> Vec<Vec<u8>> {
    let (gtid, participant) = (gtid(1042).to_string(), "bank".to_owned());
    let commit = v1::CommitBranch {
        gtid: gtid.clone(),
        participant: participant.clone(),
        gid: gid(),
        xid8: 700,
        ..Default::default()
    };
    let compared = v1::CommitBranch { compare_first: true, listed_xid: 700, ..commit.clone() };
    let rollback = v1::RollbackBranch {
        gtid: gtid.clone(),
        participant: participant.clone(),
        gid: gid(),
        xid8: 700,
        listed_xid: 700,
    };
    let end = v1::EndSession { gtid: gtid.clone(), participant: participant.clone() };
    let list = v1::ListParticipant { participant: participant.clone(), request: 7, details: true };
    let hold = v1::HoldBranch {
        gtid: gtid.clone(),
        participant: participant.clone(),
        gid: gid(),
        request: 7,
        patience_ms: 10_000,
    };
    let verify = v1::VerifyAttached { gtid, participant, gid: gid() };
    let orders = [
        prepare(),
        Order::Commit(commit),
        Order::Commit(compared),
        Order::Rollback(rollback),
        Order::EndSession(end),
        Order::List(list),
        Order::Hold(hold),
        Order::VerifyAttached(verify),
        commit_one_phase(),
        work(),
        decide(),
    ];
    let mut frames: Vec<_> = orders.iter().map(|order| frame_of([order.clone()])).collect();
    let Order::Prepare(offered) = prepare() else { unreachable!("it makes one") };
    frames.push(frame_of([Order::Prepare(v1::Prepare { one_phase: true, ..offered }), commit_one_phase()]));
    frames.extend([hello(), frame_of(orders)]);
    let witness = v1::Witness { epoch: 7, incarnation: 0x3f_9ac2, position: 9 };
    frames.push(v1::CoordinatorFrame { witness: Some(witness), messages: Vec::new() });
    let frames = frames.iter().map(|frame| frame.encode_to_vec());
    frames.flat_map(|frame| [0, 2, 6, 1].map(|how| [&[how][..], &frame].concat())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_frame_asks_of_attached_branches_is_one_question_to_the_database() {
        let world = World::new();
        let mut line = world.connect();
        world.send(&mut line, hello());
        let verify = |seq| {
            let gid = Gid { gtid: gtid(seq), branch: 0, branches: 0 };
            world.database.done().prepared.insert(gid.clone(), seq);
            let (gtid, participant) = (gid.gtid.to_string(), "bank".into());
            Order::VerifyAttached(v1::VerifyAttached { gtid, participant, gid: gid.to_string() })
        };
        let asked = [1, 2, 3].map(verify);
        for again in [false, true] {
            let votes = world.send(&mut line, frame_of(asked.clone()));
            let is_yes = |report: &v1::AgentMessage| matches!(&report.kind, Some(Report::Vote(vote)) if matches!(vote.kind, Some(v1::vote::Kind::Yes(_))));
            assert_eq!(votes.iter().filter(|vote| is_yes(vote)).count(), 3, "again: {again}, {votes:?}");
            // What was answered before is not asked again.
            assert_eq!(world.database.done().looked_up, [3]);
        }
    }
}
