//! The client's own logic: what is repeated, what is not, and what is said.

mod fake;
mod one_shot;
mod spares;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fake::{Act, aborted, start, start_with};
use tokio::sync::Barrier;
use tonic::{Code, Status};
use votum_proto::runtime::Seams;
use votum_proto::v1;
use votum_proto::v1::outcome::Kind;

use crate::{AbortKind, Error, Outcome, Votum};

fn impatient() -> crate::Options {
    Votum::options().outcome_budget(Duration::from_millis(200)).retry_budget(Duration::from_millis(200))
}

fn is_committed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Committed(_))
}

#[tokio::test]
async fn a_statement_whose_reply_is_lost_is_repeated_under_its_own_ordinal() {
    let (votum, script) = start().await;
    let tx = votum.begin().await.unwrap();
    script.act([Act::LoseReply, Act::LoseReply, Act::Answer, Act::LoseReply]);
    assert_eq!(tx.execute("bank_a", "one", &[]).await.unwrap(), 1);
    let row = tx.query_one("bank_a", "two", &[]).await.unwrap();
    assert_eq!(row.get::<i64>("balance").unwrap(), 7);
    assert_eq!(script.ran(), ["bank_a 1 one", "bank_a 2 two"]);
    assert!(is_committed(&tx.commit().await.unwrap()));
    let claims = &script.commit_requests.lock().unwrap()[0].branches;
    assert_eq!(claims.len(), 1);
    assert_eq!((claims[0].participant.as_str(), claims[0].last_ordinal), ("bank_a", 2));
    assert_eq!(claims[0].session, Some(v1::SessionName { agent_instance: 0, counter: 1 }));
}

#[tokio::test]
async fn a_stream_that_is_cut_in_the_middle_of_calls_is_opened_again_and_each_statement_runs_once() {
    let (votum, script) = start().await;
    const MANY: usize = 20;
    let mut open = Vec::new();
    for _ in 0..MANY {
        let tx = votum.begin().await.unwrap();
        tx.execute("bank_a", "before", &[]).await.unwrap();
        open.push(tx);
    }
    script.act((0..MANY).map(|_| Act::Withhold));
    let statements = futures::future::join_all(open.iter().map(|tx| tx.execute("bank_a", "cut", &[])));
    let cut = async {
        script.has_run(2 * MANY).await;
        script.cut();
    };
    let (counts, ()) = futures::join!(statements, cut);
    for count in counts {
        assert_eq!(count.unwrap(), 1);
    }
    assert_eq!(
        script.ran().iter().filter(|line| line.ends_with("2 cut")).count(),
        MANY,
        "{:?}",
        script.ran()
    );
    assert_eq!(script.ran().len(), 2 * MANY, "a statement ran twice");
    for tx in open {
        assert!(is_committed(&tx.commit().await.unwrap()));
    }
    let commits = script.commit_requests.lock().unwrap().clone();
    assert!(commits.iter().all(|commit| commit.branches[0].last_ordinal == 2), "{commits:?}");
}

#[tokio::test]
async fn a_call_that_is_not_answered_keeps_no_other_from_its_answer() {
    let (votum, script) = start().await;
    let stuck = votum.begin().await.unwrap();
    script.act([Act::Hang]);
    let hangs = stuck.execute("bank_a", "hangs", &[]);
    let others = async {
        for _ in 0..3 {
            let tx = votum.begin().await.unwrap();
            tx.execute("bank_a", "one", &[]).await.unwrap();
            assert!(is_committed(&tx.commit().await.unwrap()));
        }
    };
    let (hangs, others) = (std::pin::pin!(hangs), std::pin::pin!(others));
    let first = futures::future::select(hangs, others).await;
    assert!(matches!(first, futures::future::Either::Right(_)), "what hangs was answered");
}

#[tokio::test]
async fn a_statement_that_is_too_long_is_refused_alone() {
    let (votum, script) = &start().await;
    let (tx, other) = (votum.begin().await.unwrap(), votum.begin().await.unwrap());
    script.act([Act::Withhold]);
    let waits = other.execute("bank_a", "waits", &[]);
    let long = async move {
        script.has_run(1).await;
        let refused = tx.execute("bank_a", &"x".repeat(17 << 20), &[]).await.unwrap_err();
        assert!(matches!(&refused, Error::Refused(why) if why.grpc == Code::OutOfRange), "{refused}");
        tx.execute("bank_a", "one", &[]).await.unwrap();
        assert!(is_committed(&tx.commit().await.unwrap()));
    };
    let (waits, long) = (std::pin::pin!(waits), std::pin::pin!(long));
    let first = futures::future::select(waits, long).await;
    assert!(matches!(first, futures::future::Either::Right(_)), "the stream broke");
}

