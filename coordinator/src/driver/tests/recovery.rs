//! What agents list, judged by the recovery table and acted on.

use votum_proto::names::Gid;
use votum_proto::v1;
use votum_proto::v1::gone::XidStatus;

use super::super::request::{Outcome, Request, RequestError, Wait};
use super::world::{World, decided_commit, gid, gtid, heard, name, owed_commit, resolved};
use crate::protocol::record::{Heuristic, HeuristicKind, Record};

fn hello_with(rows: Vec<v1::PreparedTransaction>) -> v1::AgentHello {
    let mut hello = World::hello();
    hello.listings[0].prepared = rows;
    hello
}

#[tokio::test]
async fn r1_i14_what_is_owed_is_delivered_before_the_history_is_counted() {
    let mut world = World::with_owed(vec![owed_commit(6, 3)]);
    world.connect(hello_with(vec![World::row(&gid(6, 3, 0), 700)])).await;
    assert!(world.told().await.starts_with("commit@a? commit@b?"));
}

#[tokio::test]
async fn r5_r8_an_abort_is_presumed_only_once_the_log_is_counted() {
    let mut world = World::new();
    let row = World::row(&gid(6, 3, 0), 700);
    world.connect(hello_with(vec![row.clone()])).await;
    assert_eq!(world.told().await, "", "absence proves nothing before the log is counted");
    assert!(world.alarms().await.is_empty(), "that is a moment of every start, no alarm");
    world.count();
    assert_eq!(world.told().await, "list@a list@b");
    world.agent_lists(World::listing("a", vec![row])).await;
    assert_eq!(world.told().await, "rollback@a");
}

#[tokio::test]
async fn r6_a_live_branch_is_left_to_the_live_protocol() {
    let mut world = World::ready().await;
    world.deciding(Wait::Decided).await;
    world.agent_lists(World::listing("a", vec![World::row(&gid(7, 1, 0), 700)])).await;
    assert_eq!(world.told().await, "");
}

#[tokio::test]
async fn r14_a_recorded_abort_is_rolled_back() {
    let mut world = World::ready().await;
    let begun = world.begin().await.unwrap();
    world
        .driver
        .ask(|answer| Request::Rollback {
            gtid: begun.gtid.clone(),
            secret: begun.secret.clone(),
            reason: String::new(),
            answer,
        })
        .await
        .unwrap();
    world.force().await;
    world.agent_lists(World::listing("a", vec![World::row(&gid(7, 1, 0), 700)])).await;
    assert_eq!(world.told().await, "rollback@a");
}

#[tokio::test]
async fn r15_other_work_that_a_listing_shows_under_an_aborted_branch_is_not_taken_for_it() {
    let mut world = World::ready().await;
    let begun = world.begin().await.unwrap();
    let _answered = world.commit(&begun, Wait::Decided).await;
    world.agent_votes_yes(&gid(7, 1, 0), "a", 700).await;
    let no = v1::Vote {
        gtid: gtid(7, 1).to_string(),
        participant: "b".into(),
        gid: gid(7, 1, 1).to_string(),
        kind: Some(v1::vote::Kind::No(v1::VoteNo::default())),
        ..Default::default()
    };
    world.agent_says(v1::agent_message::Kind::Vote(no)).await;
    world.told().await;
    world.agent_lists(World::listing("a", vec![World::row(&gid(7, 1, 0), 999)])).await;
    assert_eq!(world.told().await, "rollback@a");
    world.agent_has(&gid(7, 1, 0), "a", false).await;
    let undelivered = world.driver.ask(Request::Status).await.unwrap().undelivered;
    assert_eq!(undelivered, 1, "what became of 700 is still asked");
}

