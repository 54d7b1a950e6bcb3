//! Each rule by hand.

use super::{judged, marks, oracle, shape};
use crate::definition::{Count, Mode, Order};
use crate::shape::{Attempt, Kind, Mark, Range, Shape, Verdict};

/// `"3: 0 5 9"`: level and times, `-` for none; several attempts apart by `|`.
fn told(attempts: &[Attempt]) -> String {
    let time = |time: &Option<i64>| time.map_or("-".to_owned(), |time| time.to_string());
    let one = |attempt: &Attempt| {
        let times: Vec<String> = attempt.times_ns.iter().map(time).collect();
        format!("{}: {}", attempt.level, times.join(" "))
    };
    attempts.iter().map(one).collect::<Vec<_>>().join(" | ")
}

#[track_caller]
fn expect(shape: &Shape, text: &str, counted: &str) {
    let marks = marks(text);
    assert_eq!(
        told(&judged(shape, &marks, false).counted),
        counted,
        "{text}"
    );
    assert_eq!(
        told(&judged(shape, &marks, true).counted),
        counted,
        "with attempts: {text}"
    );
    assert_eq!(
        told(&oracle::judge(shape, &marks).counted),
        counted,
        "oracle: {text}"
    );
}

fn ordered(steps: usize, window_ns: i64) -> Shape {
    shape(Order::Ordered, Count::Users, steps, window_ns)
}

fn excluding(mut shape: Shape, ranges: &[(usize, usize)]) -> Shape {
    shape.exclusions = ranges
        .iter()
        .map(|(from_step, to_step)| Range {
            from_step: *from_step,
            to_step: *to_step,
        })
        .collect();
    shape
}

#[test]
fn the_window_is_inclusive_and_starts_at_the_first_step() {
    expect(&ordered(3, 10), "1@0 2@5 3@10", "3: 0 5 10");
    expect(&ordered(3, 10), "1@0 2@5 3@11", "2: 0 5 -");
    expect(&ordered(3, 10), "2@0 3@1", "");
}

#[test]
fn the_latest_start_before_the_level_was_first_reached_counts() {
    expect(&ordered(2, 10), "1@0 1@3 2@5 1@6 2@7", "2: 3 5");
    expect(&ordered(3, 10), "1@0 2@1 1@8 3@11 2@12 3@13", "3: 8 12 13");
    expect(&ordered(2, 10), "1@0 1@3", "1: 0 -");
}

#[test]
fn events_of_one_instant_are_taken_in_any_order_each_once() {
    expect(&ordered(2, 10), "2@5 1@5", "2: 5 5");
    expect(&ordered(3, 10), "12@5", "1: 5 - -");
    expect(&ordered(3, 10), "12@5 12@5", "2: 5 5 -");
    expect(&ordered(3, 10), "1@1 23@5 2@5", "3: 1 5 5");
    expect(&ordered(4, 10), "1@1 234@5 23@5 2@5", "4: 1 5 5 5");
    expect(&ordered(4, 10), "1@1 234@5 23@5", "3: 1 5 5 -");
}

#[test]
fn an_event_fills_the_highest_step_it_can_reach() {
    expect(&ordered(3, 10), "1@0 2@1 23@2", "3: 0 1 2");
    expect(&ordered(3, 10), "1@0 123@1 123@2", "3: 0 1 2");
}

#[test]
fn strict_ends_an_attempt_at_any_other_event() {
    let strict = shape(Order::Strict, Count::Users, 3, 10);
    expect(&strict, "1@0 2@1 -@2 3@3", "2: 0 1 -");
    expect(&strict, "1@0 -@1 1@2 2@3 3@4", "3: 2 3 4");
    expect(&strict, "1@0 1@1 2@2 3@3", "3: 1 2 3");
    // Inside a tie strictness does not apply.
    expect(&strict, "1@0 -@1 1@1 2@2 3@3", "3: 1 2 3");
    expect(&strict, "1@0 -@1 3@1 2@2 3@3", "3: 0 2 3");
    // Alike events are no mixture.
    expect(&strict, "1@0 3@1 3@1 2@2 3@3", "1: 0 - -");
}

