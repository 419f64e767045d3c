//! The steps of a transaction as bars over time.

use plotters::prelude::*;

use super::Step;
use crate::plots::{colour, font, on_canvas};

/// How high a line with its surroundings is.
const LINE: u32 = 44;

/// What is above and below the lines.
const FRAME: u32 = 136;

/// Draws them: a line for everybody, in the order in which they come.
///
/// # Errors
/// As the canvas answers.
pub(super) fn draw(steps: &[Step]) -> anyhow::Result<String> {
    let mut who: Vec<&str> = Vec::new();
    let mut what: Vec<&str> = Vec::new();
    for step in steps {
        if !who.contains(&step.whose.as_str()) {
            who.push(&step.whose);
        }
        if !what.contains(&step.what) {
            what.push(step.what);
        }
    }
    let most = steps.iter().map(|step| step.until_us).fold(1.0, f64::max);
    let lines = u32::try_from(who.len())?;
    let legend: Vec<_> = (1..).zip(&what).map(|(place, name)| ((*name).to_owned(), colour(place))).collect();
    on_canvas((1180, FRAME + LINE * lines), "One transaction, in µs", &legend, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .margin_right(40)
            .x_label_area_size(44)
            .y_label_area_size(120)
            .build_cartesian_2d(0.0..most * 1.02, (0..lines.saturating_sub(1)).into_segmented())?;
        // From below: who comes first is the uppermost line.
        let name = |place: &SegmentValue<u32>| match place {
            SegmentValue::CenterOf(place) | SegmentValue::Exact(place) => {
                let name = who.iter().rev().nth(usize::try_from(*place).unwrap_or(usize::MAX));
                (*name.unwrap_or(&"")).to_owned()
            }
            SegmentValue::Last => String::new(),
        };
        let mut mesh = chart.configure_mesh();
        mesh.disable_y_mesh().y_labels(who.len()).y_label_formatter(&name).max_light_lines(1);
        mesh.x_label_formatter(&|us| format!("{us:.0}")).label_style(font(13)).draw()?;
        chart.draw_series(steps.iter().filter_map(|step| {
            let place = who.iter().rev().position(|name| *name == step.whose)?;
            let place = u32::try_from(place).ok()?;
            let (_, colour) = legend.get(what.iter().position(|name| *name == step.what)?)?;
            let corners =
                [(step.from_us, SegmentValue::Exact(place)), (step.until_us, SegmentValue::Exact(place + 1))];
            let mut bar = Rectangle::new(corners, colour.filled());
            bar.set_margin(8, 8, 0, 0);
            Some(bar)
        }))?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_and_every_step_is_in_the_picture() {
        let step =
            |whose: &str, what, from_us, until_us| Step { whose: whose.into(), what, from_us, until_us };
        let steps = [
            step("client", "waits", 0.0, 900.0),
            step("bank-a", "works", 100.0, 400.0),
            step("bank-a", "ends", 500.0, 800.0),
        ];
        let svg = draw(&steps).unwrap();
        for word in ["client", "bank-a", "waits", "works", "ends"] {
            assert!(svg.contains(word), "{word}");
        }
        // A canvas, three of the legend, and three bars.
        assert_eq!(svg.matches("<rect").count(), 7, "{svg}");
    }
}
