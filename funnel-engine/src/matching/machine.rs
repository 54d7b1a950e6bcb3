//! The general machine of `ordered` and `strict` funnels: follows ways from instant to instant.
//!
//! Owns: one instant's effect on all ways (steps taken, ways ended by strictness, ways tainted by exclusions) and, per
//! step, the first arrival that is not tainted since. Refuses: choosing starts and judging a subject; that is `ordered`
//! and `totals`.
//!
//! Cost: per instant O(1), plus the steps that its events can fill, plus a matching where events compete.

use crate::matching::bits::{PerStep, first, has, members, only};
use crate::matching::instants::{Instant, Rules, Tie};
use crate::matching::skips::Concern;
use crate::matching::standing::Standing;
use crate::matching::ties::{Group, Paths};
use crate::matching::ways::Memory;

/// Ways on their way. `S` says where they stand, `M` what is remembered of each.
#[derive(Debug)]
pub(super) struct Machine<S, M: Memory> {
    standing: S,
    memory: M,
    alone: bool,
    /// The steps that were not filled since a better way came to stand before them, or were lost. Filling any other
    /// step leads to nothing new where only one way per step matters.
    fresh: u64,
    /// The steps at which ways arrived at the last instant.
    pub(super) arrived: u64,
    arrivals: PerStep<M::Way>,
    /// The steps that some untainted way has as its last one.
    pub(super) recorded: u64,
    records: PerStep<(i64, M::Way)>,
    paths: Paths,
}

impl<S: Default, M: Memory + Default> Default for Machine<S, M> {
    fn default() -> Self {
        Self {
            standing: S::default(),
            memory: M::default(),
            alone: false,
            fresh: 0,
            arrived: 0,
            arrivals: PerStep::of(M::Way::default()),
            recorded: 0,
            records: PerStep::of((0, M::Way::default())),
            paths: Paths::default(),
        }
    }
}

impl<S: Standing<M>, M: Memory> Machine<S, M> {
    /// Forgets all ways. `alone`: there will be one start only.
    pub(super) fn clear(&mut self, rules: &Rules, alone: bool) {
        self.alone = alone;
        self.standing.clear(rules.steps);
        self.memory.clear();
        self.fresh = 0;
        self.recorded = 0;
        self.arrived = 0;
    }

    /// What is remembered.
    pub(super) const fn memory(&self) -> &M {
        &self.memory
    }

    /// Of the untainted ways with this last step, the first to arrive there (of several at once the best), and when.
    pub(super) fn record(&self, step: usize) -> Option<(i64, M::Way)> {
        has(self.recorded, step).then(|| self.records.get(step))
    }

    /// Whether nothing can change any more, whatever comes: no way can go on, and none can still be tainted.
    /// `kills` are the steps at which ways may still be tainted.
    pub(super) fn is_spent(&self, kills: u64) -> bool {
        self.standing.occupied() == 0 && self.recorded & kills == 0
    }

    /// The steps at which ways stand.
    pub(super) fn occupied(&self) -> u64 {
        self.standing.occupied()
    }

    /// Forgets the ways that stand or end below a step.
    pub(super) fn forget_below(&mut self, step: usize) {
        self.standing.leave(first(step));
        self.recorded &= !first(step);
    }

    /// What an instant must do to change anything. `clean` as in [`Self::step`].
    pub(super) fn concern(&self, rules: &Rules, clean: bool) -> Concern {
        let occupied = self.standing.occupied();
        Concern {
            fills: rules.after(occupied, false) & self.useful(rules, 0),
            kills: if clean { occupied | self.recorded } else { 0 },
            solid: rules.strict && occupied != 0,
        }
    }

    // The steps that are not filled in vain. `lost`: those whose ways are gone after this instant.
    fn useful(&self, rules: &Rules, lost: u64) -> u64 {
        if S::ONE_PER_STEP {
            self.fresh | lost
        } else if self.alone && rules.optional == 0 {
            // Of one start's ways the first one at a step is the best, unless it gets too old.
            !(self.standing.occupied() & rules.ageless) | lost
        } else {
            rules.all
        }
    }