#[tokio::test]
async fn a_databases_error_is_a_reply_after_which_the_branch_goes_on_from_its_savepoint() {
    let (votum, script) = start().await;
    let tx = votum.begin().await.unwrap();
    tx.savepoint("bank_a", "odd \"name\"").await.unwrap();
    script.act([Act::Sql("23505")]);
    let error = tx.execute("bank_a", "insert", &[]).await.unwrap_err();
    assert!(matches!(error, Error::Sql(error) if error.sqlstate == "23505" && !error.retryable));
    tx.rollback_to("bank_a", "odd \"name\"").await.unwrap();
    assert_eq!(script.ran()[1..], ["bank_a 2 insert", "bank_a 3 ROLLBACK TO SAVEPOINT \"odd \"\"name\"\"\""]);
    assert!(is_committed(&tx.commit().await.unwrap()));
    assert_eq!(script.commit_requests.lock().unwrap()[0].branches[0].last_ordinal, 3);
}

#[tokio::test]
async fn a_statement_refused_before_its_reply_began_leaves_its_ordinal_to_the_next() {
    let (votum, script) = start().await;
    let tx = votum.begin().await.unwrap();
    script.act([Act::Refuse(Code::ResourceExhausted), Act::Answer, Act::Refuse(Code::InvalidArgument)]);
    assert!(matches!(tx.execute("bank_a", "no session", &[]).await, Err(Error::Refused(_))));
    tx.execute("bank_a", "one", &[]).await.unwrap();
    assert!(matches!(tx.execute("bank_a", "commit", &[]).await, Err(Error::Refused(_))));
    tx.execute("bank_a", "two", &[]).await.unwrap();
    assert_eq!(script.ran(), ["bank_a 1 one", "bank_a 2 two"]);
}

#[tokio::test]
async fn a_statement_refused_in_its_reply_has_used_up_its_ordinal() {
    let (votum, script) = start().await;
    let tx = votum.begin().await.unwrap();
    script.act([Act::RefuseInReply(Code::InvalidArgument)]);
    assert!(matches!(tx.execute("bank_a", "commit", &[]).await, Err(Error::Refused(_))));
    tx.execute("bank_a", "two", &[]).await.unwrap();
    assert_eq!(script.ran(), ["bank_a 1 commit", "bank_a 2 two"]);
}

#[tokio::test]
async fn work_whose_branch_was_lost_is_run_again_where_that_may_help() {
    let (votum, script) = start().await;
    script.act([Act::Answer, Act::End]);
    let ran = votum
        .run(|tx| async move {
            tx.execute("bank_a", "one", &[]).await?;
            tx.execute("bank_a", "two", &[]).await
        })
        .await
        .unwrap();
    assert!(is_committed(&ran.outcome));
    assert_eq!(ran.attempts, 2);
    assert_eq!(script.ran(), ["bank_a 1 one", "bank_a 1 one", "bank_a 2 two"]);
}

#[tokio::test]
async fn a_branch_whose_agent_was_restarted_is_lost_and_the_transaction_cannot_commit() {
    let (votum, script) = start().await;
    let tx = votum.begin().await.unwrap();
    tx.execute("bank_a", "one", &[]).await.unwrap();
    script.act([Act::Restart]);
    assert!(matches!(tx.execute("bank_a", "two", &[]).await, Err(Error::BranchLost { .. })));
    assert!(matches!(tx.execute("bank_a", "three", &[]).await, Err(Error::BranchLost { .. })));
    let gtid = tx.gtid().to_owned();
    let Outcome::Aborted(abort) = tx.commit().await.unwrap() else { panic!("not aborted") };
    assert_eq!((abort.kind, abort.participant.as_deref()), (AbortKind::BranchLost, Some("bank_a")));
    assert!(script.commit_requests.lock().unwrap().is_empty());
    script.rolled_back(&gtid).await;
}

