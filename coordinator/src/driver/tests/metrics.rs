//! What the page of metrics shows of what the driver does.

use std::time::Duration;

use tokio::time::advance;
use votum_proto::v1;
use votum_proto::v1::agent_message::Kind;

use super::super::ALARMS;
use super::super::request::{Request, Wait};
use super::world::{World, gid, heard, owed_commit};
use crate::protocol::record::Record;

fn alarm(code: &str, participant: &str) -> String {
    format!("votum_alarm{{code=\"{code}\",participant=\"{participant}\"}}")
}

fn ended(outcome: &str, reason: &str) -> String {
    format!("votum_transactions_total{{outcome=\"{outcome}\",reason=\"{reason}\"}}")
}

#[tokio::test]
async fn every_code_is_shown_from_the_beginning_and_at_nobody() {
    let world = World::ready().await;
    for code in ALARMS {
        assert_eq!(world.shown(&alarm(code, "")).await, Some(0.0), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_counted_once_with_the_time_that_it_was_in_each_state() {
    let mut world = World::ready().await;
    let begun = world.begin().await.unwrap();
    advance(Duration::from_secs(3)).await;
    let answered = world.commit(&begun, Wait::Decided).await;
    advance(Duration::from_secs(4)).await;
    for (branch, participant) in [(0, "a"), (1, "b")] {
        let gid = votum_proto::names::Gid { gtid: begun.gtid.clone(), branch, branches: 2 };
        world.agent_votes_yes(&gid, participant, 700).await;
    }
    assert_eq!(world.shown(&ended("committed", "")).await, Some(0.0), "nothing stands before it is on disk");
    advance(Duration::from_secs(5)).await;
    world.force().await;
    assert!(heard(answered).await.is_ok());
    assert_eq!(world.shown("votum_transactions_undelivered").await, Some(1.0));
    advance(Duration::from_secs(6)).await;
    for (branch, participant) in [(0, "a"), (1, "b")] {
        let gid = votum_proto::names::Gid { gtid: begun.gtid.clone(), branch, branches: 2 };
        world.agent_has(&gid, participant, true).await;
    }
    world.force().await;
    for (state, seconds) in [("active", 3.0), ("preparing", 4.0), ("deciding", 5.0), ("committing", 6.0)] {
        let of = |what: &str| format!("votum_transaction_state_seconds_{what}{{state=\"{state}\"}}");
        assert_eq!(world.shown(&of("sum")).await, Some(seconds), "{state}");
        assert_eq!(world.shown(&of("count")).await, Some(1.0), "{state}");
    }
    assert_eq!(world.shown("votum_transactions_begun_total").await, Some(1.0));
    assert_eq!(world.shown(&ended("committed", "")).await, Some(1.0));
    assert_eq!(world.shown("votum_transactions_in_flight").await, Some(0.0));
    assert_eq!(world.shown("votum_transactions_undelivered").await, Some(0.0));
    let counts = world.driver.ask(Request::Status).await.unwrap().counts.unwrap();
    assert_eq!((counts.begun, counts.committed, counts.read_only, counts.aborted), (1, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn aborts_are_counted_by_their_reason() {
    let mut world = World::ready().await;
    let begun = world.begin().await.unwrap();
    world.roll_back(&begun).await;
    assert_eq!(world.shown(&ended("aborted", "rolled-back")).await, Some(1.0));
    world.begin().await.unwrap();
    assert_eq!(world.shown("votum_transactions_in_flight").await, Some(1.0));
    advance(Duration::from_secs(31)).await;
    world.settle().await;
    assert_eq!(world.shown(&ended("aborted", "timeout")).await, Some(1.0));
    assert_eq!(world.shown("votum_transactions_in_flight").await, Some(0.0));
}

/// A commit that an earlier life decided and told is not this one's.
#[tokio::test]
async fn what_is_merely_delivered_again_is_not_counted_as_committed() {
    let mut world = World::with_owed(vec![owed_commit(6, 1)]);
    world.count();
    world.connect(World::hello()).await;
    world.agent_has(&gid(6, 1, 0), "a", true).await;
    world.agent_has(&gid(6, 1, 1), "b", true).await;
    world.force().await;
    assert_eq!(world.shown("votum_transactions_undelivered").await, Some(0.0));
    assert_eq!(world.shown(&ended("committed", "")).await, Some(0.0));
}

/// 1404: until a listing shows that the work which nobody decided is gone.
#[tokio::test]
async fn other_work_under_our_name_is_shown_until_it_is_gone() {
    let mut world = World::ready().await;
    let record = owed_commit(6, 1).decided.unwrap();
    world.log.durable.records.lock().unwrap().push(Record::Decided(record));
    world.agent_lists(World::listing("a", vec![World::row(&gid(6, 1, 0), 9999)])).await;
    assert_eq!(world.shown(&alarm("VOTUM-1404", "a")).await, Some(1.0));
    assert_eq!(world.shown("votum_participant_in_doubt{participant=\"a\"}").await, Some(1.0));
    world.agent_lists(World::listing("a", Vec::new())).await;
    assert_eq!(world.shown(&alarm("VOTUM-1404", "a")).await, None);
    assert_eq!(world.shown(&alarm("VOTUM-1404", "")).await, Some(0.0));
    assert_eq!(world.shown("votum_participant_in_doubt{participant=\"a\"}").await, Some(0.0));
}

/// 1409
#[tokio::test]
async fn an_agent_that_refuses_is_shown_until_it_accepts() {
    let mut world = World::ready().await;
    let connected = "votum_participant_connected{participant=\"a\",agent=\"agent\"}";
    assert_eq!(world.shown(connected).await, Some(1.0));
    world.refuse(World::hello()).await;
    assert_eq!(world.shown(&alarm("VOTUM-1409", "agent")).await, Some(1.0));
    assert_eq!(world.shown(connected).await, Some(0.0));
    world.connect(World::hello()).await;
    assert_eq!(world.shown(&alarm("VOTUM-1409", "agent")).await, None);
    assert_eq!(world.shown(connected).await, Some(1.0));
}

/// 1403
#[tokio::test]
async fn trouble_in_phase_two_is_shown_until_the_branch_has_ended() {
    let mut world = World::ready().await;
    let (begun, _answered) = world.deciding(Wait::Decided).await;
    world.force().await;
    let gid = votum_proto::names::Gid { gtid: begun.gtid.clone(), branch: 0, branches: 2 };
    let trouble = v1::PhaseTwoTrouble {
        gtid: begun.gtid.to_string(),
        participant: "a".into(),
        gid: gid.to_string(),
        sqlstate: "42501".into(),
        message: "permission denied".into(),
        alarm: true,
        attempts: 3,
    };
    world.agent_says(Kind::Trouble(trouble)).await;
    assert_eq!(world.shown(&alarm("VOTUM-1403", "a")).await, Some(1.0));
    world.agent_has(&gid, "a", true).await;
    assert_eq!(world.shown(&alarm("VOTUM-1403", "a")).await, None);
}

/// 1408, 1410: this life does not get over them; the next one begins without.
#[tokio::test]
async fn a_log_that_is_unreadable_or_failed_is_shown_until_a_life_begins_that_can_read_it() {
    let state = |state: &str| format!("votum_log_state{{state=\"{state}\"}}");
    let mut world = World::new();
    assert_eq!(world.shown(&state("counting")).await, Some(1.0));
    world.unreadable().await;
    assert_eq!(world.shown(&alarm("VOTUM-1408", "")).await, Some(1.0));
    assert_eq!(world.shown(&state("unreadable")).await, Some(1.0));

    let mut world = World::ready().await;
    assert_eq!(world.shown(&alarm("VOTUM-1408", "")).await, Some(0.0));
    assert_eq!(world.shown(&state("ready")).await, Some(1.0));
    world.doubtful().await;
    assert_eq!(world.shown(&alarm("VOTUM-1410", "")).await, Some(1.0));
    assert_eq!(
        (world.shown(&state("latched")).await, world.shown(&state("ready")).await),
        (Some(1.0), Some(0.0))
    );
    assert_eq!(World::ready().await.shown(&alarm("VOTUM-1410", "")).await, Some(0.0));
}

/// 1411: raised by what was dropped, not by what was never there; over when the log remembers enough again.
#[tokio::test]
async fn a_log_that_dropped_what_is_too_young_is_shown_until_it_remembers_enough() {
    use std::sync::atomic::Ordering::Relaxed;
    let mut world = World::ready().await;
    let least_ms = 2 * 3_600_000;
    let shown = alarm("VOTUM-1411", "");
    let look = async |world: &mut World, reach_ms: u64| {
        world.log.durable.reach_ms.store(reach_ms, Relaxed);
        world.agent_lists(World::listing("a", Vec::new())).await;
        let reach = world.shown("votum_log_reach_seconds").await;
        assert_eq!(reach, Some(Duration::from_millis(reach_ms).as_secs_f64()));
        world.shown(&shown).await
    };
    assert_eq!(look(&mut world, 1_000).await, Some(0.0), "it is young, and has dropped nothing");
    *world.log.durable.horizon.lock().unwrap() = Some(gid(6, 1, 0).gtid);
    assert_eq!(look(&mut world, least_ms).await, Some(0.0));
    assert_eq!(look(&mut world, least_ms - 1).await, Some(1.0));
    assert_eq!(look(&mut world, 1_000).await, Some(1.0));
    assert_eq!(look(&mut world, least_ms).await, Some(0.0), "what was dropped is old by now");

    // What is on disk is looked at too, whether or not anybody lists.
    world.log.durable.reach_ms.store(1_000, Relaxed);
    let begun = world.begin().await.unwrap();
    world.roll_back(&begun).await;
    world.force().await;
    assert_eq!(world.shown(&shown).await, Some(1.0));
}

/// A driver that is busy, or gone, makes nobody wait for ever.
#[tokio::test]
async fn a_page_without_a_driver_is_an_error() {
    let world = World::ready().await;
    let done = world.driver.drain(Duration::ZERO);
    let closing = async {
        while !world.is_closed() {
            tokio::task::yield_now().await;
        }
        world.close();
    };
    futures::future::join(done, closing).await;
    world.driver.stopped().await;
    assert!(world.page().await.unwrap_err().contains("has stopped before it answered"));
}

#[tokio::test(start_paused = true)]
async fn the_status_says_for_how_long_each_link_has_been_as_it_is() {
    let mut world = World::ready().await;
    let link = async |world: &World| {
        let status = world.driver.ask(Request::Status).await.unwrap();
        let at_a = status.participants.into_iter().find(|known| known.participant == "a").unwrap();
        (at_a.connected, at_a.link_ms)
    };
    let (_, before) = link(&world).await;
    advance(Duration::from_secs(3)).await;
    assert_eq!(link(&world).await, (true, before + 3_000));
    world.disconnect().await;
    let (connected, down) = link(&world).await;
    assert!(!connected && down < 3_000, "down for {down} ms");
    advance(Duration::from_secs(5)).await;
    assert_eq!(link(&world).await, (false, down + 5_000));
}
