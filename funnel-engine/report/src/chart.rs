//! The pictures: one bar per step with what is lost beside it, and how long conversions took.

use plotters::prelude::{IntoDrawingArea as _, RGBColor, Rectangle, SVGBackend, Text};
use plotters::style::{
    Color as _, IntoFont as _, TextStyle,
    text_anchor::{HPos, Pos, VPos},
};

use crate::{Report, ReportError, grouped};
use funnel_engine::percent;

const WIDTH: u32 = 760;
const ROW_HEIGHT: i32 = 64;
const LABEL_WIDTH: i32 = 130;
const BAR_WIDTH_MAX: i32 = 470;
const TIMES_HEIGHT: i32 = 200;
const KEPT: RGBColor = RGBColor(0x1f, 0x6f, 0x8b);
const LOST: RGBColor = RGBColor(0xd9, 0xe8, 0xee);
static INK: RGBColor = RGBColor(0x1c, 0x27, 0x2e);
static QUIET: RGBColor = RGBColor(0x5b, 0x6b, 0x75);

type Area<'a> = plotters::drawing::DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// The funnel; the same report gives the same bytes.
pub(crate) fn funnel_svg(report: &Report) -> Result<String, ReportError> {
    let rows = i32::try_from(report.rows.len()).unwrap_or(i32::MAX);
    let height = rows.saturating_mul(ROW_HEIGHT).saturating_add(8);
    draw(height, |area| {
        let first = report.rows.first().map_or(0, |row| row.count);
        let mut previous = first;
        for (row, top) in report.rows.iter().zip((8..).step_by(64)) {
            let bar = |count: u64| {
                let right = LABEL_WIDTH + length(count, first, BAR_WIDTH_MAX);
                [(LABEL_WIDTH, top), (right, top + 44)]
            };
            rectangle(area, bar(previous), LOST)?;
            rectangle(area, bar(row.count), KEPT)?;
            text(area, &row.name, (4, top + 13), &style(17, &INK))?;
            let figures = format!("{} · {}", grouped(row.count), percent(row.from_previous));
            let at = LABEL_WIDTH + length(previous, first, BAR_WIDTH_MAX) + 10;
            text(area, &figures, (at, top + 13), &style(17, &INK))?;
            previous = row.count;
        }
        Ok(())
    })
}

/// The histogram of the time to convert; an empty picture when nobody converted.
pub(crate) fn times_svg(report: &Report) -> Result<String, ReportError> {
    draw(TIMES_HEIGHT, |area| {
        let bars = i32::try_from(report.histogram.len()).unwrap_or(1).max(1);
        let most = report.histogram.iter().map(|bin| bin.count).max();
        let step = WIDTH.cast_signed() / bars;
        let middle = Pos::new(HPos::Center, VPos::Top);
        // Many bars have room for every other label only.
        let every = if bars > 14 { 2 } else { 1 };
        let mut labelled = (0..every).cycle().map(|place| place == 0);
        for (bin, left) in report
            .histogram
            .iter()
            .zip((0..).step_by(step.unsigned_abs() as usize))
        {
            let height = length(bin.count, most.unwrap_or(1), TIMES_HEIGHT - 54);
            let floor = TIMES_HEIGHT - 28;
            rectangle(
                area,
                [(left + 3, floor - height), (left + step - 3, floor)],
                KEPT,
            )?;
            let at = left + step / 2;
            let counted = grouped(bin.count);
            text(
                area,
                &counted,
                (at, floor - height - 17),
                &style(13, &INK).pos(middle),
            )?;
            if labelled.next() == Some(true) {
                let style = style(13, &QUIET).pos(middle);
                text(area, &duration_label(bin.from), (at, floor + 8), &style)?;
            }
        }
        Ok(())
    })
}

/// An edge of a bin as people read it.
pub fn duration_label(seconds: f64) -> String {
    match seconds {
        0.0 => "0".to_owned(),
        _ if seconds < 1.0 => format!("{} ms", (seconds * 1e3).round()),
        _ if seconds < 120.0 => format!("{seconds} s"),
        _ if seconds < 7_200.0 => format!("{} min", tenths(seconds / 60.0)),
        _ if seconds < 172_800.0 => format!("{} h", tenths(seconds / 3_600.0)),
        _ => format!("{} d", tenths(seconds / 86_400.0)),
    }
}

/// With one decimal where it says something.
fn tenths(value: f64) -> f64 {
    if value < 10.0 {
        (value * 10.0).round() / 10.0
    } else {
        value.round()
    }
}

fn draw(
    height: i32,
    paint: impl FnOnce(&Area<'_>) -> Result<(), ReportError>,
) -> Result<String, ReportError> {
    let mut svg = String::new();
    {
        let size = (WIDTH, height.unsigned_abs());
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        paint(&area)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

fn rectangle(
    area: &Area<'_>,
    corners: [(i32, i32); 2],
    colour: RGBColor,
) -> Result<(), ReportError> {
    area.draw(&Rectangle::new(corners, colour.filled()))
        .map_err(failed)
}

fn text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    style: &TextStyle<'_>,
) -> Result<(), ReportError> {
    area.draw(&Text::new(text.to_owned(), at, style.clone()))
        .map_err(failed)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the style borrows its colour"
)]
fn style(size: i32, colour: &'static RGBColor) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size).into_font()).color(colour)
}

fn failed(error: impl std::fmt::Display) -> ReportError {
    ReportError::Chart(error.to_string())
}

/// Pixels for a count, when `whole` takes the full length.
fn length(count: u64, whole: u64, full: i32) -> i32 {
    let scaled = count
        .saturating_mul(full.unsigned_abs().into())
        .checked_div(whole)
        .unwrap_or(0);
    i32::try_from(scaled).unwrap_or(full)
}
