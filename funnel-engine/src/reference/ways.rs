//! Orders `ordered` and `strict`, counted by users or sessions: every way through the steps, tried one by one.
//!
//! Owns: ways, their level, what taints them, the attempt from a start, and the result of a subject. Refuses:
//! cutting the search short, except for steps that already break a clause (all that follows breaks it too) and for
//! alike events of one instant (they are interchangeable).

use std::collections::BTreeSet;

use super::{Instant, fills, furthest, is_in_window, window_from};
use crate::{
    definition::Order,
    shape::{Attempt, Kind, Shape, Verdict},
};

/// "A *way* from a start instant S: a list of filled steps `s_1=1 < s_2 < ...` with one event each."
///
/// Of an event only its time is kept: level, taint and choice depend on nothing else.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    /// Filled step (from 1) and its time in nanoseconds, by step.
    filled: Vec<(usize, i64)>,
}

impl Way {
    /// "Its *level* is its last (highest) filled step."
    pub(super) fn level(&self) -> usize {
        self.filled.last().map_or(0, |(step, _)| *step)
    }

    /// The time of its last filled step.
    pub(super) fn last_ns(&self) -> Option<i64> {
        self.filled.last().map(|(_, time)| *time)
    }

    /// "It *stands* at step `s_i` from just after `time(s_i)` to just before `time(s_{i+1})`, and at its last step
    /// until S+window (inclusive)." None at an instant at which it takes a step.
    fn stands_at(&self, at_ns: i64) -> Option<usize> {
        if self.filled.iter().any(|(_, time)| *time == at_ns) {
            return None;
        }
        let last_before = self.filled.iter().rfind(|(_, time)| *time < at_ns);
        last_before.map(|(step, _)| *step)
    }

    /// "It is *tainted* if at some instant that is not mixed, at which the way takes no step, and which lies in its
    /// window there is an exclusion whose `[from_step,to_step)` contains the step at which the way stands."
    ///
    /// `window`: the instants of its window, or the first of them, to ask whether it was tainted so far.
    pub(super) fn is_tainted(&self, shape: &Shape, window: &[Instant]) -> bool {
        window.iter().any(|instant| {
            self.stands_at(instant.at_ns)
                .is_some_and(|step| covers(shape, instant.exclusions(), step))
        })
    }

    /// When it filled each of the funnel's steps.
    fn times_ns(&self, shape: &Shape) -> Vec<Option<i64>> {
        let time_of = |step| {
            let filled = self.filled.iter().find(|(filled, _)| *filled == step);
            filled.map(|(_, time)| *time)
        };
        (1..=shape.steps).map(time_of).collect()
    }
}

/// Whether one of these exclusions (bits) has a `[from_step, to_step)` that contains the step.
pub(super) fn covers(shape: &Shape, exclusions: u64, step: usize) -> bool {
    shape
        .exclusions
        .iter()
        .enumerate()
        .filter(|(number, _)| exclusions >> number & 1 == 1)
        .any(|(_, range)| range.from_step <= step && step < range.to_step)
}

/// The attempt from one start.
pub(super) enum Outcome {
    /// "If there is an untainted way of level L the attempt is clean."
    Clean(Attempt),
    /// "Otherwise the attempt is tainted."
    Tainted {
        /// The level L that only tainted ways reach.
        level: usize,
    },
}

/// "The attempt from S", `window` being the instants from S to S+window; None if S is no start.
pub(super) fn attempt_from(shape: &Shape, window: &[Instant]) -> Option<Outcome> {
    let ways = all_ways(shape, window);
    // "Level L = highest level of any way from S."
    let level = ways.iter().map(Way::level).max()?;
    let clean: Vec<&Way> = ways
        .iter()
        .filter(|way| way.level() == level && !way.is_tainted(shape, window))
        .collect();
    Some(match choose(shape, &clean) {
        Some(attempt) => Outcome::Clean(attempt),
        None => Outcome::Tainted { level },
    })
}

