//! Count `totals`: a subject may enter again after completion, the end of the window, or an exclusion.
//!
//! Owns: when an entry ends, whether it counts, and where the next one may start. Refuses: what an attempt is; that
//! is decided where the order is.

use super::{
    Instant, unordered,
    unordered::Walk,
    ways,
    ways::{Outcome, Way},
    window_from,
};
use crate::{
    definition::Order,
    shape::{Attempt, Shape, Verdict},
};

/// One entry, and the cursor for the next.
struct Entry {
    counted: Option<Attempt>,
    next: Next,
}

/// Where the next entry may start, in nanoseconds.
#[derive(Clone, Copy)]
enum Next {
    AtOrAfter(i64),
    After(i64),
}

impl Next {
    fn allows(self, start_ns: i64) -> bool {
        match self {
            Self::AtOrAfter(at_ns) => start_ns >= at_ns,
            Self::After(at_ns) => start_ns > at_ns,
        }
    }
}

/// "Entries are taken one after another in time: cursor c = -infinity; the next entry starts at the first instant
/// S >= c (or > c) with a fill of step 1 (unordered: any fill; a non-mixed exclusion instant cannot start one)."
pub(super) fn judge(shape: &Shape, instants: &[Instant]) -> Verdict {
    let mut counted = Vec::new();
    let mut cursor = Next::AtOrAfter(i64::MIN);
    for start in instants {
        if cursor.allows(start.at_ns) && is_start(shape, start) {
            let entry = entry_from(shape, window_from(shape, instants, start.at_ns));
            counted.extend(entry.counted);
            cursor = entry.next;
        }
    }
    // "Every entry counts as one in every figure."
    Verdict {
        attempts: counted.clone(),
        counted,
    }
}

fn is_start(shape: &Shape, instant: &Instant) -> bool {
    match shape.order {
        Order::Ordered | Order::Strict | Order::Clickhouse => instant.can_fill(1),
        Order::Unordered => unordered::is_start(instant),
    }
}

/// The entry that starts at the first instant of `window`, which holds the instants from S to S+window.
fn entry_from(shape: &Shape, window: &[Instant]) -> Entry {
    match shape.order {
        Order::Ordered | Order::Strict | Order::Clickhouse => ordered_entry(shape, window),
        Order::Unordered => unordered_entry(shape, window),
    }
}

fn unordered_entry(shape: &Shape, window: &[Instant]) -> Entry {
    match unordered::walk_from(shape, window) {
        // "Completed ... ends at the earliest such time T; next entry: first start > T."
        Walk::Completed { attempt, at_ns } => Entry {
            counted: Some(attempt),
            next: Next::After(at_ns),
        },
        // "Unordered: any non-mixed exclusion instant excludes": "it counts nowhere; next entry: first start >= X".
        Walk::Voided { at_ns } => Entry {
            counted: None,
            next: Next::AtOrAfter(at_ns),
        },
        Walk::WindowOver(attempt) => Entry {
            counted: Some(attempt),
            next: window_over(shape, window),
        },
    }
}

/// "Next: first start > S+window." A sum beyond the last possible time is after all times.
fn window_over(shape: &Shape, window: &[Instant]) -> Next {
    let start_ns = window.first().map_or(i64::MAX, |start| start.at_ns);
    Next::After(start_ns.saturating_add(shape.window_ns))
}

/// "Going through the instants in (S, S+window] in order", from S itself because an entry may complete there.
fn ordered_entry(shape: &Shape, window: &[Instant]) -> Entry {
    let ways: Vec<Way> = ways::all_ways(shape, window).into_iter().collect();
    for (index, now) in window.iter().enumerate() {
        let (before, _) = window.split_at(index);
        let (so_far, _) = window.split_at(index + 1);
        let clean = untainted_ways(shape, &ways, so_far);
        if is_excluded(shape, &ways, before, now, &clean) {
            // "The entry is *excluded*: it counts nowhere; next entry: first start >= X."
            return Entry {
                counted: None,
                next: Next::AtOrAfter(now.at_ns),
            };
        }
        if highest(&clean) == Some(shape.steps) {
            // "Completed: an untainted way reaches step n -> ends at the earliest such time T; the entry counts with
            // level n; next entry: first start > T."
            return Entry {
                counted: furthest(shape, &clean),
                next: Next::After(now.at_ns),
            };
        }
        if shape.order == Order::Strict && !clean.iter().any(|way| can_go_on(way, so_far)) {
            // "Strict: when after an instant X no untainted way can go on, the entry ends at X with its furthest
            // clean level; next entry: first start >= X."
            return Entry {
                counted: furthest(shape, &clean),
                next: Next::AtOrAfter(now.at_ns),
            };
        }
    }
    // "Otherwise at S+window: furthest level; if only tainted ways have it the entry counts nowhere."
    let counted = match ways::attempt_from(shape, window) {
        Some(Outcome::Clean(attempt)) => Some(attempt),
        Some(Outcome::Tainted { level: _ }) | None => None,
    };
    Entry {
        counted,
        next: window_over(shape, window),
    }
}

