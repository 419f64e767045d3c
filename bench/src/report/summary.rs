//! All rounds of one contender under one load.

use std::collections::BTreeMap;

use serde::Serialize;

use super::round::Round;
use super::spread::Spread;
use crate::contender::Contender;
use crate::cpu::Group;
use crate::latency::{Latencies, Percentiles};
use crate::point::Point;

/// All rounds of one contender under one load.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) contender: Contender,
    #[serde(flatten)]
    pub(crate) point: Point,
    pub(crate) transactions_per_second: Spread,
    /// Of all rounds' transfers together.
    pub(crate) latency_ms: Option<Percentiles>,
    /// Of all rounds' transactions that only read.
    pub(crate) read_latency_ms: Option<Percentiles>,
    /// By how much transactions began late: the median and the worst of the rounds' 99th percentiles.
    pub(crate) late_p99_ms: Option<Spread>,
    pub(crate) unfinished: u64,
    pub(crate) never_begun: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    /// Each round's throughput as a part of the floor's in the same round. Not of the floor itself, and not of
    /// an open loop, in which all do the same.
    pub(crate) throughput_of_direct: Option<Spread>,
    /// Each round's median latency of transfers as a multiple of the floor's in the same round. Not of the
    /// floor itself.
    pub(crate) p50_of_direct: Option<Spread>,
    /// Processor time for each committed transaction, in microseconds: medians of the rounds.
    pub(crate) cpu_us: BTreeMap<Group, f64>,
    /// All latencies of transfers.
    #[serde(skip)]
    pub(crate) latencies: Latencies,
    /// All latencies of transactions that only read.
    #[serde(skip)]
    pub(crate) read_latencies: Latencies,
}

impl Summary {
    /// Of those `rounds` that are this contender's, and the floor's beside them. `None` if there is none.
    ///
    /// # Errors
    /// As [`Latencies::add`].
    pub(crate) fn of(contender: Contender, point: Point, rounds: &[Round]) -> anyhow::Result<Option<Self>> {
        let pick = |of: Contender| -> Vec<&Round> {
            rounds.iter().filter(|one| one.contender == of && one.point == point).collect()
        };
        let (mine, floor) = (pick(contender), pick(Contender::Direct));
        let throughput = |round: &Round| Some(round.transactions_per_second);
        let Some(transactions_per_second) = Spread::of(mine.iter().copied().filter_map(throughput)) else {
            return Ok(None);
        };
        let (mut latencies, mut reads) = (Latencies::new()?, Latencies::new()?);
        let mut errors = BTreeMap::new();
        for round in &mine {
            latencies.add(&round.histogram_us)?;
            reads.add(&round.read_histogram_us)?;
            for (kind, times) in &round.errors {
                *errors.entry(kind.clone()).or_default() += times;
            }
        }
        let of_direct = |value: fn(&Round) -> Option<f64>| match contender {
            Contender::Direct => None,
            Contender::DirectPiped | Contender::Votum(..) => {
                Spread::of_ratios(&numbered(&mine, value), &numbered(&floor, value))
            }
        };
        let late = mine.iter().filter_map(|one| one.late_ms).map(|late| late.p99);
        Ok(Some(Self {
            contender,
            point,
            transactions_per_second,
            latency_ms: latencies.percentiles(),
            read_latency_ms: reads.percentiles(),
            late_p99_ms: Spread::of(late),
            unfinished: mine.iter().map(|one| one.unfinished).sum(),
            never_begun: mine.iter().map(|one| one.never_begun).sum(),
            errors,
            throughput_of_direct: of_direct(throughput).filter(|_| !point.is_open()),
            p50_of_direct: of_direct(|one| Some(one.latency_ms?.p50)),
            cpu_us: processor_time(&mine),
            latencies,
            read_latencies: reads,
        }))
    }

    /// How many transactions were not committed.
    pub(crate) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

fn numbered(rounds: &[&Round], value: fn(&Round) -> Option<f64>) -> Vec<(u32, f64)> {
    rounds.iter().filter_map(|one| Some((one.round, value(one)?))).collect()
}

fn processor_time(rounds: &[&Round]) -> BTreeMap<Group, f64> {
    let mut medians = BTreeMap::new();
    for group in rounds.iter().flat_map(|one| one.cpu_us.keys()) {
        let values = rounds.iter().filter_map(|one| one.cpu_us.get(group)).copied();
        medians.extend(Spread::of(values).map(|spread| (*group, spread.median)));
    }
    medians
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::arguments::Wait;
    use crate::shape::Shape;

    const CLOSED: Point = Point::Closed { workers: 8 };
    const OPEN: Point = Point::Open { rate: 100, in_flight: 8 };
    const VOTUM: Contender = Contender::Votum(Shape::Hosted, Wait::Decided);

    fn round(contender: Contender, point: Point, round: u32, transactions_per_second: f64) -> Round {
        let mut histogram_us = Latencies::new().unwrap();
        histogram_us.note(Duration::from_millis(u64::from(round)));
        Round {
            contender,
            point,
            round,
            transactions: 0,
            transactions_per_second,
            latency_ms: histogram_us.percentiles(),
            read_latency_ms: None,
            late_ms: None,
            unfinished: 1,
            never_begun: 2,
            errors: [("SQLSTATE 40P01".to_owned(), 1)].into(),
            complaint: None,
            settled_ms: None,
            cpu_us: [(Group::Client, 40.0)].into(),
            histogram_us,
            read_histogram_us: Latencies::new().unwrap(),
        }
    }

    fn rounds(point: Point) -> Vec<Round> {
        [(Contender::Direct, [1000.0, 500.0, 100.0]), (VOTUM, [800.0, 300.0, 90.0])]
            .into_iter()
            .flat_map(|(who, each)| (1..).zip(each).map(move |(number, tps)| round(who, point, number, tps)))
            .collect()
    }

    #[test]
    fn rounds_are_summed_up_by_median_and_their_latencies_and_errors_together() {
        let summary = Summary::of(VOTUM, CLOSED, &rounds(CLOSED)).unwrap().unwrap();
        assert_eq!(summary.transactions_per_second, Spread { median: 300.0, least: 90.0, most: 800.0 });
        assert_eq!(summary.throughput_of_direct, Some(Spread { median: 0.8, least: 0.6, most: 0.9 }));
        assert_eq!(summary.p50_of_direct, Some(Spread { median: 1.0, least: 1.0, most: 1.0 }));
        assert_eq!((summary.failed(), summary.unfinished, summary.never_begun), (3, 3, 6));
        assert_eq!((summary.cpu_us[&Group::Client], summary.latencies.len()), (40.0, 3));
        assert!(Summary::of(VOTUM, OPEN, &rounds(CLOSED)).unwrap().is_none());
    }

    #[test]
    fn the_floor_is_no_part_of_itself_and_in_an_open_loop_throughput_says_nothing() {
        let floor = Summary::of(Contender::Direct, CLOSED, &rounds(CLOSED)).unwrap().unwrap();
        assert_eq!((floor.throughput_of_direct, floor.p50_of_direct), (None, None));
        let open = Summary::of(VOTUM, OPEN, &rounds(OPEN)).unwrap().unwrap();
        assert!(open.throughput_of_direct.is_none() && open.p50_of_direct.is_some());
    }
}
