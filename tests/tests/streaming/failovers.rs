//! A standby that has everything takes over, and ones that have missed the newest.

use futures::future::join;
use votum_client::{HeuristicBranch, HeuristicKind, Outcome};
use votum_tests::eventually::{Found, eventually};
use votum_tests::ledger::Told;
use votum_tests::load::Load;
use votum_tests::scene::{A, B, Scene};
use votum_tests::tool::votumctl;
use votum_tests::world::Bank;
use votum_tests::world::Host::{Primary, Standby};

use super::{alarms, committed, complete, cut_off, open, rows, until_committed, until_unheard, with_markers};

/// Commits a transfer; when its decision is forced and nobody has been told, the coordinator is dead and `then` is
/// done, and whatever that makes of it the coordinator starts again.
async fn decided_then(scene: &Scene, name: &str, then: impl Future<Output = ()>) -> Outcome {
    let then = async {
        then.await;
        scene.world.start_coordinator(None).await
    };
    scene.decided_then(name, then).await.unwrap()
}

/// Waits until the commits of earlier timelines were looked for at the server that took over. The line about it.
async fn verified(scene: &Scene) -> String {
    eventually("commits of earlier timelines were looked for", async || {
        let line = scene.world.lines("the server took over on another timeline")?.pop();
        Ok(line.map_or_else(|| Found::NotYet(scene.world.coordinator.log_tail()), Found::Yes))
    })
    .await
    .unwrap()
}

/// I1, I7, I13: what a synchronous standby has not, nobody was told. Nothing is lost, and the agent that began with
/// the first server goes on with the second.
#[tokio::test]
async fn a_synchronous_standby_takes_over_under_load_and_nothing_is_lost() {
    let scene = open(&[Primary, Standby]).await;
    with_markers(&scene).await;
    let (world, bank) = (&scene.world, &scene.world.banks[0]);
    bank.server.wait_for(bank.server.standby().unwrap()).await.unwrap();
    let (load, agent) = (Load::default(), bank.agent.pid());
    let failover = async {
        until_committed(&scene, 50).await;
        bank.server.crash().await.unwrap();
        // Nobody works with a standby.
        until_unheard(world, &["none of the servers is the participant's primary", "in recovery"]).await;
        bank.server.promote_standby().await.unwrap();
        until_committed(&scene, 50).await;
        load.stop();
    };
    Box::pin(join(load.run(&scene.teller, [A, B], 4, "load"), failover)).await;
    world.until_no_alarm("VOTUM-1406").await.unwrap();
    let line = verified(&scene).await;
    assert!(line.contains("departed=0") && line.contains("unproven=0"), "{line}");
    world.check(&scene.ledger).await.unwrap();
    assert_eq!(alarms(&scene).await, [""; 0]);
    assert_eq!(bank.agent.pid(), agent, "the agent was not restarted");
    for (name, _) in scene.ledger.transfers().iter().filter(|(_, told)| told.told.contains(&Told::Committed))
    {
        assert_eq!(committed(&scene, name).await.heuristics, [], "{name}");
    }
}

/// R1, I7, I13: the standby has what the server had acknowledged, prepared branches among it.
#[tokio::test]
async fn a_standby_that_has_everything_takes_over_and_commits_what_was_decided() {
    let scene = open(&[Primary, Standby]).await;
    let server = &scene.world.banks[0].server;
    server.wait_for(server.standby().unwrap()).await.unwrap();
    let failover = async {
        let before = scene.world.until_prepared(2).await.unwrap();
        server.fail_over().await.unwrap();
        assert_eq!(scene.world.prepared().await.unwrap(), before);
    };
    assert!(Box::pin(decided_then(&scene, "in doubt", failover)).await.is_committed());
    // And what was begun afterwards goes on there.
    complete(&scene, "later").await;
    scene.world.check(&scene.ledger).await.unwrap();
}

