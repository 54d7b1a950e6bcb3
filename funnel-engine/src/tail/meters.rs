//! What the tail has done and how far it is behind, for `/metrics`. The books balance: rows seen are rows passed on
//! and rows refused, by reason.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use event_store::TailRead;

/// Events that lie further ahead than this are counted as of the future, nanoseconds: one day.
pub const FUTURE_NS: i64 = 86_400_000_000_000;

/// Counters and gauges, readable from any thread while the tail runs.
#[derive(Debug, Default)]
pub struct Meters {
    seen: AtomicU64,
    passed: AtomicU64,
    not_text: AtomicU64,
    too_long: AtomicU64,
    before_1970: AtomicU64,
    future: AtomicU64,
    handed_over: AtomicU64,
    rebuilt: AtomicU64,
    failures: AtomicU64,
    lag_rows: AtomicU64,
    level_at_ns: AtomicI64,
}

/// The meters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TailFigures {
    /// Rows read from the store since the start, those read again included.
    pub seen: u64,
    /// Rows passed on to the hot tail.
    pub passed: u64,
    /// Rows refused: text that is not UTF-8.
    pub not_text: u64,
    /// Rows refused: text that is too long.
    pub too_long: u64,
    /// Rows refused: before 1970.
    pub before_1970: u64,
    /// Rows passed on that lie more than a day in the future: the clock of their sender is wrong.
    pub future: u64,
    /// Rows that the index has taken.
    pub handed_over: u64,
    /// Partitions that were read anew because the store had changed behind the cursor.
    pub rebuilt: u64,
    /// Polls that failed.
    pub failures: u64,
    /// Rows that were in the store at the last look and have not been read.
    pub lag_rows: u64,
    /// When nothing was left to read for the last time, nanoseconds since 1970 UTC; 0 is never.
    pub level_at_ns: i64,
}

impl Meters {
    /// All of them.
    pub fn figures(&self) -> TailFigures {
        TailFigures {
            seen: self.seen.load(Relaxed),
            passed: self.passed.load(Relaxed),
            not_text: self.not_text.load(Relaxed),
            too_long: self.too_long.load(Relaxed),
            before_1970: self.before_1970.load(Relaxed),
            future: self.future.load(Relaxed),
            handed_over: self.handed_over.load(Relaxed),
            rebuilt: self.rebuilt.load(Relaxed),
            failures: self.failures.load(Relaxed),
            lag_rows: self.lag_rows.load(Relaxed),
            level_at_ns: self.level_at_ns.load(Relaxed),
        }
    }

    pub(super) fn read(&self, read: &TailRead, future: u64) {
        self.seen.fetch_add(read.rows, Relaxed);
        self.passed.fetch_add(read.passed(), Relaxed);
        self.not_text.fetch_add(read.not_text, Relaxed);
        self.too_long.fetch_add(read.too_long, Relaxed);
        self.before_1970.fetch_add(read.before_1970, Relaxed);
        self.future.fetch_add(future, Relaxed);
    }

    pub(super) fn handed_over(&self, rows: u64) {
        self.handed_over.fetch_add(rows, Relaxed);
    }

    pub(super) fn rebuilt(&self) {
        self.rebuilt.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(super) fn lag(&self, rows: u64, now_ns: i64) {
        self.lag_rows.store(rows, Relaxed);
        if rows == 0 {
            self.level_at_ns.store(now_ns, Relaxed);
        }
    }
}
