//! One measurement: workers that carry out transactions, as fast as they can or as they arrive.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures::future::join_all;
use indicatif::ProgressBar;
use tokio::sync::oneshot;
use votum_proto::runtime::{Monotonic, Seams};

use crate::arguments::Arguments;
use crate::arrivals::Arrivals;
use crate::carrier::{Carrier, Setting, Way};
use crate::contender::Contender;
use crate::cpu::{self, Group, Used};
use crate::ended::Ended;
use crate::installation::Installation;
use crate::point::Point;
use crate::schedule::Schedule;
use crate::tally::{Tally, Times, Window};
use crate::work::Mix;

/// In a closed loop, after a transaction that was not committed: a bank that is away is not asked as fast as
/// the processor can.
const PAUSE: Duration = Duration::from_millis(10);

/// Between the last arrival of an open loop and its end: who is free takes what has just arrived.
const LAST_CALL: Duration = Duration::from_millis(3);

/// How many tallies workers share at most: histograms are large, and workers may be thousands.
const SHARED: usize = 32;

/// What one measurement found.
pub(crate) struct Measured {
    pub(crate) window: Duration,
    pub(crate) tally: Tally,
    /// What should have begun in the window of an open loop, and could not until its end.
    pub(crate) never_begun: u64,
    /// Processor time that was used inside the window.
    pub(crate) used: Used,
}

/// What the workers of all measurements were told of their transfers, warm-up included.
pub(crate) struct Promised {
    pub(crate) committed: i64,
    pub(crate) unknown: i64,
}

/// Runs measurements on one installation.
pub(crate) struct Load {
    seams: Seams,
    ways: BTreeMap<Contender, Box<dyn Way>>,
    mix: Mix,
    processes: Vec<(Group, u32)>,
    warmup: Duration,
    window: Duration,
    committed: AtomicI64,
    unknown: AtomicI64,
}

impl Load {
    /// Opens every contender's way.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub(crate) async fn new(
        seams: &Seams,
        installation: &Installation,
        arguments: &Arguments,
    ) -> anyhow::Result<Self> {
        let setting = Setting {
            seams: seams.clone(),
            coordinator: installation.coordinator().to_owned(),
            banks: installation.banks().to_vec(),
            patience: arguments.patience_ms.map(Duration::from_millis),
        };
        let mut ways = BTreeMap::new();
        for contender in arguments.contenders() {
            ways.insert(contender, contender.open(&setting).await?);
        }
        Ok(Self {
            seams: seams.clone(),
            ways,
            mix: arguments.mix()?,
            processes: installation.processes(),
            warmup: arguments.warmup(),
            window: arguments.window(),
            committed: AtomicI64::new(0),
            unknown: AtomicI64::new(0),
        })
    }

    /// What the workers were told so far.
    pub(crate) fn promised(&self) -> Promised {
        let [committed, unknown] =
            [&self.committed, &self.unknown].map(|count| count.load(Ordering::Relaxed));
        Promised { committed, unknown }
    }

    /// Measures one contender once.
    ///
    /// # Errors
    /// When a worker cannot connect.
    pub(crate) async fn run(
        &self,
        contender: Contender,
        point: Point,
        bar: &ProgressBar,
    ) -> anyhow::Result<Measured> {
        let way = self.ways.get(&contender).context("this contender was not asked for")?;
        let mut carriers = Vec::new();
        for worker in 0..point.workers() {
            carriers.push(way.carrier(worker).await?);
        }
        let begin = self.seams.clock.now();
        let from = begin.after(self.warmup);
        let window = Window { from, until: from.after(self.window), open: point.is_open() };
        let pace = match point {
            Point::Closed { .. } => Pace::Closed,
            Point::Open { rate, .. } => {
                let schedule = Schedule::new(begin, window.until, rate);
                Pace::Open(Arrivals::begin(schedule, &self.seams.clock)?)
            }
        };
        let shared = (0..carriers.len().min(SHARED)).map(|_| Ok(Arc::new(Mutex::new(Tally::new()?))));
        let shared = shared.collect::<anyhow::Result<Vec<_>>>()?;
        let mut ended = Vec::new();
        for ((worker, carrier), tally) in (0..).zip(carriers).zip(shared.iter().cycle()) {
            let (result, received) = oneshot::channel();
            let tally = Arc::clone(tally);
            let worker =
                Worker { seams: self.seams.clone(), mix: self.mix, pace: pace.clone(), window, worker };
            self.seams.spawn(async move {
                worker.work(carrier, &tally).await;
                drop(tally);
                // The receiver is gone only when the measurement was given up.
                let _ = result.send(());
            });
            ended.push(received);
        }
        let used = self.watch(window, bar).await;
        let never_begun = pace.end(&self.seams, window.from).await;
        let mut sum = Tally::new()?;
        for worker in join_all(ended).await {
            worker.context("a worker ended without a result")?;
        }
        for tally in shared {
            let tally = Arc::into_inner(tally).context("a worker still counts")?;
            sum.add(tally.into_inner().unwrap_or_else(PoisonError::into_inner))?;
        }
        self.committed.fetch_add(sum.all_committed, Ordering::Relaxed);
        self.unknown.fetch_add(sum.all_unknown, Ordering::Relaxed);
        Ok(Measured { window: self.window, tally: sum, never_begun, used })
    }

    /// Moves the bar on until the window closes, and counts the processor time used in it.
    async fn watch(&self, window: Window, bar: &ProgressBar) -> Used {
        let clock = &*self.seams.clock;
        let mut next = clock.now();
        let mut at_first = Used::new();
        let mut opened = false;
        while next < window.until {
            let second = next.after(Duration::from_secs(1)).min(window.until);
            if !opened && window.from <= second {
                clock.sleep_until(window.from).await;
                at_first = cpu::used(&self.processes);
                opened = true;
            }
            clock.sleep_until(second).await;
            bar.inc(1);
            next = second;
        }
        cpu::between(&at_first, &cpu::used(&self.processes))
    }
}

