//! The report as pictures: SVG files, whose text is left to whoever shows them.

mod canvas;
mod latency;
mod processor;
mod throughput;

use std::path::Path;

use anyhow::Context as _;

pub(crate) use self::canvas::{colour, font, on_canvas};
use crate::point::Point;
use crate::report::{Report, Summary};

/// Draws into `folder`: throughput over workers, latencies under each load, and processor time.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(folder: &Path, report: &Report) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    for (name, svg) in draw(&report.summary)? {
        let file = folder.join(name);
        std::fs::write(&file, svg).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// Names of files, and what is in them.
fn draw(summary: &[Summary]) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let closed: Vec<&Summary> = summary.iter().filter(|one| !one.point.is_open()).collect();
    if !closed.is_empty() {
        files.push(("throughput.svg".to_owned(), throughput::draw(&closed)?));
    }
    let mut points: Vec<Point> = summary.iter().map(|one| one.point).collect();
    points.dedup();
    for point in points {
        let here: Vec<&Summary> = summary.iter().filter(|one| one.point == point).collect();
        if here.iter().any(|one| one.latency_ms.is_some()) {
            let transfers: Vec<_> = here.iter().map(|one| (one.contender, &one.latencies)).collect();
            let svg = latency::draw(&transfers, &format!("Latency of transfers in ms, {point}"))?;
            files.push((format!("latency-{}.svg", slug(point)), svg));
        }
        if here.iter().any(|one| one.read_latency_ms.is_some()) {
            let reads: Vec<_> = here.iter().map(|one| (one.contender, &one.read_latencies)).collect();
            let svg = latency::draw(&reads, &format!("Latency of reads in ms, {point}"))?;
            files.push((format!("latency-of-reads-{}.svg", slug(point)), svg));
        }
        files.push((format!("cpu-{}.svg", slug(point)), processor::draw(&here, point)?));
    }
    Ok(files)
}

fn slug(point: Point) -> String {
    match point {
        Point::Closed { workers } => format!("{workers}-workers"),
        Point::Open { rate, .. } => format!("{rate}-per-second"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use votum_proto::runtime::Monotonic;

    use super::*;
    use crate::contender::Contender;
    use crate::cpu::Group;
    use crate::ended::Ended;
    use crate::load::Measured;
    use crate::report::Round;
    use crate::tally::{Tally, Times, Window};
    use crate::work::{Order, Work};

    const CLOSED: Point = Point::Closed { workers: 1 };
    const OPEN: Point = Point::Open { rate: 400, in_flight: 8 };

    /// What is a read, and not a transfer, in the runs below.
    const READ: u64 = 4;

    /// A contender whose transactions took `milliseconds`.
    fn summary(contender: Contender, point: Point, milliseconds: &[u64]) -> Summary {
        let moment = |ms| Monotonic(Duration::from_millis(ms));
        let window = Window { from: moment(0), until: moment(1_000_000), open: point.is_open() };
        let mut tally = Tally::new().unwrap();
        for ms in milliseconds {
            let transfer = Work::Transfer { legs: Vec::new(), order: Order::AtOnce };
            let work = if *ms == READ { Work::Read { accounts: Vec::new() } } else { transfer };
            let times = Times { meant: moment(0), begun: moment(0), ended: moment(*ms) };
            tally.note(&work, Ended::Committed, &times, &window);
        }
        let used = [(Group::Client, Duration::from_millis(5))].into();
        let measured = Measured { window: Duration::from_secs(1), tally, never_begun: 0, used };
        let round = Round::new(contender, point, 1, measured, None);
        Summary::of(contender, point, &[round]).unwrap().unwrap()
    }

    fn names(summary: &[Summary]) -> Vec<String> {
        draw(summary).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn there_is_a_picture_of_everything_that_was_measured_and_it_names_the_contenders() {
        let both = [CLOSED, OPEN];
        let contenders = [Contender::Direct, Contender::DirectPiped];
        let all = both.iter().flat_map(|point| contenders.map(|who| summary(who, *point, &[1, 2, 500])));
        let files = draw(&all.collect::<Vec<_>>()).unwrap();
        for (name, svg) in &files {
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
            assert!(svg.contains("direct-piped"), "{name}");
        }
        let found: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "throughput.svg",
            "latency-1-workers.svg",
            "cpu-1-workers.svg",
            "latency-400-per-second.svg",
            "cpu-400-per-second.svg",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_run_in_which_little_or_nothing_happened_is_drawn_too() {
        assert_eq!(names(&[summary(Contender::Direct, OPEN, &[])]), ["cpu-400-per-second.svg"]);
        assert_eq!(names(&[summary(Contender::Direct, CLOSED, &[7])]).len(), 3);
        let reads = ["latency-of-reads-400-per-second.svg", "cpu-400-per-second.svg"];
        assert_eq!(names(&[summary(Contender::Direct, OPEN, &[READ])]), reads);
        let (idle, busy) = (summary(Contender::Direct, CLOSED, &[]), [3; 5]);
        assert_eq!(names(&[idle, summary(Contender::DirectPiped, CLOSED, &busy)]).len(), 3);
        assert!(names(&[]).is_empty());
    }
}