#[tokio::test]
async fn r0_a_session_of_a_transaction_that_is_not_live_is_ended() {
    let mut world = World::ready().await;
    let mut listing = World::listing("a", Vec::new());
    let session = Some(v1::SessionName { agent_instance: 1, counter: 1 });
    listing.sessions.push(v1::OpenSession { gtid: gtid(7, 9).to_string(), session });
    world.agent_lists(listing).await;
    assert_eq!(world.told().await, "end@a");
    let enlisted = v1::Enlisted { gtid: gtid(6, 2).to_string(), participant: "b".into(), session };
    world.agent_says(v1::agent_message::Kind::Enlisted(enlisted)).await;
    assert_eq!(world.told().await, "end@b");
}

#[tokio::test]
async fn r11_a_failed_listing_is_not_an_empty_one() {
    let mut world = World::ready().await;
    let listing = v1::Listing {
        failure: "connection refused".into(),
        ..World::listing("a", vec![World::row(&gid(6, 3, 0), 700)])
    };
    world.agent_lists(listing).await;
    assert_eq!(world.told().await, "");
    assert_eq!(world.alarms().await, ["VOTUM-1406"]);
    world.agent_lists(World::listing("a", Vec::new())).await;
    assert!(world.alarms().await.is_empty(), "an alarm lasts until it is over, not longer");
    let standby =
        v1::Listing { in_recovery: true, ..World::listing("a", vec![World::row(&gid(6, 3, 0), 700)]) };
    world.agent_lists(standby).await;
    assert_eq!(world.told().await, "");
}

/// Retention raises no mark past what it is told here: a branch at or below one waits for a person (R10).
#[tokio::test]
async fn a_listing_says_what_may_be_prepared_there_without_a_decision() {
    let mut world = World::ready().await;
    let unsettled = |world: &World| world.log.listed.lock().unwrap()[&name("a")].clone();
    world.agent_lists(World::listing("a", Vec::new())).await;
    assert_eq!(unsettled(&world), None);

    // Nothing is known of the one; the other is held by a statement, so that it is not in the list.
    let busy = v1::Listing { busy: vec![gid(6, 2, 0).to_string()], ..World::listing("a", Vec::new()) };
    world.agent_lists(busy).await;
    assert_eq!(unsettled(&world), Some(gtid(6, 2)));
    world.agent_lists(World::listing("a", vec![World::row(&gid(6, 3, 0), 700)])).await;
    assert_eq!(unsettled(&world), Some(gtid(6, 3)));
    assert_eq!(world.told().await, "rollback@a");

    let (begun, _answered) = world.deciding(Wait::Decided).await;
    world.agent_lists(World::listing("a", Vec::new())).await;
    assert_eq!(unsettled(&world), Some(begun.gtid), "its decision is not on disk");
    world.force().await;
    world.agent_lists(World::listing("a", Vec::new())).await;
    assert_eq!(unsettled(&world), None);

    let aborted = world.begin().await.unwrap();
    world.roll_back(&aborted).await;
    world.agent_lists(World::listing("a", Vec::new())).await;
    assert_eq!(unsettled(&world), Some(aborted.gtid), "nor is this one's, though it is over");
    world.force().await;
    world.agent_lists(World::listing("a", Vec::new())).await;
    assert_eq!(unsettled(&world), None);
}

/// It is over when a listing shows that the work is gone, and not before.
#[tokio::test(start_paused = true)]
async fn the_alarm_about_other_work_under_a_branchs_name_lasts_as_long_as_that_is_prepared() {
    let mut world = World::ready().await;
    let begun = world.begin().await.unwrap();
    let answered = world.commit(&begun, Wait::Decided).await;
    let branch = Gid { gtid: begun.gtid, branch: 0, branches: 2 };
    world.agent_votes_yes(&branch, "a", 700).await;
    assert!(matches!(heard(answered).await.unwrap(), Ok(Outcome::Aborted { .. })), "its time is over");
    world.told().await;
    let other = v1::branch_end::Kind::OtherXid(v1::OtherXid { xid: 999 });
    world.agent_says(World::end(&branch, "a", false, other)).await;
    assert_eq!(world.told().await, "rollback@a");
    assert_eq!(world.alarms().await, ["VOTUM-1404"]);
    world.agent_lists(World::listing("a", vec![World::row(&branch, 999)])).await;
    assert_eq!(world.alarms().await, ["VOTUM-1404"]);
    world.agent_lists(World::listing("a", Vec::new())).await;
    assert_eq!(world.alarms().await, [""; 0]);
}

