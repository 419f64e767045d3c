//! Frames of an agent that nobody vouches for: whatever they say, the driver goes on.

use std::cell::Cell;

use prost::Message as _;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind;

use super::world::{World, gid, gtid};

/// One message of each kind, and all of them in one frame.
fn examples() -> Vec<Vec<u8>> {
    let (gtid, gid) = (gtid(7, 1).to_string(), gid(7, 1, 0));
    let session = Some(v1::SessionName { agent_instance: 77, counter: 1 });
    let participant = || "a".to_owned();
    let yes = v1::VoteYes { xid8: 700, system_identifier: 11, timeline: 1, marker: false };
    let kinds = [
        Kind::Listing(World::listing("a", vec![World::row(&gid, 700)])),
        Kind::Vote(v1::Vote {
            gtid: gtid.clone(),
            participant: participant(),
            gid: gid.to_string(),
            kind: Some(v1::vote::Kind::Yes(yes)),
        }),
        Kind::Enlisted(v1::Enlisted { gtid, participant: participant(), session }),
        Kind::BranchEnd(v1::BranchEnd {
            gtid: gid.gtid.to_string(),
            gid: gid.to_string(),
            participant: participant(),
            was_commit: true,
            kind: Some(v1::branch_end::Kind::Done(v1::Done {})),
        }),
        Kind::SessionLost(v1::SessionLost {
            gtid: gid.gtid.to_string(),
            participant: participant(),
            ..Default::default()
        }),
        Kind::Hello(World::hello()),
    ];
    let messages: Vec<_> = kinds.into_iter().map(|kind| v1::AgentMessage { kind: Some(kind) }).collect();
    let frame = |messages| v1::AgentFrame { messages }.encode_to_vec();
    messages.iter().map(|message| frame(vec![message.clone()])).chain([frame(messages.clone())]).collect()
}

#[test]
fn any_frame_of_an_agent_leaves_the_driver_answering() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let held = Cell::new(Some(runtime.block_on(World::ready())));
    crate::bounded::run("agent_frame", 3_000, examples(), |bytes| {
        let Ok(frame) = v1::AgentFrame::decode(bytes) else { return };
        runtime.block_on(async {
            let mut world = held.take().unwrap();
            world.agent_sends(frame.messages).await;
            world.alarms().await;
            held.set(Some(world));
        });
    });
}