/// When a worker begins its next transaction.
#[derive(Clone)]
enum Pace {
    /// At once.
    Closed,
    /// When one arrives.
    Open(Arc<Arrivals>),
}

impl Pace {
    /// Waits; when the next transaction should have begun. `None` when the measurement is over.
    async fn next(&self, seams: &Seams, window: &Window) -> Option<Monotonic> {
        match self {
            Self::Closed => Some(seams.clock.now()).filter(|now| *now < window.until),
            Self::Open(arrivals) => arrivals.next().await,
        }
    }

    /// No worker begins any more; how many transactions since `from` never began.
    async fn end(&self, seams: &Seams, from: Monotonic) -> u64 {
        match self {
            Self::Closed => 0,
            Self::Open(arrivals) => {
                seams.clock.sleep(LAST_CALL).await;
                arrivals.end(from)
            }
        }
    }

    /// After a transaction that was not committed.
    async fn pause(&self, seams: &Seams) {
        match self {
            Self::Closed => seams.clock.sleep(PAUSE).await,
            // Transactions come no faster than they arrive.
            Self::Open(_) => {}
        }
    }
}

struct Worker {
    seams: Seams,
    mix: Mix,
    pace: Pace,
    window: Window,
    worker: u32,
}

impl Worker {
    async fn work(self, mut carrier: Box<dyn Carrier>, tally: &Mutex<Tally>) {
        while let Some(meant) = self.pace.next(&self.seams, &self.window).await {
            let begun = self.seams.clock.now();
            let work = self.mix.next(self.worker, &*self.seams.entropy);
            let ended = carrier.carry_out(&work).await;
            let times = Times { meant, begun, ended: self.seams.clock.now() };
            let committed = matches!(ended, Ended::Committed);
            {
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                tally.note(&work, ended, &times, &self.window);
            }
            if !committed {
                self.pace.pause(&self.seams).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use async_trait::async_trait;

    use super::*;
    use crate::work::Work;

    /// Quick, but for its first transaction of all.
    struct Stalls {
        seams: Seams,
        stalled: Arc<AtomicBool>,
    }

    const STALL: Duration = Duration::from_millis(300);

    #[async_trait]
    impl Way for Stalls {
        async fn carrier(&self, _worker: u32) -> anyhow::Result<Box<dyn Carrier>> {
            Ok(Box::new(Self { seams: self.seams.clone(), stalled: self.stalled.clone() }))
        }
    }

    #[async_trait]
    impl Carrier for Stalls {
        async fn carry_out(&mut self, _work: &Work) -> Ended {
            let stalled = self.stalled.swap(true, Ordering::Relaxed);
            self.seams.clock.sleep(if stalled { Duration::from_millis(1) } else { STALL }).await;
            Ended::Committed
        }
    }

    async fn measure(point: Point, window: Duration) -> Measured {
        let seams = Seams::production();
        let stalls = Stalls { seams: seams.clone(), stalled: Arc::default() };
        let load = Load {
            seams,
            ways: [(Contender::Direct, Box::new(stalls) as Box<dyn Way>)].into(),
            mix: Mix { banks: 2, workers: 1, own: 1_000, read_percent: 0, hot_rows: None },
            processes: Vec::new(),
            warmup: Duration::ZERO,
            window,
            committed: AtomicI64::new(0),
            unknown: AtomicI64::new(0),
        };
        let measured = load.run(Contender::Direct, point, &ProgressBar::hidden()).await.unwrap();
        assert!(load.promised().committed >= i64::try_from(measured.tally.done).unwrap());
        measured
    }

    #[tokio::test]
    async fn an_open_loop_feels_a_stall_in_all_that_arrived_meanwhile_and_a_closed_one_only_once() {
        let window = 2 * STALL;
        let open = measure(Point::Open { rate: 100, in_flight: 1 }, window).await;
        assert_eq!(open.tally.transfers.len() + open.never_begun, 60);
        assert!(open.tally.transfers.at(0.75) > 100.0, "{}", open.tally.transfers.at(0.75));
        let closed = measure(Point::Closed { workers: 1 }, window).await;
        assert!(closed.tally.transfers.at(0.75) < 100.0, "{}", closed.tally.transfers.at(0.75));
        assert!(closed.tally.transfers.at(1.0) > 290.0);
    }

    #[tokio::test]
    async fn what_could_not_begin_before_the_end_is_counted() {
        let open = measure(Point::Open { rate: 100, in_flight: 1 }, STALL / 2).await;
        assert_eq!((open.tally.transfers.len(), open.tally.unfinished, open.never_begun), (1, 1, 14));
        assert_eq!(open.tally.done, 0, "it ended after the window");
    }
}
