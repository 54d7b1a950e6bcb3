//! Durations as the contract writes them: `500ms 30s 15m 24h 14d`.

use serde::{Deserialize, Serialize};

/// A length of time, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span {
    nanoseconds: i64,
}

const UNITS: &[(&str, i64)] = &[
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

impl Span {
    /// Nanoseconds, never negative.
    pub const fn nanoseconds(self) -> i64 {
        self.nanoseconds
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let error = || format!("`{text}` is no duration: write 500ms, 30s, 15m, 24h or 14d");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).ok_or_else(error)?;
        let (_, factor) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(error)?;
        let number: i64 = number.parse().ok().ok_or_else(error)?;
        let nanoseconds = number.checked_mul(*factor).ok_or_else(error)?;
        Ok(Self { nanoseconds })
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        let fitting = UNITS
            .iter()
            .rev()
            .find(|(_, factor)| span.nanoseconds % factor == 0);
        let (unit, factor) = fitting.copied().unwrap_or(("ms", 1_000_000));
        format!("{}{unit}", span.nanoseconds / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print() {
        for text in ["500ms", "30s", "15m", "23h", "14d"] {
            assert_eq!(String::from(Span::try_from(text.to_owned()).unwrap()), text);
        }
        for text in ["", "5", "5 s", "-5s", "5w", "99999999999999d"] {
            assert!(Span::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
