//! The general case of `ordered` and `strict` funnels, counted by users or sessions.
//!
//! Owns: the subject's result by the rules of attempts: how far it got, by which start, and the times of that attempt.
//! Refuses: totals, which end attempts early.
//!
//! Cost: without attempts wanted, the level and the start come from passes over all starts at once, and one start is
//! followed for its times: O(events). Where ways at the level reached can be tainted, starts are taken in groups that
//! share their last taint; groups overlap by a window at most, and by nothing if every exclusion spans all steps below.
//! With attempts wanted every start is followed until nothing can change for it, but in long subjects only from one
//! instant that matters to the next, and never twice through the same cycle of taints: about O(starts x steps). Not so
//! with limited gaps, where a start costs the events as long as some gap allows another step, at worst its whole window.

use crate::matching::bits::{above, first, has, highest, only};
use crate::matching::cycles::{Alone, Cycles};
use crate::matching::instants::{Instants, Rules};
use crate::matching::machine::Machine;
use crate::matching::out::Out;
use crate::matching::skips::Skips;
use crate::matching::standing::{Queues, Slots, Standing};
use crate::matching::ways::{Earliest, Newest};
use crate::shape::Mark;

/// Without limited gaps.
pub(super) type Gapless = Ordered<Slots<i64>, Slots<usize>>;
/// With them.
pub(super) type Gapped = Ordered<Queues<i64>, Queues<usize>>;

/// The machines of a funnel and the events of a subject.
#[derive(Debug, Default)]
pub(super) struct Ordered<N: Standing<Newest> + Default, E: Standing<Earliest> + Default> {
    pub(super) instants: Instants,
    newest: Machine<N, Newest>,
    pub(super) earliest: Machine<E, Earliest>,
    /// When attempts start.
    starts: Vec<i64>,
    /// When ways at the level reached are tainted, and whether no way at all survives that.
    kills: Vec<(i64, bool)>,
    pub(super) skips: Skips,
    cycles: Cycles,
}

/// Which starts a pass takes, and how far it goes.
#[derive(Clone, Copy, Debug)]
struct Pass {
    /// From the first start at this time or later.
    from: i64,
    /// Starts before this time only.
    starts_before: i64,
    /// Instants before this time only.
    until: i64,
    /// Whether exclusions taint.
    clean: bool,
    /// Stop when one of these steps is recorded.
    goal: u64,
}

impl<N: Standing<Newest> + Default, E: Standing<Earliest> + Default> Ordered<N, E> {
    /// Judges a subject by the attempt that got furthest.
    pub(super) fn judge(&mut self, rules: &Rules, marks: &[Mark], out: &mut Out<'_>) {
        self.instants.fill(rules, marks);
        if out.wants_attempts() {
            self.judge_each(rules, out);
            return;
        }
        self.skips.clear();
        let everything = Pass {
            from: i64::MIN,
            starts_before: i64::MAX,
            until: i64::MAX,
            clean: false,
            goal: rules.last,
        };
        self.pass(rules, everything);
        let Some(level) = highest(self.newest.recorded) else {
            return;
        };
        let tainting = self.instants.kills;
        let chosen = if tainting == 0 {
            self.newest.record(level)
        } else if has(tainting, level) {
            self.chosen_by_groups(rules, level)
        } else {
            self.pass(
                rules,
                Pass {
                    clean: true,
                    goal: only(level),
                    ..everything
                },
            );
            self.newest.record(level)
        };
        if let Some((_, start)) = chosen {
            let index = self.instants.at_or_after(start);
            self.trace(rules, index, Some(level));
            self.tell(rules, level, out);
        }
    }

    // Every attempt by its start; the chosen one is found among them.
    fn judge_each(&mut self, rules: &Rules, out: &mut Out<'_>) {
        self.skips.fill(&self.instants.list);
        self.cycles.clear();
        let mut furthest = None;
        let mut next = self.instants.start_from(0);
        while let Some(index) = next {
            next = self.instants.start_from(index + 1);
            let level = if self.instants.kills == 0 {
                self.trace(rules, index, None);
                highest(self.earliest.recorded)
            } else {
                let level = self.level_from(rules, index);
                self.trace(rules, index, level);
                level
            };
            furthest = furthest.max(level);
            if let Some(level) = level
                && has(self.earliest.recorded, level)
            {
                self.tell(rules, level, out);
            }
        }
        out.choose(furthest.map_or(0, |level| level + 1));
    }

    // The furthest step of any way from a start, tainted or not.
    pub(super) fn level_from(&mut self, rules: &Rules, index: usize) -> Option<usize> {
        self.newest.clear(rules, true);
        let mut place = index;
        while let Some(instant) = self.instants.within_window(rules, index, place) {
            self.newest
                .step(rules, &self.instants.groups, instant, place == index, false);
            if self.newest.recorded & rules.last != 0 || self.newest.is_spent(0) {
                break;
            }
            place = self
                .skips
                .next(place + 1, self.newest.concern(rules, false));
        }
        highest(self.newest.recorded)
    }

