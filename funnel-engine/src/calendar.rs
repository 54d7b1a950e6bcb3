//! Buckets of a trend: hours, days, weeks and months of a time zone, daylight saving included.

use std::collections::BTreeMap;

use jiff::{Timestamp, ToSpan as _, Unit, Zoned, ZonedRound, civil::Weekday};

use crate::definition::{DefinitionError, Interval, Trend, WeekStart};

/// Buckets of one answer.
const BUCKETS_MAX: usize = 10_000;

/// Finds the bucket of an instant; remembers the buckets it has seen.
#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    trend: Trend,
    /// End of each known bucket, by its start; nanoseconds.
    known: BTreeMap<i64, i64>,
}

impl Calendar {
    pub(crate) fn new(trend: &Trend) -> Self {
        Self {
            trend: trend.clone(),
            known: BTreeMap::new(),
        }
    }

    /// Start of the bucket that holds an instant, nanoseconds since 1970 UTC.
    pub(crate) fn bucket(&mut self, at_ns: i64) -> i64 {
        if let Some((start, end)) = self.known.range(..=at_ns).next_back()
            && at_ns < *end
        {
            return *start;
        }
        // An instant at the edge of what the calendar can tell is a bucket of its own.
        let (start, end) = self
            .around(at_ns)
            .unwrap_or((at_ns, at_ns.saturating_add(1)));
        self.known.insert(start, end);
        start
    }

    /// The start of the next bucket.
    fn next(&mut self, start_ns: i64) -> i64 {
        self.bucket(start_ns);
        self.known.get(&start_ns).copied().unwrap_or(i64::MAX)
    }

    fn around(&self, at_ns: i64) -> Option<(i64, i64)> {
        let at = Timestamp::from_nanosecond(at_ns.into())
            .ok()?
            .to_zoned(self.trend.timezone.clone());
        let start = self.start(&at)?;
        let end = match self.trend.interval {
            Interval::Hour => start.checked_add(1.hour()),
            Interval::Day => start.checked_add(1.day()),
            Interval::Week => start.checked_add(1.week()),
            Interval::Month => start.checked_add(1.month()),
        };
        // The clock may be set forward over midnight; the day then begins where it goes on.
        let end = self.start(&end.ok()?)?;
        let ns = |at: &Zoned| i64::try_from(at.timestamp().as_nanosecond()).ok();
        let (start, end) = (ns(&start)?, ns(&end)?);
        (start <= at_ns && at_ns < end).then_some((start, end))
    }

    fn start(&self, at: &Zoned) -> Option<Zoned> {
        match self.trend.interval {
            Interval::Hour => {
                let floor = ZonedRound::new()
                    .smallest(Unit::Hour)
                    .mode(jiff::RoundMode::Floor);
                at.round(floor).ok()
            }
            Interval::Day => at.start_of_day().ok(),
            Interval::Week => {
                let first = match self.trend.week_start {
                    WeekStart::Monday => Weekday::Monday,
                    WeekStart::Sunday => Weekday::Sunday,
                };
                let back = at.weekday().since(first);
                at.checked_sub(i64::from(back).days())
                    .ok()?
                    .start_of_day()
                    .ok()
            }
            Interval::Month => at.first_of_month().ok()?.start_of_day().ok(),
        }
    }

    /// All buckets from that of the first instant to that of the last, both inclusive.
    ///
    /// # Errors
    /// When there are too many.
    pub(crate) fn buckets(
        &mut self,
        first_ns: i64,
        last_ns: i64,
    ) -> Result<Vec<i64>, DefinitionError> {
        let last = self.bucket(last_ns);
        let mut buckets = vec![self.bucket(first_ns)];
        while let Some(latest) = buckets.last().copied()
            && latest < last
        {
            if buckets.len() == BUCKETS_MAX {
                return Err(DefinitionError::at(
                    "trend.interval",
                    format!(
                        "gives more than {BUCKETS_MAX} buckets; take a longer interval or a shorter time range"
                    ),
                ));
            }
            buckets.push(self.next(latest));
        }
        Ok(buckets)
    }