/// R9, I7: an acknowledged branch is prepared again, because the standby has missed its COMMIT PREPARED.
#[tokio::test]
async fn a_commit_that_a_failover_undid_is_delivered_again() {
    // The standby answers first.
    let scene = open(&[Standby, Primary]).await;
    let bank = &scene.world.banks[0];
    assert!(Box::pin(decided_then(&scene, "undone", cut_off(&scene))).await.is_committed());
    let gtid = scene.gtid("undone").unwrap();
    scene.world.until_completed(&gtid).await.unwrap();
    scene.world.until_prepared(0).await.unwrap();
    assert_eq!(rows(&scene, "undone").await, [1, 1]);

    bank.server.fail_over().await.unwrap();
    scene.world.until_prepared(0).await.unwrap();
    assert_eq!(rows(&scene, "undone").await, [1, 1], "committed again, once");
    eventually("it is on record that it was committed again", async || {
        let shown = votumctl(&scene.world, &["show", &gtid, "--json"]).await?;
        Ok(if shown.out.contains("and was committed again") {
            Found::Yes(())
        } else {
            Found::NotYet(shown.out)
        })
    })
    .await
    .unwrap();
    assert_eq!(committed(&scene, "undone").await.heuristics, []);
    scene.world.check(&scene.ledger).await.unwrap();
}

/// R3, I1: a vote that the standby has missed cannot be kept: the departure is told, for ever, and not hidden.
#[tokio::test]
async fn a_prepared_branch_that_a_failover_lost_is_reported_for_ever() {
    let scene = open(&[Standby, Primary]).await;
    let world = &scene.world;
    cut_off(&scene).await;
    let failover = async {
        world.until_prepared(2).await.unwrap();
        world.banks[0].server.fail_over().await.unwrap();
    };
    let outcome = Box::pin(decided_then(&scene, "lost", failover)).await;
    let Outcome::Committed(_) = outcome else { panic!("{outcome:?}") };
    let gtid = scene.gtid("lost").unwrap();
    for restarted in [false, true] {
        if restarted {
            world.crash_and_restart_coordinator().await.unwrap();
        }
        assert_eq!(world.until_alarm("VOTUM-1407").await.unwrap().participant, A);
        let [departed] = committed(&scene, "lost").await.heuristics.try_into().unwrap();
        assert_eq!((departed.kind, departed.participant.as_str()), (HeuristicKind::Rollback, A));
        let shown = votumctl(world, &["show", &gtid]).await.unwrap();
        assert!(shown.out.contains("heuristic rollback at bank-a"), "{shown:?}");
        let status = votumctl(world, &["status"]).await.unwrap().ended(1);
        assert!(status.out.contains("VOTUM-1407"), "{status:?}");
    }
    assert_eq!(rows(&scene, "lost").await, [0, 1]);
}

/// Has the bank's server commit other work under the transaction id `xid`, which it has not given out yet.
async fn use_again(bank: &Bank, xid: u64) {
    let reuse = "DO $$ BEGIN FOR i IN 1..200 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$";
    bank.by_hand(reuse).await.unwrap();
    let of_other_work = format!("SELECT count(*) FROM pg_xact_status('{xid}') AS s WHERE s = 'committed'");
    assert_eq!(bank.number(&of_other_work).await.unwrap(), 1, "the lost branch's id is used again");
}

/// A commit is decided and nobody has been told; the failover loses the branch at the first bank, and other work
/// has its transaction id by the time that the coordinator asks. What is then told of that branch.
async fn lost_and_its_id_used_again(scene: &Scene) -> HeuristicBranch {
    let (world, bank) = (&scene.world, &scene.world.banks[0]);
    cut_off(scene).await;
    let failover = async {
        let prepared = world.until_prepared(2).await.unwrap();
        let lost = prepared.iter().find(|branch| branch.bank == A).unwrap();
        bank.server.fail_over().await.unwrap();
        use_again(bank, lost.xid.parse().unwrap()).await;
    };
    assert!(Box::pin(decided_then(scene, "lost", failover)).await.is_committed());
    assert_eq!(world.until_alarm("VOTUM-1407").await.unwrap().participant, A);
    assert_eq!(rows(scene, "lost").await, [0, 1]);
    let [departed] = committed(scene, "lost").await.heuristics.try_into().unwrap();
    departed
}

