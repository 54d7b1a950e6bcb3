//! The states of all subjects of one funnel, within bounds.
//!
//! Owns: which subject is in memory, when one may be let go, when `History` has to be asked, and what is counted when an
//! event cannot be taken in. The rule throughout: the counts are the batch result over exactly the events for which
//! [`Outcome::Applied`] or [`Outcome::Corrected`] was answered.

mod evict;

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{
    Ask, History, HistoryError, LiveCounts, Outcome,
    config::{Bounds, LiveConfig},
    plain::Step,
    state::{Counted, Known, Machine, Room, Subject},
    window::{Changed, Tumbling, Watermark, Windows},
};
use crate::{definition::Count, event::EARLIEST_NS, shape::Mark};

#[derive(Debug)]
struct Tenant<S> {
    subjects: HashMap<Box<[u8]>, S, RandomState>,
    windows: Windows,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Keeper<M: Machine> {
    machine: M,
    steps: usize,
    window_ns: i64,
    count: Count,
    tumbling: Tumbling,
    config: LiveConfig,
    watermark: Watermark,
    now_ns: Option<i64>,
    tenants: HashMap<Box<str>, Tenant<M::State>, RandomState>,
    subjects: usize,
    marks: usize,
    /// A subject that is not in memory has had no event that an event from here on could have to do with.
    evicted_before: i64,
    swept_ns: i64,
    counts: LiveCounts,
    /// Kept to be used again.
    key: Vec<u8>,
}

impl<M: Machine> Keeper<M> {
    pub(super) fn new(
        machine: M,
        steps: usize,
        window_ns: i64,
        count: Count,
        mut config: LiveConfig,
    ) -> Self {
        let tumbling = config.tumbling;
        let begins = tumbling.start(config.begins_at_ns);
        if begins != config.begins_at_ns {
            config.begins_at_ns = tumbling.end(begins).max(begins);
        }
        Self {
            machine,
            steps,
            window_ns,
            count,
            tumbling,
            watermark: Watermark::new(config.lateness_ns),
            now_ns: None,
            tenants: HashMap::default(),
            subjects: 0,
            marks: 0,
            evicted_before: config.begins_at_ns,
            swept_ns: i64::MIN,
            counts: LiveCounts::default(),
            key: Vec::new(),
            config,
        }
    }

    pub(super) fn watermark_ns(&self) -> i64 {
        self.watermark.at_ns()
    }

    pub(super) fn set_now(&mut self, now_ns: i64) {
        self.now_ns = Some(now_ns);
    }

    /// Windows that begin before this are final.
    pub(super) fn final_before(&self) -> i64 {
        let since = self.watermark.at_ns().saturating_sub(self.window_ns);
        self.tumbling.start(since)
    }

    pub(super) fn counts(&self) -> LiveCounts {
        let windows = |count: fn(&Windows) -> u64| {
            self.tenants
                .values()
                .map(|tenant| count(&tenant.windows))
                .sum()
        };
        LiveCounts {
            subjects: self.subjects as u64,
            marks: self.marks as u64,
            tenants: self.tenants.len() as u64,
            windows: windows(|windows| windows.len() as u64),
            windows_dropped: windows(Windows::dropped),
            ..self.counts
        }
    }

    /// An event that does nothing here still shows how far time has come; false when it is not believed.
    pub(super) fn observe(&mut self, at_ns: i64) -> bool {
        let ahead = self
            .now_ns
            .map(|now_ns| now_ns.saturating_add(self.config.ahead_ns));
        let is_believed = at_ns >= EARLIEST_NS && ahead.is_none_or(|ahead| at_ns <= ahead);
        if is_believed {
            self.watermark.observe(at_ns);
        }
        is_believed
    }

    /// Takes an event in. On an error nothing has changed.
    pub(super) fn apply(
        &mut self,
        funnel: &str,
        subject: &Subject<'_>,
        mark: Mark,
        history: Option<&mut dyn History>,
    ) -> Result<Outcome, HistoryError> {
        let before = self.watermark;
        if !self.observe(mark.at_ns) {
            self.counts.unbelieved += 1;
            return Ok(Outcome::Refused);
        }
        let mut key = std::mem::take(&mut self.key);
        let outcome = if self.machine.takes(mark.kind) && subject.key(self.count, &mut key) {
            self.take(funnel, subject, &key, mark, history)
        } else {
            Ok(Outcome::Ignored)
        };
        self.key = key;
        if let Ok(Outcome::Applied | Outcome::Corrected) = outcome {
            self.counts.applied += 1;
            self.counts.late += u64::from(mark.at_ns < before.at_ns());
        } else if outcome.is_err() {
            self.watermark = before;
        }
        if self.room().is_tight {
            self.sweep_if_worth();
        }
        outcome
    }

