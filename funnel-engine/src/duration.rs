//! Durations as the contract writes them: `500ms 30s 15m 24h 14d`. Refuses everything else: signs, fractions,
//! spaces, other units, and what does not fit into 64 bits of nanoseconds.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};

/// A length of time, never negative, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    nanoseconds: i64,
}

const NANOSECONDS_PER_MS: i64 = 1_000_000;

/// From the smallest to the largest.
const UNITS: [(&str, i64); 5] = [
    ("ms", NANOSECONDS_PER_MS),
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

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unreadable = || format!("`{text}` is no duration: write 500ms, 30s, 15m, 24h or 14d");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).ok_or_else(unreadable)?;
        let mut units = UNITS.iter();
        let (_, factor) = units
            .find(|(name, _)| *name == unit)
            .ok_or_else(unreadable)?;
        if number.is_empty() {
            return Err(unreadable());
        }
        // Only digits are left, so a failure means that there are too many of them.
        let number: Option<i64> = number.parse().ok();
        let nanoseconds = number
            .and_then(|number| number.checked_mul(*factor))
            .ok_or_else(|| format!("`{text}` is longer than any time: write at most 100000d"))?;
        Ok(Self { nanoseconds })
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Span {
    /// In the largest unit that needs no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanoseconds == 0 {
            return f.write_str("0s");
        }
        let mut units = UNITS.iter().rev();
        let fitting = units.find(|(_, factor)| self.nanoseconds % factor == 0);
        // A span is made of whole milliseconds, so the last unit always fits.
        let (unit, factor) = fitting.copied().unwrap_or(("ms", NANOSECONDS_PER_MS));
        write!(f, "{}{unit}", self.nanoseconds / factor)
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration as text: 500ms, 30s, 15m, 24h or 14d")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_and_print() {
        for text in ["500ms", "30s", "15m", "23h", "14d", "0s"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for (text, ns) in [("1ms", 1_000_000), ("90s", 90_000_000_000), ("0d", 0)] {
            assert_eq!(text.parse::<Span>().unwrap().nanoseconds(), ns);
        }
        assert_eq!("1440m".parse::<Span>().unwrap().to_string(), "1d");
    }

    #[test]
    fn what_is_no_duration_is_refused_with_a_hint() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            " 5s",
            "5s ",
            "-5s",
            "+5s",
            "1.5h",
            "5w",
            "5S",
            "5ss",
            "٣s",
            "106752d",
            "99999999999999999999d",
        ] {
            let error = text.parse::<Span>().unwrap_err();
            assert!(error.contains("write "), "{text}: {error}");
        }
        let error = serde_json::from_str::<Span>("5").unwrap_err().to_string();
        assert!(error.contains("expected a duration as text"), "{error}");
    }

    proptest! {
        #[test]
        fn any_span_survives_writing(number in 0_i64..=106_751, unit in 0_usize..5) {
            let span: Span = format!("{number}{}", UNITS[unit].0).parse().unwrap();
            prop_assert_eq!(span.nanoseconds(), number * UNITS[unit].1);
            let json = serde_json::to_string(&span).unwrap();
            prop_assert_eq!(serde_json::from_str::<Span>(&json).unwrap(), span);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,12}") {
            if let Ok(span) = text.parse::<Span>() {
                prop_assert!(span.nanoseconds() >= 0);
            }
        }
    }
}
