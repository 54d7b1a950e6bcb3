//! Order `unordered`: the distinct steps inside one window, in any order.
//!
//! Owns: the attempt from a start, which events it can add, what voids it, and the result of a subject. Refuses:
//! optional steps and gaps, which this order does not have.

use super::{Instant, fills, furthest, window_from};
use crate::shape::{Attempt, Kind, Shape, Verdict};

/// How the attempt from one start ends.
pub(super) enum Walk {
    /// All steps are filled.
    Completed {
        attempt: Attempt,
        /// The time of the last event added, in nanoseconds.
        at_ns: i64,
    },
    /// An exclusion made it void.
    Voided {
        /// The instant of the exclusion, in nanoseconds.
        at_ns: i64,
    },
    /// Its window is over.
    WindowOver(Attempt),
}

/// Whether an attempt may start here: "any instant with a fill"; "an attempt that starts at an instant which is
/// itself a non-mixed exclusion instant does not exist".
pub(super) fn is_start(instant: &Instant) -> bool {
    instant.has_a_fill() && instant.exclusions() == 0
}

/// "The attempt from start instant S: go through instants S, S+.. up to S+window in time order, adding events to a set
/// as long as the set can be matched to distinct steps; `t_k` = time of the k-th event that could be added; stop when n
/// are reached."
pub(super) fn walk_from(shape: &Shape, window: &[Instant]) -> Walk {
    let mut set: Vec<Kind> = Vec::new();
    let mut times_ns: Vec<i64> = Vec::new();
    for instant in window {
        // "At a non-mixed instant with an exclusion, if the attempt is not complete before it, the attempt is void."
        // "An event that both fills a step and is an exclusion at a non-mixed instant: it voids."
        if instant.exclusions() != 0 {
            return Walk::Voided {
                at_ns: instant.at_ns,
            };
        }
        for kind in &instant.kinds {
            set.push(*kind);
            if can_be_matched(shape, &set, &mut Vec::new()) {
                times_ns.push(instant.at_ns);
            } else {
                set.pop();
            }
        }
        if times_ns.len() == shape.steps {
            return Walk::Completed {
                attempt: attempt(shape, &times_ns),
                at_ns: instant.at_ns,
            };
        }
    }
    Walk::WindowOver(attempt(shape, &times_ns))
}

/// "Each event to one step it fills", the steps distinct: tries every free step for the first event, then the rest.
fn can_be_matched(shape: &Shape, events: &[Kind], taken: &mut Vec<usize>) -> bool {
    let Some((event, rest)) = events.split_first() else {
        return true;
    };
    (1..=shape.steps).any(|step| {
        if !fills(*event, step) || taken.contains(&step) {
            return false;
        }
        taken.push(step);
        let fits = can_be_matched(shape, rest, taken);
        taken.pop();
        fits
    })
}

/// Level = number of events that could be added; times by position.
fn attempt(shape: &Shape, times_ns: &[i64]) -> Attempt {
    Attempt {
        level: times_ns.len(),
        times_ns: (0..shape.steps)
            .map(|position| times_ns.get(position).copied())
            .collect(),
    }
}

