//! Frames of an agent that nobody vouches for: whatever they say, the driver goes on. A fuzz target calls
//! this, and so does a bounded run with every test; in a build for use it is not there.

use prost::Message as _;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind;

use super::super::request::Wait;
use super::world::{World, gid, gtid};

/// Examples to begin with: one message of each kind, and all of them in one frame.
pub fn examples() -> Vec<Vec<u8>> {
    let (gtid, gid) = (gtid(7, 1).to_string(), gid(7, 1, 0));
    let session = Some(v1::SessionName { agent_instance: 77, counter: 1 });
    let participant = || "a".to_owned();
    let vote = |participant: &str, branch| {
        let yes = v1::VoteYes { xid8: 700, system_identifier: 11, timeline: 1, marker: false };
        Kind::Vote(v1::Vote {
            gtid: gtid.clone(),
            participant: participant.into(),
            gid: self::gid(7, 1, branch).to_string(),
            kind: Some(v1::vote::Kind::Yes(yes)),
            ..Default::default()
        })
    };
    let kinds = [
        Kind::Listing(World::listing("a", vec![World::row(&gid, 700)])),
        vote("a", 0),
        vote("b", 1),
        Kind::Enlisted(v1::Enlisted { gtid: gtid.clone(), participant: participant(), session }),
        Kind::BranchEnd(v1::BranchEnd {
            gtid: gid.gtid.to_string(),
            gid: gid.to_string(),
            participant: participant(),
            was_commit: true,
            kind: Some(v1::branch_end::Kind::Done(v1::Done {})),
            ..Default::default()
        }),
        Kind::SessionLost(v1::SessionLost {
            gtid: gid.gtid.to_string(),
            participant: participant(),
            ..Default::default()
        }),
        Kind::Hello(World::hello()),
    ];
    let messages: Vec<_> = kinds.into_iter().map(|kind| v1::AgentMessage { kind: Some(kind) }).collect();
    let votes = messages.get(1..3).unwrap_or_default();
    let frame = |messages| v1::AgentFrame { messages, ..Default::default() }.encode_to_vec();
    let alone = messages.iter().map(|message| frame(vec![message.clone()]));
    let frames: Vec<_> = alone.chain([frame(votes.to_vec()), frame(messages.clone())]).collect();
    frames.iter().flat_map(|frame| (0..3).map(move |under_way| [&[under_way][..], frame].concat())).collect()
}

/// After any frame the driver serves as before, and nobody was told of a commit that is not forced (I3).
///
/// The first byte says what goes on: nothing; or a transaction whose branches are to vote; or one whose
/// decision waits for the disk, where it stays.
pub fn frame(bytes: &[u8]) {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    }
    let [under_way, rest @ ..] = bytes else { return };
    let Ok(frame) = v1::AgentFrame::decode(rest) else { return };
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let mut world = World::ready().await;
            match under_way % 3 {
                0 => {}
                1 => {
                    let begun = world.begin().await.unwrap();
                    world.commit(&begun, Wait::Decided).await;
                    assert_eq!(world.told().await, "prepare@a prepare@b");
                }
                _ => drop(world.deciding(Wait::Decided).await),
            }
            world.agent_sends(frame.messages).await;
            let told = world.told().await;
            assert!(!told.contains("commit@"), "nothing is forced: {told}");
            world.begin().await.unwrap();
        });
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_frame_of_an_agent_leaves_the_driver_answering() {
        crate::bounded::run("agent_frame", 3_000, super::examples(), super::frame);
    }
}
