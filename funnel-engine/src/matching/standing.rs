//! Where ways stand: what is kept of all the ways at one step.
//!
//! Owns: [`Slots`] (one way per step; right when gaps are not limited, since then all ways at a step have the same future)
//! and [`Queues`] (one way per step and time of that step; needed for `within` and `not_before`). Refuses: optional steps,
//! ties and exclusions, which are the machine's.
//!
//! Bounds: `Slots` 64 ways; `Queues` at most one way per step and instant of the subject. An access to a queue is a binary
//! search; only where several next steps differ in `not_before` are the ways of that span searched one by one.

use std::collections::VecDeque;

use crate::matching::bits::{PerStep, has, members, only};
use crate::matching::instants::Rules;
use crate::matching::ways::Memory;

/// The ways that stand somewhere, by step.
pub(super) trait Standing<M: Memory> {
    /// Whether only the best way at a step matters.
    const ONE_PER_STEP: bool;

    /// Nothing stands anywhere, in a funnel of so many steps.
    fn clear(&mut self, steps: usize);

    /// The steps at which something stands.
    fn occupied(&self) -> u64;

    /// Ways that have waited too long for any next step are gone.
    fn expire(&mut self, rules: &Rules, at: i64);

    /// The best way that stands at `from` and may go on to `to` now.
    fn pick(
        &mut self,
        rules: &Rules,
        memory: &M,
        from: usize,
        to: usize,
        at: i64,
    ) -> Option<M::Way>;

    /// All ways at these steps are gone.
    fn leave(&mut self, steps: u64);

    /// A way has arrived. Returns whether it changes anything.
    fn arrive(&mut self, memory: &M, step: usize, at: i64, way: M::Way) -> bool;
}

/// One way per step.
#[derive(Debug)]
pub(super) struct Slots<W> {
    occupied: u64,
    ways: PerStep<W>,
}

impl<W: Copy + Default> Default for Slots<W> {
    fn default() -> Self {
        Self {
            occupied: 0,
            ways: PerStep::of(W::default()),
        }
    }
}

impl<M: Memory> Standing<M> for Slots<M::Way> {
    const ONE_PER_STEP: bool = true;

    fn clear(&mut self, _steps: usize) {
        self.occupied = 0;
    }

    #[inline]
    fn occupied(&self) -> u64 {
        self.occupied
    }

    #[inline]
    fn expire(&mut self, _rules: &Rules, _at: i64) {}

    #[inline]
    fn pick(
        &mut self,
        _rules: &Rules,
        _memory: &M,
        from: usize,
        _to: usize,
        _at: i64,
    ) -> Option<M::Way> {
        has(self.occupied, from).then(|| self.ways.get(from))
    }

    #[inline]
    fn leave(&mut self, steps: u64) {
        self.occupied &= !steps;
    }

    #[inline]
    fn arrive(&mut self, memory: &M, step: usize, _at: i64, way: M::Way) -> bool {
        if has(self.occupied, step) && !memory.is_better(way, self.ways.get(step)) {
            return false;
        }
        self.occupied |= only(step);
        self.ways.set(step, way);
        true
    }
}

/// The ways at one step, by the time of that step.
#[derive(Debug)]
struct Queue<W> {
    /// Those that may go on to any next step as far as `not_before` is concerned. Each is better than all later ones,
    /// since a later one that is as good makes it useless.
    ripe: VecDeque<(i64, W)>,
    /// Those after them.
    young: VecDeque<(i64, W)>,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self {
            ripe: VecDeque::new(),
            young: VecDeque::new(),
        }
    }
}

impl<W: Copy> Queue<W> {
    fn clear(&mut self) {
        self.ripe.clear();
        self.young.clear();
    }

    // Brings the queue up to a time: what has waited too long for every next step is of no use any more.
    fn ripen<M: Memory<Way = W>>(&mut self, rules: &Rules, memory: &M, step: usize, at: i64) {
        let age = |entry: &(i64, W)| at.saturating_sub(entry.0);
        while let Some(entry) = self
            .young
            .pop_front_if(|entry| age(entry) >= rules.longest_wait(step))
        {
            while self
                .ripe
                .pop_back_if(|worse| !memory.is_better(worse.1, entry.1))
                .is_some()
            {}
            // A better one that never gets too old leaves nothing to do for this one.
            if self.ripe.is_empty() || !has(rules.ageless, step) {
                self.ripe.push_back(entry);
            }
        }
        while self
            .ripe
            .pop_front_if(|entry| age(entry) > rules.patience(step))
            .is_some()
        {}
    }
}

/// One way per step and time.
#[derive(Debug)]
pub(super) struct Queues<W> {
    occupied: u64,
    by_step: Vec<Queue<W>>,
}

impl<W> Default for Queues<W> {
    fn default() -> Self {
        Self {
            occupied: 0,
            by_step: Vec::new(),
        }
    }
}

impl<M: Memory> Standing<M> for Queues<M::Way> {
    const ONE_PER_STEP: bool = false;

    fn clear(&mut self, steps: usize) {
        self.occupied = 0;
        self.by_step.iter_mut().for_each(Queue::clear);
        self.by_step.resize_with(steps, Queue::default);
    }

    fn occupied(&self) -> u64 {
        self.occupied
    }

    fn expire(&mut self, rules: &Rules, at: i64) {
        for (step, queue) in self.by_step.iter_mut().enumerate() {
            let newest = queue.young.back().or(queue.ripe.back());
            if newest.is_some_and(|entry| at.saturating_sub(entry.0) > rules.patience(step)) {
                queue.clear();
                self.occupied &= !only(step);
            }
        }
    }

    fn pick(
        &mut self,
        rules: &Rules,
        memory: &M,
        from: usize,
        to: usize,
        at: i64,
    ) -> Option<M::Way> {
        let queue = self.by_step.get_mut(from)?;
        queue.ripen(rules, memory, from, at);
        let gap = |entry: &(i64, M::Way)| at.saturating_sub(entry.0);
        let first = queue
            .ripe
            .partition_point(|entry| gap(entry) > rules.within(to));
        let ripe = queue.ripe.get(first);
        // The oldest of the young may have waited long enough for this step, if not for all.
        let young = queue
            .young
            .iter()
            .take_while(|entry| gap(entry) >= rules.not_before(to));
        let fitting = ripe
            .into_iter()
            .chain(young.filter(|entry| gap(entry) <= rules.within(to)));
        let ways = fitting.map(|entry| entry.1);
        ways.reduce(|best, way| {
            if memory.is_better(way, best) {
                way
            } else {
                best
            }
        })
    }

    fn leave(&mut self, steps: u64) {
        for step in members(self.occupied & steps) {
            self.by_step
                .get_mut(step)
                .into_iter()
                .for_each(Queue::clear);
        }
        self.occupied &= !steps;
    }

    fn arrive(&mut self, _memory: &M, step: usize, at: i64, way: M::Way) -> bool {
        if let Some(queue) = self.by_step.get_mut(step) {
            queue.young.push_back((at, way));
            self.occupied |= only(step);
        }
        true
    }
}
