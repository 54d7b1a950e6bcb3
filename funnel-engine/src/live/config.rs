//! How a live funnel is kept: its result windows, how late an event may come, and every bound of its memory.

use super::window::Tumbling;

/// One minute, nanoseconds.
const MINUTE_NS: i64 = 60_000_000_000;
/// How many result windows one conversion window may span; each is a row of a subject's state.
pub const MAX_OPEN_WINDOWS: i64 = 1_000;

/// A funnel that cannot be kept live.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct LiveError {
    /// JSON path into the definition, or the name of a setting.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl LiveError {
    pub(super) fn new(path: &str, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            message: message.into(),
        }
    }
}

/// Bounds of the memory of one live funnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Subjects (users or sessions) in memory.
    pub subjects: usize,
    /// Tenants in memory; an event of a further one is refused and counted.
    pub tenants: usize,
    /// Result windows in memory per tenant; beyond, the oldest is let go and cannot be corrected any more.
    pub windows_per_tenant: usize,
    /// Marks of one subject that has to be judged anew with every event.
    pub marks_per_subject: usize,
    /// Marks after which the state of a subject is tidied up: of a plain funnel, how many are kept although they are late
    /// themselves, for events still later.
    pub history_per_subject: usize,
    /// Marks of all subjects together (16 to 24 bytes each).
    pub marks: usize,
    /// Marks that one answer of a [`super::History`] may have.
    pub marks_per_answer: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            subjects: 1_000_000,
            tenants: 1_000,
            windows_per_tenant: 2_400,
            marks_per_subject: 1_000,
            history_per_subject: 32,
            marks: 20_000_000,
            marks_per_answer: 1_000_000,
        }
    }
}

/// How a live funnel is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveConfig {
    /// Result windows.
    pub tumbling: Tumbling,
    /// How far the watermark stays behind the largest event time seen, nanoseconds.
    pub lateness_ns: i64,
    /// How far an event may lie after the time last given to `set_now`, nanoseconds; one from further ahead would close
    /// every window, so it is refused and counted. Without a time given there is no such check.
    pub ahead_ns: i64,
    /// Where the stream begins, nanoseconds since 1970 UTC; rounded up to a whole result window. Earlier events are
    /// left out and counted: after a restart, the first instant from which events are fed again.
    pub begins_at_ns: i64,
    /// Revision of a window's first snapshot. After a restart, more than any revision published before.
    pub first_revision: u64,
    /// Bounds.
    pub bounds: Bounds,
}

impl LiveConfig {
    /// Windows of this width, five minutes of lateness and of running ahead, from the beginning of time.
    pub fn new(tumbling: Tumbling) -> Self {
        Self {
            tumbling,
            lateness_ns: 5 * MINUTE_NS,
            ahead_ns: 5 * MINUTE_NS,
            begins_at_ns: i64::MIN,
            first_revision: 1,
            bounds: Bounds::default(),
        }
    }

    pub(super) fn check(&self, window_ns: i64) -> Result<(), LiveError> {
        if self.lateness_ns < 0 || self.ahead_ns < 0 {
            return Err(LiveError::new("lateness", "must not be negative"));
        }
        let Bounds {
            subjects,
            tenants,
            windows_per_tenant,
            marks_per_subject,
            history_per_subject,
            marks,
            marks_per_answer,
        } = self.bounds;
        let smallest = [
            subjects,
            tenants,
            windows_per_tenant,
            marks_per_subject,
            marks,
            marks_per_answer,
        ];
        if smallest.contains(&0) || history_per_subject < 2 {
            return Err(LiveError::new(
                "bounds",
                "every bound must be at least 1, `history_per_subject` at least 2",
            ));
        }
        if window_ns / self.tumbling.width_ns() >= MAX_OPEN_WINDOWS {
            return Err(LiveError::new(
                "window",
                format!(
                    "spans {MAX_OPEN_WINDOWS} result windows or more; choose wider result windows, such as a day"
                ),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_conversion_may_not_span_thousands_of_results() {
        let hourly = LiveConfig::new(Tumbling::HOUR);
        assert_eq!(hourly.check(30 * 24 * 60 * MINUTE_NS), Ok(()));
        let error = hourly.check(365 * 24 * 60 * MINUTE_NS).unwrap_err();
        assert_eq!(error.path, "window");
    }

    #[test]
    fn no_bound_is_zero() {
        let mut config = LiveConfig::new(Tumbling::DAY);
        config.bounds.marks = 0;
        assert_eq!(config.check(1).unwrap_err().path, "bounds");
    }
}