#[test]
fn gaps_are_from_the_previous_filled_step() {
    let mut gaps = ordered(3, 100);
    gaps.within_ns = vec![i64::MAX, 5, i64::MAX];
    gaps.not_before_ns = vec![0, 0, 4];
    expect(&gaps, "1@0 2@5 3@8 3@9", "3: 0 5 9");
    expect(&gaps, "1@0 2@6 3@20", "1: 0 - -");
    expect(&gaps, "1@0 2@6 1@7 2@12 3@20", "3: 7 12 20");
    // A later second step may do what the first one may not.
    gaps.within_ns[2] = 6;
    expect(&gaps, "1@0 2@1 2@4 3@10", "3: 0 4 10");
    // Not at the same instant, if there must be some time between.
    expect(&gaps, "1@0 2@3 3@3", "2: 0 3 -");
}

#[test]
fn optional_steps_may_be_skipped_and_are_filled_when_that_costs_nothing() {
    let mut optional = ordered(4, 100);
    optional.optional = 0b0110;
    expect(&optional, "1@0 4@5", "4: 0 - - 5");
    expect(&optional, "1@0 3@2 2@3 4@5", "4: 0 3 - 5");
    expect(&optional, "1@0 2@2 3@3 4@5", "4: 0 2 3 5");
    expect(&optional, "1@0 3@3", "3: 0 - 3 -");
    expect(&optional, "1@0 234@3 234@3", "4: 0 3 - 3");
    // The optional step is not worth a later conversion.
    expect(&optional, "1@0 4@1 2@2 4@3", "4: 0 - - 1");
    optional.within_ns[3] = 2;
    expect(&optional, "1@0 2@4 4@5", "4: 0 4 - 5");
    expect(&optional, "1@0 4@5", "1: 0 - - -");
}

#[test]
fn a_subject_whose_furthest_attempts_are_tainted_leaves() {
    let excluding = excluding(ordered(3, 10), &[(1, 3)]);
    expect(&excluding, "1@0 2@1 x@2 3@3", "");
    expect(&excluding, "1@0 2@1 3@3 x@4", "3: 0 1 3");
    // Tainted to the end of the window, not later.
    expect(&excluding, "1@0 2@1 x@10", "");
    expect(&excluding, "1@0 2@1 x@11", "2: 0 1 -");
    // A clean attempt as far as that rescues the subject, one not so far does not.
    expect(&excluding, "1@0 2@1 x@2 3@3 1@4 2@5 3@6", "3: 4 5 6");
    expect(&excluding, "1@0 2@1 x@2 3@3 1@4 2@5", "");
    // Only while the attempt stands in the range.
    let late = super::rules::excluding(ordered(3, 10), &[(2, 3)]);
    expect(&late, "1@0 x@1 2@2 3@3", "3: 0 2 3");
    expect(&late, "1@0 2@2 x@3 2@4 3@5", "3: 0 4 5");
    expect(&late, "1@0 2@2 x@3", "");
}

#[test]
fn exclusions_do_not_apply_inside_a_tie_or_at_own_steps() {
    let excluding = excluding(ordered(3, 10), &[(1, 3)]);
    expect(&excluding, "1@0 x@1 2@1 3@3", "3: 0 1 3");
    expect(&excluding, "1@0 2x@1 3@3", "3: 0 1 3");
    expect(&excluding, "1x@0 3x@1 2@2 3@3", "");
    expect(&excluding, "1@0 x@1 1@1 2@2 3@3", "3: 1 2 3");
}

#[test]
fn of_equal_arrivals_the_start_survives_whose_window_ends_before_the_taint() {
    let excluding = excluding(ordered(3, 10), &[(1, 3)]);
    expect(&excluding, "1@0 1@5 2@6 x@12", "2: 0 6 -");
    expect(&excluding, "1@0 1@5 2@6 x@10 x@14", "");
    expect(&excluding, "1@0 2@1 x@5 1@6 2@7 x@17", "2: 6 7 -");
}

