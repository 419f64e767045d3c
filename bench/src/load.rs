//! The closed loop: each worker begins its next transfer when the last one has ended.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures::future::join_all;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tokio::sync::oneshot;
use votum_client::Votum;
use votum_proto::runtime::{Monotonic, Seams};

use crate::arguments::{Arguments, Wait};
use crate::cpu::{self, Group, Used};
use crate::direct::Direct;
use crate::installation::{BankAddress, Installation};
use crate::transfer::{Ended, legs};
use crate::votum::Hosted;

/// After a transfer that was not committed: a bank that is away is not asked as fast as the processor can.
const PAUSE: Duration = Duration::from_millis(10);

/// Latencies are counted in microseconds, up to a minute, with three digits.
const LONGEST: u64 = 60_000_000;
const DIGITS: u8 = 3;

/// Who carries out the transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    /// A client without a coordinator: the floor.
    Direct,
    /// Votum.
    Votum(Wait),
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Votum(Wait::Decided) => "Votum, decided",
            Self::Votum(Wait::Completed) => "Votum, completed",
        })
    }
}

/// What one measurement found. Only transfers that ended inside the window count.
pub(crate) struct Measured {
    pub(crate) window: Duration,
    /// The latencies of committed transfers, in microseconds.
    pub(crate) latencies: Histogram<u64>,
    /// Transfers that were not committed, or whose outcome is unknown.
    pub(crate) errors: u64,
    /// What was said of the first of them.
    pub(crate) complaint: Option<String>,
    /// Processor time that was used inside the window.
    pub(crate) used: Used,
}

/// What the workers of all measurements were told, warm-up included.
pub(crate) struct Promised {
    pub(crate) committed: i64,
    pub(crate) unknown: i64,
}

/// Runs measurements on one installation.
pub(crate) struct Load {
    seams: Seams,
    banks: Vec<BankAddress>,
    votum: BTreeMap<Wait, Votum>,
    processes: Vec<(Group, u32)>,
    warmup: Duration,
    window: Duration,
    committed: AtomicI64,
    unknown: AtomicI64,
}

impl Load {
    /// Connects to the coordinator.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn new(
        seams: &Seams,
        installation: &Installation,
        arguments: &Arguments,
    ) -> anyhow::Result<Self> {
        let mut votum = BTreeMap::new();
        for &wait in &arguments.wait {
            let waits_for = match wait {
                Wait::Decided => votum_client::Wait::Decided,
                Wait::Completed => votum_client::Wait::Completed,
            };
            let options = Votum::options().client_name("votum-bench").wait(waits_for);
            votum.insert(wait, options.connect(installation.coordinator()).await?);
        }
        Ok(Self {
            seams: seams.clone(),
            banks: installation.banks().to_vec(),
            votum,
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
        workers: u32,
        bar: &ProgressBar,
    ) -> anyhow::Result<Measured> {
        let mut clients = Vec::new();
        for worker in 0..workers {
            clients.push(self.client(contender, worker).await?);
        }
        let from = self.seams.clock.now().after(self.warmup);
        let window = Window { from, until: from.after(self.window) };
        let mut results = Vec::new();
        for (worker, client) in (0..workers).zip(clients) {
            let (result, received) = oneshot::channel();
            let (seams, banks) = (self.seams.clone(), self.banks.len());
            self.seams.spawn(async move {
                // The receiver is gone only when the measurement was given up.
                let _ = result.send(work(&seams, client, worker, banks, window).await);
            });
            results.push(received);
        }
        let used = self.watch(window, bar).await;
        let mut sum = Tally::new()?;
        for tally in join_all(results).await {
            sum.add(&tally.context("a worker ended without a result")??)?;
        }
        self.committed.fetch_add(sum.all_committed, Ordering::Relaxed);
        self.unknown.fetch_add(sum.all_unknown, Ordering::Relaxed);
        let Tally { latencies, errors, complaint, .. } = sum;
        Ok(Measured { window: self.window, latencies, errors, complaint, used })
    }

    async fn client(&self, contender: Contender, worker: u32) -> anyhow::Result<Client> {
        Ok(match contender {
            Contender::Direct => Client::Direct(Direct::open(&self.seams, &self.banks, worker).await?),
            Contender::Votum(wait) => {
                let votum = self.votum.get(&wait).context("this wait was not asked for")?;
                Client::Votum(Hosted::new(votum.clone(), &self.banks))
            }
        })
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

/// When transfers count.
#[derive(Clone, Copy)]
struct Window {
    from: Monotonic,
    until: Monotonic,
}

/// A worker's connection to what it measures.
enum Client {
    Direct(Direct),
    Votum(Hosted),
}

impl Client {
    async fn transfer(&mut self, legs: &[crate::transfer::Leg]) -> Ended {
        match self {
            Self::Direct(direct) => direct.transfer(legs).await,
            Self::Votum(hosted) => hosted.transfer(legs).await,
        }
    }
}

async fn work(
    seams: &Seams,
    mut client: Client,
    worker: u32,
    banks: usize,
    window: Window,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::new()?;
    loop {
        let begun = seams.clock.now();
        if begun >= window.until {
            return Ok(tally);
        }
        let ended = client.transfer(&legs(worker, banks, &*seams.entropy)).await;
        let now = seams.clock.now();
        let counts = (window.from..=window.until).contains(&now);
        let committed = matches!(ended, Ended::Committed);
        tally.note(ended, now.since(begun), counts);
        if !committed {
            seams.clock.sleep(PAUSE).await;
        }
    }
}

/// What one worker saw.
struct Tally {
    latencies: Histogram<u64>,
    errors: u64,
    complaint: Option<String>,
    all_committed: i64,
    all_unknown: i64,
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        let latencies = Histogram::new_with_bounds(1, LONGEST, DIGITS)?;
        Ok(Self { latencies, errors: 0, complaint: None, all_committed: 0, all_unknown: 0 })
    }

    fn note(&mut self, ended: Ended, latency: Duration, counts: bool) {
        let complaint = match ended {
            Ended::Committed => {
                self.all_committed += 1;
                if counts {
                    self.latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LONGEST));
                }
                return;
            }
            Ended::NotCommitted(complaint) => complaint,
            Ended::Unknown(complaint) => {
                self.all_unknown += 1;
                complaint
            }
        };
        self.errors += u64::from(counts);
        self.complaint.get_or_insert(complaint);
    }

    fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.latencies.add(&other.latencies)?;
        self.errors += other.errors;
        self.all_committed += other.all_committed;
        self.all_unknown += other.all_unknown;
        if self.complaint.is_none() {
            self.complaint.clone_from(&other.complaint);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ended_inside_the_window_is_measured_and_all_of_it_is_accounted_for() {
        let mut tally = Tally::new().unwrap();
        tally.note(Ended::Committed, Duration::from_millis(5), true);
        tally.note(Ended::Committed, Duration::from_millis(900), false);
        tally.note(Ended::NotCommitted("no".into()), Duration::from_millis(1), true);
        tally.note(Ended::Unknown("who knows".into()), Duration::from_millis(1), false);
        let mut sum = Tally::new().unwrap();
        sum.add(&tally).unwrap();
        sum.add(&tally).unwrap();
        assert_eq!((sum.latencies.len(), sum.errors), (2, 2));
        assert_eq!((sum.all_committed, sum.all_unknown), (4, 2));
        assert!((4_990..=5_010).contains(&sum.latencies.max()), "{}", sum.latencies.max());
        assert_eq!(sum.complaint.as_deref(), Some("no"));
    }
}