/// "Result: as in 2 over attempts that exist (none is tainted). No attempt left: the subject is not counted."
pub(super) fn judge(shape: &Shape, instants: &[Instant]) -> Verdict {
    let attempts: Vec<Attempt> = instants
        .iter()
        .filter(|instant| is_start(instant))
        .filter_map(
            |start| match walk_from(shape, window_from(shape, instants, start.at_ns)) {
                Walk::Completed { attempt, at_ns: _ } | Walk::WindowOver(attempt) => Some(attempt),
                Walk::Voided { at_ns: _ } => None,
            },
        )
        .collect();
    Verdict {
        counted: furthest(&attempts).into_iter().collect(),
        attempts,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::reference::{
        instants,
        notation::{attempts, counted, range, shape_of, times_and_kinds, unordered, with},
    };

    const OUT: [&str; 0] = [];

    #[test]
    fn the_distinct_steps_may_come_in_any_order_inside_one_window() {
        assert_eq!(counted(&unordered(3), "c@0 a@5 b@10"), ["3: 0 5 10"]);
        assert_eq!(counted(&unordered(3), "c@0 a@5 b@11"), ["2: 0 5 -"]);
        assert_eq!(counted(&unordered(3), "a@0 a@1 a@2"), ["1: 0 - -"]);
        assert_eq!(counted(&unordered(3), "b@5 a@5 c@5"), ["3: 5 5 5"]);
    }

    #[test]
    fn an_event_fills_at_most_one_step_and_makes_room_for_the_others() {
        assert_eq!(counted(&unordered(2), "ab@0"), ["1: 0 -"]);
        assert_eq!(counted(&unordered(2), "ab@0 a@1"), ["2: 0 1"]);
        assert_eq!(counted(&unordered(2), "ab@0 b@1"), ["2: 0 1"]);
        // For a to be added, ab has to be b, and bc has to be c.
        assert_eq!(counted(&unordered(3), "ab@0 bc@1 a@2"), ["3: 0 1 2"]);
    }

    #[test]
    fn the_attempt_that_got_furthest_first_and_started_last_counts() {
        assert_eq!(
            counted(&unordered(3), "a@0 b@1 a@20 b@21 c@22"),
            ["3: 20 21 22"]
        );
        assert_eq!(counted(&unordered(2), "a@0 a@1 b@2"), ["2: 1 2"]);
        assert_eq!(
            attempts(&unordered(2), "a@0 a@1 b@2"),
            ["2: 0 2", "2: 1 2", "1: 2 -"]
        );
    }

    #[test]
    fn an_exclusion_voids_the_running_attempt_only() {
        let shape = with(unordered(3), |shape| shape.exclusions = vec![range(1, 3)]);
        assert_eq!(counted(&shape, "a@0 x@1 b@2 c@3"), ["2: 2 3 -"]);
        assert_eq!(counted(&shape, "a@0 b@1 x@2"), OUT);
        assert_eq!(counted(&shape, "a@0 b@1 c@2 x@3"), ["3: 0 1 2"]);
        assert_eq!(counted(&shape, "a@0 x@11"), ["1: 0 - -"]);
    }

    #[test]
    fn in_a_tie_exclusions_do_not_apply() {
        let shape = with(unordered(3), |shape| shape.exclusions = vec![range(1, 3)]);
        assert_eq!(counted(&shape, "a@0 x@1 b@1 c@2"), ["3: 0 1 2"]);
        assert_eq!(counted(&shape, "a@0 x@0 b@1"), ["2: 0 1 -"]);
    }

    #[test]
    fn an_event_that_is_both_step_and_exclusion_voids() {
        let shape = with(unordered(3), |shape| shape.exclusions = vec![range(1, 3)]);
        assert_eq!(counted(&shape, "a@0 bx@1"), OUT);
        assert_eq!(counted(&shape, "ax@0 b@1"), ["1: 1 - -"]);
        assert_eq!(counted(&shape, "a@0 b@1 cx@2 c@3"), ["1: 3 - -"]);
    }

    /// The most steps that some of these events fill, each a different one: by the sets of steps that can be filled.
    fn most_steps(shape: &Shape, events: &[Kind]) -> usize {
        let mut sets = BTreeSet::from([0_u64]);
        for event in events {
            for set in sets.clone() {
                for step in (0..shape.steps).filter(|step| event.fills >> step & 1 == 1) {
                    sets.insert(set | 1 << step);
                }
            }
        }
        let most = sets.iter().map(|set| set.count_ones()).max();
        usize::try_from(most.unwrap()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn by_every_instant_as_many_events_are_added_as_there_are_steps_that_can_be_filled(
            mut shape in shape_of(crate::definition::Order::Unordered, 5),
            marks in times_and_kinds(10),
        ) {
            shape.exclusions.clear();
            let instants = instants(&shape, &marks);
            for attempt in judge(&shape, &instants).attempts {
                let start = attempt.times_ns[0].unwrap();
                let mut events = Vec::new();
                for instant in window_from(&shape, &instants, start) {
                    events.extend(instant.kinds.iter().copied());
                    let so_far = attempt.times_ns.iter().flatten().filter(|at| **at <= instant.at_ns);
                    prop_assert_eq!(so_far.count(), most_steps(&shape, &events));
                }
            }
        }
    }
}
