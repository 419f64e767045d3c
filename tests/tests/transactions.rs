//! Whole transactions on real servers: all of it happens, or none.

use std::time::Duration;

use futures::future::{join, join_all};
use votum_client::{AbortKind, Error, Outcome, Status};
use votum_proto::v1;
use votum_proto::v1::operator_client::OperatorClient;
use votum_proto::v1::outcome::Kind;
use votum_tests::expect::{aborted, committed, found_aborted, sql_error};
use votum_tests::ledger::Told;
use votum_tests::plain::{code, note, tell, told};
use votum_tests::scene::{A, B, C, Scene};
use votum_tests::teller::{Leg, work};
use votum_tests::world::World;

/// Short, and long enough that a slow machine begins and works within it.
const SHORT: Duration = Duration::from_millis(1_500);

fn leg(bank: &str, account: i64, amount: i64) -> Leg<'_> {
    Leg { bank, account, amount }
}

#[tokio::test]
async fn money_moves_over_one_two_and_three_participants() -> anyhow::Result<()> {
    let scene = Scene::open(World::builder().banks(3)).await?;
    for (name, legs) in [
        ("one", &[leg(A, 1, 0)][..]),
        ("two", &[leg(A, 1, -5), leg(B, 1, 5)]),
        ("three", &[leg(A, 1, -30), leg(B, 1, 10), leg(C, 1, 20)]),
    ] {
        // COMPLETED is the default: the writes can be read everywhere as soon as it answers.
        let committed = committed(scene.teller.transfer(name, legs).await?)?;
        assert!(committed.completed, "{name}: {committed:?}");
    }
    let mut balances = Vec::new();
    for bank in [A, B, C] {
        balances.push(scene.balance(bank, 1).await?);
    }
    assert_eq!(balances, [965, 1_015, 1_020]);
    scene.close().await
}

#[tokio::test]
async fn a_hundred_transfers_at_once_leave_the_sum_as_it_was() -> anyhow::Result<()> {
    // Most of them wait for a session, for as long as the machine takes.
    let scene = Scene::open(World::builder().agent_setting("session_queue_ms", "30000")).await?;
    let transfers = (0..100).map(|n| {
        let teller = &scene.teller;
        // Always in the same order of banks: two databases do not see each other's deadlocks.
        async move {
            let legs = [leg(A, n % 10 + 1, -n), leg(B, n % 7 + 1, n)];
            teller.transfer(&format!("t{n}"), &legs).await
        }
    });
    for outcome in join_all(transfers).await {
        assert!(outcome?.is_committed());
    }
    assert_eq!(scene.ledger.count(Told::Committed), 100);
    scene.close().await
}

#[tokio::test]
async fn a_constraint_that_fails_at_a_statement_leaves_nothing_anywhere() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let refused = scene.teller.transfer("overdraft", &[leg(B, 1, 5_000), leg(A, 1, -5_000)]).await;
    let error = sql_error(refused)?;
    assert_eq!((error.sqlstate.as_str(), error.participant.as_str()), ("23514", A));
    assert_eq!((error.table.as_str(), error.constraint.as_str()), ("accounts", "accounts_balance_check"));
    assert!(!error.retryable);
    assert_eq!(scene.balance(B, 1).await?, 1_000);
    scene.close().await
}

#[tokio::test]
async fn a_transaction_that_wrote_nothing_is_read_only_and_leaves_no_record() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let votum = scene.teller.votum();
    for (name, begin) in [("declared", votum.begin().read_only()), ("in fact", votum.begin())] {
        let tx = scene.begin(name, &[], begin).await?;
        for bank in [A, B] {
            let row = tx.query_one(bank, "SELECT sum(balance)::int8 AS sum FROM accounts", &[]).await?;
            assert_eq!(row.get::<i64>("sum")?, 10_000);
        }
        let gtid = tx.gtid().to_owned();
        assert_eq!(scene.teller.commit(tx, name).await?, Outcome::ReadOnly);
        // I10: it waited for no forced write, and none was made for it.
        let kinds = records(&scene, &gtid).await?;
        assert!(kinds.iter().all(|kind| !kind.to_lowercase().contains("decided")), "{kinds:?}");
    }
    let tx = scene.begin("writes", &[], votum.begin().read_only()).await?;
    let error = sql_error(tx.execute(A, "UPDATE accounts SET balance = 0", &[]).await)?;
    assert_eq!(error.sqlstate, "25006");
    tx.rollback().await?;
    scene.close().await
}

