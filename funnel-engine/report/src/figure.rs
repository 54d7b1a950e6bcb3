//! A figure: in full for machines, rounded for people.

use funnel_engine::percent;

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

impl Figure {
    /// If it is one.
    pub(crate) const fn count(self) -> Option<u64> {
        match self {
            Self::Count(count) => Some(count),
            Self::Fraction(_) | Self::Seconds(_) | Self::Milliseconds(_) => None,
        }
    }

    /// If it is measured or computed, not counted.
    pub(crate) const fn number(self) -> Option<f64> {
        match self {
            Self::Count(_) => None,
            Self::Fraction(value) | Self::Seconds(value) | Self::Milliseconds(value) => value,
        }
    }

    /// With all digits; empty when absent.
    pub fn in_full(self) -> String {
        match self {
            Self::Count(count) => count.to_string(),
            Self::Fraction(_) | Self::Seconds(_) | Self::Milliseconds(_) => self
                .number()
                .map_or_else(String::new, |value| value.to_string()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let shown = [0, 999, 1_000, 12_480, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "12,480", "1,234,567"]);
    }
}
