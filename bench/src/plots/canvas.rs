//! What all pictures look like.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::contender::Contender;

/// Width and height.
pub(super) const SIZE: (u32, u32) = (860, 500);

/// The height of the caption and of the legend.
const LINE: u32 = 34;

/// The width of a letter of the legend, or rather more: how wide they are is known only where it is shown.
const LETTER: i32 = 9;

/// A canvas, or a part of it, in pixels.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The generic family, which every program that shows SVG knows.
const FONT: &str = "sans-serif";

/// Told apart also by those who do not tell red from green (Okabe and Ito's).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
];

/// A white canvas of `size` with a caption, and below it a legend, where nothing is hidden by it; what SVG
/// came of it and of what `draw` does with the rest.
///
/// # Errors
/// As `draw` answers.
pub(crate) fn on_canvas(
    size: (u32, u32),
    caption: &str,
    legend: &[(String, RGBColor)],
    draw: impl FnOnce(&Area<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        let (above, chart) = area.split_vertically(2 * LINE);
        above.draw(&Text::new(caption.to_owned(), (20, 12), font(18)))?;
        let (mut x, y) = (20, 42);
        for (name, colour) in legend {
            above.draw(&Rectangle::new([(x, y), (x + 14, y + 12)], colour.filled()))?;
            above.draw(&Text::new(name.clone(), (x + 20, y), font(14)))?;
            x += 40 + LETTER * i32::try_from(name.chars().count()).unwrap_or(0);
        }
        draw(&chart)?;
        area.present()?;
    }
    Ok(svg)
}

/// A font of `height` pixels.
pub(crate) fn font(height: u32) -> (&'static str, u32) {
    (FONT, height)
}

/// Number `place` of the colours, around and around.
pub(crate) fn colour(place: usize) -> RGBColor {
    COLOURS.into_iter().cycle().nth(place % COLOURS.len()).unwrap_or(BLACK)
}

/// Each contender once, in their order, with its colour: the same in every picture of a run.
pub(super) fn contenders(of: impl Iterator<Item = Contender>) -> Vec<(Contender, RGBColor)> {
    let mut found: Vec<(Contender, RGBColor)> = Vec::new();
    for contender in of {
        if !found.iter().any(|(one, _)| *one == contender) {
            found.push((contender, colour(found.len())));
        }
    }
    found
}

/// What a legend says of them.
pub(super) fn legend(contenders: &[(Contender, RGBColor)]) -> Vec<(String, RGBColor)> {
    contenders.iter().map(|(contender, colour)| (contender.to_string(), *colour)).collect()
}
