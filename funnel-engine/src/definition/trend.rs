//! Conversion over time: which buckets, in which time zone, between which steps.

use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use super::wire::is_default;
use crate::written::{named, object};

named! {
    /// Length of a bucket.
    pub enum Interval {
        /// From full hour to full hour.
        Hour = "hour",
        /// From midnight to midnight.
        Day = "day",
        /// Seven days.
        Week = "week",
        /// From the first to the first.
        Month = "month",
    }
}

named! {
    /// Where weeks begin.
    #[derive(Default)]
    pub enum WeekStart {
        /// As ISO 8601 says.
        #[default]
        Monday = "monday",
        /// As in North America.
        Sunday = "sunday",
    }
}

/// Conversion over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trend {
    /// Length of a bucket.
    pub interval: Interval,
    /// Where buckets begin; has an IANA name.
    pub timezone: TimeZone,
    /// Where weeks begin.
    pub week_start: WeekStart,
    /// Whose time is the bucket; counted from 1.
    pub from_step: usize,
    /// Reached by those who converted; counted from 1.
    pub to_step: usize,
}

/// A trend as its JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub(super) struct WrittenTrend {
    interval: Interval,
    #[serde(
        default = "utc",
        deserialize_with = "read_timezone",
        serialize_with = "write_timezone",
        skip_serializing_if = "is_utc"
    )]
    timezone: TimeZone,
    #[serde(default, skip_serializing_if = "is_default")]
    week_start: WeekStart,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from_step: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to_step: Option<usize>,
}

object!(WrittenTrend, "a trend: an object with `interval`");

impl WrittenTrend {
    /// The trend of a funnel of `steps` steps.
    pub(super) fn over(self, steps: usize) -> Trend {
        Trend {
            interval: self.interval,
            timezone: self.timezone,
            week_start: self.week_start,
            from_step: self.from_step.unwrap_or(1),
            to_step: self.to_step.unwrap_or(steps),
        }
    }

    /// How the trend of a funnel of `steps` steps is written.
    pub(super) fn of(trend: Trend, steps: usize) -> Self {
        Self {
            interval: trend.interval,
            timezone: trend.timezone,
            week_start: trend.week_start,
            from_step: Some(trend.from_step).filter(|step| *step != 1),
            to_step: Some(trend.to_step).filter(|step| *step != steps),
        }
    }
}

const fn utc() -> TimeZone {
    TimeZone::UTC
}

fn is_utc(zone: &TimeZone) -> bool {
    *zone == TimeZone::UTC
}

/// Names that mean another zone on each machine, or none.
const UNNAMED: [&str; 4] = ["localtime", "posixrules", "Factory", "Etc/Unknown"];

fn read_timezone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TimeZone, D::Error> {
    let name = String::deserialize(deserializer)?;
    let is_name = !UNNAMED
        .iter()
        .any(|unnamed| unnamed.eq_ignore_ascii_case(&name));
    let zone = TimeZone::get(&name).ok();
    zone.filter(|zone| is_name && zone.iana_name().is_some())
        .ok_or_else(|| {
            D::Error::custom(format_args!(
                "`{name}` is no known time zone: write an IANA name such as Asia/Shanghai"
            ))
        })
}

fn write_timezone<S: Serializer>(zone: &TimeZone, serializer: S) -> Result<S::Ok, S::Error> {
    let name = zone.iana_name();
    let name = name.ok_or_else(|| S::Error::custom("the time zone has no IANA name"))?;
    serializer.serialize_str(name)
}
