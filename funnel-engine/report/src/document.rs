//! What a report says, before it looks like anything.

use funnel_engine::{Bin, FunnelResult, percent};

/// A report.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Headline.
    pub title: String,
    /// The period, as text.
    pub period: String,
    /// One row per step.
    pub rows: Vec<Row>,
    /// Median seconds from first to last step.
    pub median_to_convert_s: Option<f64>,
    /// Ninth decile of the same.
    pub p90_to_convert_s: Option<f64>,
    /// How long conversions took.
    pub histogram: Vec<Bin>,
    /// Events looked at.
    pub events_scanned: u64,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Counted from 1.
    pub step: usize,
    /// Its name.
    pub name: String,
    /// Who reached it.
    pub count: u64,
    /// Fraction of the previous step.
    pub from_previous: Option<f64>,
    /// Fraction of the first step.
    pub from_start: Option<f64>,
    /// Who went no further.
    pub drop_off: u64,
    /// Median seconds since the previous step.
    pub median_s: Option<f64>,
    /// Ninth decile of the same.
    pub p90_s: Option<f64>,
    /// How long the shop took to answer, mean milliseconds.
    pub latency_mean_ms: Option<f64>,
    /// 95th percentile of the same.
    pub latency_p95_ms: Option<f64>,
    /// Failed attempts.
    pub errors: u64,
}

/// One figure of a row, for renderings that go through all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figure {
    /// Of people or attempts.
    Count(u64),
    /// Shown in percent.
    Fraction(Option<f64>),
    /// Shown with three decimals.
    Seconds(Option<f64>),
    /// Shown with one decimal.
    Milliseconds(Option<f64>),
}

/// Names of the figures: for machines, and for people.
pub(crate) const FIGURES: [(&str, &str); 9] = [
    ("count", "Buyers"),
    ("conversion_from_previous", "Of previous"),
    ("conversion_from_start", "Of start"),
    ("drop_off", "Drop-off"),
    ("median_from_previous_s", "Median time"),
    ("p90_from_previous_s", "90% within"),
    ("latency_mean_ms", "Answered in"),
    ("latency_p95_ms", "95% within"),
    ("errors", "Failed"),
];

impl Row {
    /// In the order of the figures' names.
    pub fn figures(&self) -> [Figure; 9] {
        [
            Figure::Count(self.count),
            Figure::Fraction(self.from_previous),
            Figure::Fraction(self.from_start),
            Figure::Count(self.drop_off),
            Figure::Seconds(self.median_s),
            Figure::Seconds(self.p90_s),
            Figure::Milliseconds(self.latency_mean_ms),
            Figure::Milliseconds(self.latency_p95_ms),
            Figure::Count(self.errors),
        ]
    }
}

impl Figure {
    /// With all digits; empty when absent.
    pub fn in_full(self) -> String {
        match self {
            Self::Count(count) => count.to_string(),
            Self::Fraction(value) | Self::Seconds(value) | Self::Milliseconds(value) => {
                value.map_or_else(String::new, |value| value.to_string())
            }
        }
    }

    /// Rounded for people; `-` when absent.
    pub fn shown(self) -> String {
        let rounded = |value: Option<f64>, decimals: usize, unit: &str| {
            value.map_or_else(
                || "-".to_owned(),
                |value| format!("{value:.decimals$} {unit}"),
            )
        };
        match self {
            Self::Count(count) => grouped(count),
            Self::Fraction(fraction) => percent(fraction),
            Self::Seconds(value) => rounded(value, 3, "s"),
            Self::Milliseconds(value) => rounded(value, 1, "ms"),
        }
    }
}

/// A count with a comma between thousands.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Report {
    /// From a result.
    pub fn new(title: &str, period: &str, result: &FunnelResult) -> Self {
        let rows = result.steps.iter().map(|step| Row {
            step: step.step,
            name: step.name.clone(),
            count: step.count,
            from_previous: step.conversion_from_previous,
            from_start: step.conversion_from_start,
            drop_off: step.drop_off,
            median_s: step.time_from_previous_s.map(|timing| timing.median),
            p90_s: step.time_from_previous_s.map(|timing| timing.p90),
            latency_mean_ms: step.latency_ms.map(|latency| latency.mean),
            latency_p95_ms: step.latency_ms.map(|latency| latency.p95),
            errors: step.errors,
        });
        let whole = result.time_to_convert_s.as_ref();
        Self {
            title: title.to_owned(),
            period: period.to_owned(),
            rows: rows.collect(),
            median_to_convert_s: whole.map(|whole| whole.median),
            p90_to_convert_s: whole.map(|whole| whole.p90),
            histogram: whole.map_or_else(Vec::new, |whole| whole.histogram.clone()),
            events_scanned: result.events_scanned,
        }
    }

    /// The two steps between which most buyers are lost; none when nobody is.
    pub fn worst(&self) -> Option<(&Row, &Row)> {
        let pairs = self.rows.iter().zip(self.rows.iter().skip(1));
        pairs
            .max_by_key(|(from, _)| from.drop_off)
            .filter(|(from, _)| from.drop_off > 0)
    }

    /// The finding in words: between which steps most buyers are lost.
    pub fn finding(&self) -> String {
        match self.worst() {
            Some((from, to)) => format!(
                "Most buyers are lost between {} and {}: {} of {}; {} go on.",
                from.name,
                to.name,
                grouped(from.drop_off),
                grouped(from.count),
                percent(to.from_previous)
            ),
            _ if self.rows.first().is_none_or(|row| row.count == 0) => {
                "No buyer has come yet.".to_owned()
            }
            _ => "No buyer is lost on the way.".to_owned(),
        }
    }

    /// Headline tiles: what, and how much.
    pub fn tiles(&self) -> [(&'static str, String); 4] {
        let (first, last) = (self.rows.first(), self.rows.last());
        let failed = self.rows.iter().map(|row| row.errors).sum();
        let seconds = Figure::Seconds(self.median_to_convert_s);
        [
            ("Buyers who came", grouped(first.map_or(0, |row| row.count))),
            (
                "Buyers who converted",
                grouped(last.map_or(0, |row| row.count)),
            ),
            ("Conversion", percent(last.and_then(|row| row.from_start))),
            if self.median_to_convert_s.is_some() {
                ("Median time to convert", seconds.shown())
            } else {
                ("Failed attempts", grouped(failed))
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let shown = [0, 999, 1_000, 12_480, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "12,480", "1,234,567"]);
    }
}