#[tokio::test]
async fn r12_i8_what_is_not_ours_is_never_touched() {
    let mut world = World::ready().await;
    let foreign = "votum_other_6_00abc6_3_0_2".parse().unwrap();
    let others_role = v1::PreparedTransaction { owner: "mallory".into(), ..World::row(&gid(6, 4, 0), 700) };
    let others_database =
        v1::PreparedTransaction { database: "other".into(), ..World::row(&gid(6, 5, 0), 700) };
    let unknown_epoch = World::row(&gid(5, 3, 0), 700);
    let mut nonsense = World::row(&gid(6, 3, 0), 700);
    nonsense.gid = "pg_gid_123".into();
    let rows = vec![World::row(&foreign, 1), others_role, others_database, unknown_epoch, nonsense];
    world.agent_lists(World::listing("a", rows)).await;
    assert_eq!(world.told().await, "");
    assert_eq!(world.alarms().await, ["VOTUM-1405"], "only the one that looks like ours");
}

#[tokio::test]
async fn r11_an_agent_that_is_not_connected_is_an_alarm_for_each_participant_until_it_lists_them() {
    let mut world = World::ready().await;
    world.disconnect().await;
    assert_eq!(world.alarms().await, ["VOTUM-1406", "VOTUM-1406"]);
    let failed =
        v1::Listing { failure: "the database does not answer".into(), ..World::listing("b", vec![]) };
    let listings = vec![World::listing("a", vec![]), failed];
    world.connect(v1::AgentHello { listings, ..World::hello() }).await;
    assert_eq!(world.alarms().await, ["VOTUM-1406"], "the one that cannot be listed");
    world.agent_lists(World::listing("b", vec![])).await;
    assert_eq!(world.alarms().await, [""; 0]);
}

#[tokio::test]
async fn r8_a_hello_that_proves_the_log_stale_is_judged_before_it_is_acted_on() {
    for proof in ["witness", "lease"] {
        let mut world = World::new();
        world.count();
        let mut hello = hello_with(vec![World::row(&gid(6, 3, 0), 700)]);
        if proof == "witness" {
            let life = super::world::life(6);
            hello.witness =
                Some(v1::Witness { epoch: life.epoch.0, incarnation: life.incarnation.get(), position: 91 });
        } else {
            hello.listings[1].prepared.push(World::row(&gid(6, 11, 0), 700));
        }
        world.connect(hello).await;
        assert!(!world.told().await.contains("rollback"), "{proof}");
        assert!(world.alarms().await.contains(&"VOTUM-1401".to_owned()), "{proof}");
        assert!(matches!(world.begin().await, Err(RequestError::Unavailable(_))), "{proof}");
        // An agent keeps the newest witness that it is told: this life's would take the place of the proof,
        // and the next life would presume aborts.
        assert_eq!(world.durable.witness(), None, "{proof}");
    }
}

#[tokio::test]
async fn a_witness_of_a_life_before_the_journal_is_kept_and_judged_when_the_log_is_counted() {
    for (seen, stale) in [(50, false), (51, true)] {
        let mut world = World::with_owed(vec![owed_commit(6, 3)]);
        let life = super::world::life(5);
        let mut hello = hello_with(vec![World::row(&gid(6, 4, 0), 700)]);
        hello.witness =
            Some(v1::Witness { epoch: life.epoch.0, incarnation: life.incarnation.get(), position: seen });
        world.connect(hello).await;
        assert_eq!(world.told().await, "commit@a? commit@b?", "what is owed does not wait");
        assert_eq!(world.durable.witness(), None, "the agent keeps what may be the only proof");
        world.count_with_epoch_5(50);
        world.told().await;
        assert_eq!(world.alarms().await.contains(&"VOTUM-1401".to_owned()), stale, "{seen}");
        assert_eq!(world.durable.witness().is_none(), stale, "{seen}");
        world.agent_lists(World::listing("a", vec![World::row(&gid(6, 4, 0), 700)])).await;
        assert_eq!(world.told().await, if stale { "" } else { "rollback@a" }, "{seen}");
    }
}

