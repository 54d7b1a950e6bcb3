//! The matchers against the oracle, on small and nasty subjects and on long ones.
//!
//! `MATCHING_CASES` sets how many cases each property gets.

use proptest::prelude::*;

use super::super::instants::Rules;
use super::super::ordered::Gapped;
use super::super::out::Out;
use super::super::{Matcher, Wants};
use super::{judged, oracle, shape};
use crate::definition::{Count, Mode, Order};
use crate::shape::{Kind, Mark, Range, Shape, Verdict};

fn events(steps: usize, span: i64) -> impl Strategy<Value = Vec<Mark>> {
    let one = (0..steps).prop_map(|step| 1_u64 << step);
    let fills = prop_oneof![5 => one, 2 => 0..1_u64 << steps, 1 => Just(0_u64)];
    let excludes = prop_oneof![5 => Just(0_u64), 2 => 0_u64..4];
    let mark = (0..span, fills, excludes).prop_map(|(at_ns, fills, excludes)| Mark {
        at_ns,
        kind: Kind { fills, excludes },
    });
    prop::collection::vec(mark, 0..=8)
}

fn exclusions(order: Order, steps: usize) -> impl Strategy<Value = Vec<Range>> {
    let range = (1..steps).prop_flat_map(move |from| (Just(from), from + 1..=steps));
    let range = range.prop_map(move |(from_step, to_step)| match order {
        Order::Unordered => Range {
            from_step: 1,
            to_step: steps,
        },
        Order::Ordered | Order::Strict | Order::Clickhouse => Range { from_step, to_step },
    });
    prop::collection::vec(
        range,
        if order == Order::Clickhouse {
            0..=0
        } else {
            0..=2
        },
    )
}

fn modes() -> impl Strategy<Value = Vec<Mode>> {
    let all = [
        Mode::StrictDeduplication,
        Mode::StrictOrder,
        Mode::StrictIncrease,
        Mode::StrictOnce,
        Mode::AllowReentry,
    ];
    prop::sample::subsequence(all.to_vec(), 0..=5)
}

/// A funnel and the events of a subject, small enough for the oracle and crowded enough to be nasty.
fn cases(
    order: impl Strategy<Value = Order>,
    count: impl Strategy<Value = Count>,
) -> impl Strategy<Value = (Shape, Vec<Mark>)> {
    let spans = prop::sample::select(vec![3_i64, 8, 14, 30]);
    let frame = (order, count, 2_usize..=5, 1_i64..16, 0_u8..4, spans);
    frame.prop_flat_map(|(order, count, steps, window_ns, features, span)| {
        let ways = matches!(order, Order::Ordered | Order::Strict);
        let within = prop::collection::vec(prop_oneof![Just(i64::MAX), 0_i64..9], steps);
        let not_before = prop::collection::vec(prop_oneof![2 => Just(0_i64), 1 => 0_i64..5], steps);
        let rest = (within, not_before, 0..1_u64 << steps, modes());
        (exclusions(order, steps), events(steps, span), rest).prop_map(
            move |(exclusions, mut marks, (within, not_before, optional, modes))| {
                let mut shape = shape(order, count, steps, window_ns);
                let known = (1 << exclusions.len()) - 1;
                for mark in &mut marks {
                    mark.kind.excludes &= known;
                }
                marks.sort_by_key(|mark| mark.at_ns);
                shape.exclusions = exclusions;
                if ways && features & 1 == 1 {
                    shape.within_ns = within;
                    shape.not_before_ns = not_before;
                }
                if ways && features & 2 == 2 {
                    shape.optional = optional & !1;
                }
                if order == Order::Clickhouse {
                    shape.modes = modes;
                }
                marks.retain(|mark| shape.wants(mark.kind));
                (shape, marks)
            },
        )
    })
}

