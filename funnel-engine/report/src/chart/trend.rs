//! Who entered and who converted, bucket by bucket: bars while there is room for them, lines beyond.
//!
//! Every bucket is drawn, 10,000 of them too: a line through several buckets of one pixel covers all between the lowest
//! and the highest, so that neither a peak nor an hour without buyers vanishes.

use funnel_engine::TrendPoint;
use plotters::{
    element::PathElement,
    style::{
        Color as _, RGBColor,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    Area, CENTRED, INK, KEPT, LOST, QUIET, WIDTH, draw, failed, labelled_every, length, place,
    rectangle, style, text,
};
use crate::{
    Report, ReportError, grouped,
    parts::{TREND_COLUMNS, bucket_label},
};

const HEIGHT: i32 = 250;
const TOP: i32 = 40;
const FLOOR: i32 = HEIGHT - 28;
/// Room for the largest count.
const LEFT: i32 = 100;
const PLOT: i32 = WIDTH - LEFT - 8;
/// Bars narrower than this, pixels, become lines.
const BAR_MIN: usize = 6;
const LABEL_WIDTH: i32 = 116;
const ENTERED: RGBColor = RGBColor(0x8f, 0xb8, 0xc8);

/// The trend; an empty picture without one.
pub(crate) fn trend_svg(report: &Report) -> Result<String, ReportError> {
    let points = report.trend.as_slice();
    let most = points
        .iter()
        .map(|point| point.entered.max(point.converted))
        .max()
        .unwrap_or(0);
    let has_bars = points.len().saturating_mul(BAR_MIN) <= usize::try_from(PLOT).unwrap_or(0);
    let pale = if has_bars { LOST } else { ENTERED };
    draw(HEIGHT, |area| {
        legend(area, pale)?;
        let right = Pos::new(HPos::Right, VPos::Center);
        let lines = if most == 0 { 1 } else { 2 };
        for (count, at) in [(0, FLOOR), (most, TOP)].into_iter().take(lines) {
            rectangle(area, [(LEFT, at), (LEFT + PLOT, at + 1)], LOST)?;
            let style = style(13, &QUIET).pos(right);
            text(area, &grouped(count), (LEFT - 8, at), &style)?;
        }
        if has_bars {
            bars(area, points, most)?;
        } else {
            line(area, points, most, pale, |point| point.entered)?;
            line(area, points, most, KEPT, |point| point.converted)?;
        }
        labels(area, points)
    })
}

fn legend(area: &Area<'_>, pale: RGBColor) -> Result<(), ReportError> {
    let kinds = TREND_COLUMNS.iter().zip([pale, KEPT]);
    for ((name, colour), left) in kinds.zip((LEFT..).step_by(110)) {
        rectangle(area, [(left, 6), (left + 12, 18)], colour)?;
        text(area, name, (left + 18, 4), &style(13, &INK))?;
    }
    Ok(())
}

fn bars(area: &Area<'_>, points: &[TrendPoint], most: u64) -> Result<(), ReportError> {
    for (index, point) in points.iter().enumerate() {
        let left = LEFT + place(index, points.len(), PLOT);
        let right = LEFT + place(index + 1, points.len(), PLOT);
        let gap = ((right - left) / 8).clamp(1, 4);
        for (count, colour) in [(point.entered, LOST), (point.converted, KEPT)] {
            let top = FLOOR - length(count, most, FLOOR - TOP);
            rectangle(area, [(left + gap, top), (right - gap, FLOOR)], colour)?;
        }
    }
    Ok(())
}

fn line(
    area: &Area<'_>,
    points: &[TrendPoint],
    most: u64,
    colour: RGBColor,
    count: impl Fn(&TrendPoint) -> u64,
) -> Result<(), ReportError> {
    let path: Vec<(i32, i32)> = points
        .iter()
        .enumerate()
        .map(|(index, point)| {
            let top = FLOOR - length(count(point), most, FLOOR - TOP);
            (LEFT + place(index, points.len(), PLOT), top)
        })
        .collect();
    area.draw(&PathElement::new(path, colour.stroke_width(1)))
        .map_err(failed)
}

fn labels(area: &Area<'_>, points: &[TrendPoint]) -> Result<(), ReportError> {
    let every = labelled_every(points.len(), PLOT, LABEL_WIDTH);
    for (index, point) in points.iter().enumerate().step_by(every) {
        let left = place(index, points.len(), PLOT);
        let at = LEFT + left.midpoint(place(index + 1, points.len(), PLOT));
        // The last one is left out where it would stand over the edge.
        if at + LABEL_WIDTH / 2 <= WIDTH {
            let style = style(13, &QUIET).pos(CENTRED);
            text(area, &bucket_label(&point.bucket), (at, FLOOR + 8), &style)?;
        }
    }
    Ok(())
}