    fn take(
        &mut self,
        funnel: &str,
        subject: &Subject<'_>,
        key: &[u8],
        mark: Mark,
        history: Option<&mut dyn History>,
    ) -> Result<Outcome, HistoryError> {
        if mark.at_ns < self.config.begins_at_ns {
            self.counts.before_begin += 1;
            return Ok(Outcome::TooLate);
        }
        if !self.has_tenant(subject.tenant) {
            self.counts.refused_tenant += 1;
            return Ok(Outcome::Refused);
        }
        let known = Known {
            kept_from: self.tumbling.start(self.evicted_before),
            exact_from: self.evicted_before,
        };
        let step = match self.step(subject.tenant, key, mark) {
            Some(step) => step,
            None if mark.at_ns < known.exact_from => Step::Unreachable,
            None if self.make_room(history.is_some()) => {
                self.enter(subject.tenant, key, mark, known)
            }
            None => {
                self.counts.refused_subject += 1;
                return Ok(Outcome::Refused);
            }
        };
        match (step, history) {
            (Step::Done, _) => Ok(Outcome::Applied),
            (Step::Replayed, _) => {
                self.counts.replayed += 1;
                Ok(Outcome::Corrected)
            }
            (Step::Gone, _) | (Step::Unreachable, None) => {
                self.counts.too_late += 1;
                Ok(Outcome::TooLate)
            }
            (Step::Full, None) => {
                self.counts.refused_mark += 1;
                Ok(Outcome::Refused)
            }
            (Step::Unreachable | Step::Full, Some(history)) => {
                let ask = Ask {
                    funnel,
                    subject: *subject,
                    from_ns: self.ask_from(mark.at_ns),
                };
                self.look_up(&ask, key, mark, history)
            }
        }
    }

    /// Makes sure of the tenant; false when there is no room for it.
    fn has_tenant(&mut self, tenant: &str) -> bool {
        if self.tenants.contains_key(tenant) {
            return true;
        }
        if self.tenants.len() >= self.config.bounds.tenants {
            return false;
        }
        let (bound, first) = (
            self.config.bounds.windows_per_tenant,
            self.config.first_revision,
        );
        let new = Tenant {
            subjects: HashMap::default(),
            windows: Windows::new(self.steps, bound, first),
        };
        self.tenants.insert(tenant.into(), new);
        true
    }

    fn room(&self) -> Room {
        let Bounds {
            marks_per_subject,
            history_per_subject,
            marks,
            ..
        } = self.config.bounds;
        Room {
            marks: marks_per_subject,
            history: history_per_subject.min(marks_per_subject),
            is_tight: self.marks >= marks,
        }
    }

    /// Applies an event to a subject in memory; `None` when it is not there.
    fn step(&mut self, tenant: &str, key: &[u8], mark: Mark) -> Option<Step> {
        let (room, watermark_ns) = (self.room(), self.watermark.at_ns());
        let tenant = self.tenants.get_mut(tenant)?;
        // Attempts that this event can be part of begin in its window or before. Entries of totals also depend on the
        // entries before them, so that there it may still matter.
        if self.count != Count::Totals
            && self.tumbling.start(mark.at_ns) < tenant.windows.gone_before()
        {
            return Some(Step::Gone);
        }
        let state = tenant.subjects.get_mut(key)?;
        let held = M::held(state);
        let mut step = self.machine.apply(state, mark, room, &mut tenant.windows);
        self.machine
            .settle(state, room, watermark_ns, step == Step::Full);
        if step == Step::Full {
            self.marks = (self.marks + M::held(state)).saturating_sub(held);
            let room = Room {
                is_tight: self.marks >= self.config.bounds.marks,
                ..room
            };
            let held = M::held(state);
            step = self.machine.apply(state, mark, room, &mut tenant.windows);
            self.marks = (self.marks + M::held(state)).saturating_sub(held);
        } else {
            self.marks = (self.marks + M::held(state)).saturating_sub(held);
        }
        Some(step)
    }

