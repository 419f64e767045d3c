//! Latencies under one load: what part of the transactions took how long, to the last few.

use plotters::prelude::*;

use super::canvas::{SIZE, contenders, font, legend, on_canvas};
use crate::contender::Contender;
use crate::latency::Latencies;

/// How many nines a picture goes to at most: 4 are 99.99 %.
const MOST_NINES: f64 = 4.0;

/// In how many steps a line is drawn for each nine.
const STEPS: u32 = 40;

/// Draws latencies of contenders, `what` they are above it.
///
/// # Errors
/// As the canvas answers.
pub(super) fn draw(rows: &[(Contender, &Latencies)], what: &str) -> anyhow::Result<String> {
    let all = contenders(rows.iter().map(|(contender, _)| *contender));
    let lines: Vec<Vec<(f64, f64)>> = rows.iter().map(|(_, latencies)| line(latencies)).collect();
    let heights = || lines.iter().flatten().map(|(_, milliseconds)| *milliseconds);
    let (least, most) = (heights().fold(f64::MAX, f64::min), heights().fold(0.01, f64::max));
    // A scale of powers needs some room, also where all are the same.
    let range = (least.min(most) * 0.8)..(most * 1.25);
    let caption = format!("{what}: what part of them took no longer");
    on_canvas(SIZE, &caption, &legend(&all), |area| {
        let marks = marks(&range);
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .margin_right(40)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..MOST_NINES, range.log_scale().with_key_points(marks))?;
        let mut mesh = chart.configure_mesh();
        // Only whole nines have a label that is short.
        mesh.x_labels(5).x_label_formatter(&|nines| percentage(*nines));
        mesh.y_label_formatter(&|ms| ms.to_string()).max_light_lines(1).label_style(font(13)).draw()?;
        for (line, (_, colour)) in lines.into_iter().zip(&all) {
            chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
        }
        Ok(())
    })
}

/// One, two and five times every power of ten that lie in `range`.
fn marks(range: &std::ops::Range<f64>) -> Vec<f64> {
    let powers = (-2..=5).map(|power| 10f64.powi(power));
    powers.flat_map(|power| [power, 2.0 * power, 5.0 * power]).filter(|mark| range.contains(mark)).collect()
}

/// Nines and milliseconds, as far as there are enough of them to speak of: of a thousand, three nines.
fn line(latencies: &Latencies) -> Vec<(f64, f64)> {
    if latencies.len() == 0 {
        return Vec::new();
    }
    let known = (latencies.len() as f64).log10().min(MOST_NINES);
    let steps = (0..).map(|step| f64::from(step) / f64::from(STEPS)).take_while(|nines| *nines < known);
    steps.chain([known]).map(|nines| (nines, latencies.at(1.0 - 10f64.powf(-nines)))).collect()
}

/// 0 nines are 0 %, 1 is 90 %, 3 are 99.9 %.
fn percentage(nines: f64) -> String {
    let decimals = if nines > 2.0 { nines.ceil() as usize - 2 } else { 0 };
    format!("{:.decimals$} %", 100.0 - 10f64.powf(2.0 - nines))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nines_are_named_as_the_percentages_they_are() {
        assert_eq!([0.0, 1.0, 2.0, 3.0, 4.0].map(percentage), ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn a_line_ends_where_there_are_too_few_transfers_to_speak_of() {
        let mut latencies = Latencies::new().unwrap();
        assert!(line(&latencies).is_empty());
        (1..=100).for_each(|ms| latencies.note(Duration::from_millis(ms)));
        let line = line(&latencies);
        assert_eq!(line.len(), 81, "two nines");
        let (nines, ms) = line[40];
        assert!((nines - 1.0).abs() < 1e-9 && (ms / 90.0 - 1.0).abs() < 0.002, "{nines} {ms}");
    }

    #[test]
    fn marks_are_round_and_in_range() {
        assert_eq!(marks(&(0.3..12.0)), [0.5, 1.0, 2.0, 5.0, 10.0]);
    }
}