    /// A bucket's start as people and programs read it: RFC 3339 with the zone's offset.
    pub(crate) fn label(&self, start_ns: i64) -> String {
        let at = Timestamp::from_nanosecond(start_ns.into()).unwrap_or_default();
        let zoned = at.to_zoned(self.trend.timezone.clone());
        at.display_with_offset(zoned.offset()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(interval: Interval, zone: &str, week_start: WeekStart) -> Calendar {
        Calendar::new(&Trend {
            interval,
            timezone: jiff::tz::TimeZone::get(zone).unwrap(),
            week_start,
            from_step: 1,
            to_step: 2,
        })
    }

    fn ns(text: &str) -> i64 {
        let at: Timestamp = text.parse().unwrap();
        at.as_nanosecond().try_into().unwrap()
    }

    fn labels(calendar: &mut Calendar, from: &str, to: &str) -> Vec<String> {
        let buckets = calendar.buckets(ns(from), ns(to)).unwrap();
        buckets.iter().map(|start| calendar.label(*start)).collect()
    }

    #[test]
    fn the_day_the_clocks_change_is_a_bucket_of_23_or_25_hours() {
        let mut berlin = calendar(Interval::Day, "Europe/Berlin", WeekStart::Monday);
        assert_eq!(
            labels(&mut berlin, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z"),
            [
                "2026-03-28T00:00:00+01:00",
                "2026-03-29T00:00:00+01:00",
                "2026-03-30T00:00:00+02:00"
            ]
        );
        let hours = |calendar: &mut Calendar, day: &str| {
            let start = calendar.bucket(ns(day));
            (calendar.next(start) - start) / 3_600_000_000_000
        };
        assert_eq!(hours(&mut berlin, "2026-03-29T12:00:00Z"), 23);
        assert_eq!(hours(&mut berlin, "2026-10-25T12:00:00Z"), 25);
    }

    #[test]
    fn the_hour_that_comes_twice_is_two_buckets() {
        let mut berlin = calendar(Interval::Hour, "Europe/Berlin", WeekStart::Monday);
        assert_eq!(
            labels(&mut berlin, "2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"),
            [
                "2026-10-25T02:00:00+02:00",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T03:00:00+01:00"
            ]
        );
    }

    #[test]
    fn weeks_begin_as_asked_and_months_differ() {
        let mut monday = calendar(Interval::Week, "Asia/Shanghai", WeekStart::Monday);
        assert_eq!(
            labels(&mut monday, "2026-01-04T15:59:59Z", "2026-01-04T16:00:00Z"),
            ["2025-12-29T00:00:00+08:00", "2026-01-05T00:00:00+08:00"]
        );
        let mut sunday = calendar(Interval::Week, "UTC", WeekStart::Sunday);
        assert_eq!(
            labels(&mut sunday, "2026-01-04T00:00:00Z", "2026-01-10T23:59:59Z"),
            ["2026-01-04T00:00:00+00:00"]
        );
        let mut month = calendar(Interval::Month, "UTC", WeekStart::Monday);
        assert_eq!(
            labels(&mut month, "2026-01-31T00:00:00Z", "2026-03-01T00:00:00Z").len(),
            3
        );
    }

    #[test]
    fn a_midnight_that_does_not_exist_is_stepped_over() {
        // Beirut sets its clocks forward at midnight.
        let mut beirut = calendar(Interval::Day, "Asia/Beirut", WeekStart::Monday);
        assert_eq!(
            labels(&mut beirut, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z"),
            [
                "2026-03-28T00:00:00+02:00",
                "2026-03-29T01:00:00+03:00",
                "2026-03-30T00:00:00+03:00"
            ]
        );
    }

    #[test]
    fn too_many_buckets_are_refused() {
        let mut hours = calendar(Interval::Hour, "UTC", WeekStart::Monday);
        let error = hours
            .buckets(ns("2000-01-01T00:00:00Z"), ns("2026-01-01T00:00:00Z"))
            .unwrap_err();
        assert_eq!(error.path, "trend.interval");
    }
}