#[tokio::test]
async fn a_branch_that_only_read_is_not_prepared_beside_one_that_wrote() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = scene.begin("mixed", &[A], scene.teller.votum().begin()).await?;
    work(&tx, "mixed", &[leg(A, 1, 0)]).await?;
    tx.query(B, "SELECT * FROM accounts", &[]).await?;
    let gtid = tx.gtid().to_owned();
    assert!(scene.teller.commit(tx, "mixed").await?.is_committed());
    let decided = shown(&scene, &gtid).await?;
    let branches: Vec<_> = decided.branches.iter().map(|branch| branch.participant.as_str()).collect();
    assert_eq!(branches, [A], "only what voted yes is listed in the decision: {decided:?}");
    scene.close().await
}

/// The kinds of the records that the log holds of a transaction.
async fn records(scene: &Scene, gtid: &str) -> anyhow::Result<Vec<String>> {
    Ok(shown(scene, gtid).await?.records.into_iter().map(|record| record.kind).collect())
}

async fn shown(scene: &Scene, gtid: &str) -> anyhow::Result<v1::ShowTransactionResponse> {
    let mut operator = OperatorClient::new(scene.world.address().channel()?);
    let request = v1::ShowTransactionRequest { gtid: gtid.to_owned() };
    Ok(operator.show_transaction(request).await?.into_inner())
}

#[tokio::test]
async fn a_transaction_that_is_left_open_ends_at_its_timeout() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = scene.begin("slow", &[A, B], scene.teller.votum().begin().timeout(SHORT)).await?;
    work(&tx, "slow", &[leg(A, 1, -5), leg(B, 1, 5)]).await?;
    // A little later the server itself would end the session, whatever became of coordinator and agent.
    for setting in ["statement_timeout", "idle_in_transaction_session_timeout"] {
        let sql = format!("SELECT setting::int8 FROM pg_settings WHERE name = '{setting}'");
        let limit: i64 = tx.query_one(A, &sql, &[]).await?.get(0)?;
        assert!((1..=6_500).contains(&limit), "{setting} is {limit}");
    }
    let abort = found_aborted(scene.ended(tx.gtid()).await?)?;
    assert_eq!(abort.kind, AbortKind::Timeout, "{abort}");
    for bank in [A, B] {
        scene.open_sessions(bank, 0).await?;
    }
    let abort = aborted(scene.teller.commit(tx, "slow").await?)?;
    assert_eq!(abort.kind, AbortKind::Timeout, "{abort}");
    scene.close().await
}

#[tokio::test]
async fn a_statement_that_waits_for_a_lock_ends_at_the_timeout_and_leaves_no_session() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let holder = scene.direct(B).await?;
    holder.batch_execute("BEGIN; SELECT FROM accounts WHERE id = 1 FOR UPDATE").await?;
    let tx = scene.begin("waits", &[A, B], scene.teller.votum().begin().timeout(SHORT)).await?;
    work(&tx, "waits", &[leg(A, 1, -5)]).await?;
    let refused = work(&tx, "waits", &[leg(B, 1, 5)]).await;
    assert!(matches!(refused, Err(Error::BranchLost { .. } | Error::Sql(_))), "{refused:?}");
    let abort = aborted(scene.teller.commit(tx, "waits").await?)?;
    assert!(matches!(abort.kind, AbortKind::Timeout | AbortKind::BranchLost), "{abort}");
    // The holder still holds: nothing but the timeout ended the wait.
    for bank in [A, B] {
        scene.open_sessions(bank, 0).await?;
    }
    holder.batch_execute("COMMIT").await?;
    scene.close().await
}

