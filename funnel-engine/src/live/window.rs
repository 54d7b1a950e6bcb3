//! Result windows: buckets of event time, their counts and revisions, and the watermark.
//!
//! Owns: which window an instant lies in, counts per step and window, which windows changed since they were last
//! published, and which are gone. Refuses: knowing why a count changes.

use std::collections::BTreeMap;

/// One second, nanoseconds.
const SECOND_NS: i64 = 1_000_000_000;

/// Windows of equal width that touch one another, the first beginning at 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tumbling {
    width_ns: i64,
}

impl Tumbling {
    /// An hour of UTC.
    pub const HOUR: Self = Self {
        width_ns: 3_600 * SECOND_NS,
    };
    /// A day of UTC.
    pub const DAY: Self = Self {
        width_ns: 86_400 * SECOND_NS,
    };

    /// Windows of a width in nanoseconds; `None` unless it is one second to 366 days.
    pub fn of(width_ns: i64) -> Option<Self> {
        (SECOND_NS..=366 * 86_400 * SECOND_NS)
            .contains(&width_ns)
            .then_some(Self { width_ns })
    }

    /// Their width, nanoseconds.
    pub const fn width_ns(self) -> i64 {
        self.width_ns
    }

    /// Where the window that holds an instant begins.
    pub const fn start(self, at_ns: i64) -> i64 {
        at_ns
            .div_euclid(self.width_ns)
            .saturating_mul(self.width_ns)
    }

    /// Where the window that begins at `start` ends; the end is outside.
    pub const fn end(self, start: i64) -> i64 {
        start.saturating_add(self.width_ns)
    }
}

/// How far event time has come: the largest seen, less the lateness allowed. Never goes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watermark {
    newest_ns: i64,
    lateness_ns: i64,
}

impl Watermark {
    pub(super) const fn new(lateness_ns: i64) -> Self {
        Self {
            newest_ns: i64::MIN,
            lateness_ns,
        }
    }

    pub(super) fn observe(&mut self, at_ns: i64) {
        self.newest_ns = self.newest_ns.max(at_ns);
    }

    /// Events before it are late.
    pub(super) const fn at_ns(self) -> i64 {
        self.newest_ns.saturating_sub(self.lateness_ns)
    }
}

/// One result window.
#[derive(Clone, Debug)]
struct Window {
    counts: Vec<u64>,
    revision: u64,
    is_published: bool,
    is_changed: bool,
}

/// What [`Windows::take_changed`] tells of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) start: i64,
    pub(super) revision: u64,
    pub(super) counts: Vec<u64>,
}

/// The result windows of one tenant.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    steps: usize,
    bound: usize,
    first_revision: u64,
    kept: BTreeMap<i64, Window>,
    /// Starts of the windows that changed; each at most once, so never longer than `kept` ever was between takes.
    changed: Vec<i64>,
    /// Windows that begin before this were let go.
    gone_before: i64,
    /// Windows that begin before this have been told to be final.
    final_before: i64,
    dropped: u64,
}

impl Windows {
    pub(super) const fn new(steps: usize, bound: usize, first_revision: u64) -> Self {
        Self {
            steps,
            bound,
            first_revision,
            kept: BTreeMap::new(),
            changed: Vec::new(),
            gone_before: i64::MIN,
            final_before: i64::MIN,
            dropped: 0,
        }
    }

    /// Windows that begin before this cannot be corrected any more.
    pub(super) const fn gone_before(&self) -> i64 {
        self.gone_before
    }

    /// How many were let go for want of room.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Something that counted for one set of steps in a window now counts for another; 0 is for none.
    pub(super) fn swap(&mut self, start: i64, old: u64, new: u64) {
        if old == new || start < self.gone_before {
            return;
        }
        if !self.kept.contains_key(&start) {
            self.open(start);
        }
        let Some(window) = self.kept.get_mut(&start) else {
            return;
        };
        for (index, count) in window.counts.iter_mut().enumerate() {
            if new >> index & 1 > old >> index & 1 {
                *count += 1;
            } else if new >> index & 1 < old >> index & 1 {
                debug_assert!(*count > 0, "what is taken away was counted before");
                *count = count.saturating_sub(1);
            }
        }
        if !window.is_changed {
            window.is_changed = true;
            self.changed.push(start);
        }
    }

    /// Keeps a window and has it published, also if nothing ever counts in it.
    pub(super) fn expect(&mut self, start: i64) {
        if start < self.gone_before || self.kept.contains_key(&start) {
            return;
        }
        self.open(start);
        if let Some(window) = self.kept.get_mut(&start) {
            window.is_changed = true;
            self.changed.push(start);
        }
    }

