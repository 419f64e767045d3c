//! More than can be done is asked for: how much of what can be done is done all the same, and how soon everything is
//! as before.

use std::time::Duration;

use crate::contender::Contender;
use crate::point::Point;
use crate::report::{Round, Spread};
use crate::{Bench, progress_bar};

/// As many transactions may be under way at once, so that the client holds back nothing that matters.
pub(crate) const IN_FLIGHT: u32 = 8_000;
/// How many accounts each of them has at each bank.
pub(crate) const ACCOUNTS: u32 = 10;
/// How much is offered, of what was done at most: overload, and in the end what is easy.
const OFFERED: [f64; 4] = [1.0, 2.0, 4.0, 0.5];

/// Closed loops, and what is offered by what they did.
///
/// # Errors
/// When a measurement fails.
pub(crate) async fn measure(bench: &Bench<'_>, rounds: &mut Vec<Round>) -> anyhow::Result<()> {
    let arguments = bench.arguments;
    let contenders = arguments.contenders();
    let bar = progress_bar(arguments, contenders.len() * (1 + OFFERED.len()));
    let workers = arguments.points().into_iter().map(Point::workers).max().unwrap_or(1);
    let mut lines = Vec::new();
    for &contender in &contenders {
        let mut of_peak = vec![Vec::new(); OFFERED.len()];
        for number in 1..=arguments.rounds {
            let peak =
                bench.round((contender, Point::Closed { workers }, number), true, &bar, rounds).await?;
            for (times, of_peak) in OFFERED.iter().zip(&mut of_peak) {
                let rate = (peak * times).clamp(1.0, f64::from(u32::MAX)) as u32;
                // What comes after an overload comes at once.
                let settle = *times < 1.0;
                let point = Point::Open { rate, in_flight: IN_FLIGHT };
                let done = bench.round((contender, point, number), settle, &bar, rounds).await?;
                of_peak.push(done / peak.max(1.0));
            }
        }
        lines.push(line(contender, of_peak, arguments.warmup()));
    }
    bar.finish_and_clear();
    println!("\n{}", lines.join("\n"));
    Ok(())
}

fn line(contender: Contender, of_peak: Vec<Vec<f64>>, warmup: Duration) -> String {
    let each = OFFERED.iter().zip(of_peak).map(|(times, parts)| {
        let done = Spread::of(parts).map_or(0.0, |spread| spread.median);
        format!("of {times} times its closed loops {done:.2} of them were done")
    });
    let each: Vec<String> = each.collect();
    format!("{contender}: {}; each measured from {} s after it began", each.join(", "), warmup.as_secs())
}