#[tokio::test]
async fn a_prepare_that_does_not_come_to_its_end_is_cancelled_at_the_timeout() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    scene.set_up(B, PREPARE_WAITS).await?;
    let holder = scene.direct(B).await?;
    holder.batch_execute("SELECT pg_advisory_lock(1)").await?;
    let tx = scene.begin("stuck", &[A, B], scene.teller.votum().begin().timeout(SHORT)).await?;
    work(&tx, "stuck", &[leg(A, 1, -5), leg(B, 1, 5)]).await?;
    let abort = aborted(scene.teller.commit(tx, "stuck").await?)?;
    assert_eq!(abort.kind, AbortKind::Timeout, "{abort}");
    for bank in [A, B] {
        scene.open_sessions(bank, 0).await?;
    }
    drop(holder);
    scene.close().await
}

/// Makes the PREPARE of whatever writes into the journal wait for advisory lock 1.
const PREPARE_WAITS: &str = "
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON journal DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait()";

#[tokio::test]
async fn a_branch_takes_no_statement_once_commit_was_asked_for() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    scene.set_up(B, PREPARE_WAITS).await?;
    let holder = scene.direct(B).await?;
    holder.batch_execute("SELECT pg_advisory_lock(1)").await?;
    let mut tx = scene.plain("late", &[A, B]).await?;
    for bank in [A, B] {
        tx.run(bank, &note("late")).await?;
    }
    let (outcome, ()) = join(tx.commit(), async {
        scene.waiting_for_locks(B, 1).await.unwrap();
        let refused = tx.send(tx.request(B, 2, "UPDATE accounts SET balance = 0")).await.unwrap_err();
        assert_eq!(refused.codes().1, "VOTUM-2009", "{refused}");
        holder.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    })
    .await;
    tell(&scene.ledger, "late", &outcome);
    assert!(matches!(outcome?, Kind::Committed(_)));
    scene.close().await
}

#[tokio::test]
async fn a_frozen_agent_keeps_no_lock_beyond_the_timeout() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = scene.begin("frozen", &[A, B], scene.teller.votum().begin().timeout(SHORT)).await?;
    work(&tx, "frozen", &[leg(A, 1, -5), leg(B, 1, 5)]).await?;
    let agent = &scene.bank(B)?.agent;
    agent.freeze()?;
    // The server ends the session on its own.
    scene.open_sessions(B, 0).await?;
    agent.thaw()?;
    assert!(matches!(scene.ended(tx.gtid()).await?, Status::Aborted(_)));
    assert!(matches!(scene.teller.commit(tx, "frozen").await?, Outcome::Aborted(_)));
    scene.close().await
}

#[tokio::test]
async fn a_transaction_that_is_dropped_is_rolled_back_before_its_timeout() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = scene.begin("dropped", &[A, B], scene.teller.votum().begin()).await?;
    work(&tx, "dropped", &[leg(A, 1, -5), leg(B, 1, 5)]).await?;
    let gtid = tx.gtid().to_owned();
    drop(tx);
    let abort = found_aborted(scene.ended(&gtid).await?)?;
    assert_eq!(abort.kind, AbortKind::RolledBack, "{abort}");
    scene.close().await
}

#[tokio::test]
async fn a_client_that_vanishes_between_two_statements_leaves_nothing() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let timeout_ms = 1_500;
    let request = v1::BeginRequest { timeout_ms, ..v1::BeginRequest::default() };
    let mut tx = scene.plain_with("vanished", &[A, B], request).await?;
    tx.run(A, &note("vanished")).await?;
    tx.run(B, &note("vanished")).await?;
    let gtid = tx.begun.gtid.clone();
    // Each of its connections has ended by now, without a word of farewell.
    drop(tx);
    let abort = found_aborted(scene.ended(&gtid).await?)?;
    assert_eq!(abort.kind, AbortKind::Timeout, "{abort}");
    for bank in [A, B] {
        scene.open_sessions(bank, 0).await?;
    }
    scene.close().await
}