/// "At a non-mixed instant X holding exclusions: let f be the furthest level of any untainted way that uses only
/// instants < X. If the exclusions of X cover f, and no untainted way fills a further step at X itself, the entry is
/// *excluded*." `clean`: the untainted ways that use only instants <= X.
fn is_excluded(
    shape: &Shape,
    ways: &[Way],
    before: &[Instant],
    now: &Instant,
    clean: &[&Way],
) -> bool {
    // At S itself there are no instants before, so no way and no f.
    let Some(f) = highest(&untainted_ways(shape, ways, before)) else {
        return false;
    };
    let goes_further_here = clean
        .iter()
        .any(|way| way.last_ns() == Some(now.at_ns) && way.level() > f);
    ways::covers(shape, now.exclusions(), f) && !goes_further_here
}

/// The untainted ways that use only the instants so far, as far as these can tell.
fn untainted_ways<'a>(shape: &Shape, ways: &'a [Way], so_far: &[Instant]) -> Vec<&'a Way> {
    let now_ns = so_far.last().map(|instant| instant.at_ns);
    ways.iter()
        .filter(|way| way.last_ns() <= now_ns && !way.is_tainted(shape, so_far))
        .collect()
}

/// "Only non-mixed instants end ways": whether there was none since its last step.
fn can_go_on(way: &Way, so_far: &[Instant]) -> bool {
    so_far
        .iter()
        .filter(|instant| way.last_ns() < Some(instant.at_ns))
        .all(Instant::is_mixed)
}

/// The furthest level of these ways.
fn highest(ways: &[&Way]) -> Option<usize> {
    ways.iter().map(|way| way.level()).max()
}

/// Of these ways those of the furthest level, and of them the one that gives the times.
fn furthest(shape: &Shape, ways: &[&Way]) -> Option<Attempt> {
    let level = highest(ways)?;
    let ways: Vec<&Way> = ways
        .iter()
        .copied()
        .filter(|way| way.level() == level)
        .collect();
    ways::choose(shape, &ways)
}

#[cfg(test)]
mod tests {
    use crate::{
        definition::Count,
        reference::notation::{attempts, counted, ordered, range, strict, unordered, with},
        shape::Shape,
    };

    const NONE: [&str; 0] = [];

    fn totals(shape: Shape) -> Shape {
        with(shape, |shape| shape.count = Count::Totals)
    }

    fn excluding(shape: Shape, from: usize, to: usize) -> Shape {
        with(totals(shape), |shape| {
            shape.exclusions = vec![range(from, to)];
        })
    }

    #[test]
    fn after_completion_a_user_may_enter_again() {
        let shape = totals(ordered(3));
        let twice = "a@0 b@1 c@2 a@3 b@4 c@5";
        assert_eq!(counted(&shape, twice), ["3: 0 1 2", "3: 3 4 5"]);
        assert_eq!(attempts(&shape, twice), ["3: 0 1 2", "3: 3 4 5"]);
        // A start at the very instant of completion is not after it.
        assert_eq!(counted(&totals(ordered(2)), "a@0 b@1 a@1 b@2"), ["2: 0 1"]);
        // An entry may complete where it starts.
        assert_eq!(
            counted(&totals(ordered(2)), "a@0 b@0 a@1 b@2"),
            ["2: 0 0", "2: 1 2"]
        );
    }

    #[test]
    fn after_the_end_of_the_window_a_user_may_enter_again() {
        let shape = totals(ordered(3));
        assert_eq!(counted(&shape, "a@0 a@5 a@11"), ["1: 0 - -", "1: 11 - -"]);
        // Unlike for users, the first start is the entry, not the last; and 10 is inside its window.
        assert_eq!(counted(&shape, "a@0 a@4 b@5 a@10 b@12"), ["2: 0 5 -"]);
    }

