//! The fast machine for the plain case: `ordered`, counted by users or sessions, no optional steps, no gap limits, and no
//! exclusion among the events.
//!
//! Owns: one pass that keeps, per level, only the newest start that has reached it. A newer start has the longer window
//! ahead and nothing to lose, so it replaces an older one. Refuses: everything that depends on more of a way than its
//! start; that is `ordered`.
//!
//! Cost: constant per event and step it can fill; instants with several events are buffered and matched.

use std::hint::select_unpredictable;

use crate::matching::bits::{PerStep, first, members};
use crate::matching::ties::{Group, Matching, climb, group, is_free};

/// The level of one subject after another, from its events in time order: a whole subject by [`Self::run`], or
/// [`Self::begin`], [`Self::push`] for each event, [`Self::finish`].
#[derive(Clone, Debug)]
pub struct Levels {
    now: Now,
    ways: Ways,
}

/// What changes with every event; small, so that it stays in registers.
#[derive(Clone, Copy, Debug)]
struct Now {
    /// The highest level so far.
    level: usize,
    /// When it was reached first, and by which start.
    best_at: i64,
    best_start: i64,
    /// The instant that is not yet taken in, because more of its events may follow.
    at: i64,
    fills: u64,
    /// Whether it has several events, which are in `crowd`.
    crowded: bool,
}

impl Now {
    const BEGIN: Self = Self {
        level: 0,
        best_at: 0,
        best_start: 0,
        at: i64::MIN,
        fills: 0,
        crowded: false,
    };
}

#[derive(Clone, Debug)]
struct Ways {
    steps: usize,
    all: u64,
    window: u64,
    /// For each level up to the highest so far: the newest start that has reached it; for level 0 the present instant.
    /// (Level 64 has no place and needs none: nothing comes after it.)
    start: PerStep<i64>,
    crowd: Vec<u64>,
    scratch: Vec<u64>,
    groups: Vec<Group>,
    matching: Matching,
}

impl Levels {
    /// For a funnel of so many steps (1 to 64; more are taken for 64) and an inclusive window in nanoseconds.
    pub fn new(steps: usize, window_ns: i64) -> Self {
        let steps = steps.clamp(1, 64);
        let ways = Ways {
            steps,
            all: first(steps),
            window: u64::try_from(window_ns).unwrap_or(0),
            start: PerStep::of(0),
            crowd: Vec::new(),
            scratch: Vec::new(),
            groups: Vec::new(),
            matching: Matching::default(),
        };
        Self {
            now: Now::BEGIN,
            ways,
        }
    }

    /// Takes a whole subject: times in nanoseconds that do not decrease, and the steps that each event can fill (bit k
    /// for step k + 1). Events of the same instant may come in any order. Returns the highest step reached, counted from
    /// 1, or 0. Stops reading when the last step is reached.
    #[inline]
    pub fn run(&mut self, events: impl IntoIterator<Item = (i64, u64)>) -> usize {
        let mut now = Now::BEGIN;
        for (at_ns, fills) in events {
            self.ways.next(&mut now, at_ns, fills);
            if now.level == self.ways.steps {
                break;
            }
        }
        self.ways.settle(&mut now);
        self.now = now;
        now.level
    }

    /// Begins a subject whose events come one by one.
    #[inline]
    pub const fn begin(&mut self) {
        self.now = Now::BEGIN;
    }

    /// Takes the subject's next event in, as in [`Self::run`].
    #[inline]
    pub fn push(&mut self, at_ns: i64, fills: u64) {
        if self.now.level < self.ways.steps {
            self.ways.next(&mut self.now, at_ns, fills);
        }
    }

    /// Ends the subject: the highest step reached, counted from 1, or 0.
    #[inline]
    pub fn finish(&mut self) -> usize {
        self.ways.settle(&mut self.now);
        self.now.level
    }

    /// The start of the attempt that counts, after the end of a subject; of no use at level 0.
    pub const fn start_ns(&self) -> i64 {
        self.now.best_start
    }

    /// When the highest step was reached first, after the end of a subject; of no use at level 0.
    pub const fn reached_ns(&self) -> i64 {
        self.now.best_at
    }

    /// After the end of a subject: when the attempt that counts filled each step, from the same events once more.
    /// `times_ns` has one place per step; those not reached become `None`.
    pub fn times(
        &mut self,
        events: impl IntoIterator<Item = (i64, u64)>,
        times_ns: &mut [Option<i64>],
    ) {
        times_ns.fill(None);
        let Now {
            level: goal,
            best_at: until,
            best_start: from,
            ..
        } = self.now;
        let mut now = Now {
            level: 0,
            ..Now::BEGIN
        };
        for (at, fills) in events {
            let fills = fills & self.ways.all;
            if at > until || now.level >= goal {
                break;
            }
            if at < from || fills == 0 {
                continue;
            }
            if at == now.at && now.fills != 0 {
                self.ways.join(now.crowded, now.fills, fills);
                now.crowded = true;
                continue;
            }
            self.ways.advance(&mut now, times_ns);
            (now.at, now.fills, now.crowded) = (at, fills, false);
        }
        self.ways.advance(&mut now, times_ns);
    }
}

impl Ways {
    #[inline]
    fn next(&mut self, now: &mut Now, at: i64, fills: u64) {
        let fills = fills & self.all;
        if fills == 0 {
            return;
        }
        if at == now.at && now.fills != 0 {
            self.join(now.crowded, now.fills, fills);
            now.crowded = true;
            return;
        }
        self.settle(now);
        now.at = at;
        now.fills = fills;
    }

