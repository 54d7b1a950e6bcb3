//! Which subjects are let go when there is no room.
//!
//! First those whose windows are over: what they counted for stays counted, and an event that could change it is late.
//! Where events can be looked up, then those that were idle longest.

use super::{Count, Keeper, Machine};

impl<M: Machine> Keeper<M> {
    /// Room for one more subject; false when there is none.
    pub(super) fn make_room(&mut self, can_look_up: bool) -> bool {
        let bound = self.config.bounds.subjects;
        if self.subjects >= bound {
            self.sweep_if_worth();
        }
        if self.subjects >= bound && can_look_up {
            self.evict_idle();
        }
        self.subjects < bound
    }

    /// A sweep looks at every subject, so time must have gone on since the last.
    pub(super) fn sweep_if_worth(&mut self) {
        let step = (self.window_ns.min(self.tumbling.width_ns()) / 16).max(1);
        if self.watermark.at_ns() >= self.swept_ns.saturating_add(step) {
            self.sweep();
        }
    }

    /// Lets go of subjects all of whose windows ended, conversion window and all, by the watermark. What they counted
    /// for stays counted.
    pub(in crate::live) fn sweep(&mut self) {
        let watermark_ns = self.watermark.at_ns();
        let before = self.subjects;
        self.retain(|keeper, newest_ns| keeper.over_at(newest_ns) > watermark_ns);
        self.counts.evicted += before.saturating_sub(self.subjects) as u64;
        self.swept_ns = watermark_ns;
        if self.subjects < before {
            self.evicted_before = self.evicted_before.max(watermark_ns);
        }
    }

    /// From when on no event can have to do with a subject whose newest event is this.
    fn over_at(&self, newest_ns: i64) -> i64 {
        let attempt = newest_ns.saturating_add(self.window_ns).saturating_add(1);
        if self.count == Count::Totals {
            return attempt;
        }
        attempt.max(self.tumbling.end(self.tumbling.start(newest_ns)))
    }

    /// Lets go of a sixteenth of the subjects, those that were idle longest; they can be looked up again.
    fn evict_idle(&mut self) {
        let states = self
            .tenants
            .values()
            .flat_map(|tenant| tenant.subjects.values());
        let mut newest: Vec<i64> = states.map(M::newest_ns).collect();
        let share = newest.len() / 16;
        if newest.is_empty() {
            return;
        }
        let (_, idle_until, _) = newest.select_nth_unstable(share);
        let idle_until = *idle_until;
        let before = self.subjects;
        self.retain(|_, newest_ns| newest_ns > idle_until);
        self.counts.evicted_open += before.saturating_sub(self.subjects) as u64;
        self.evicted_before = self.evicted_before.max(self.over_at(idle_until));
    }

    fn retain(&mut self, stays: impl Fn(&Self, i64) -> bool) {
        let mut tenants = std::mem::take(&mut self.tenants);
        let (mut subjects, mut marks) = (0, 0);
        for tenant in tenants.values_mut() {
            tenant
                .subjects
                .retain(|_, state| stays(self, M::newest_ns(state)));
            subjects += tenant.subjects.len();
            marks += tenant.subjects.values().map(M::held).sum::<usize>();
        }
        (self.tenants, self.subjects, self.marks) = (tenants, subjects, marks);
    }
}
