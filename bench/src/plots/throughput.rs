//! Throughput over workers: a line for each contender, with the spread of its rounds.

use plotters::prelude::*;

use super::canvas::{SIZE, contenders, font, legend, on_canvas};
use crate::report::Summary;

/// Draws closed loops.
///
/// # Errors
/// As the canvas answers.
pub(super) fn draw(rows: &[&Summary]) -> anyhow::Result<String> {
    let mut measured: Vec<f64> = rows.iter().map(|one| f64::from(one.point.workers())).collect();
    measured.dedup();
    let (fewest, workers) = measured.iter().fold((f64::MAX, 1.0), |(a, b), one| (one.min(a), one.max(b)));
    // A scale of powers: 1, 8 and 32 lie side by side, and whoever scales shows it all along.
    let range = (fewest.min(workers) * 0.85..workers * 1.15).log_scale().with_key_points(measured);
    let most = rows.iter().map(|one| one.transactions_per_second.most).fold(1.0, f64::max);
    let all = contenders(rows.iter().map(|one| one.contender));
    let caption = "Transactions a second: median, least and most of the rounds";
    on_canvas(SIZE, caption, &legend(&all), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .margin_right(40)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(range, 0.0..most * 1.08)?;
        let mut mesh = chart.configure_mesh();
        mesh.max_light_lines(1).label_style(font(13)).x_desc("workers");
        mesh.x_label_formatter(&|x| format!("{x:.0}")).y_label_formatter(&|y| format!("{y:.0}")).draw()?;
        for (contender, colour) in &all {
            let mine = rows.iter().filter(|one| one.contender == *contender);
            let mut at: Vec<_> =
                mine.map(|one| (f64::from(one.point.workers()), one.transactions_per_second)).collect();
            at.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            let line = at.iter().map(|(x, y)| (*x, y.median));
            chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
            chart
                .draw_series(at.into_iter().map(|(x, y)| {
                    ErrorBar::new_vertical(x, y.least, y.median, y.most, colour.filled(), 8)
                }))?;
        }
        Ok(())
    })
}