#[tokio::test]
async fn a_stale_log_still_delivers_the_commits_that_it_knows() {
    let mut world = World::with_owed(vec![owed_commit(6, 3)]);
    world.count();
    let witness = Some(v1::Witness { epoch: 9, incarnation: 1, position: 1 });
    world.connect(v1::AgentHello { witness, ..World::hello() }).await;
    assert!(world.told().await.starts_with("commit@a? commit@b?"));
}

/// I13: the true log knows nothing of what a stale one decides. Before the first hello nobody knows that it is
/// stale, and transactions are begun.
#[tokio::test]
async fn what_was_begun_before_the_log_was_found_stale_is_aborted() {
    let mut world = World::new();
    world.count();
    let begun = world.begin().await.unwrap();
    let witness = Some(v1::Witness { epoch: 9, incarnation: 1, position: 1 });
    world.connect(v1::AgentHello { witness, ..World::hello() }).await;
    world.told().await;
    let aborted = |outcome| matches!(outcome, Ok(Outcome::Aborted { .. }));
    assert!(aborted(world.get(begun.gtid.clone()).await));
    let answer = world.commit(&begun, Wait::Decided).await;
    assert!(aborted(answer.await.unwrap()));
    assert_eq!(world.told().await, "", "nothing is prepared");
}

#[tokio::test]
async fn r9_a_branch_that_had_ended_and_is_prepared_again_is_committed_and_recorded() {
    let mut world = World::ready().await;
    world
        .log
        .durable
        .records
        .lock()
        .unwrap()
        .extend([Record::Decided(decided_commit(6, 3)), Record::Ended { gtid: gtid(6, 3) }]);
    world.agent_lists(World::listing("a", vec![World::row(&gid(6, 3, 0), 700)])).await;
    assert_eq!(world.told().await, "commit@a?");
    world.agent_has(&gid(6, 3, 0), "a", true).await;
    world.force().await;
    let records = world.log.durable.records.lock().unwrap();
    assert!(matches!(records.last(), Some(Record::Heuristic(_))), "{records:?}");
}

/// A hazard that is mended later is over at once, and no start raises it again.
#[tokio::test]
async fn r9_an_order_to_commit_again_that_came_to_nothing_leaves_no_record_to_a_later_answer() {
    let mut world = World::ready().await;
    let records = [Record::Decided(decided_commit(6, 3)), Record::Ended { gtid: gtid(6, 3) }];
    world.log.durable.records.lock().unwrap().extend(records);
    world.agent_lists(World::listing("a", vec![World::row(&gid(6, 3, 0), 700)])).await;
    assert_eq!(world.told().await, "commit@a?");
    world.agent_finds_gone(&gid(6, 3, 0), true, XidStatus::NotAsked).await;
    world.agent_lists(World::listing("a", Vec::new())).await;
    world.agent_has(&gid(6, 3, 0), "a", true).await;
    world.force().await;
    let records = world.log.durable.records.lock().unwrap();
    assert!(!records.iter().any(|record| matches!(record, Record::Heuristic(_))), "{records:?}");
}

