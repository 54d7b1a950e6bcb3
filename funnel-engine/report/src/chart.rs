//! The funnel as a picture: one bar per step, what is lost shown lighter behind it.

use plotters::prelude::{IntoDrawingArea as _, RGBColor, Rectangle, SVGBackend, Text};
use plotters::style::{Color as _, IntoFont as _};

use crate::{Report, ReportError};
use funnel_engine::percent;

const WIDTH: u32 = 760;
const ROW_HEIGHT: i32 = 64;
const LABEL_WIDTH: i32 = 130;
const BAR_WIDTH_MAX: i32 = 480;
const KEPT: RGBColor = RGBColor(0x1f, 0x6f, 0x8b);
const LOST: RGBColor = RGBColor(0xd9, 0xe8, 0xee);
const INK: RGBColor = RGBColor(0x1c, 0x27, 0x2e);

/// The chart as SVG; the same report gives the same bytes.
pub(crate) fn to_svg(report: &Report) -> Result<String, ReportError> {
    let failed = |error: &dyn std::fmt::Display| ReportError::Chart(error.to_string());
    let mut svg = String::new();
    let rows = i32::try_from(report.rows.len()).unwrap_or(i32::MAX);
    let height = rows.saturating_mul(ROW_HEIGHT).saturating_add(8);
    {
        let area =
            SVGBackend::with_string(&mut svg, (WIDTH, height.unsigned_abs())).into_drawing_area();
        let first = report.rows.first().map_or(0, |row| row.count);
        let label = ("sans-serif", 17).into_font().color(&INK);
        let mut previous = first;
        for (row, top) in report.rows.iter().zip((8..).step_by(64)) {
            let bar = |count: u64| {
                [
                    (LABEL_WIDTH, top),
                    (LABEL_WIDTH + length(count, first), top + 44),
                ]
            };
            area.draw(&Rectangle::new(bar(previous), LOST.filled()))
                .map_err(|error| failed(&error))?;
            area.draw(&Rectangle::new(bar(row.count), KEPT.filled()))
                .map_err(|error| failed(&error))?;
            area.draw(&Text::new(row.name.clone(), (4, top + 13), label.clone()))
                .map_err(|error| failed(&error))?;
            let figures = format!("{}  {}", row.count, percent(row.from_previous));
            let at = (LABEL_WIDTH + length(previous, first) + 10, top + 13);
            area.draw(&Text::new(figures, at, label.clone()))
                .map_err(|error| failed(&error))?;
            previous = row.count;
        }
        area.present().map_err(|error| failed(&error))?;
    }
    Ok(svg)
}

/// Pixels for a count, when `whole` takes the full width.
fn length(count: u64, whole: u64) -> i32 {
    let scaled = count
        .saturating_mul(BAR_WIDTH_MAX.unsigned_abs().into())
        .checked_div(whole)
        .unwrap_or(0);
    i32::try_from(scaled).unwrap_or(BAR_WIDTH_MAX)
}
