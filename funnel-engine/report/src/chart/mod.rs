//! The pictures, as SVG: the funnel, the times to convert, the trend. The same report gives the same bytes.

mod funnel;
mod times;
mod trend;

use plotters::prelude::{IntoDrawingArea as _, RGBColor, Rectangle, SVGBackend, Text};
use plotters::style::{
    Color as _, IntoFont as _, TextStyle,
    text_anchor::{HPos, Pos, VPos},
};

use crate::ReportError;

pub(crate) use funnel::funnel_svg;
pub use times::duration_label;
pub(crate) use times::times_svg;
pub(crate) use trend::trend_svg;

const WIDTH: i32 = 760;
const KEPT: RGBColor = RGBColor(0x1f, 0x6f, 0x8b);
const LOST: RGBColor = RGBColor(0xd9, 0xe8, 0xee);
static INK: RGBColor = RGBColor(0x1c, 0x27, 0x2e);
static QUIET: RGBColor = RGBColor(0x5b, 0x6b, 0x75);

const CENTRED: Pos = Pos {
    h_pos: HPos::Center,
    v_pos: VPos::Top,
};

type Area<'a> = plotters::drawing::DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(
    height: i32,
    paint: impl FnOnce(&Area<'_>) -> Result<(), ReportError>,
) -> Result<String, ReportError> {
    let mut svg = String::new();
    {
        let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        paint(&area)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

/// Nothing where it has no width or height: readers of SVG complain of such.
fn rectangle(
    area: &Area<'_>,
    corners: [(i32, i32); 2],
    colour: RGBColor,
) -> Result<(), ReportError> {
    let [from, to] = corners;
    if from.0 == to.0 || from.1 == to.1 {
        return Ok(());
    }
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
    let scaled = u128::from(count) * u128::from(full.unsigned_abs());
    let scaled = scaled.checked_div(whole.into()).unwrap_or(0);
    i32::try_from(scaled).unwrap_or(full)
}

/// Where bar `index` of `count` begins, when all of them take `width`.
fn place(index: usize, count: usize, width: i32) -> i32 {
    length(index as u64, count.max(1) as u64, width)
}

/// Every how many bars there is room for a label.
fn labelled_every(bars: usize, width: i32, label_width: i32) -> usize {
    let room = usize::try_from(width / label_width).unwrap_or(0).max(1);
    bars.div_ceil(room).max(1)
}
