//! Live transactions.

use std::time::Duration;

use votum_proto::names::{Gid, Gtid};
use votum_proto::runtime::Seams;
use votum_proto::v1;
use votum_proto::v1::gone::XidStatus;

use super::super::request::{Begun, Outcome, Request, RequestError, Wait};
use super::world::{AGENT, World, heard};
use crate::protocol::record::{KeyRecord, Record};

#[tokio::test]
async fn i3_nobody_hears_of_a_commit_before_it_is_forced() {
    let mut world = World::ready().await;
    let (begun, mut answered) = world.deciding(Wait::Decided).await;
    assert_eq!(world.told().await, "");
    assert!(answered.try_recv().is_err(), "told before the record was on disk");
    assert_eq!(world.get(begun.gtid.clone()).await, Ok(Outcome::InProgress("deciding")));
    world.force().await;
    assert_eq!(world.told().await, "commit@a~ commit@b~");
    assert!(matches!(heard(answered).await.unwrap(), Ok(Outcome::Committed { .. })));
}

#[tokio::test]
async fn completed_waits_for_every_acknowledgement() {
    let mut world = World::ready().await;
    let (begun, mut answered) = world.deciding(Wait::Completed).await;
    world.force().await;
    assert_eq!(world.told().await, "commit@a commit@b", "it waits for them: they must not take their time");
    let gid = |branch| Gid { gtid: begun.gtid.clone(), branch, branches: 2 };
    world.agent_has(&gid(0), "a", true).await;
    assert!(answered.try_recv().is_err());
    world.agent_has(&gid(1), "b", true).await;
    let outcome = heard(answered).await.unwrap();
    assert_eq!(outcome, Ok(Outcome::Committed { pending: vec![], heuristics: vec![] }));
    world.force().await;
    let ended = Record::Ended { gtid: begun.gtid.clone() };
    assert!(world.log.durable.records.lock().unwrap().contains(&ended));
}

/// As long as one of its participants is behind, and for no other: until there is an acknowledgement, or for as long as
/// who waits for completion waits.
#[tokio::test(start_paused = true)]
async fn above_the_bound_of_undelivered_commits_a_decision_waits_for_its_acknowledgements() {
    let mut world = World::ready().await;
    let mut begun = Vec::new();
    for _ in 0..2 {
        let (decided, answered) = world.deciding(Wait::Decided).await;
        world.force().await;
        assert_eq!(world.told().await, "commit@a~ commit@b~");
        assert!(matches!(heard(answered).await.unwrap(), Ok(Outcome::Committed { .. })));
        begun.push(decided);
    }
    let (third, mut answered) = world.deciding(Wait::Decided).await;
    world.force().await;
    assert_eq!(world.told().await, "commit@a commit@b");
    assert!(answered.try_recv().is_err(), "the participants are behind");
    let gid = |begun: &Begun, branch| Gid { gtid: begun.gtid.clone(), branch, branches: 2 };
    world.agent_has(&gid(&third, 0), "a", true).await;
    world.agent_has(&gid(&third, 0), "a", true).await;
    assert!(answered.try_recv().is_err(), "b has not acknowledged");
    world.agent_has(&gid(&third, 1), "b", true).await;
    assert!(matches!(answered.try_recv(), Ok(Ok(Outcome::Committed { .. }))));

    // Those before it are acknowledged, or not: what was counted is counted once.
    world.agent_has(&gid(&begun[0], 0), "a", true).await;
    world.agent_has(&gid(&begun[0], 1), "b", true).await;
    let (_, mut answered) = world.deciding(Wait::Decided).await;
    world.force().await;
    assert!(matches!(answered.try_recv(), Ok(Ok(Outcome::Committed { .. }))), "it waits for nothing");
    assert_eq!(world.told().await, "commit@a~ commit@b~");
    let (_, mut answered) = world.deciding(Wait::Decided).await;
    world.force().await;
    assert!(answered.try_recv().is_err(), "behind again");
    let Ok(Outcome::Committed { pending, .. }) = heard(answered).await.unwrap() else { panic!() };
    assert_eq!(pending.len(), 2, "its patience ended");
}