    #[test]
    fn after_an_exclusion_a_user_may_enter_again_and_the_entry_counts_nowhere() {
        let shape = excluding(ordered(3), 1, 3);
        assert_eq!(counted(&shape, "a@0 x@1 a@2 b@3"), ["2: 2 3 -"]);
        assert_eq!(
            counted(&shape, "a@0 b@1 c@2 x@3 a@4"),
            ["3: 0 1 2", "1: 4 - -"]
        );
        // The exclusion is a first step itself: the next entry starts there.
        assert_eq!(counted(&shape, "a@0 ax@1 b@2"), ["2: 1 2 -"]);
        // After the window it is too late to exclude.
        assert_eq!(counted(&shape, "a@0 x@11"), ["1: 0 - -"]);
    }

    #[test]
    fn an_exclusion_counts_only_at_the_level_that_the_entry_has_reached() {
        let shape = excluding(ordered(3), 1, 2);
        assert_eq!(counted(&shape, "a@0 b@1 x@2 c@3"), ["3: 0 1 3"]);
        // The entry goes on to step 2 with the very event that excludes step 1.
        assert_eq!(counted(&shape, "a@0 bx@1 c@2"), ["3: 0 1 2"]);
        // In a tie no exclusion applies.
        assert_eq!(counted(&shape, "a@0 x@1 c@1 b@2"), ["2: 0 2 -"]);
    }

    #[test]
    fn what_happens_first_ends_the_entry() {
        // For users the way over b@3 would be clean; an entry is excluded at 2, before it could complete.
        let shape = excluding(ordered(3), 2, 3);
        assert_eq!(counted(&shape, "a@0 b@1 x@2 b@3 c@4"), NONE);
    }

    #[test]
    fn a_furthest_level_that_only_tainted_ways_reach_counts_nowhere() {
        let shape = with(excluding(ordered(3), 1, 2), |shape| shape.within_ns[2] = 2);
        // At 2 the entry stands at level 2, which x does not cover. Level 3 takes b@3, and that way stood at 1.
        assert_eq!(counted(&shape, "a@0 b@1 x@2 b@3 c@5 a@9"), NONE);
        assert_eq!(counted(&shape, "a@0 b@1 x@2 b@3 c@6"), ["2: 0 1 -"]);
    }

    #[test]
    fn strictness_ends_an_entry_with_the_level_it_has() {
        let shape = totals(strict(3));
        assert_eq!(counted(&shape, "a@0 a@1 b@2"), ["1: 0 - -", "2: 1 2 -"]);
        assert_eq!(
            counted(&shape, "a@0 b@1 .@2 c@3 a@4"),
            ["2: 0 1 -", "1: 4 - -"]
        );
        // A tie ends nothing: the entry from 0 goes on, and 1 starts none.
        assert_eq!(counted(&shape, "a@0 a@1 .@1 b@2"), ["2: 0 2 -"]);
    }

    #[test]
    fn an_exclusion_comes_before_strictness() {
        let shape = excluding(strict(3), 1, 2);
        assert_eq!(counted(&shape, "a@0 x@1 a@2"), ["1: 2 - -"]);
        // It does not cover level 2: strictness ends the entry, which counts.
        assert_eq!(counted(&shape, "a@0 b@1 x@2 c@3"), ["2: 0 1 -"]);
    }

    #[test]
    fn unordered_entries_start_with_any_step() {
        let shape = totals(unordered(2));
        assert_eq!(counted(&shape, "b@0 a@1 a@2 b@3"), ["2: 0 1", "2: 2 3"]);
        assert_eq!(counted(&shape, "b@0 b@10 b@11"), ["1: 0 -", "1: 11 -"]);
    }

    #[test]
    fn unordered_entries_are_excluded_by_any_exclusion_outside_a_tie() {
        let shape = excluding(unordered(2), 1, 2);
        assert_eq!(counted(&shape, "b@0 x@1 a@2 b@3"), ["2: 2 3"]);
        assert_eq!(counted(&shape, "b@0 x@1 a@1"), ["2: 0 1"]);
        // An exclusion that is a step too cannot start an entry.
        assert_eq!(counted(&shape, "b@0 ax@1 b@2"), ["1: 2 -"]);
    }
}