    /// Takes in an instant. `seed`: attempts may start here. `clean`: exclusions taint; otherwise they are ignored.
    pub(super) fn step(
        &mut self,
        rules: &Rules,
        groups: &[Group],
        instant: &Instant,
        seed: bool,
        clean: bool,
    ) {
        self.arrived = 0;
        let kill = if clean { instant.kill } else { 0 };
        // The ways that take no step here cannot go on after it.
        let ended = if rules.strict && instant.solid {
            rules.all
        } else {
            kill
        };
        // What can be filled at all, and not in vain. A step that is lost must be filled again.
        self.fresh |= ended | u64::from(seed);
        self.standing.expire(rules, instant.at);
        let useful = self.useful(rules, ended);
        let next = rules.after(self.standing.occupied(), seed);
        if instant.fills & next & useful != 0 {
            match instant.tie {
                Tie::Single => self.take_one(rules, instant, instant.fills & next & useful),
                Tie::Free => self.take_any(rules, instant, seed),
                Tie::Matched(begin, end) => {
                    let groups = groups.get(begin..end).unwrap_or_default();
                    self.take_matched(rules, groups, instant, seed);
                }
            }
            self.fresh &= !instant.fills;
        }
        self.standing.leave(ended);
        self.recorded &= !kill;
        for step in members(self.arrived) {
            let way = self.arrivals.get(step);
            if self.standing.arrive(&self.memory, step, instant.at, way) {
                self.fresh |= rules.after(only(step), false);
            }
            if !has(self.recorded, step) {
                self.recorded |= only(step);
                self.records.set(step, (instant.at, way));
            }
        }
    }

    // One event: every way takes at most one step.
    fn take_one(&mut self, rules: &Rules, instant: &Instant, steps: u64) {
        for step in members(steps) {
            if let Some(way) = self.before(rules, instant, step, true, false) {
                self.offer(rules, instant, step, only(step), way);
            }
        }
    }

    // Events for any steps together: a way that arrived here can go on here.
    fn take_any(&mut self, rules: &Rules, instant: &Instant, seed: bool) {
        for step in members(instant.fills) {
            let onwards = has(rules.follow, step);
            if let Some(way) = self.before(rules, instant, step, seed, onwards) {
                self.offer(rules, instant, step, only(step), way);
            }
        }
    }

    // Events that compete: each source and each first step taken here is tried.
    fn take_matched(&mut self, rules: &Rules, groups: &[Group], instant: &Instant, seed: bool) {
        let mut paths = std::mem::take(&mut self.paths);
        if seed && has(instant.fills, 0) {
            let way = self.memory.seed(instant.at);
            self.take_paths(rules, groups, instant, (0, way), &mut paths);
        }
        for from in members(self.standing.occupied()) {
            for step in members(instant.fills & rules.after(only(from), false)) {
                let way = self
                    .standing
                    .pick(rules, &self.memory, from, step, instant.at);
                if let Some(way) =
                    way.filter(|way| self.memory.is_open(*way, instant.at, rules.window))
                {
                    self.take_paths(rules, groups, instant, (step, way), &mut paths);
                }
            }
        }
        self.paths = paths;
    }

    fn take_paths(
        &mut self,
        rules: &Rules,
        groups: &[Group],
        instant: &Instant,
        (step, way): (usize, M::Way),
        paths: &mut Paths,
    ) {
        paths.find(groups, step, rules.steps, rules.optional, rules.follow);
        for (last, taken) in &paths.found {
            self.offer(rules, instant, *last, *taken, way);
        }
    }

    // The best way that can take a step now. `onwards`: also from the steps taken at this instant.
    fn before(
        &mut self,
        rules: &Rules,
        instant: &Instant,
        step: usize,
        seed: bool,
        onwards: bool,
    ) -> Option<M::Way> {
        if step == 0 {
            return seed.then(|| self.memory.seed(instant.at));
        }
        let mut best = None;
        for from in (0..step).rev() {
            let here = (onwards && has(self.arrived, from)).then(|| self.arrivals.get(from));
            let there = if has(self.standing.occupied(), from) {
                self.standing
                    .pick(rules, &self.memory, from, step, instant.at)
            } else {
                None
            };
            for way in [here, there].into_iter().flatten() {
                if best.is_none_or(|best| self.memory.is_better(way, best)) {
                    best = Some(way);
                }
            }
            if !has(rules.optional, from) {
                break;
            }
        }
        best
    }

    // A way can arrive: it does, unless its window is over or a better one does.
    fn offer(&mut self, rules: &Rules, instant: &Instant, step: usize, taken: u64, way: M::Way) {
        if !self.memory.is_open(way, instant.at, rules.window) {
            return;
        }
        let way = self.memory.extend(way, taken, instant.at);
        if has(self.arrived, step) && !self.memory.is_better(way, self.arrivals.get(step)) {
            return;
        }
        self.arrived |= only(step);
        self.arrivals.set(step, way);
    }
}