#[tokio::test(start_paused = true)]
async fn past_its_bound_completed_answers_with_who_still_owes() {
    let mut world = World::ready().await;
    let (_, answered) = world.deciding(Wait::Completed).await;
    world.force().await;
    let Ok(Outcome::Committed { pending, .. }) = heard(answered).await.unwrap() else { panic!() };
    assert_eq!(pending.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_nobody_ends_is_ended_by_its_timeout() {
    let mut world = World::ready().await;
    let begun = world.begin().await.unwrap();
    let answered = world.commit(&begun, Wait::Decided).await;
    assert!(matches!(heard(answered).await.unwrap(), Ok(Outcome::Aborted { .. })));
    assert_eq!(world.told().await, "prepare@a prepare@b rollback@a rollback@b");
}

#[tokio::test(start_paused = true)]
async fn only_a_transaction_that_lasts_is_noted_before_it_is_decided() {
    let mut world = World::ready().await;
    let (quick, _answered) = world.deciding(Wait::Decided).await;
    world.force().await;
    let slow = world.begin().await.unwrap();
    let answered = world.commit(&slow, Wait::Decided).await;
    assert!(matches!(heard(answered).await.unwrap(), Ok(Outcome::Aborted { .. })));
    world.force().await;
    let records = world.log.durable.records.lock().unwrap();
    let kinds = |gtid: &Gtid| {
        let of_it = records.iter().filter(|record| record.gtid() == Some(gtid));
        of_it.map(Record::kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&quick.gtid), ["Decided"]);
    assert_eq!(kinds(&slow.gtid), ["Begun", "Decided"]);
}

#[tokio::test]
async fn i9_an_order_is_repeated_to_an_agent_that_is_back() {
    let mut world = World::ready().await;
    let (_, _answered) = world.deciding(Wait::Decided).await;
    world.disconnect().await;
    world.force().await;
    assert_eq!(world.told().await, "", "nothing is kept for a stream that is gone");
    world.connect(World::hello()).await;
    assert_eq!(world.told().await, "commit@a? commit@b?");
}

#[tokio::test(start_paused = true)]
async fn i9_an_answer_that_comes_twice_is_asked_about_again_once() {
    let mut world = World::ready().await;
    let (begun, _answered) = world.deciding(Wait::Decided).await;
    world.force().await;
    assert_eq!(world.told().await, "commit@a~ commit@b~");
    let branch = Gid { gtid: begun.gtid, branch: 0, branches: 2 };
    for _ in 0..2 {
        for _ in 0..3 {
            world.agent_finds_gone(&branch, true, XidStatus::InProgress).await;
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(world.told().await, "", "not at once");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(world.told().await, "commit@a?");
    }
}

#[tokio::test]
async fn a_restarted_agent_is_a_no_for_what_it_had_not_prepared() {
    let mut world = World::ready().await;
    let begun = world.begin().await.unwrap();
    let answered = world.commit(&begun, Wait::Decided).await;
    world.told().await;
    world.disconnect().await;
    world.connect(v1::AgentHello { instance: AGENT + 1, ..World::hello() }).await;
    assert!(matches!(heard(answered).await.unwrap(), Ok(Outcome::Aborted { .. })));
    assert_eq!(world.told().await, "rollback@a rollback@b");
}

#[tokio::test]
async fn i11_after_a_doubtful_write_nothing_is_sent_and_the_client_hears_unknown() {
    let mut world = World::ready().await;
    let (begun, answered) = world.deciding(Wait::Decided).await;
    world.doubtful().await;
    assert!(matches!(heard(answered).await.unwrap(), Ok(Outcome::Unknown(_))));
    assert_eq!(world.told().await, "");
    assert!(matches!(world.begin().await, Err(RequestError::LogFailed(_))));
    assert!(matches!(world.get(begun.gtid).await, Err(RequestError::LogFailed(_))));
    world.disconnect().await;
    world.connect(World::hello()).await;
    assert_eq!(world.told().await, "");
}

/// Where a log that failed does not end the process: a stop, whether it came before or comes after.
#[tokio::test]
async fn i11_a_drain_waits_for_nothing_once_the_log_has_failed() {
    for drain_first in [true, false] {
        let mut world = World::ready().await;
        let (_, _answered) = world.deciding(Wait::Decided).await;
        if !drain_first {
            world.doubtful().await;
        }
        let (answer, drained) = tokio::sync::oneshot::channel();
        world.driver.send(Request::Drain { grace: Duration::from_secs(3600), answer }).await;
        world.settle().await;
        assert_eq!(world.is_closed(), !drain_first, "a decision is still awaited");
        if drain_first {
            world.doubtful().await;
        }
        assert!(world.is_closed());
        world.close();
        drained.await.unwrap();
    }
}

#[tokio::test]
async fn i11_after_a_doubtful_write_a_rollback_is_answered_too() {
    let mut world = World::ready().await;
    let (begun, _answered) = world.deciding(Wait::Decided).await;
    world.doubtful().await;
    let (answer, mut answered) = tokio::sync::oneshot::channel();
    let Begun { gtid, secret, .. } = begun;
    world.driver.send(Request::Rollback { gtid, secret, reason: String::new(), answer }).await;
    world.settle().await;
    let answered = answered.try_recv().expect("it would wait for ever");
    assert!(matches!(answered, Err(RequestError::LogFailed(_))), "{answered:?}");
}

#[tokio::test(start_paused = true)]
async fn begin_never_hands_out_what_no_lease_on_disk_covers() {
    let mut world = World::ready().await;
    for _ in 0..2 {
        for _ in 0..5 {
            let begun = world.begin().await.unwrap();
            let answered = world.driver.ask(|answer| Request::Rollback {
                gtid: begun.gtid.clone(),
                secret: begun.secret.clone(),
                reason: String::new(),
                answer,
            });
            assert!(matches!(heard(answered).await, Ok(Outcome::Aborted { .. })));
        }
    }
    let waits = world.begin();
    let refused = Seams::production().clock.timeout(Duration::from_millis(1), waits).await;
    assert!(refused.is_err(), "seq 11 of a lease of 10");
    world.force().await;
    assert_eq!(world.begin().await.unwrap().gtid.seq, 12, "11 is of the one that waited");
}

#[tokio::test]
async fn more_undecided_transactions_than_allowed_are_refused() {
    let world = World::ready().await;
    for _ in 0..5 {
        world.begin().await.unwrap();
    }
    assert_eq!(world.begin().await, Err(RequestError::Overloaded { live: 5 }));
}

#[tokio::test]
async fn two_participants_that_are_the_same_database_are_refused_in_one_transaction() {
    let mut world = World::ready().await;
    let listing = |participant: &str, system_identifier| v1::Listing {
        system_identifier,
        ..World::listing(participant, Vec::new())
    };
    world.agent_lists(listing("a", 11)).await;
    world.agent_lists(listing("b", 11)).await;
    let begun = world.begin().await.unwrap();
    let refused = world.commit(&begun, Wait::Decided).await.await.unwrap();
    let Err(RequestError::Invalid(why)) = refused else { panic!("not refused: {refused:?}") };
    assert!(why.contains("a and b"), "{why}");
    assert_eq!(world.told().await, "");

    world.agent_lists(listing("b", 12)).await;
    let _answered = world.commit(&begun, Wait::Decided).await;
    assert_eq!(world.told().await, "prepare@a prepare@b", "databases of one name on two servers are two");
    world.agent_lists(listing("b", 11)).await;
    let mut repeated = world.commit(&begun, Wait::Decided).await;
    assert!(repeated.try_recv().is_err(), "the first Commit's list stands: a repeated one waits");
}

#[tokio::test]
async fn a_wrong_secret_does_nothing() {
    let mut world = World::ready().await;
    let mut begun = world.begin().await.unwrap();
    begun.secret[0] ^= 1;
    let answered = world.commit(&begun, Wait::Decided).await;
    assert!(matches!(heard(answered).await.unwrap(), Err(RequestError::WrongSecret(_))));
    assert_eq!(world.told().await, "");
}

#[tokio::test]
async fn an_idempotency_key_is_refused_while_live_answered_once_committed_and_free_after_an_abort() {
    let mut world = World::ready().await;
    let key =
        |hash: u8| Some(KeyRecord { client: "shop".into(), key: "order-1".into(), request_hash: [hash; 32] });
    let aborted = world.begin_with(key(1)).await.unwrap();
    assert_eq!(world.begin_with(key(1)).await, Err(RequestError::KeyInUse(aborted.gtid.clone())));
    assert_eq!(world.begin_with(key(2)).await, Err(RequestError::KeyMismatch(aborted.gtid.clone())));
    world.roll_back(&aborted).await;

    let begun = world.begin_with(key(1)).await.unwrap();
    let answered = world.commit(&begun, Wait::Completed).await;
    for (branch, participant) in [(0, "a"), (1, "b")] {
        let gid = Gid { gtid: begun.gtid.clone(), branch, branches: 2 };
        world.agent_votes_yes(&gid, participant, 700).await;
    }
    world.force().await;
    assert_eq!(world.begin_with(key(1)).await, Err(RequestError::KeyCommitted(begun.gtid.clone())));
    for (branch, participant) in [(0, "a"), (1, "b")] {
        world.agent_has(&Gid { gtid: begun.gtid.clone(), branch, branches: 2 }, participant, true).await;
    }
    assert!(matches!(heard(answered).await.unwrap(), Ok(Outcome::Committed { .. })));
    world.force().await;
    assert_eq!(world.begin_with(key(1)).await, Err(RequestError::KeyCommitted(begun.gtid.clone())));
    assert_eq!(world.begin_with(key(3)).await, Err(RequestError::KeyMismatch(begun.gtid)));
}

#[tokio::test]
async fn i4_a_key_is_free_as_soon_as_its_transaction_is_aborted_and_never_called_committed() {
    let mut world = World::ready().await;
    let key = Some(KeyRecord { client: "shop".into(), key: "order-1".into(), request_hash: [1; 32] });
    let aborted = world.begin_with(key.clone()).await.unwrap();
    let answered = world.commit(&aborted, Wait::Completed).await;
    let gid = |begun: &Begun, branch| Gid { gtid: begun.gtid.clone(), branch, branches: 2 };
    world.agent_votes_yes(&gid(&aborted, 0), "a", 700).await;
    world
        .agent_says(v1::agent_message::Kind::Vote(v1::Vote {
            gtid: aborted.gtid.to_string(),
            participant: "b".into(),
            gid: gid(&aborted, 1).to_string(),
            kind: Some(v1::vote::Kind::No(v1::VoteNo::default())),
            ..Default::default()
        }))
        .await;
    assert!(matches!(heard(answered).await.unwrap(), Ok(Outcome::Aborted { .. })));
    // The rollback at a is still under way.
    let begun = world.begin_with(key.clone()).await.unwrap();
    world.agent_has(&gid(&aborted, 0), "a", false).await;
    assert_eq!(
        world.begin_with(key).await,
        Err(RequestError::KeyInUse(begun.gtid)),
        "the new bearer keeps it"
    );
}

#[tokio::test]
async fn a_drain_refuses_new_work_waits_for_the_old_and_closes_the_log() {
    let mut world = World::ready().await;
    let (_, answered) = world.deciding(Wait::Decided).await;
    let driver = world.driver.clone();
    let drained = tokio::task::LocalSet::new();
    drained
        .run_until(async {
            let drain = tokio::task::spawn_local(async move {
                driver.drain(Duration::from_secs(3600)).await;
            });
            world.settle().await;
            assert!(matches!(world.begin().await, Err(RequestError::Unavailable(_))));
            world.force().await;
            assert!(matches!(heard(answered).await.unwrap(), Ok(Outcome::Committed { .. })));
            assert!(!world.is_closed(), "acknowledgements are still awaited");
            let gids: Vec<Gid> =
                (0..2).map(|branch| Gid { branches: 2, ..super::world::gid(7, 1, branch) }).collect();
            world.agent_has(&gids[0], "a", true).await;
            world.agent_has(&gids[1], "b", true).await;
            world.force().await;
            assert!(world.is_closed());
            world.close();
            drain.await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn the_alarm_of_a_departure_says_in_words_how_the_branch_ended() {
    let mut world = World::ready().await;
    let (begun, _answered) = world.deciding(Wait::Decided).await;
    world.force().await;
    let gone = v1::Gone {
        system_identifier: 11,
        timeline: 1,
        in_recovery: false,
        status: v1::gone::XidStatus::Aborted.into(),
        marker: 0,
    };
    let end = v1::BranchEnd {
        gtid: begun.gtid.to_string(),
        participant: "a".into(),
        gid: Gid { gtid: begun.gtid, branch: 0, branches: 2 }.to_string(),
        was_commit: true,
        kind: Some(v1::branch_end::Kind::Gone(gone)),
        ..Default::default()
    };
    world.agent_says(v1::agent_message::Kind::BranchEnd(end)).await;
    let status = world.driver.ask(Request::Status).await.unwrap();
    assert!(status.alarms[0].detail.contains("decided commit, and rolled back"), "{:?}", status.alarms);
}