/// "Those with the earliest time of step L, of these the one whose times `(t_2,...,t_L)`, an unfilled step counting as
/// infinity, are lexicographically smallest." All ways given have one level L and one start.
pub(super) fn choose(shape: &Shape, ways: &[&Way]) -> Option<Attempt> {
    let chosen = ways.iter().min_by_key(|way| {
        let times = way.times_ns(shape).into_iter();
        // A filled step (false) comes before an unfilled one (true).
        let or_infinity: Vec<_> = times.map(|time| (time.is_none(), time)).collect();
        (way.last_ns(), or_infinity)
    })?;
    Some(Attempt {
        level: chosen.level(),
        times_ns: chosen.times_ns(shape),
    })
}

/// "The *subject's result*" for `users` and `sessions`.
pub(super) fn judge(shape: &Shape, instants: &[Instant]) -> Verdict {
    let mut clean = Vec::new();
    let mut highest_tainted = 0;
    for start in instants.iter().filter(|instant| instant.can_fill(1)) {
        match attempt_from(shape, window_from(shape, instants, start.at_ns)) {
            Some(Outcome::Clean(attempt)) => clean.push(attempt),
            Some(Outcome::Tainted { level }) => highest_tainted = highest_tainted.max(level),
            None => {}
        }
    }
    match furthest(&clean) {
        // "L* = max L over its attempts. If a clean attempt has L = L*: ..."
        Some(best) if best.level >= highest_tainted => Verdict {
            counted: vec![best],
            attempts: clean,
        },
        // "Otherwise (all tainted) the subject leaves the whole funnel"; "no start at all: not in the funnel".
        Some(_) | None => Verdict {
            counted: Vec::new(),
            attempts: Vec::new(),
        },
    }
}

/// Every way from the first instant of `window`, which holds the instants from S to S+window.
///
/// The first steps of a way are a way too, so each way is found in the set with all its beginnings.
pub(super) fn all_ways(shape: &Shape, window: &[Instant]) -> BTreeSet<Way> {
    let mut search = Search {
        shape,
        window,
        events: window
            .iter()
            .flat_map(|instant| instant.kinds.iter().map(|kind| (instant.at_ns, *kind)))
            .collect(),
        found: BTreeSet::new(),
    };
    if let Some(start) = window.first() {
        search.start(start.at_ns);
    }
    search.found
}

/// One step filled with one event.
#[derive(Clone, Copy)]
struct Filled {
    step: usize,
    event: usize,
    at_ns: i64,
}

struct Search<'a> {
    shape: &'a Shape,
    window: &'a [Instant],
    /// The events of the window, by time; alike events of one instant are neighbours.
    events: Vec<(i64, Kind)>,
    found: BTreeSet<Way>,
}

