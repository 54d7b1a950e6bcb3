//! Two clocks, two types: the kernel's monotonic nanoseconds and wall time, with one converter.

use std::time::{SystemTime, UNIX_EPOCH};

/// Wall time, nanoseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixNanos(pub u64);

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonotonicNs(pub u64);

impl MonotonicNs {
    /// Nanoseconds from `earlier` to `self`, zero when the order is reversed.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl UnixNanos {
    /// Now, by the system's clock.
    pub fn now() -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
    }

    /// RFC 3339 with nine decimals, UTC.
    pub fn to_rfc3339(self) -> String {
        jiff::Timestamp::from_nanosecond(i128::from(self.0))
            .map_or_else(|_| String::new(), |timestamp| format!("{timestamp:.9}"))
    }
}

/// Where the two clocks stood at one instant. Renewed now and then, because wall time is steered.
#[derive(Clone, Copy, Debug)]
pub struct ClockAnchor {
    unix_ns: u64,
    monotonic_ns: u64,
}

impl ClockAnchor {
    /// Reads both clocks. The pair is taken between two monotonic readings, so it is off by at most
    /// half of what one reading takes.
    pub fn now() -> Self {
        let before = monotonic_now();
        let unix = UnixNanos::now();
        let after = monotonic_now();
        Self {
            unix_ns: unix.0,
            monotonic_ns: before.0.midpoint(after.0),
        }
    }

    /// A fixed pair, as a recording carries it.
    pub const fn fixed(unix: UnixNanos, monotonic: MonotonicNs) -> Self {
        Self {
            unix_ns: unix.0,
            monotonic_ns: monotonic.0,
        }
    }

    /// The pair.
    pub const fn pair(&self) -> (UnixNanos, MonotonicNs) {
        (UnixNanos(self.unix_ns), MonotonicNs(self.monotonic_ns))
    }

    /// Nanoseconds by which two pairs disagree about wall time.
    pub const fn differs_from(&self, other: &Self) -> u64 {
        let at = MonotonicNs(self.monotonic_ns);
        self.unix_ns.abs_diff(other.to_unix(at).0)
    }

    /// Wall time of an instant of the records' clock.
    pub const fn to_unix(&self, at: MonotonicNs) -> UnixNanos {
        if at.0 >= self.monotonic_ns {
            UnixNanos(self.unix_ns.saturating_add(at.0 - self.monotonic_ns))
        } else {
            UnixNanos(self.unix_ns.saturating_sub(self.monotonic_ns - at.0))
        }
    }
}

/// The records' clock, read from user space.
#[expect(
    unsafe_code,
    reason = "std does not expose CLOCK_MONOTONIC as a number, which is what the kernel stamps"
)]
pub fn monotonic_now() -> MonotonicNs {
    let mut at = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `at` is a valid timespec for the duration of the call.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut at) };
    debug_assert_eq!(status, 0, "CLOCK_MONOTONIC always exists");
    let seconds = u64::try_from(at.tv_sec).unwrap_or(0);
    MonotonicNs(seconds * 1_000_000_000 + u64::try_from(at.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_converts_both_ways_around_its_instant() {
        let anchor = ClockAnchor::fixed(UnixNanos(1_000_000), MonotonicNs(500));
        assert_eq!(anchor.to_unix(MonotonicNs(700)), UnixNanos(1_000_200));
        assert_eq!(anchor.to_unix(MonotonicNs(400)), UnixNanos(999_900));
    }

    #[test]
    fn a_step_of_the_wall_clock_shows_and_the_passing_of_time_does_not() {
        let before = ClockAnchor::fixed(UnixNanos(1_000_000), MonotonicNs(500));
        let later = ClockAnchor::fixed(UnixNanos(1_000_900), MonotonicNs(1_400));
        let stepped = ClockAnchor::fixed(UnixNanos(900_900), MonotonicNs(1_400));
        assert_eq!(later.differs_from(&before), 0);
        assert_eq!(stepped.differs_from(&before), 100_000);
    }

    #[test]
    fn wall_time_prints_with_nine_decimals() {
        assert_eq!(
            UnixNanos(1_000_000_001).to_rfc3339(),
            "1970-01-01T00:00:01.000000001Z"
        );
    }
}