fn agrees(shape: &Shape, marks: &[Mark]) -> Result<(), TestCaseError> {
    let truth = oracle::judge(shape, marks);
    prop_assert_eq!(&judged(shape, marks, true), &truth);
    let quick = judged(shape, marks, false);
    prop_assert_eq!(&quick.counted, &truth.counted);
    prop_assert!(quick.attempts.is_empty());
    // The order inside an instant does not matter.
    let mut turned = marks.to_vec();
    turned.reverse();
    turned.sort_by_key(|mark| mark.at_ns);
    prop_assert_eq!(&judged(shape, &turned, true), &truth);
    prop_assert_eq!(&judged(shape, &turned, false).counted, &truth.counted);
    Ok(())
}

/// Without limited gaps the machine for limited gaps must give the same.
fn queues_agree(shape: &Shape, marks: &[Mark]) -> Result<(), TestCaseError> {
    let mut rules = Rules::of(shape);
    if rules.gaps || !matches!(shape.order, Order::Ordered | Order::Strict) {
        return Ok(());
    }
    let slots = judged(shape, marks, true);
    rules.gaps = true;
    let (mut verdict, mut spare) = (Verdict::default(), Vec::new());
    let out = &mut Out::new(&mut verdict, &mut spare, true);
    if shape.count == Count::Totals {
        Gapped::default().judge_totals(&rules, marks, out);
    } else {
        Gapped::default().judge(&rules, marks, out);
    }
    prop_assert_eq!(verdict, slots);
    Ok(())
}

fn tainting_kind(steps: usize) -> impl Strategy<Value = Kind> {
    (0..2 * steps, 0_u64..9, 0_u64..4).prop_map(move |(step, excludes, rare)| {
        let fills = 1 << if step < steps { step } else { step / 3 };
        match excludes {
            1..=3 => Kind {
                fills: if rare == 0 { fills } else { 0 },
                excludes,
            },
            _ => Kind { fills, excludes: 0 },
        }
    })
}

/// Starts, the lower steps and taints again and again.
fn taint_cases() -> impl Strategy<Value = (Shape, Vec<Mark>)> {
    let order = prop_oneof![4 => Just(Order::Ordered), 1 => Just(Order::Strict)];
    (order, 3_usize..=5, 3_i64..40, 0_u64..8).prop_flat_map(
        |(order, steps, window_ns, optional)| {
            let mark =
                (0_i64..40, tainting_kind(steps)).prop_map(|(at_ns, kind)| Mark { at_ns, kind });
            let marks = prop::collection::vec(mark, 6..=15);
            (exclusions(order, steps), marks).prop_map(move |(exclusions, mut marks)| {
                let mut shape = shape(order, Count::Users, steps, window_ns);
                let known = (1 << exclusions.len()) - 1;
                for mark in &mut marks {
                    mark.kind.excludes &= known;
                }
                marks.sort_by_key(|mark| mark.at_ns);
                shape.exclusions = exclusions;
                if optional < 2 {
                    shape.optional = 1 << (optional + 1);
                }
                marks.retain(|mark| shape.wants(mark.kind));
                (shape, marks)
            })
        },
    )
}

/// A long subject: enough events for the shortcuts, few enough in a window for the oracle.
fn long_cases(window_ns: impl Strategy<Value = i64>) -> impl Strategy<Value = (Shape, Vec<Mark>)> {
    let order = prop_oneof![3 => Just(Order::Ordered), 1 => Just(Order::Strict), 1 => Just(Order::Unordered)];
    let count = prop_oneof![3 => Just(Count::Users), 1 => Just(Count::Totals)];
    let kind =
        (0_u64..3, 0_u64..40, 0_u64..12, any::<bool>()).prop_map(|(step, rare, excludes, both)| {
            let fills = if rare < 3 {
                [4, 8, 3][usize::try_from(rare).unwrap()]
            } else {
                1 << step
            };
            let excludes = if excludes < 3 { excludes } else { 0 };
            Kind {
                fills: if excludes > 0 && !both { 0 } else { fills },
                excludes,
            }
        });
    let marks = prop::collection::vec((0_i64..700, kind), 150..220);
    (cases(order, count), window_ns, marks).prop_map(|((mut shape, _), window_ns, marks)| {
        shape.window_ns = window_ns;
        let known = (1 << shape.exclusions.len()) - 1;
        let mark = |(at_ns, kind): (i64, Kind)| Mark {
            at_ns,
            kind: Kind {
                fills: kind.fills & ((1 << shape.steps) - 1),
                excludes: kind.excludes & known,
            },
        };
        let mut marks: Vec<Mark> = marks
            .into_iter()
            .map(mark)
            .filter(|mark| shape.wants(mark.kind))
            .collect();
        marks.sort_by_key(|mark| mark.at_ns);
        (shape, marks)
    })
}