    /// The first event of a subject.
    fn enter(&mut self, tenant: &str, key: &[u8], mark: Mark, known: Known) -> Step {
        let room = self.room();
        let Some(tenant) = self.tenants.get_mut(tenant) else {
            return Step::Full;
        };
        let mut state = self.machine.fresh(known);
        let step = self
            .machine
            .apply(&mut state, mark, room, &mut tenant.windows);
        if step == Step::Done {
            self.marks += M::held(&state);
            self.subjects += 1;
            tenant.subjects.insert(key.into(), state);
        }
        step
    }

    fn ask_from(&self, at_ns: i64) -> i64 {
        if self.count == Count::Totals {
            return self.config.begins_at_ns;
        }
        let oldest = at_ns
            .min(self.watermark.at_ns())
            .saturating_sub(self.window_ns);
        self.tumbling.start(oldest).max(self.config.begins_at_ns)
    }

    /// Sets a subject up again from all its events.
    fn look_up(
        &mut self,
        ask: &Ask<'_>,
        key: &[u8],
        mark: Mark,
        history: &mut dyn History,
    ) -> Result<Outcome, HistoryError> {
        let mut marks = Vec::new();
        history.marks(ask, &mut marks)?;
        self.counts.looked_up += 1;
        marks.retain(|mark| mark.at_ns >= ask.from_ns && self.machine.takes(mark.kind));
        if marks.len() >= self.config.bounds.marks_per_answer {
            self.counts.refused_mark += 1;
            return Ok(Outcome::Refused);
        }
        marks.sort_unstable();
        let exact_from = if ask.from_ns == self.config.begins_at_ns {
            ask.from_ns
        } else {
            ask.from_ns.saturating_add(self.window_ns)
        };
        let known = Known {
            kept_from: ask.from_ns,
            exact_from,
        };
        let (_, old) = self.machine.rebuilt(known, marks.clone());
        let is_behind = marks.last().is_some_and(|last| last.at_ns >= mark.at_ns);
        marks.insert(
            marks.partition_point(|other| other.at_ns <= mark.at_ns),
            mark,
        );
        let (state, new) = self.machine.rebuilt(known, marks);
        self.put_back(ask.subject.tenant, key, state, (old, new));
        Ok(if is_behind {
            Outcome::Corrected
        } else {
            Outcome::Applied
        })
    }

    fn put_back(
        &mut self,
        tenant: &str,
        key: &[u8],
        mut state: M::State,
        (old, new): (Counted, Counted),
    ) {
        let is_known = self
            .tenants
            .get(tenant)
            .is_some_and(|tenant| tenant.subjects.contains_key(key));
        if !is_known {
            self.make_room(true);
        }
        let (room, watermark_ns) = (self.room(), self.watermark.at_ns());
        // Where all is full, the state of a subject that has to be judged is not kept: it can be looked up again.
        let room = Room {
            marks: if room.is_tight { 0 } else { room.marks },
            ..room
        };
        self.machine.settle(&mut state, room, watermark_ns, false);
        let Some(tenant) = self.tenants.get_mut(tenant) else {
            return;
        };
        self.machine.recount(old, new, &mut tenant.windows);
        self.marks += M::held(&state);
        match tenant.subjects.insert(key.into(), state) {
            Some(was) => self.marks = self.marks.saturating_sub(M::held(&was)),
            None => self.subjects += 1,
        }
    }

    /// Takes at most `limit` windows that changed or became final since they were last taken, with their tenants.
    pub(super) fn take_changed(&mut self, limit: usize) -> Vec<(String, Changed)> {
        let final_before = self.final_before();
        let mut taken = Vec::new();
        for (name, tenant) in &mut self.tenants {
            let room = limit.saturating_sub(taken.len());
            let changed = tenant.windows.take_changed(final_before, room);
            taken.extend(
                changed
                    .into_iter()
                    .map(|changed| (name.to_string(), changed)),
            );
        }
        taken
    }

    pub(super) fn touch_all(&mut self) {
        for tenant in self.tenants.values_mut() {
            tenant.windows.touch_all();
        }
    }

    /// Keeps the window of a tenant that holds an instant; false when there is no room for the tenant, or the window
    /// began before the stream.
    pub(super) fn expect(&mut self, tenant: &str, at_ns: i64) -> bool {
        let start = self.tumbling.start(at_ns);
        if start < self.config.begins_at_ns || !self.has_tenant(tenant) {
            return false;
        }
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.windows.expect(start);
        }
        true
    }

    pub(super) fn window(&self, tenant: &str, start: i64) -> Option<&[u64]> {
        self.tenants.get(tenant)?.windows.counts(start)
    }
}