impl Search<'_> {
    /// "S is the time of step 1."
    fn start(&mut self, start_ns: i64) {
        for (event, at_ns, kind) in self.free_events(&[]) {
            if at_ns == start_ns && fills(kind, 1) {
                self.extend(&mut vec![Filled {
                    step: 1,
                    event,
                    at_ns,
                }]);
            }
        }
    }

    /// Notes the way and tries every event for every step that may follow.
    fn extend(&mut self, way: &mut Vec<Filled>) {
        let (Some(first), Some(last)) = (way.first().copied(), way.last().copied()) else {
            return;
        };
        self.found.insert(Way {
            filled: way.iter().map(|next| (next.step, next.at_ns)).collect(),
        });
        let free = self.free_events(way);
        for step in last.step + 1..=self.shape.steps {
            if !self.may_skip_between(last.step, step) {
                continue;
            }
            for (event, at_ns, kind) in free.iter().copied() {
                if fills(kind, step)
                    && last.at_ns <= at_ns // "times non-decreasing"
                    && is_in_window(self.shape, first.at_ns, at_ns) // b.
                    && self.gap_fits(last.at_ns, step, at_ns)
                    && self.strictness_allows(last.at_ns, at_ns)
                {
                    way.push(Filled { step, event, at_ns });
                    self.extend(way);
                    way.pop();
                }
            }
        }
    }

    /// "All different events": those that the way has not taken; of alike ones of one instant the first only.
    fn free_events(&self, way: &[Filled]) -> Vec<(usize, i64, Kind)> {
        let numbered = (0..).zip(&self.events);
        let mut free: Vec<(usize, i64, Kind)> = numbered
            .filter(|(event, _)| way.iter().all(|filled| filled.event != *event))
            .map(|(event, (at_ns, kind))| (event, *at_ns, *kind))
            .collect();
        free.dedup_by_key(|(_, at_ns, kind)| (*at_ns, *kind));
        free
    }

    /// a. "Every step between two filled ones that is not filled is optional."
    fn may_skip_between(&self, from: usize, to: usize) -> bool {
        (from + 1..to).all(|step| self.shape.optional >> (step - 1) & 1 == 1)
    }

    /// c. "Gap from the previous filled step within `[not_before, within]` of the step filled."
    fn gap_fits(&self, previous_ns: i64, step: usize, at_ns: i64) -> bool {
        let gap = i128::from(at_ns) - i128::from(previous_ns);
        let not_before = self.shape.not_before_ns.get(step - 1);
        let within = self.shape.within_ns.get(step - 1);
        not_before.is_none_or(|least| i128::from(*least) <= gap)
            && within.is_none_or(|most| gap <= i128::from(*most))
    }

    /// d. "strict: no participating instant strictly between `time(s_i)` and `time(s_{i+1})` unless that instant is
    /// mixed."
    fn strictness_allows(&self, from_ns: i64, to_ns: i64) -> bool {
        self.shape.order != Order::Strict
            || self
                .window
                .iter()
                .filter(|instant| from_ns < instant.at_ns && instant.at_ns < to_ns)
                .all(Instant::is_mixed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        reference::{
            instants, known,
            notation::{
                attempts, counted, ordered, range, shape_of, strict, times_and_kinds, with,
            },
        },
        shape::Mark,
    };

    const OUT: [&str; 0] = [];

    // Rule 1: ties.

    #[test]
    fn events_of_one_instant_may_be_taken_in_any_order() {
        assert_eq!(counted(&ordered(3), "b@5 a@5"), ["2: 5 5 -"]);
        assert_eq!(counted(&ordered(3), "c@5 b@5 a@5"), ["3: 5 5 5"]);
        assert_eq!(counted(&ordered(3), "a@5 b@4"), ["1: 5 - -"]);
    }

    #[test]
    fn an_event_fills_at_most_one_step() {
        assert_eq!(counted(&ordered(2), "ab@5"), ["1: 5 -"]);
        assert_eq!(counted(&ordered(2), "ab@5 ab@5"), ["2: 5 5"]);
        assert_eq!(counted(&ordered(3), "abc@0 abc@1"), ["2: 0 1 -"]);
    }

    #[test]
    fn an_event_that_could_fill_several_steps_counts_for_the_highest_it_can_reach() {
        assert_eq!(counted(&ordered(3), "a@0 b@1 bc@2"), ["3: 0 1 2"]);
        assert_eq!(counted(&ordered(3), "a@0 bc@1 bc@2"), ["3: 0 1 2"]);
        // In one instant too: a from ab or b from ab, whichever leaves room for the other event.
        assert_eq!(counted(&ordered(2), "ab@0 a@0"), ["2: 0 0"]);
        assert_eq!(counted(&ordered(2), "ab@0 b@0"), ["2: 0 0"]);
    }

    #[test]
    fn strictness_does_not_apply_inside_a_tie() {
        // The instant 1 holds two different events, one of which is a step.
        assert_eq!(counted(&strict(3), "a@0 b@1 .@1 c@2"), ["3: 0 1 2"]);
        // Also where the way takes no step there.
        assert_eq!(counted(&strict(3), "a@0 c@1 .@1 b@2"), ["2: 0 2 -"]);
        // Alike events, and different events that are no steps, are not such a tie.
        assert_eq!(counted(&strict(3), "a@0 c@1 c@1 b@2"), ["1: 0 - -"]);
        let shape = with(strict(3), |shape| shape.exclusions = vec![range(2, 3)]);
        assert_eq!(counted(&shape, "a@0 .@1 x@1 b@2"), ["1: 0 - -"]);
    }

    #[test]
    fn exclusions_do_not_apply_inside_a_tie() {
        let shape = with(ordered(3), |shape| shape.exclusions = vec![range(1, 3)]);
        assert_eq!(counted(&shape, "a@0 x@1 b@1"), ["2: 0 1 -"]);
        assert_eq!(counted(&shape, "a@0 x@0 b@1"), ["2: 0 1 -"]);
        assert_eq!(counted(&shape, "a@0 x@1 b@2"), OUT);
        // Two alike exclusions are no tie.
        assert_eq!(counted(&shape, "a@0 x@1 x@1 b@2"), OUT);
    }

    // Rule 2: window and gaps.

    #[test]
    fn the_window_is_inclusive_and_starts_at_the_first_step() {
        assert_eq!(counted(&ordered(3), "a@0 b@5 c@10"), ["3: 0 5 10"]);
        assert_eq!(counted(&ordered(3), "a@0 b@5 c@11"), ["2: 0 5 -"]);
        assert_eq!(counted(&ordered(2), "a@-8 b@2"), ["2: -8 2"]);
    }

    #[test]
    fn the_longest_times_do_not_overflow() {
        let shape = with(ordered(2), |shape| shape.window_ns = i64::MAX);
        let ends = format!("a@{} b@{}", i64::MIN, i64::MAX);
        assert_eq!(counted(&shape, &ends), [format!("1: {} -", i64::MIN)]);
        let ends = format!("a@0 b@{}", i64::MAX);
        assert_eq!(counted(&shape, &ends), [format!("2: 0 {}", i64::MAX)]);
    }

    #[test]
    fn within_and_not_before_bound_the_gap_from_the_previous_step() {
        let within = with(ordered(3), |shape| shape.within_ns[2] = 2);
        assert_eq!(counted(&within, "a@0 b@1 c@4"), ["2: 0 1 -"]);
        assert_eq!(counted(&within, "a@0 b@2 c@4"), ["3: 0 2 4"]);
        // The later b is the one that c follows closely enough.
        assert_eq!(counted(&within, "a@0 b@1 b@3 c@4"), ["3: 0 3 4"]);
        let not_before = with(ordered(3), |shape| shape.not_before_ns[2] = 1);
        assert_eq!(counted(&not_before, "a@0 b@1 c@1"), ["2: 0 1 -"]);
        assert_eq!(counted(&not_before, "a@0 b@1 c@2"), ["3: 0 1 2"]);
    }

    #[test]
    fn a_gap_is_measured_from_the_previous_filled_step() {
        let shape = with(ordered(3), |shape| {
            shape.optional = 0b010;
            shape.within_ns[2] = 2;
        });
        assert_eq!(counted(&shape, "a@0 c@3"), ["1: 0 - -"]);
        assert_eq!(counted(&shape, "a@0 b@2 c@3"), ["3: 0 2 3"]);
    }

    // Rule 3: strictness.

    #[test]
    fn ordered_lets_other_events_lie_between() {
        assert_eq!(
            counted(&ordered(3), "a@0 c@1 a@2 b@3 b@4 c@5"),
            ["3: 2 3 5"]
        );
        assert_eq!(counted(&ordered(2), "a@0 .@1 b@2"), ["2: 0 2"]);
    }

    #[test]
    fn strict_is_ended_by_any_other_event_and_a_later_first_step_starts_another() {
        assert_eq!(counted(&strict(3), "a@0 .@1 b@2"), ["1: 0 - -"]);
        assert_eq!(counted(&strict(3), "a@0 a@1 b@2"), ["2: 1 2 -"]);
        assert_eq!(counted(&strict(3), "a@0 b@1 b@2 c@3"), ["2: 0 1 -"]);
        assert_eq!(counted(&strict(3), "a@0 b@1 .@2 a@3 b@4 c@5"), ["3: 3 4 5"]);
    }

    // Rule 4: several attempts.

    #[test]
    fn the_attempt_that_got_furthest_counts() {
        assert_eq!(
            counted(&ordered(3), "a@0 b@1 a@20 b@21 c@22"),
            ["3: 20 21 22"]
        );
        assert_eq!(counted(&ordered(3), "a@0 b@1 c@2 a@20 b@21"), ["3: 0 1 2"]);
    }

    #[test]
    fn of_those_the_one_that_started_last_before_the_level_was_first_reached() {
        assert_eq!(
            counted(&ordered(3), "a@0 a@4 b@5 b@6 c@7 a@8"),
            ["3: 4 5 7"]
        );
        assert_eq!(
            counted(&ordered(3), "a@0 b@1 c@2 a@3 b@4 c@5"),
            ["3: 0 1 2"]
        );
        assert_eq!(counted(&ordered(3), "a@0 b@1 a@2 b@3"), ["2: 0 1 -"]);
    }

    #[test]
    fn every_clean_attempt_is_listed_by_its_start() {
        assert_eq!(
            attempts(&ordered(3), "a@0 a@4 b@5 c@7 a@8"),
            ["3: 0 5 7", "3: 4 5 7", "1: 8 - -"]
        );
        assert_eq!(attempts(&ordered(3), "b@0 c@1"), OUT);
    }

    // Rule 5: exclusions.

    #[test]
    fn an_exclusion_taints_while_the_attempt_stands_in_its_range() {
        let shape = with(ordered(3), |shape| shape.exclusions = vec![range(1, 2)]);
        assert_eq!(counted(&shape, "a@0 x@1 b@2 c@3"), OUT);
        assert_eq!(counted(&shape, "a@0 b@1 x@2 c@3"), ["3: 0 1 3"]);
        assert_eq!(counted(&shape, "x@0 a@1 b@2 x@3"), ["2: 1 2 -"]);
        // The number of the exclusion says which range: y is the second.
        let two = with(ordered(3), |shape| {
            shape.exclusions = vec![range(1, 2), range(2, 3)];
        });
        assert_eq!(counted(&two, "a@0 b@1 x@2 c@3"), ["3: 0 1 3"]);
        assert_eq!(counted(&two, "a@0 b@1 y@2 c@3"), OUT);
    }

    #[test]
    fn an_exclusion_after_the_last_step_taints_until_the_window_ends() {
        let shape = with(ordered(3), |shape| shape.exclusions = vec![range(1, 3)]);
        assert_eq!(counted(&shape, "a@0 b@1 x@10"), OUT);
        assert_eq!(counted(&shape, "a@0 b@1 x@11"), ["2: 0 1 -"]);
        assert_eq!(counted(&shape, "a@0 b@1 c@2 x@3"), ["3: 0 1 2"]);
    }

    #[test]
    fn a_clean_attempt_that_gets_at_least_as_far_keeps_the_user_in() {
        let shape = with(ordered(3), |shape| shape.exclusions = vec![range(1, 3)]);
        assert_eq!(counted(&shape, "a@0 x@1 a@2 b@3 c@4"), ["3: 2 3 4"]);
        assert_eq!(attempts(&shape, "a@0 x@1 a@2 b@3 c@4"), ["3: 2 3 4"]);
        // The clean attempt from 13 reaches level 1 only; the tainted one reached 2.
        assert_eq!(counted(&shape, "a@0 x@1 b@2 a@13"), OUT);
        assert_eq!(attempts(&shape, "a@0 x@1 b@2 a@13"), OUT);
    }

    #[test]
    fn one_attempt_may_have_a_clean_way_beside_a_tainted_one() {
        let shape = with(ordered(3), |shape| shape.exclusions = vec![range(2, 3)]);
        // Over b@1 it stands at 2 when x comes; over b@3 it still stands at 1.
        assert_eq!(counted(&shape, "a@0 b@1 x@2 b@3 c@4"), ["3: 0 3 4"]);
    }

    #[test]
    fn an_exclusion_that_is_the_step_itself_does_not_taint() {
        let shape = with(ordered(3), |shape| shape.exclusions = vec![range(1, 3)]);
        assert_eq!(counted(&shape, "a@0 bx@1 c@2"), ["3: 0 1 2"]);
        assert_eq!(counted(&shape, "a@0 bx@1 b@2 c@3"), ["3: 0 1 3"]);
        // Over b@1 the way would be tainted; the exclusion itself is a b, and that way is clean.
        assert_eq!(counted(&shape, "a@0 b@1 bx@2 c@3"), ["3: 0 2 3"]);
        // The exclusion is a step, but none that the attempt from 0 can take.
        assert_eq!(counted(&shape, "a@0 b@1 ax@2 c@3"), OUT);
    }

    // Rule 6: optional steps.

    #[test]
    fn optional_steps_may_be_skipped() {
        let shape = with(ordered(3), |shape| shape.optional = 0b010);
        assert_eq!(counted(&shape, "a@0 c@1"), ["3: 0 - 1"]);
        assert_eq!(counted(&shape, "a@0 b@1 c@2"), ["3: 0 1 2"]);
        assert_eq!(counted(&shape, "a@0 b@1"), ["2: 0 1 -"]);
        // The earliest last step comes first, then the steps before it; in a tie b is taken along.
        assert_eq!(counted(&shape, "a@0 c@1 b@2 c@3"), ["3: 0 - 1"]);
        assert_eq!(counted(&shape, "a@0 c@2 b@2"), ["3: 0 2 2"]);
        assert_eq!(counted(&shape, "a@0 bc@2"), ["3: 0 - 2"]);
        assert_eq!(counted(&shape, "a@0 bc@2 bc@2"), ["3: 0 2 2"]);
    }

    #[test]
    fn a_way_stands_at_the_step_before_the_skipped_one() {
        let shape = with(ordered(4), |shape| {
            shape.optional = 0b0110;
            shape.exclusions = vec![range(2, 4)];
        });
        assert_eq!(counted(&shape, "a@0 x@1 d@2"), ["4: 0 - - 2"]);
        // b is left out, so that the way does not stand there when x comes.
        assert_eq!(counted(&shape, "a@0 b@1 x@2 d@3"), ["4: 0 - - 3"]);
    }

    /// All ways from `start_ns`, found by giving every event no step or any step and checking the whole list after.
    fn listed(shape: &Shape, events: &[Mark], start_ns: i64) -> BTreeSet<Vec<(usize, i64)>> {
        let base = shape.steps + 1;
        let choices = base.pow(u32::try_from(events.len()).unwrap());
        let mut ways = BTreeSet::new();
        for choice in 0..choices {
            let mut way: Vec<(usize, i64)> = Vec::new();
            let mut fit = true;
            for (number, mark) in events.iter().enumerate() {
                let step = choice / base.pow(u32::try_from(number).unwrap()) % base;
                if step > 0 {
                    way.push((step, mark.at_ns));
                    fit &= mark.kind.fills & (1 << (step - 1)) != 0;
                }
            }
            way.sort_unstable();
            if fit && way.first() == Some(&(1, start_ns)) && is_way(shape, events, &way) {
                ways.insert(way);
            }
        }
        ways
    }

    fn is_way(shape: &Shape, events: &[Mark], way: &[(usize, i64)]) -> bool {
        way.windows(2).all(|pair| {
            let ((from, left), (to, reached)) = (pair[0], pair[1]);
            let quiet = events.iter().all(|event| {
                let at = |other: &&Mark| other.at_ns == event.at_ns;
                event.at_ns <= left
                    || event.at_ns >= reached
                    || (events
                        .iter()
                        .filter(at)
                        .any(|other| other.kind != event.kind)
                        && events.iter().filter(at).any(|other| other.kind.fills != 0))
            });
            from < to
                && left <= reached
                && reached <= way[0].1 + shape.window_ns
                && (from + 1..to).all(|step| shape.optional & (1 << (step - 1)) != 0)
                && reached - left >= shape.not_before_ns[to - 1]
                && reached - left <= shape.within_ns[to - 1]
                && (shape.order == Order::Ordered || quiet)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn the_search_finds_the_ways_that_a_plain_list_of_all_choices_has(
            shape in prop_oneof![shape_of(Order::Ordered, 4), shape_of(Order::Strict, 4)],
            mut marks in times_and_kinds(6),
        ) {
            for mark in &mut marks {
                mark.kind = known(&shape, mark.kind);
            }
            let instants = instants(&shape, &marks);
            for start in instants.iter().filter(|instant| instant.can_fill(1)) {
                let found = all_ways(&shape, window_from(&shape, &instants, start.at_ns));
                let found: BTreeSet<_> = found.into_iter().map(|way| way.filled).collect();
                prop_assert_eq!(found, listed(&shape, &marks, start.at_ns));
            }
        }
    }
}
