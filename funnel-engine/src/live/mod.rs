//! Live funnels: kept up to date as events arrive, in any order.
//!
//! * **Result window**: event time is cut into windows of equal width (an hour, a day, ... of UTC). The result of a
//!   window is the batch funnel over the attempts that *start* in it; what comes after the window's end still counts for
//!   them, as long as their conversion window lasts. For users and sessions, the numbers of a funnel without exclusions
//!   are those of the batch trend over the same intervals (`from_step` 1, `to_step` k, for every k); for totals, the
//!   entries of the batch funnel by the window in which they start.
//! * **Watermark**: the largest event time seen, less the lateness allowed. A window is *final* when it ended, and the
//!   conversion window after it, by the watermark.
//! * **Late events** (before the watermark) are taken in like all others: from memory where it reaches, else from
//!   [`History`]. A result that was published is corrected by a snapshot with a higher revision. Where neither reaches,
//!   the event is left out and counted as `too_late`.
//!
//! Invariant: after any interleaving of events, every window that is kept is the batch result over exactly the events
//! for which [`Outcome::Applied`] or [`Outcome::Corrected`] was answered (`proof.rs`).
//!
//! Refuses: sockets and clocks. Time comes from events and arguments.

mod config;
mod funnel;
mod judged;
mod keeper;
mod plain;
#[cfg(test)]
mod proof;
mod set;
mod snapshot;
mod state;
mod window;

pub use config::{Bounds, LiveConfig, LiveError, MAX_OPEN_WINDOWS};
pub use funnel::LiveFunnel;
pub use set::{Classify, LiveSet, MAX_FUNNELS};
pub use snapshot::{Snapshot, StepSnapshot};
pub use state::Subject;
pub use window::Tumbling;

use crate::{
    matching::Matcher,
    shape::{Mark, Verdict},
};

/// Judges a subject. `Verdict::attempts` must be filled.
pub trait Judge {
    /// What marks come to; they are sorted by time. `verdict` is empty when it is handed over.
    fn judge(&mut self, marks: &[Mark], verdict: &mut Verdict);
}

/// To be made with `Wants { attempts: true }`.
impl Judge for Matcher {
    fn judge(&mut self, marks: &[Mark], verdict: &mut Verdict) {
        Self::judge(self, marks, verdict);
    }
}

/// A question to [`History`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask<'a> {
    /// For which funnel the events are wanted.
    pub funnel: &'a str,
    /// Whose.
    pub subject: Subject<'a>,
    /// From this instant on, inclusive, nanoseconds since 1970 UTC.
    pub from_ns: i64,
}

/// The events of the past: a store, or an index over it.
pub trait History {
    /// Appends all marks of a subject in a funnel since `ask.from_ns`, in any order: exactly the events that were
    /// applied before the one that is being applied now, which is not among them. A store that runs ahead of the
    /// stream has to cut at the stream's position.
    ///
    /// # Errors
    /// When it cannot tell; the event can be applied again later.
    fn marks(&mut self, ask: &Ask<'_>, marks: &mut Vec<Mark>) -> Result<(), HistoryError>;
}

/// The past could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot look up earlier events: {0}")]
pub struct HistoryError(pub String);

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Taken in.
    Applied,
    /// Taken in behind others of its subject; what was counted before has been put right.
    Corrected,
    /// Nothing to this funnel.
    Ignored,
    /// Left out: before the stream begins, or where neither memory nor history reaches.
    TooLate,
    /// Left out: a bound was reached, or its time cannot be believed.
    Refused,
}

/// What a live funnel took in, left out and holds. All but the last four only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveCounts {
    /// Events taken in.
    pub applied: u64,
    /// Of these, events before the watermark.
    pub late: u64,
    /// Of these, events that were behind others of their subject and were replayed or judged from memory.
    pub replayed: u64,
    /// Questions to `History` that were answered.
    pub looked_up: u64,
    /// Left out: neither memory nor history reaches them.
    pub too_late: u64,
    /// Left out: before the stream begins.
    pub before_begin: u64,
    /// Left out: before 1678, or too far after the time last given.
    pub unbelieved: u64,
    /// Left out: a further tenant.
    pub refused_tenant: u64,
    /// Left out: a further subject, while none could be let go.
    pub refused_subject: u64,
    /// Left out: a further mark of a subject that has as many open ones as there is room for.
    pub refused_mark: u64,
    /// Subjects let go whose windows were over.
    pub evicted: u64,
    /// Subjects let go that have to be looked up when they come again.
    pub evicted_open: u64,
    /// Result windows let go for want of room.
    pub windows_dropped: u64,
    /// Subjects in memory.
    pub subjects: u64,
    /// Marks in memory.
    pub marks: u64,
    /// Tenants in memory.
    pub tenants: u64,
    /// Result windows in memory.
    pub windows: u64,
}