/// R3, I1: the server says that the id committed, and means other work. The marker knows better.
#[tokio::test]
async fn a_lost_vote_is_a_rollback_by_its_marker_though_its_transaction_id_is_used_again() {
    let scene = open(&[Primary, Standby]).await;
    with_markers(&scene).await;
    let departed = lost_and_its_id_used_again(&scene).await;
    assert_eq!((departed.kind, departed.participant.as_str()), (HeuristicKind::Rollback, A));
    assert!(departed.detail.contains("commit marker"), "{}", departed.detail);
}

/// R3, I1: where the branch left no marker, nobody can say; it is never taken for committed.
#[tokio::test]
async fn a_lost_vote_without_a_marker_is_a_hazard_when_its_transaction_id_is_used_again() {
    let scene = open(&[Primary, Standby]).await;
    let departed = lost_and_its_id_used_again(&scene).await;
    assert_eq!((departed.kind, departed.participant.as_str()), (HeuristicKind::Hazard, A));
    assert!(departed.detail.contains("another transaction's"), "{}", departed.detail);
}

/// A transfer that the standby knows, and one that it has missed; both were told as committed, by all their
/// banks. The coordinator is away while the standby takes over, and while its transaction ids reach and pass
/// those of what it has missed.
async fn one_kept_and_one_lost(scene: &Scene) {
    let (world, bank) = (&scene.world, &scene.world.banks[0]);
    complete(scene, "kept").await;
    cut_off(scene).await;
    complete(scene, "lost").await;
    let shown =
        votumctl(world, &["show", &scene.gtid("lost").unwrap(), "--json"]).await.unwrap().json().unwrap();
    let branches = shown["branches"].as_array().unwrap();
    let xid8 = branches.iter().find(|branch| branch["participant"] == A).unwrap()["xid8"].as_u64().unwrap();
    // In good order: what had ended is on disk as such.
    world.coordinator.terminate().unwrap();
    world.coordinator.wait_exit().await.unwrap();
    bank.server.fail_over().await.unwrap();
    use_again(bank, xid8).await;
    world.start_coordinator(None).await.unwrap();
}

/// R2, I1: nobody else can tell which transactions a failover has torn: the lost branch shows nowhere.
#[tokio::test]
async fn a_committed_branch_that_a_failover_lost_is_named_though_its_transaction_id_is_used_again() {
    let scene = open(&[Primary, Standby]).await;
    with_markers(&scene).await;
    one_kept_and_one_lost(&scene).await;
    let alarm = scene.world.until_alarm("VOTUM-1407").await.unwrap();
    assert_eq!((alarm.participant.as_str(), alarm.gtid), (A, scene.gtid("lost").unwrap()));
    let [departed] = committed(&scene, "lost").await.heuristics.try_into().unwrap();
    assert_eq!((departed.kind, departed.participant.as_str()), (HeuristicKind::Rollback, A));
    assert!(departed.detail.contains("commit marker"), "{}", departed.detail);
    let line = verified(&scene).await;
    assert!(line.contains("departed=1") && line.contains("unproven=0"), "{line}");
    assert_eq!(committed(&scene, "kept").await.heuristics, []);
    assert_eq!((rows(&scene, "kept").await, rows(&scene, "lost").await), ([1, 1], [0, 1]));
    // And for ever: it is on disk.
    scene.world.crash_and_restart_coordinator().await.unwrap();
    assert_eq!(scene.world.until_alarm("VOTUM-1407").await.unwrap().participant, A);
    assert_eq!(committed(&scene, "lost").await.heuristics.len(), 1);
}

/// R2: where branches leave no markers, an id that is used again proves nothing, and that is said, once.
#[tokio::test]
async fn without_markers_a_failover_leaves_a_number_of_commits_that_nobody_can_prove() {
    let scene = open(&[Primary, Standby]).await;
    one_kept_and_one_lost(&scene).await;
    for restarted in [false, true] {
        if restarted {
            scene.world.crash_and_restart_coordinator().await.unwrap();
        }
        let alarm = scene.world.until_alarm("VOTUM-1412").await.unwrap();
        assert_eq!(alarm.participant, A);
        assert!(
            alarm.detail.contains("timeline 2") && alarm.detail.contains(" 2 commits"),
            "{}",
            alarm.detail
        );
    }
    assert_eq!(committed(&scene, "lost").await.heuristics, []);
}
