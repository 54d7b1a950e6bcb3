//! Numbers as people read them.

use funnel_report::grouped;
use jiff::Timestamp;

/// `412 ms`, `42.6 s`, `1 min 8 s`, `3 h 5 min`, `2 d 4 h`.
pub(super) fn seconds(seconds: f64) -> String {
    let (large, unit, rest, rest_unit) = match seconds {
        _ if seconds < 0.000_5 => return "0 ms".to_owned(),
        _ if seconds < 0.999_5 => return format!("{:.0} ms", seconds * 1e3),
        _ if seconds < 60.0 => return format!("{seconds:.1} s"),
        _ if seconds < 3_600.0 => (seconds / 60.0, "min", seconds % 60.0, "s"),
        _ if seconds < 86_400.0 => (seconds / 3_600.0, "h", seconds % 3_600.0 / 60.0, "min"),
        _ => (seconds / 86_400.0, "d", seconds % 86_400.0 / 3_600.0, "h"),
    };
    format!(
        "{:.0} {unit} {:.0} {rest_unit}",
        large.floor(),
        rest.floor()
    )
}

/// `18.4 ms`, for requests.
pub(super) fn milliseconds(milliseconds: f64) -> String {
    if milliseconds < 10_000.0 {
        format!("{milliseconds:.1} ms")
    } else {
        seconds(milliseconds / 1e3)
    }
}

/// Nanoseconds as [`milliseconds`].
#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub(super) fn nanoseconds(ns: u64) -> String {
    milliseconds(ns as f64 / 1e6)
}

/// A part of a whole in percent, as a number for a picture's width.
#[expect(clippy::cast_precision_loss, reason = "a width on a screen")]
pub(super) fn width(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0".to_owned();
    }
    format!("{:.3}", part as f64 * 100.0 / whole as f64)
}

/// `Nov 23, 2026 10:31:02 UTC`.
pub(super) fn instant(at: Timestamp) -> String {
    at.strftime("%b %-d, %Y %H:%M:%S UTC").to_string()
}

/// One thing or several.
pub(super) fn counted(count: u64, one: &str, several: &str) -> String {
    format!(
        "{} {}",
        grouped(count),
        if count == 1 { one } else { several }
    )
}

/// Or a dash.
pub(super) fn or_dash<T>(value: Option<T>, shown: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well_at_every_size() {
        let shown = [
            0.0, 0.0004, 0.412, 0.9999, 42.61, 59.96, 68.0, 3_599.9, 11_100.0, 187_200.0,
        ]
        .map(seconds);
        assert_eq!(
            shown,
            [
                "0 ms",
                "0 ms",
                "412 ms",
                "1.0 s",
                "42.6 s",
                "60.0 s",
                "1 min 8 s",
                "59 min 59 s",
                "3 h 5 min",
                "2 d 4 h"
            ]
        );
        assert_eq!(nanoseconds(18_400_000), "18.4 ms");
        assert_eq!(
            (width(1, 3), width(1, 0)),
            ("33.333".to_owned(), "0".to_owned())
        );
    }
}