    fn open(&mut self, start: i64) {
        let window = Window {
            counts: vec![0; self.steps],
            revision: self.first_revision,
            is_published: false,
            is_changed: false,
        };
        self.kept.insert(start, window);
        if self.kept.len() > self.bound
            && let Some((oldest, _)) = self.kept.pop_first()
        {
            self.gone_before = oldest.saturating_add(1);
            self.dropped += 1;
            self.changed.retain(|start| *start != oldest);
        }
    }

    /// Takes at most `limit` windows that changed or became final since they were last taken. `final_before`: windows
    /// that begin earlier are final.
    pub(super) fn take_changed(&mut self, final_before: i64, limit: usize) -> Vec<Changed> {
        if final_before > self.final_before {
            let became = self.kept.range_mut(self.final_before..final_before);
            for (start, window) in became.filter(|(_, window)| !window.is_changed) {
                window.is_changed = true;
                self.changed.push(*start);
            }
            self.final_before = final_before;
        }
        self.changed.sort_unstable();
        let some = limit.min(self.changed.len());
        let taken: Vec<i64> = self.changed.drain(..some).collect();
        let windows = taken.iter().filter_map(|start| {
            let window = self.kept.get_mut(start)?;
            if window.is_published {
                window.revision += 1;
            }
            (window.is_published, window.is_changed) = (true, false);
            Some(Changed {
                start: *start,
                revision: window.revision,
                counts: window.counts.clone(),
            })
        });
        windows.collect()
    }

    /// Has every window published again, with a higher revision.
    pub(super) fn touch_all(&mut self) {
        self.changed.clear();
        for (start, window) in &mut self.kept {
            window.is_changed = true;
            self.changed.push(*start);
        }
    }

    /// Counts of a window, if it is kept.
    pub(super) fn counts(&self, start: i64) -> Option<&[u64]> {
        self.kept.get(&start).map(|window| window.counts.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_touch_and_do_not_overlap() {
        let hours = Tumbling::HOUR;
        assert_eq!(hours.start(0), 0);
        assert_eq!(hours.start(-1), -3_600 * SECOND_NS);
        assert_eq!(hours.end(hours.start(-1)), 0);
        assert_eq!(hours.start(i64::MIN), i64::MIN, "no overflow at the edge");
        assert_eq!(Tumbling::of(0), None);
        assert_eq!(Tumbling::of(86_400 * SECOND_NS), Some(Tumbling::DAY));
    }

    #[test]
    fn the_watermark_never_goes_back() {
        let mut watermark = Watermark::new(5);
        assert_eq!(watermark.at_ns(), i64::MIN);
        watermark.observe(100);
        watermark.observe(50);
        assert_eq!(watermark.at_ns(), 95);
    }

    #[test]
    fn revisions_rise_with_every_correction() {
        let mut windows = Windows::new(3, 10, 7);
        windows.swap(0, 0b000, 0b011);
        windows.swap(0, 0b000, 0b001);
        let taken = windows.take_changed(i64::MIN, 9);
        assert_eq!(taken.len(), 1);
        assert_eq!(
            (taken[0].revision, taken[0].counts.as_slice()),
            (7, [2, 1, 0].as_slice())
        );
        assert!(windows.take_changed(i64::MIN, 9).is_empty());
        windows.swap(0, 0b011, 0b101);
        assert_eq!(windows.take_changed(i64::MIN, 9)[0].counts, [2, 0, 1]);
        let last = windows.take_changed(1, 9);
        assert_eq!(last[0].revision, 9, "becoming final is news too");
        assert!(windows.take_changed(1, 9).is_empty());
    }

    #[test]
    fn the_oldest_window_makes_room() {
        let mut windows = Windows::new(2, 2, 1);
        for start in [10, 20, 30] {
            windows.swap(start, 0, 1);
        }
        assert_eq!((windows.gone_before(), windows.dropped()), (11, 1));
        windows.swap(10, 0, 1);
        let starts: Vec<i64> = windows
            .take_changed(i64::MIN, 9)
            .iter()
            .map(|w| w.start)
            .collect();
        assert_eq!(starts, [20, 30]);
    }

    #[test]
    fn a_limit_leaves_the_rest_for_later() {
        let mut windows = Windows::new(2, 9, 1);
        for start in [3, 1, 2] {
            windows.swap(start, 0, 1);
        }
        assert_eq!(windows.take_changed(i64::MIN, 2).len(), 2);
        assert_eq!(windows.take_changed(i64::MIN, 2)[0].start, 3);
    }
}
