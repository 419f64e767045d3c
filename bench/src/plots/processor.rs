//! Processor time for each transaction: a bar for each contender, cut by whose time it is.

use plotters::prelude::*;

use super::canvas::{colour, font, on_canvas};
use crate::cpu::Group;
use crate::point::Point;
use crate::report::Summary;

/// How high a bar with its surroundings is.
const BAR: u32 = 44;

/// What is above and below the bars.
const FRAME: u32 = 136;

const GROUPS: [Group; 4] = [Group::PostgreSql, Group::Agents, Group::Coordinator, Group::Client];

/// Draws the processor time of the contenders under `point`.
///
/// # Errors
/// As the canvas answers.
pub(super) fn draw(rows: &[&Summary], point: Point) -> anyhow::Result<String> {
    let most = rows.iter().map(|one| one.cpu_us.values().sum()).fold(1.0, f64::max);
    let bars = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let caption = format!("Processor time for each transaction in µs, {point}");
    let legend: Vec<_> = (2..).zip(GROUPS).map(|(place, group)| (group.to_string(), colour(place))).collect();
    on_canvas((860, FRAME + BAR * bars), &caption, &legend, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .margin_right(40)
            .x_label_area_size(44)
            .y_label_area_size(150)
            // The last bar is within the range.
            .build_cartesian_2d(0.0..most * 1.04, (0..bars.saturating_sub(1)).into_segmented())?;
        // From below: the first contender is the uppermost bar.
        let name = |place: &SegmentValue<u32>| match place {
            SegmentValue::CenterOf(place) | SegmentValue::Exact(place) => {
                let row = rows.iter().rev().nth(usize::try_from(*place).unwrap_or(usize::MAX));
                row.map(|one| one.contender.to_string()).unwrap_or_default()
            }
            SegmentValue::Last => String::new(),
        };
        let mut mesh = chart.configure_mesh();
        mesh.disable_y_mesh().y_labels(rows.len()).y_label_formatter(&name).max_light_lines(1);
        mesh.x_label_formatter(&|us| format!("{us:.0}")).label_style(font(13)).draw()?;
        for (number, (_, colour)) in legend.iter().enumerate() {
            chart.draw_series((0..).zip(rows.iter().rev()).map(|(place, one)| {
                let (left, right) = piece(one, number);
                let (below, above) = (SegmentValue::Exact(place), SegmentValue::Exact(place + 1));
                let mut bar = Rectangle::new([(left, below), (right, above)], colour.filled());
                bar.set_margin(8, 8, 0, 0);
                bar
            }))?;
        }
        Ok(())
    })
}

/// From where to where the piece of group `number` goes, after those before it.
fn piece(row: &Summary, number: usize) -> (f64, f64) {
    let of = |group: &Group| row.cpu_us.get(group).copied().unwrap_or(0.0);
    let left: f64 = GROUPS.iter().take(number).map(of).sum();
    (left, left + GROUPS.get(number).map_or(0.0, of))
}