#[tokio::test]
async fn a_client_that_hangs_up_after_commit_does_not_stop_the_commit() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    scene.set_up(B, PREPARE_WAITS).await?;
    let holder = scene.direct(B).await?;
    holder.batch_execute("SELECT pg_advisory_lock(1)").await?;
    let mut tx = scene.plain("hung up", &[A, B]).await?;
    for bank in [A, B] {
        tx.run(bank, &note("hung up")).await?;
    }
    {
        let commit = std::pin::pin!(tx.commit());
        let prepared = std::pin::pin!(scene.waiting_for_locks(B, 1));
        match futures::future::select(commit, prepared).await {
            futures::future::Either::Left((early, _)) => panic!("decided too early: {early:?}"),
            futures::future::Either::Right((waiting, _)) => waiting?,
        }
        // Here the commit's request is dropped.
    }
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await?;
    assert!(matches!(scene.ended(&tx.begun.gtid).await?, Status::Committed(_)));
    scene.close().await
}

#[tokio::test]
async fn commit_asked_for_twice_and_on_new_connections_has_one_outcome() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let mut tx = scene.plain("twice", &[A, B]).await?;
    for bank in [A, B] {
        tx.run(bank, &note("twice")).await?;
    }
    // Plain connects anew for each request.
    let (one, two) = join(tx.commit(), tx.commit()).await;
    for answer in [one, two, tx.commit().await, tx.roll_back().await] {
        tell(&scene.ledger, "twice", &answer);
        assert!(matches!(answer?, Kind::Committed(_)));
    }
    scene.world.crash_and_restart_coordinator().await?;
    let answer = tx.commit().await;
    tell(&scene.ledger, "twice", &answer);
    assert!(matches!(answer?, Kind::Committed(_)));
    scene.close().await
}

#[tokio::test]
async fn a_commit_that_omits_a_branch_is_refused_and_the_whole_one_still_commits() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let mut tx = scene.plain("omitted", &[A, B]).await?;
    for bank in [A, B] {
        tx.run(bank, &note("omitted")).await?;
    }
    // The agent has reported the branch once the coordinator lists it.
    votum_tests::eventually::eventually("the coordinator knows both branches", async || {
        use votum_tests::eventually::Found;
        let known = shown(&scene, &tx.begun.gtid).await?.branches.len();
        Ok(if known == 2 { Found::Yes(()) } else { Found::NotYet(known.to_string()) })
    })
    .await?;
    let only_a = tx.claims().into_iter().filter(|claim| claim.participant == A).collect();
    let refused = tx.commit_with(only_a).await.unwrap_err();
    assert_eq!((refused.code(), code(&refused).as_str()), (tonic::Code::InvalidArgument, "VOTUM-1201"));
    assert!(refused.message().contains(B), "{}", refused.message());

    let answer = tx.commit().await;
    tell(&scene.ledger, "omitted", &answer);
    assert!(matches!(answer?, Kind::Committed(_)));
    scene.close().await
}

#[tokio::test]
async fn a_rollback_that_races_the_commit_gets_the_same_answer() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let races = (0..20).map(|n| {
        let scene = &scene;
        async move {
            let name = format!("race {n}");
            let mut tx = scene.plain(&name, &[A, B]).await?;
            for bank in [A, B] {
                tx.run(bank, &note(&name)).await?;
            }
            let (committed, rolled_back) = join(tx.commit(), tx.roll_back()).await;
            tell(&scene.ledger, &name, &committed);
            tell(&scene.ledger, &name, &rolled_back);
            // I5
            assert_eq!(told(Some(&committed?)), told(Some(&rolled_back?)), "{name}");
            anyhow::Ok(())
        }
    });
    for race in join_all(races).await {
        race?;
    }
    scene.close().await
}

#[tokio::test]
async fn a_transaction_that_is_handed_over_is_committed_by_another_client() -> anyhow::Result<()> {
    let scene = Scene::usual().await?;
    let tx = scene.begin("handed over", &[A, B], scene.teller.votum().begin()).await?;
    work(&tx, "handed over", &[leg(A, 1, -5)]).await?;
    let text = serde_json::to_string(&tx.export()?)?;
    let other = votum_client::Votum::connect(&scene.world.address().to_string()).await?;
    let tx = other.import(serde_json::from_str(&text)?)?;
    work(&tx, "handed over", &[leg(B, 1, 5)]).await?;
    assert!(scene.teller.commit(tx, "handed over").await?.is_committed());
    scene.close().await
}