    // Follows the untainted ways from a start, to the end of its window or until nothing can change for `goal`.
    fn trace(&mut self, rules: &Rules, index: usize, goal: Option<usize>) {
        let kills = self.instants.kills;
        // What is reached at a step where nothing taints is final.
        let sure = goal.map_or(rules.last, only) & !kills;
        self.cycles.begin();
        self.earliest.clear(rules, true);
        let mut place = index;
        while let Some(instant) = self.instants.within_window(rules, index, place) {
            self.earliest
                .step(rules, &self.instants.groups, instant, place == index, true);
            if self.earliest.recorded & sure != 0 || self.earliest.is_spent(kills) {
                break;
            }
            place = self.jump(rules, index, place, goal);
            place = self
                .skips
                .next(place + 1, self.earliest.concern(rules, true));
        }
    }

    // In a long subject: a place after which the way goes on just as after this one.
    fn jump(&mut self, rules: &Rules, start: usize, place: usize, goal: Option<usize>) -> usize {
        let kills = self.instants.kills;
        let simple = E::ONE_PER_STEP && rules.optional == 0 && !rules.strict;
        if !simple || kills == 0 || !self.skips.are_usable() {
            return place;
        }
        let list = self.instants.list.as_slice();
        let (Some(begin), Some(here)) = (list.get(start), list.get(place)) else {
            return place;
        };
        let occupied = self.earliest.occupied();
        let (Some(goal), Some(floor)) = (goal, highest(occupied & !kills)) else {
            return place;
        };
        // A way that stands where nothing taints is better than any that comes there later.
        self.earliest.forget_below(floor);
        let higher = above(floor) & first(goal + 1);
        let sure = higher & !kills;
        let beyond = sure & sure.wrapping_neg();
        let span = if beyond == 0 {
            higher
        } else {
            higher & (beyond - 1)
        };
        if here.kill == 0 || occupied & above(floor) != 0 || span == 0 {
            return place;
        }
        let end = begin.at.saturating_add(rules.window);
        self.cycles.jump(
            list,
            Alone {
                floor,
                span,
                beyond,
            },
            place,
            end,
        )
    }

    // All starts at once.
    fn pass(&mut self, rules: &Rules, pass: Pass) {
        self.newest.clear(rules, false);
        let first = self.instants.at_or_after(pass.from);
        for instant in self.instants.list.iter().skip(first) {
            if instant.at >= pass.until {
                break;
            }
            let seed = instant.at < pass.starts_before;
            self.newest
                .step(rules, &self.instants.groups, instant, seed, pass.clean);
            if self.newest.recorded & pass.goal != 0 {
                break;
            }
        }
    }

    // Where ways that stand at the level reached can be tainted: a start's attempt stays clean if it arrives there at or
    // after the last taint in its window. Starts with the same last taint are taken together; the groups are in the order
    // of their arrivals, so the first one with an arrival decides.
    fn chosen_by_groups(&mut self, rules: &Rules, level: usize) -> Option<(i64, i64)> {
        self.starts.clear();
        self.kills.clear();
        for instant in &self.instants.list {
            if has(instant.fills, 0) {
                self.starts.push(instant.at);
            }
            if has(instant.kill, level) {
                let wipes = instant.fills == 0 && !instant.kill & first(level + 1) == 0;
                self.kills.push((instant.at, wipes));
            }
        }
        let mut group = 0;
        while let Some(oldest) = self.starts.get(group).copied() {
            let end = |start: i64| start.saturating_add(rules.window);
            let passed = self.kills.partition_point(|(kill, _)| *kill <= end(oldest));
            let until = self.kills.get(passed).map_or(i64::MAX, |(kill, _)| *kill);
            let next = self
                .starts
                .partition_point(|start| end(*start) < until || until == i64::MAX);
            // A taint wherever a way can stand on its way to the level leaves nothing of the starts before it.
            let last = passed.checked_sub(1).and_then(|last| self.kills.get(last));
            let alive = last
                .filter(|(_, wipes)| *wipes)
                .map_or(oldest, |(kill, _)| oldest.max(*kill));
            let begin = self.starts.partition_point(|start| *start < alive);
            if let Some(from) = self.starts.get(begin).copied().filter(|_| begin < next) {
                let starts_before = self.starts.get(next).copied().unwrap_or(i64::MAX);
                self.pass(
                    rules,
                    Pass {
                        from,
                        starts_before,
                        until,
                        clean: true,
                        goal: 0,
                    },
                );
                let chosen = self.newest.record(level);
                if chosen.is_some() {
                    return chosen;
                }
            }
            group = next;
        }
        None
    }

    /// Hands over the untainted attempt recorded at a level.
    pub(super) fn tell(&self, rules: &Rules, level: usize, out: &mut Out<'_>) {
        if let Some((_, way)) = self.earliest.record(level) {
            out.attempt(level + 1, rules.steps, |times| {
                self.earliest.memory().write(way, times);
            });
        }
    }
}
