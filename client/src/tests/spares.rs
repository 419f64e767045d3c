//! Transactions that are begun with the outcome of the one before.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tonic::Status;
use votum_proto::runtime::{BoxFuture, Clock, Monotonic, Seams};

use super::fake::{Script, committed, start_with};
use crate::{Begin, Votum};

/// Time stands until a test moves it on.
struct ByHand(watch::Sender<Monotonic>);

impl ByHand {
    fn pass(&self, time: Duration) {
        self.0.send_modify(|now| *now = now.after(time));
    }
}

impl Clock for ByHand {
    fn now(&self) -> Monotonic {
        *self.0.borrow()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn sleep_until(&self, at: Monotonic) -> BoxFuture<()> {
        let mut now = self.0.subscribe();
        Box::pin(async move {
            let _ = now.wait_for(|now| *now >= at).await;
        })
    }
}

async fn started() -> (Votum, Arc<Script>, Arc<ByHand>) {
    let clock = Arc::new(ByHand(watch::Sender::new(Monotonic::default())));
    let seams = Seams { clock: clock.clone(), ..Seams::production() };
    let (votum, script) = start_with(Votum::options().seams(seams)).await;
    (votum, script, clock)
}

/// Begins and commits, so often; answers by what names.
async fn transactions(begin: Begin, count: usize) -> Vec<String> {
    let mut gtids = Vec::new();
    for _ in 0..count {
        let tx = begin.clone().await.unwrap();
        gtids.push(tx.gtid().to_owned());
        tx.commit().await.unwrap();
    }
    gtids
}

/// Waits for `work` while the clock runs.
async fn while_time_passes<T>(clock: &ByHand, work: impl Future<Output = T>) -> T {
    let runs = async {
        loop {
            clock.pass(Duration::from_millis(10));
            tokio::task::yield_now().await;
        }
    };
    match futures::future::select(std::pin::pin!(work), std::pin::pin!(runs)).await {
        futures::future::Either::Left((done, _)) => done,
        futures::future::Either::Right((never, _)) => never,
    }
}

fn begin_calls(script: &Script) -> u64 {
    script.begin_calls.load(Ordering::Relaxed)
}

fn asked_for(script: &Script) -> Vec<bool> {
    script.commit_requests.lock().unwrap().iter().map(|commit| commit.next.is_some()).collect()
}

#[tokio::test]
async fn a_transaction_that_closely_follows_another_was_begun_with_its_outcome() {
    let (votum, script, _clock) = started().await;
    let gtids = transactions(votum.begin(), 6).await;
    assert_eq!(begin_calls(&script), 2, "the first, and the one that showed that more may follow");
    let each = (1..=6).map(|number| format!("fake-1-000000-{number}"));
    assert_eq!(gtids, each.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_that_takes_its_time_begins_nothing_ahead() {
    let (votum, script, clock) = started().await;
    for _ in 0..4 {
        transactions(votum.begin(), 1).await;
        clock.pass(Duration::from_millis(51));
    }
    assert_eq!(begin_calls(&script), 4);
    assert_eq!(asked_for(&script), [false; 4]);
}

#[tokio::test]
async fn a_spare_that_nobody_takes_is_rolled_back_and_none_is_asked_for_after_it() {
    let (votum, script, clock) = started().await;
    transactions(votum.begin(), 2).await;
    while_time_passes(&clock, script.rolled_back("fake-1-000000-3")).await;
    assert_eq!(transactions(votum.begin(), 1).await, ["fake-1-000000-4"]);
    assert_eq!(asked_for(&script), [false, true, false]);
}

#[tokio::test]
async fn a_spare_is_taken_only_by_what_would_begin_the_same() {
    let (votum, script, _clock) = started().await;
    transactions(votum.begin(), 2).await;
    let others =
        [votum.begin().label("other"), votum.begin().read_only(), votum.begin().idempotency_key("4711")];
    for other in others {
        let gtid = other.await.unwrap().gtid().to_owned();
        assert_ne!(gtid, "fake-1-000000-3");
    }
    assert_eq!(begin_calls(&script), 5);
    assert_eq!(votum.begin().await.unwrap().gtid(), "fake-1-000000-3");
}

#[tokio::test]
async fn nothing_is_begun_ahead_under_an_idempotency_key() {
    let (votum, script, _clock) = started().await;
    transactions(votum.begin().idempotency_key("4711"), 4).await;
    assert_eq!((begin_calls(&script), asked_for(&script)), (4, vec![false; 4]));
}

#[tokio::test]
async fn a_spare_is_not_taken_when_much_of_its_timeout_has_passed() {
    let (votum, script, clock) = started().await;
    script.timeout_ms.store(100, Ordering::Relaxed);
    transactions(votum.begin(), 2).await;
    clock.pass(Duration::from_millis(6));
    assert_eq!(votum.begin().await.unwrap().gtid(), "fake-1-000000-4");
}

#[tokio::test]
async fn the_time_of_a_spare_runs_from_its_beginning() {
    let (votum, _script, clock) = started().await;
    transactions(votum.begin(), 2).await;
    clock.pass(Duration::from_millis(40));
    let tx = votum.begin().await.unwrap();
    assert_eq!((tx.gtid(), tx.time_left()), ("fake-1-000000-3", Duration::from_millis(29_960)));
}

#[tokio::test]
async fn a_commit_that_is_repeated_begins_nothing_more() {
    let (votum, script, clock) = started().await;
    transactions(votum.begin(), 1).await;
    let tx = votum.begin().await.unwrap();
    script.answer_commits([Err(Status::unavailable("broken")), Ok(committed())]);
    // There is a pause before a request is repeated.
    while_time_passes(&clock, tx.commit()).await.unwrap();
    assert_eq!(asked_for(&script), [false, true, false]);
}

#[tokio::test]
async fn no_more_is_begun_ahead_than_is_kept() {
    let (votum, script, _clock) = started().await;
    transactions(votum.begin(), 2).await;
    let mut open = Vec::new();
    for _ in 0..80 {
        open.push(votum.begin().label("other").await.unwrap());
    }
    for tx in open {
        tx.commit().await.unwrap();
    }
    assert_eq!(asked_for(&script).iter().filter(|asked| **asked).count(), 64);
}
