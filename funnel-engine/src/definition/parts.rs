//! The smaller parts of a definition: how steps follow one another, what is counted, exclusions, breakdowns and
//! the time range.

use std::fmt;

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, Visitor},
};

use super::{step::StepEvent, wire::is_default};
use crate::{
    predicate::Condition,
    written::{named, object},
};

named! {
    /// How strictly the steps follow one another.
    #[derive(Default)]
    pub enum Order {
        /// Other events may lie between.
        #[default]
        Ordered = "ordered",
        /// Nothing may lie between.
        Strict = "strict",
        /// Any order inside one window.
        Unordered = "unordered",
        /// Exactly ClickHouse's `windowFunnel`.
        Clickhouse = "clickhouse",
    }
}

named! {
    /// What is counted.
    #[derive(Default)]
    pub enum Count {
        /// Each user once.
        #[default]
        Users = "users",
        /// Each session once.
        Sessions = "sessions",
        /// Every conversion.
        Totals = "totals",
    }
}

named! {
    /// A mode of `windowFunnel`; the names are ClickHouse's.
    pub enum Mode {
        /// A step that repeats ends the search.
        StrictDeduplication = "strict_deduplication",
        /// An event that fills no step, or one too early, ends the search.
        StrictOrder = "strict_order",
        /// The next step must be strictly later.
        StrictIncrease = "strict_increase",
        /// An event fills one step of a chain.
        StrictOnce = "strict_once",
        /// With `strict_order`: a step that comes too early is passed over.
        AllowReentry = "allow_reentry",
    }
}

/// An event that must not happen between two steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Exclusion {
    /// What must not happen.
    pub event: StepEvent,
    /// Conditions on it, all of which must hold; JSON `where`.
    #[serde(default, rename = "where", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// From this step, counted from 1.
    pub from_step: usize,
    /// Until that one is reached.
    pub to_step: usize,
}

object!(
    Exclusion,
    "an exclusion: an object with `event`, `from_step` and `to_step`"
);

/// The funnel once per value of one to four properties.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Breakdown {
    /// Whose texts, joined by `|`, are the value; 1 to 4.
    pub properties: Vec<String>,
    /// Which event's value counts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attribution: Attribution,
    /// Most values listed, 1 to 1000.
    #[serde(default = "default_limit", skip_serializing_if = "is_default_limit")]
    pub limit: usize,
}

object!(Breakdown, "a breakdown: an object with `properties`");

const fn default_limit() -> usize {
    25
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_default_limit(limit: &usize) -> bool {
    *limit == default_limit()
}

/// Which event's value a breakdown takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Attribution {
    /// The first that is not empty.
    #[default]
    FirstTouch,
    /// The last that is not empty.
    LastTouch,
    /// Each value by itself.
    AllSteps,
    /// That of the event at this step, counted from 1.
    Step(usize),
}

impl Attribution {
    fn of(text: &str) -> Option<Self> {
        match text {
            "first_touch" => Some(Self::FirstTouch),
            "last_touch" => Some(Self::LastTouch),
            "all_steps" => Some(Self::AllSteps),
            _ => {
                let number = text.strip_prefix("step:")?;
                let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
                number.parse().ok().filter(|_| is_plain).map(Self::Step)
            }
        }
    }
}

impl fmt::Display for Attribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstTouch => f.write_str("first_touch"),
            Self::LastTouch => f.write_str("last_touch"),
            Self::AllSteps => f.write_str("all_steps"),
            Self::Step(step) => write!(f, "step:{step}"),
        }
    }
}

impl Serialize for Attribution {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Attribution {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::of(&text).ok_or_else(|| {
            D::Error::custom(format_args!(
                "`{text}` is not known here: write one of first_touch, last_touch, all_steps, step:1"
            ))
        })
    }
}

/// `[from, to)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct TimeRange {
    /// First instant.
    #[serde(deserialize_with = "instant")]
    pub from: Timestamp,
    /// First instant after.
    #[serde(deserialize_with = "instant")]
    pub to: Timestamp,
}

object!(TimeRange, "a time range: an object with `from` and `to`");

impl TimeRange {
    /// From and to as nanoseconds since 1970 UTC, cut to what 64 bits hold.
    pub fn nanoseconds(&self) -> (i64, i64) {
        (nanoseconds(self.from), nanoseconds(self.to))
    }
}

fn nanoseconds(at: Timestamp) -> i64 {
    let ns = at.as_nanosecond();
    i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
}

fn instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    struct Instant;

    impl Visitor<'_> for Instant {
        type Value = Timestamp;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an RFC 3339 time such as \"2026-01-01T00:00:00Z\"")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
            text.parse().map_err(|error| {
                E::custom(format_args!(
                    "`{text}` is no RFC 3339 time ({error}): write one such as 2026-01-01T00:00:00Z"
                ))
            })
        }
    }

    deserializer.deserialize_str(Instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribution_reads_what_it_writes() {
        for text in [
            "first_touch",
            "last_touch",
            "all_steps",
            "step:1",
            "step:64",
        ] {
            assert_eq!(Attribution::of(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "step",
            "step:",
            "step:+1",
            "step:-1",
            "step:1.0",
            "step: 1",
            "First_touch",
            "step:99999999999999999999",
        ] {
            assert_eq!(Attribution::of(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_range_is_cut_to_64_bits() {
        let range = TimeRange {
            from: Timestamp::MIN,
            to: Timestamp::MAX,
        };
        assert_eq!(range.nanoseconds(), (i64::MIN, i64::MAX));
        let json = r#"{"from":"1970-01-01T00:00:01Z","to":"2026-01-01T08:00:00+08:00"}"#;
        let range: TimeRange = serde_json::from_str(json).unwrap();
        assert_eq!(
            range.nanoseconds(),
            (1_000_000_000, 1_767_225_600_000_000_000)
        );
    }
}