#[test]
fn unordered_takes_the_steps_as_they_come() {
    let unordered = shape(Order::Unordered, Count::Users, 3, 10);
    expect(&unordered, "3@0 1@4 2@10", "3: 0 4 10");
    expect(&unordered, "3@0 1@4 2@11", "2: 0 4 -");
    expect(&unordered, "1@0 1@1 1@2", "1: 0 - -");
    expect(&unordered, "12@0 1@1 3@2", "3: 0 1 2");
    let voided = excluding(unordered, &[(1, 3)]);
    expect(&voided, "1@0 x@1 2@2 3@3", "2: 2 3 -");
    expect(&voided, "1@0 2@1 3@2 x@3", "3: 0 1 2");
    expect(&voided, "1@0 2@1 3x@2", "");
    expect(&voided, "1@0 2@1 3@2 x@2", "3: 0 1 2");
    expect(&voided, "1@0 x@10", "");
}

#[test]
fn totals_enter_again_after_completion_window_end_and_exclusion() {
    let totals = shape(Order::Ordered, Count::Totals, 2, 10);
    expect(&totals, "1@0 1@1 2@2 1@3 2@4", "2: 0 2 | 2: 3 4");
    expect(&totals, "1@0 1@5 1@11 2@12", "1: 0 - | 2: 11 12");
    expect(&totals, "1@0 2@2 1@2 2@3", "2: 0 2");
    let excluding = excluding(totals, &[(1, 2)]);
    expect(&excluding, "1@0 x@1 2@2 1@3 2@4", "2: 3 4");
    expect(&excluding, "1@0 1x@1 2@2", "2: 1 2");
    let strict = shape(Order::Strict, Count::Totals, 3, 10);
    expect(&strict, "1@0 2@1 1@2 2@3 3@4", "2: 0 1 - | 3: 2 3 4");
    expect(&strict, "1@0 -@1 2@2 3@3", "1: 0 - -");
    let unordered = shape(Order::Unordered, Count::Totals, 2, 10);
    expect(&unordered, "2@0 1@1 1@2 2@13", "2: 0 1 | 1: 2 - | 1: 13 -");
}

#[test]
fn an_entry_whose_furthest_ways_are_all_tainted_counts_nowhere() {
    let mut totals = excluding(shape(Order::Ordered, Count::Totals, 3, 10), &[(1, 2)]);
    totals.within_ns[2] = 2;
    expect(&totals, "1@0 2@1 x@3 2@5 3@6", "");
    expect(&totals, "1@0 2@1 x@3 2@5 3@6 1@11", "1: 11 - -");
    expect(&totals, "1@0 2@1 x@3 2@5", "2: 0 1 -");
}

#[test]
fn every_attempt_is_told_when_wanted() {
    let plain = ordered(3, 10);
    let verdict = judged(&plain, &marks("1@0 1@1 2@2 1@5 3@11 2@12"), true);
    assert_eq!(told(&verdict.attempts), "2: 0 2 - | 3: 1 2 11 | 2: 5 12 -");
    assert_eq!(told(&verdict.counted), "3: 1 2 11");
    assert!(judged(&plain, &marks("1@0"), false).attempts.is_empty());
    let excluding = excluding(plain, &[(1, 3)]);
    let verdict = judged(&excluding, &marks("1@0 x@1 1@2 2@3"), true);
    assert_eq!(told(&verdict.attempts), "2: 2 3 -");
}

fn clickhouse(steps: usize, window_ns: i64, modes: &[Mode]) -> Shape {
    Shape {
        modes: modes.to_vec(),
        ..shape(Order::Clickhouse, Count::Users, steps, window_ns)
    }
}