#[tokio::test]
async fn a_statement_that_was_given_up_keeps_the_transaction_from_committing() {
    let (votum, script) = start().await;
    let tx = votum.begin().await.unwrap();
    script.act([Act::Hang]);
    let clock = Seams::production().clock;
    assert!(clock.timeout(Duration::from_millis(50), tx.execute("bank_a", "one", &[])).await.is_err());
    assert!(matches!(tx.execute("bank_a", "two", &[]).await, Err(Error::BranchLost { .. })));
    assert!(matches!(tx.commit().await.unwrap(), Outcome::Aborted(_)));
    assert!(script.commit_requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn statements_at_different_participants_run_at_the_same_time() {
    let (votum, script) = start().await;
    let tx = votum.begin().await.unwrap();
    let both = Arc::new(Barrier::new(2));
    script.act([Act::Meet(both.clone()), Act::Meet(both)]);
    let (a, b) = futures::join!(tx.execute("bank_a", "one", &[]), tx.execute("bank_b", "one", &[]));
    assert_eq!((a.unwrap(), b.unwrap()), (1, 1));
    assert!(matches!(
        tx.execute("bank_c", "one", &[]).await,
        Err(Error::NoSuchParticipant { known, .. }) if known == "bank_a, bank_b"
    ));
}

#[tokio::test]
async fn a_commit_is_repeated_until_its_outcome_is_known() {
    let (votum, script) = start().await;
    let tx = votum.begin().await.unwrap();
    tx.execute("bank_a", "one", &[]).await.unwrap();
    script.answer_commits([
        Err(Status::unavailable("gone")),
        Ok(Kind::Unknown(v1::Unknown { detail: "the log is doubtful".into() })),
        Err(Status::internal("gone")),
    ]);
    assert!(is_committed(&tx.commit().await.unwrap()));
    let requests = script.commit_requests.lock().unwrap();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| *request == requests[0]));
    assert!(script.rolled_back.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_outcome_that_does_not_come_in_time_is_unknown_and_not_rolled_back() {
    let (votum, script) = start_with(impatient()).await;
    let tx = votum.begin().await.unwrap();
    let gtid = tx.gtid().to_owned();
    script.answer_commits((0..1000).map(|_| Err(Status::unavailable("gone"))));
    let outcome = tx.commit().await.unwrap();
    assert!(matches!(outcome, Outcome::Unknown { gtid: found, .. } if found == gtid));
    assert!(script.rolled_back.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_refusal_is_final_only_when_no_earlier_commit_may_have_been_heard() {
    let (votum, script) = start().await;
    let tx = votum.begin().await.unwrap();
    let gtid = tx.gtid().to_owned();
    script.answer_commits([Err(Status::invalid_argument("a branch is missing"))]);
    assert!(matches!(tx.commit().await, Err(Error::Refused(_))));
    script.rolled_back(&gtid).await;

    let tx = votum.begin().await.unwrap();
    script.answer_commits([Err(Status::unavailable("gone")), Err(Status::not_found("never begun"))]);
    assert!(matches!(tx.commit().await.unwrap(), Outcome::Unknown { .. }));
}

#[tokio::test]
async fn begin_is_repeated_while_the_coordinator_is_away() {
    let (votum, script) = start().await;
    let away = || Status::unavailable("connection refused");
    script.begins.lock().unwrap().extend([away(), away()]);
    votum.begin().await.unwrap();
    script.begins.lock().unwrap().push_back(Status::permission_denied("no"));
    assert!(matches!(votum.begin().await, Err(Error::Refused(_))));
}

#[tokio::test]
async fn who_begins_while_there_is_too_much_to_do_comes_back_when_told_unless_patience_ends_before() {
    let (votum, script) = start().await;
    let come_back = |retry_after_ms| {
        let detail = v1::ErrorDetail { retryable: true, retry_after_ms, ..Default::default() };
        votum_proto::error::status(Code::ResourceExhausted, "it would wait too long", &detail)
    };
    script.begins.lock().unwrap().extend([come_back(1), come_back(1)]);
    votum.begin().at("bank").await.unwrap();
    assert_eq!(script.begin_calls.load(Ordering::Relaxed), 3);
    for (calls, retry_after_ms) in [(4, 3_600_000), (5, 0)] {
        script.begins.lock().unwrap().push_back(come_back(retry_after_ms));
        let Err(Error::Refused(refusal)) = votum.begin().await else { panic!("{retry_after_ms}") };
        let told = Some(retry_after_ms).filter(|ms| *ms > 0).map(Duration::from_millis);
        assert_eq!((refusal.retry_after, script.begin_calls.load(Ordering::Relaxed)), (told, calls));
    }
}

#[tokio::test]
async fn nobody_there_is_said_after_the_retry_budget() {
    let error = impatient().connect("unix:/no/such/votum.sock").await.err().unwrap();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(matches!(Votum::connect("nowhere").await, Err(Error::Address(_))));
}

#[tokio::test]
async fn a_transaction_that_is_dropped_is_rolled_back() {
    let (votum, script) = start().await;
    let tx = votum.begin().await.unwrap();
    let gtid = tx.gtid().to_owned();
    // Also where no runtime is: the drop itself must not need one.
    std::thread::spawn(move || drop(tx)).join().unwrap();
    script.rolled_back(&gtid).await;
}

#[tokio::test]
async fn an_exported_transaction_goes_on_where_it_stood() {
    let (votum, script) = start().await;
    let tx = votum.begin().await.unwrap();
    tx.execute("bank_a", "one", &[]).await.unwrap();
    let text = serde_json::to_string(&tx.export().unwrap()).unwrap();
    let tx = votum.import(serde_json::from_str(&text).unwrap()).unwrap();
    tx.execute("bank_a", "two", &[]).await.unwrap();
    assert!(is_committed(&tx.commit().await.unwrap()));
    assert_eq!(script.ran(), ["bank_a 1 one", "bank_a 2 two"]);
    assert!(script.rolled_back.lock().unwrap().is_empty());
}

#[tokio::test]
async fn serialization_failures_and_deadlocks_are_run_again_in_a_new_transaction() {
    let (votum, script) = start().await;
    script.act([Act::Sql("40001"), Act::Sql("40P01")]);
    script.answer_commits([Ok(aborted(true))]);
    let ran = votum
        .run(|tx| async move {
            tx.execute("bank_a", "one", &[]).await?;
            anyhow::Ok(tx.gtid().to_owned())
        })
        .await
        .unwrap();
    assert!(is_committed(&ran.outcome));
    assert_eq!((ran.attempts, ran.value.as_str()), (4, "fake-1-000000-4"));
    let rolled_back = script.rolled_back.lock().unwrap().clone();
    assert_eq!(rolled_back, ["fake-1-000000-1", "fake-1-000000-2"]);
}

#[tokio::test]
async fn running_again_is_bounded_and_kept_for_what_may_succeed() {
    let (votum, script) = start().await;
    script.answer_commits([Ok(aborted(true)), Ok(aborted(true)), Ok(aborted(false))]);
    let work = async |tx: Arc<crate::Transaction>| tx.execute("bank_a", "one", &[]).await;
    let ran = votum.begin().attempts(2).run(work).await.unwrap();
    assert!(matches!(ran.outcome, Outcome::Aborted(_)));
    assert_eq!(ran.attempts, 2);
    assert_eq!(votum.run(work).await.unwrap().attempts, 1);

    script.act([Act::Sql("23505")]);
    assert!(matches!(votum.run(work).await, Err(Error::Sql(_))));
    script.answer_commits([Ok(Kind::Unknown(v1::Unknown::default()))]);
    assert_eq!(votum.run(work).await.unwrap().attempts, 1);
}

#[tokio::test]
async fn work_that_is_run_can_be_spawned() {
    let (votum, _script) = start().await;
    let (done, told) = tokio::sync::oneshot::channel();
    Seams::production().spawn(async move {
        let amount = &String::from("12.50");
        let work = |tx: Arc<crate::Transaction>| async move {
            tx.execute("bank_a", "one", &[amount.into()]).await?;
            Ok::<_, Error>(())
        };
        let ran = votum.run(work).await.unwrap();
        done.send(ran.outcome).unwrap();
    });
    assert!(is_committed(&told.await.unwrap()));
}

#[tokio::test]
async fn an_attached_branch_has_a_name_and_is_no_place_for_statements() {
    let (votum, script) = start().await;
    let tx = votum.begin().attach("bank_a").await.unwrap();
    let attached = tx.attached("bank_a").unwrap();
    assert_eq!(attached.gid(), "votum_fake_1_000000_1_0_0");
    assert_eq!(
        attached.statement(),
        "SAVEPOINT votum_prepare; PREPARE TRANSACTION 'votum_fake_1_000000_1_0_0'"
    );
    assert!(matches!(tx.attached("bank_b"), Err(Error::Attachment { .. })));
    assert!(matches!(tx.execute("bank_a", "one", &[]).await, Err(Error::Attachment { .. })));
    let text = serde_json::to_string(&tx.export().unwrap()).unwrap();
    let tx = votum.import(serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(tx.attached("bank_a").unwrap().gid(), "votum_fake_1_000000_1_0_0");
    assert!(is_committed(&tx.commit().await.unwrap()));
    assert_eq!(script.commit_requests.lock().unwrap()[0].branches, []);
}