fn number_of_cases() -> u32 {
    std::env::var("MATCHING_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(number_of_cases()))]

    #[test]
    fn ordered_agrees_with_the_oracle((shape, marks) in cases(Just(Order::Ordered), Just(Count::Users))) {
        agrees(&shape, &marks)?;
    }

    #[test]
    fn strict_agrees_with_the_oracle((shape, marks) in cases(Just(Order::Strict), Just(Count::Sessions))) {
        agrees(&shape, &marks)?;
    }

    #[test]
    fn unordered_agrees_with_the_oracle((shape, marks) in cases(Just(Order::Unordered), prop_oneof![Just(Count::Users), Just(Count::Totals)])) {
        agrees(&shape, &marks)?;
    }

    #[test]
    fn totals_agree_with_the_oracle((shape, marks) in cases(prop_oneof![Just(Order::Ordered), Just(Order::Strict)], Just(Count::Totals))) {
        agrees(&shape, &marks)?;
    }

    #[test]
    fn window_funnel_agrees_with_the_oracle((shape, marks) in cases(Just(Order::Clickhouse), Just(Count::Users))) {
        agrees(&shape, &marks)?;
    }

    #[test]
    fn repeated_taints_agree_with_the_oracle((shape, marks) in taint_cases()) {
        agrees(&shape, &marks)?;
    }

    #[test]
    fn the_machine_for_gaps_agrees_where_there_are_none((shape, marks) in cases(prop_oneof![Just(Order::Ordered), Just(Order::Strict)], prop_oneof![Just(Count::Users), Just(Count::Totals)])) {
        queues_agree(&shape, &marks)?;
    }

    #[test]
    fn buffers_carry_nothing_over(subjects in prop::collection::vec(cases(Just(Order::Ordered), Just(Count::Users)), 1..6)) {
        let shape = &subjects[0].0;
        let known = (1 << shape.exclusions.len()) - 1;
        let mut matchers = [false, true].map(|attempts| Matcher::new(shape, Wants { attempts }));
        let mut verdict = Verdict::default();
        for (_, marks) in &subjects {
            let mut marks = marks.clone();
            for mark in &mut marks {
                mark.kind.fills &= (1 << shape.steps) - 1;
                mark.kind.excludes &= known;
            }
            marks.retain(|mark| shape.wants(mark.kind));
            let truth = oracle::judge(shape, &marks);
            for matcher in &mut matchers {
                matcher.judge(&marks, &mut verdict);
                prop_assert_eq!(&verdict.counted, &truth.counted);
            }
            prop_assert_eq!(&verdict, &truth);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(number_of_cases() / 20))]

    #[test]
    fn long_subjects_agree_with_the_oracle((shape, marks) in long_cases(1_i64..14)) {
        agrees(&shape, &marks)?;
    }

    #[test]
    fn following_every_start_agrees_with_all_at_once((shape, marks) in long_cases(1_i64..900)) {
        let each = judged(&shape, &marks, true);
        prop_assert_eq!(&judged(&shape, &marks, false).counted, &each.counted);
        queues_agree(&shape, &marks)?;
    }
}