#[test]
fn window_funnel_as_measured_on_the_real_one() {
    use Mode::{AllowReentry, StrictDeduplication, StrictIncrease, StrictOnce, StrictOrder};
    let level = |modes: &[Mode], steps: usize, text: &str| {
        let verdict = judged(&clickhouse(steps, 10, modes), &marks(text), false);
        verdict.counted.first().map_or(0, |attempt| attempt.level)
    };
    // Equal timestamps advance in the order of the conditions, one row through several.
    assert_eq!(level(&[], 2, "2@5 1@5"), 2);
    assert_eq!(level(&[], 3, "123@5"), 3);
    assert_eq!(level(&[StrictOnce], 3, "123@5"), 1);
    assert_eq!(
        (level(&[], 2, "1@0 2@10"), level(&[], 2, "1@0 2@11")),
        (2, 1)
    );
    // A foreign row stops strict_order for good.
    assert_eq!(level(&[StrictOrder], 2, "1@0 -@1 1@2 2@3"), 1);
    assert_eq!(level(&[StrictOrder], 3, "1@0 3@1 2@2 3@3"), 1);
    assert_eq!(level(&[StrictOrder, AllowReentry], 3, "1@0 3@1 2@2 3@3"), 3);
    // The open defect of strict_increase.
    assert_eq!(level(&[StrictIncrease], 2, "1@0 1@1 2@1"), 1);
    assert_eq!(level(&[StrictIncrease, StrictOnce], 2, "1@0 1@1 2@1"), 2);
    assert_eq!(level(&[StrictOnce, StrictDeduplication], 3, "12@5 13@5"), 2);
    assert_eq!(
        level(&[StrictOnce, StrictDeduplication], 3, "1@0 12@5 13@5"),
        3
    );
    assert_eq!(level(&[StrictDeduplication], 3, "1@0 2@1 2@2 3@3"), 2);
    assert_eq!(level(&[StrictDeduplication], 3, "1@0 1@1 2@2 3@3"), 3);
}

#[test]
fn sixty_four_steps_and_times_at_the_ends_of_the_clock() {
    for order in [
        Order::Ordered,
        Order::Strict,
        Order::Unordered,
        Order::Clickhouse,
    ] {
        let mut shape = shape(order, Count::Users, 64, 1000);
        let marks: Vec<Mark> = (0..64)
            .map(|step| Mark {
                at_ns: i64::MIN + step,
                kind: Kind {
                    fills: 1 << step,
                    excludes: 0,
                },
            })
            .collect();
        for attempts in [false, true] {
            let verdict = judged(&shape, &marks, attempts);
            assert_eq!(verdict.counted[0].level, 64, "{order:?}");
        }
        if order == Order::Ordered {
            shape.exclusions = vec![Range {
                from_step: 1,
                to_step: 64,
            }];
            let verdict = judged(&shape, &marks, false);
            assert_eq!(verdict.counted[0].times_ns[63], Some(i64::MIN + 63));
        }
        shape.count = Count::Totals;
        if order != Order::Clickhouse {
            assert_eq!(judged(&shape, &marks, false).counted.len(), 1);
        }
    }
    let mark = |at_ns, fills, excludes| Mark {
        at_ns,
        kind: Kind { fills, excludes },
    };
    let far = [mark(i64::MIN, 1, 0), mark(i64::MAX - 1, 2, 0)];
    for order in [
        Order::Ordered,
        Order::Strict,
        Order::Unordered,
        Order::Clickhouse,
    ] {
        let verdict = judged(&shape(order, Count::Users, 2, 1000), &far, false);
        assert_eq!(verdict.counted[0].level, 1, "{order:?}");
    }
    // The window of the last starts ends beyond the clock.
    let late = excluding(ordered(3, 1000), &[(1, 3)]);
    let marks = [
        mark(i64::MAX - 9, 1, 0),
        mark(i64::MAX - 8, 0, 1),
        mark(i64::MAX - 7, 1, 0),
        mark(i64::MAX - 6, 2, 0),
    ];
    assert_eq!(
        judged(&late, &marks, false).counted[0].times_ns,
        [Some(i64::MAX - 7), Some(i64::MAX - 6), None]
    );
    assert_eq!(judged(&late, &marks[..2], false), Verdict::default());
}