/// A failover and back: the branch is there again while it is being recorded that it was rolled back.
#[tokio::test]
async fn r16_a_branch_is_left_alone_while_its_departure_is_on_its_way_to_the_disk() {
    let mut world = World::ready().await;
    let (begun, _answered) = world.deciding(Wait::Decided).await;
    world.force().await;
    world.told().await;
    let branch = Gid { gtid: begun.gtid, branch: 0, branches: 2 };
    world.agent_finds_gone(&branch, true, XidStatus::Aborted).await;
    let again = || World::listing("a", vec![World::row(&branch, 700)]);
    world.agent_lists(again()).await;
    assert_eq!(world.told().await, "");
    world.force().await;
    world.agent_lists(again()).await;
    assert_eq!(world.told().await, "rollback@a");
}

#[tokio::test]
async fn r16_a_hazard_that_was_mended_alarms_nobody_any_more() {
    let mut world = World::new();
    let hazard = Heuristic {
        gid: gid(6, 3, 0),
        participant: name("a"),
        xid8: 700,
        kind: HeuristicKind::Hazard,
        detail: "gone".into(),
    };
    let records = [
        Record::Decided(decided_commit(6, 3)),
        Record::Heuristic(hazard),
        Record::Ended { gtid: gtid(6, 3) },
    ];
    world.log.durable.records.lock().unwrap().extend(records);
    world.connect(World::hello()).await;
    world.count();
    world.settle().await;
    assert_eq!(world.alarms().await, ["VOTUM-1407"]);

    world.told().await;
    world.agent_lists(World::listing("a", vec![World::row(&gid(6, 3, 0), 700)])).await;
    assert_eq!(world.told().await, "commit@a?");
    world.agent_has(&gid(6, 3, 0), "a", true).await;
    world.force().await;
    assert_eq!(world.alarms().await, [""; 0]);

    let mut next = World::new();
    next.log.durable.records.lock().unwrap().clone_from(&world.log.durable.records.lock().unwrap());
    next.count();
    next.settle().await;
    assert_eq!(next.alarms().await, [""; 0], "a start raised it again");
}

#[tokio::test]
async fn r9_r1x_the_same_gid_with_another_xid_is_not_committed() {
    let mut world = World::ready().await;
    world
        .log
        .durable
        .records
        .lock()
        .unwrap()
        .extend([Record::Decided(decided_commit(6, 3)), Record::Ended { gtid: gtid(6, 3) }]);
    world.agent_lists(World::listing("a", vec![World::row(&gid(6, 3, 0), 999)])).await;
    assert_eq!(world.told().await, "rollback@a");
    assert_eq!(world.alarms().await, ["VOTUM-1404"]);
}

#[tokio::test]
async fn r16_what_a_person_resolved_is_done_as_recorded() {
    let mut world = World::ready().await;
    let branch = gid(6, 3, 0);
    world.log.durable.records.lock().unwrap().push(Record::Resolved(resolved(&branch, 700)));
    world.agent_lists(World::listing("a", vec![World::row(&branch, 700)])).await;
    assert_eq!(world.told().await, "commit@a?");
}

/// I14: nothing is asked for first, and no order waits for another one's answer.
#[tokio::test]
async fn r1_i14_a_hundred_thousand_branches_in_doubt_are_ordered_as_soon_as_their_agent_is_there() {
    let mut world = World::with_owed((1..=50_000).map(|seq| owed_commit(6, seq)).collect());
    world.connect(World::hello()).await;
    let told = world.told().await;
    assert!(told.split(' ').take(100_000).all(|order| order.starts_with("commit@")), "commits go first");
    assert_eq!(told.matches("commit@").count(), 100_000);
    let undelivered = world.driver.ask(Request::Status).await.unwrap().undelivered;
    assert_eq!(undelivered, 50_000);
    for seq in 1..=50_000 {
        for (branch, participant) in [(0, "a"), (1, "b")] {
            world.agent_ended(&gid(6, seq, branch), participant, true);
        }
    }
    world.settle().await;
    world.force().await;
    assert_eq!(world.driver.ask(Request::Status).await.unwrap().undelivered, 0);
}