    // Takes in the instant that is complete now.
    #[inline]
    fn settle(&mut self, now: &mut Now) {
        self.start.set(0, now.at);
        if now.crowded | (now.fills & now.fills.wrapping_sub(1) != 0) {
            *now = self.settle_crowd(*now);
        } else if now.fills != 0 {
            let step = now.fills.trailing_zeros() as usize;
            self.take(now, step, step);
        }
        now.fills = 0;
    }

    // The newest start of level `from` fills all steps up to index `step`, if there is one and its window is open. What an
    // event leads to is a toss-up for the branch predictor, so there are no branches here.
    #[inline]
    #[expect(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch")]
    fn take(&mut self, now: &mut Now, from: usize, step: usize) {
        let start = self.start.get(from);
        // Times do not decrease, so the difference fits an unsigned word even where it does not fit a signed one.
        let open = now.at.wrapping_sub(start).cast_unsigned() <= self.window;
        let takes = open & (from <= now.level);
        let gains = takes & (step >= now.level);
        self.start.set(
            step + 1,
            select_unpredictable(takes, start, self.start.get(step + 1)),
        );
        now.best_at = select_unpredictable(gains, now.at, now.best_at);
        now.best_start = select_unpredictable(gains, start, now.best_start);
        now.level = select_unpredictable(gains, step + 1, now.level);
    }

    #[cold]
    #[inline(never)]
    fn join(&mut self, crowded: bool, before: u64, fills: u64) {
        if !crowded {
            self.crowd.clear();
            self.crowd.push(before);
        }
        self.crowd.push(fills);
    }

    // An event for several steps, or several events.
    #[inline(never)]
    fn settle_crowd(&mut self, mut now: Now) -> Now {
        if !now.crowded {
            // From the highest step down, so that the event does not fill two.
            let mut rest = now.fills;
            while let Some(step) = rest.checked_ilog2() {
                rest ^= 1 << step;
                self.take(&mut now, step as usize, step as usize);
            }
            return now;
        }
        now.crowded = false;
        self.groups.clear();
        group(
            self.crowd.iter().copied(),
            &mut self.scratch,
            &mut self.groups,
        );
        if is_free(&self.groups) {
            // From the lowest step up: what was reached at this instant can go on at once.
            for step in members(self.crowd.iter().fold(0, |all, fills| all | fills)) {
                self.take(&mut now, step, step);
            }
            return now;
        }
        // A level is best reached from the lowest one that allows it, whose start is the newest. That one only rises with
        // the level: what cannot be filled together cannot be filled together with more.
        let mut from = PerStep::of(0_usize);
        let mut lowest = 0;
        self.matching.clear(&self.groups);
        for step in 0..self.steps {
            while lowest <= step && !self.matching.add(&self.groups, step) {
                self.matching.remove(lowest);
                lowest += 1;
            }
            from.set(step, lowest);
        }
        for step in (0..self.steps).rev() {
            let lowest = from.get(step);
            if lowest <= step {
                self.take(&mut now, lowest, step);
            }
        }
        now
    }

    // Takes in the complete instant, on the way of a single start: the furthest is the best, because a way that stands
    // further can do whatever the others can.
    fn advance(&mut self, now: &mut Now, times_ns: &mut [Option<i64>]) {
        let level = now.level;
        if now.crowded {
            self.groups.clear();
            group(
                self.crowd.iter().copied(),
                &mut self.scratch,
                &mut self.groups,
            );
            now.level = climb(&mut self.matching, &self.groups, level, self.steps);
        } else if level < self.steps && now.fills >> level & 1 == 1 {
            now.level += 1;
        }
        for time in times_ns.iter_mut().take(now.level).skip(level) {
            *time = Some(now.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Levels;

    #[test]
    fn whole_subjects_and_single_events_give_the_same() {
        type Subject = (&'static [(i64, u64)], usize, i64, i64);
        let subjects: [Subject; 6] = [
            (&[], 0, 0, 0),
            (&[(7, 0b010), (8, 0)], 0, 0, 0),
            (&[(0, 0b001), (3, 0b001), (5, 0b010)], 2, 3, 5),
            (&[(0, 0b001), (5, 0b100), (5, 0b010)], 3, 0, 5),
            (&[(5, 0b011), (5, 0), (5, 0b011), (5, 0b001)], 2, 5, 5),
            (
                &[
                    (0, 0b001),
                    (1, 0b010),
                    (2, 0b110),
                    (3, 0b001),
                    (4, 0b010),
                    (5, 0b100),
                ],
                3,
                0,
                2,
            ),
        ];
        let mut levels = Levels::new(3, 10);
        for (events, level, start, reached) in subjects {
            assert_eq!(levels.run(events.iter().copied()), level, "{events:?}");
            let run = (levels.start_ns(), levels.reached_ns());
            levels.begin();
            for (at_ns, fills) in events {
                levels.push(*at_ns, *fills);
            }
            assert_eq!(levels.finish(), level, "{events:?}");
            assert_eq!((levels.start_ns(), levels.reached_ns()), run);
            if level > 0 {
                assert_eq!(run, (start, reached), "{events:?}");
                let mut times = [Some(99); 3];
                levels.times(events.iter().copied(), &mut times);
                assert_eq!(times.iter().flatten().count(), level);
                assert_eq!((times[0], times[level - 1]), (Some(start), Some(reached)));
            }
        }
    }

    #[test]
    fn the_window_is_inclusive_even_across_the_whole_clock() {
        let mut levels = Levels::new(2, 10);
        assert_eq!(levels.run([(0, 1), (10, 2)]), 2);
        assert_eq!(levels.run([(0, 1), (11, 2)]), 1);
        assert_eq!(levels.run([(i64::MIN, 1), (i64::MAX, 2)]), 1);
        assert_eq!(levels.run([(i64::MIN, 2)]), 0);
    }
}
