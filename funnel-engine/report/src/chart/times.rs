//! How long conversions took.

use super::{
    CENTRED, INK, KEPT, QUIET, WIDTH, draw, labelled_every, length, place, rectangle, style, text,
};
use crate::{Report, ReportError, grouped};

const HEIGHT: i32 = 200;
const FLOOR: i32 = HEIGHT - 28;
const LABEL_WIDTH: i32 = 52;

/// The histogram of the time to convert; an empty picture when nobody converted.
pub(crate) fn times_svg(report: &Report) -> Result<String, ReportError> {
    let bars = report.histogram.len();
    let most = report.histogram.iter().map(|bin| bin.count).max();
    let every = labelled_every(bars, WIDTH, LABEL_WIDTH);
    draw(HEIGHT, |area| {
        for (index, bin) in report.histogram.iter().enumerate() {
            let (left, right) = (place(index, bars, WIDTH), place(index + 1, bars, WIDTH));
            let top = FLOOR - length(bin.count, most.unwrap_or(1), HEIGHT - 54);
            let gap = ((right - left) / 8).min(3);
            rectangle(area, [(left + gap, top), (right - gap, FLOOR)], KEPT)?;
            let at = left.midpoint(right);
            // Many bars have room for every other label only, or fewer.
            if index.is_multiple_of(every) {
                let counted = grouped(bin.count);
                text(
                    area,
                    &counted,
                    (at, top - 17),
                    &style(13, &INK).pos(CENTRED),
                )?;
                let style = style(13, &QUIET).pos(CENTRED);
                text(area, &duration_label(bin.from), (at, FLOOR + 8), &style)?;
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
