//! The invariant: after any interleaving, every window is the batch result over exactly the events that were taken in.
//!
//! For `ordered` and `strict` the batch result of a window is found here by trying every way, straight from the meaning
//! in docs/funnels.md; for `unordered` and totals it is the batch verdict, cut by window.

mod trying;

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::TestCaseError};

use self::trying::Trying;
use super::*;
use crate::{
    definition::{Count, Order},
    matching::{Matcher, Wants},
    shape::{Attempt, Kind, Range, Shape},
};

const SECOND: i64 = 1_000_000_000;

fn matcher(shape: &Shape) -> Matcher {
    Matcher::new(shape, Wants { attempts: true })
}

/// Steps that count, of each attempt, by window, from the batch verdict.
fn from_verdict(shape: &Shape, tumbling: Tumbling, marks: &[Mark]) -> Vec<(i64, u64)> {
    let mut verdict = Verdict::default();
    matcher(shape).judge(marks, &mut verdict);
    let bits = |attempt: &Attempt| (1_u64 << attempt.level) - 1;
    if shape.count == Count::Totals {
        let entry = |entry: &Attempt| (tumbling.start(entry.time(0).unwrap()), bits(entry));
        return verdict.counted.iter().map(entry).collect();
    }
    let mut windows = BTreeMap::new();
    for attempt in &verdict.attempts {
        let best = windows
            .entry(tumbling.start(attempt.time(0).unwrap()))
            .or_default();
        *best = bits(attempt).max(*best);
    }
    windows.into_iter().collect()
}

type Who = (String, String);

/// The batch result over events: counts by tenant and window.
fn batch(
    shape: &Shape,
    tumbling: Tumbling,
    events: &BTreeMap<Who, Vec<Mark>>,
) -> BTreeMap<(String, i64), Vec<u64>> {
    let mut counts: BTreeMap<(String, i64), Vec<u64>> = BTreeMap::new();
    for ((tenant, _), marks) in events {
        let mut marks = marks.clone();
        marks.sort_unstable();
        let trying = Trying {
            shape,
            marks: &marks,
        };
        let windows = if shape.order == Order::Unordered || shape.count == Count::Totals {
            from_verdict(shape, tumbling, &marks)
        } else {
            trying.windows(tumbling).into_iter().collect()
        };
        for (window, bits) in windows {
            let counts = counts
                .entry((tenant.clone(), window))
                .or_insert_with(|| vec![0; shape.steps]);
            for (step, count) in counts.iter_mut().enumerate() {
                *count += bits >> step & 1;
            }
        }
    }
    counts
}

/// All that was taken in; fails every third time.
#[derive(Default)]
struct Remembered {
    events: BTreeMap<Who, Vec<Mark>>,
    asked: usize,
}

impl History for Remembered {
    fn marks(&mut self, ask: &Ask<'_>, marks: &mut Vec<Mark>) -> Result<(), HistoryError> {
        self.asked += 1;
        if self.asked.is_multiple_of(3) {
            return Err(HistoryError("away".to_owned()));
        }
        let who = (
            ask.subject.tenant.to_owned(),
            ask.subject.user.unwrap().to_owned(),
        );
        let all = self.events.get(&who).into_iter().flatten();
        marks.extend(all.filter(|mark| mark.at_ns >= ask.from_ns).rev());
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Case {
    shape: Shape,
    config: LiveConfig,
    with_history: bool,
    /// Tenant, user, event, in the order of arrival.
    events: Vec<(u8, u8, Mark)>,
}

fn shapes(order: Order, count: Count, is_plain: bool) -> impl Strategy<Value = Shape> {
    (2_usize..=4).prop_flat_map(move |steps| {
        let gaps = move |none: i64| {
            let gap = if is_plain {
                Just(none).boxed()
            } else {
                prop_oneof![3 => Just(none), 1 => (0..6_i64).prop_map(|s| s * SECOND)].boxed()
            };
            prop::collection::vec(gap, steps)
        };
        let optional = if is_plain || order == Order::Unordered {
            0..=0
        } else {
            0..=(1_u64 << steps) - 1
        };
        let range = (1..steps).prop_flat_map(move |from| (Just(from), from + 1..=steps));
        let range = range.prop_map(move |(from_step, to_step)| match order {
            Order::Unordered => Range {
                from_step: 1,
                to_step: steps,
            },
            Order::Ordered | Order::Strict | Order::Clickhouse => Range { from_step, to_step },
        });
        let exclusions = prop::collection::vec(range, 0..=if is_plain { 0 } else { 2 });
        let is_bare = is_plain || order == Order::Unordered;
        (1..15_i64, optional, gaps(i64::MAX), gaps(0), exclusions).prop_map(
            move |(window, optional, within_ns, not_before_ns, exclusions)| Shape {
                steps,
                order,
                count,
                modes: Vec::new(),
                window_ns: window * SECOND,
                optional: optional & !1,
                within_ns: if is_bare {
                    vec![i64::MAX; steps]
                } else {
                    within_ns
                },
                not_before_ns: if is_bare {
                    vec![0; steps]
                } else {
                    not_before_ns
                },
                exclusions,
            },
        )
    })
}

fn configs() -> impl Strategy<Value = LiveConfig> {
    let often = |few: std::ops::Range<usize>| prop_oneof![1 => few, 3 => Just(1_000_000_usize)];
    let bounds = (
        1..8_usize,
        2..6_usize,
        prop_oneof![Just(1_000_usize), 3..20_usize],
        often(5..6),
        often(1..5),
    );
    let begins = prop_oneof![3 => Just(i64::MIN), 1 => (0..20_i64).prop_map(|s| s * SECOND)];
    (1..12_i64, 0..12_i64, begins, bounds).prop_map(|(width, lateness, begins, bounds)| {
        let mut config = LiveConfig::new(Tumbling::of(width * SECOND).unwrap());
        config.lateness_ns = lateness * SECOND;
        config.begins_at_ns = begins;
        let (subjects, history, marks_per_subject, marks, windows) = bounds;
        config.bounds.windows_per_tenant = windows;
        config.bounds.subjects = subjects;
        config.bounds.history_per_subject = history;
        config.bounds.marks_per_subject = marks_per_subject;
        config.bounds.marks = marks;
        config
    })
}

fn cases(order: Order, count: Count, is_plain: bool) -> impl Strategy<Value = Case> {
    // One in so many is late, and by at most so many seconds.
    let lateness = (1..5_u32, prop_oneof![Just(4_i64), Just(30)]);
    (
        shapes(order, count, is_plain),
        configs(),
        any::<bool>(),
        lateness,
    )
        .prop_flat_map(|(shape, config, with_history, (one_in, most))| {
            let (steps, exclusions) = (shape.steps, shape.exclusions.len());
            // Times go on by and by, with late ones among them; whole seconds, so that many are equal.
            let one = (
                0..2_u8,
                0..3_u8,
                0..3_i64,
                0..one_in,
                0..most,
                0..1_u64 << steps,
                0..1_u64 << exclusions,
                0..3_u8,
            );
            prop::collection::vec(one, 0..40).prop_map(move |raw| {
                let mut now = 0;
                let events = raw.into_iter().map(
                    |(tenant, user, on, late, behind, fills, excludes, sort)| {
                        now += on;
                        let seconds = if late == 0 { now - behind } else { now };
                        let kind = match sort {
                            0 => Kind {
                                fills: 1,
                                excludes: 0,
                            },
                            1 => Kind { fills, excludes },
                            _ => Kind { fills, excludes: 0 },
                        };
                        (
                            tenant,
                            user,
                            Mark {
                                at_ns: seconds * SECOND,
                                kind,
                            },
                        )
                    },
                );
                Case {
                    shape: shape.clone(),
                    config,
                    with_history,
                    events: events.collect(),
                }
            })
        })
}

fn funnel(shape: &Shape, config: LiveConfig) -> LiveFunnel {
    let names = (1..=shape.steps).map(|step| step.to_string()).collect();
    LiveFunnel::of_shape("f", names, shape.clone(), Box::new(matcher(shape)), config).unwrap()
}

fn holds(case: &Case) -> Result<LiveCounts, TestCaseError> {
    let mut live = funnel(&case.shape, case.config);
    let mut past = Remembered::default();
    let mut published: BTreeMap<(String, i64), Snapshot> = BTreeMap::new();
    for (index, (tenant, user, mark)) in case.events.iter().enumerate() {
        let (tenant, user) = (tenant.to_string(), user.to_string());
        let subject = Subject {
            tenant: &tenant,
            user: Some(&user),
            session: None,
        };
        let watermark = live.watermark_ns();
        let outcome = loop {
            let history: Option<&mut dyn History> = if case.with_history {
                Some(&mut past)
            } else {
                None
            };
            if let Ok(outcome) = live.apply(&subject, *mark, history) {
                break outcome;
            }
        };
        if matches!(outcome, Outcome::Applied | Outcome::Corrected) {
            past.events.entry((tenant, user)).or_default().push(*mark);
        } else {
            let is_early = mark.at_ns < case.config.begins_at_ns.saturating_add(12 * SECOND);
            let is_gone = live.counts().windows_dropped > 0;
            let may = !case.with_history || outcome == Outcome::Ignored || is_early || is_gone;
            prop_assert!(may, "{:?} with a history that knows all", outcome);
            let bounds = case.config.bounds;
            let is_tight = bounds.marks < 1_000_000 || bounds.marks_per_subject < 1_000;
            let may = outcome != Outcome::TooLate || is_early || is_gone || is_tight;
            prop_assert!(
                may || mark.at_ns < watermark,
                "what is not late is never too late"
            );
        }
        if index % 5 == 0 {
            for snapshot in live.take_changes(3) {
                publish(&mut published, &snapshot)?;
            }
        }
        if index % 13 == 0 {
            live.sweep();
        }
    }
    for snapshot in live.take_changes(usize::MAX) {
        publish(&mut published, &snapshot)?;
    }
    prop_assert!(live.take_changes(1).is_empty());
    let mut want = batch(&case.shape, case.config.tumbling, &past.events);
    let have = published
        .into_iter()
        .map(|(key, snapshot)| (key, snapshot.counts().collect::<Vec<_>>()));
    let mut have: BTreeMap<_, _> = have.collect();
    have.retain(|_, counts| counts.iter().any(|count| *count > 0));
    if live.counts().windows_dropped > 0 {
        let is_kept = |(tenant, start): &(String, i64)| live.steps_at(tenant, *start).is_some();
        want.retain(|key, _| is_kept(key));
        have.retain(|key, _| is_kept(key));
    }
    prop_assert_eq!(have, want);
    Ok(live.counts())
}

/// As a receiver does: a higher revision takes the place of a lower.
fn publish(
    published: &mut BTreeMap<(String, i64), Snapshot>,
    snapshot: &Snapshot,
) -> Result<(), TestCaseError> {
    let key = (snapshot.tenant.clone(), snapshot.from_ns);
    if let Some(before) = published.insert(key, snapshot.clone()) {
        prop_assert_eq!(snapshot.revision, before.revision + 1);
    } else {
        prop_assert_eq!(snapshot.revision, 1);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn plain(case in cases(Order::Ordered, Count::Users, true)) {
        holds(&case)?;
    }

    #[test]
    fn ordered(case in cases(Order::Ordered, Count::Users, false)) {
        holds(&case)?;
    }

    #[test]
    fn strict(case in cases(Order::Strict, Count::Users, false)) {
        holds(&case)?;
    }

    #[test]
    fn unordered(case in cases(Order::Unordered, Count::Users, false)) {
        holds(&case)?;
    }

    #[test]
    fn totals(case in cases(Order::Ordered, Count::Totals, true)) {
        holds(&case)?;
    }

    #[test]
    fn totals_with_exclusions_and_gaps(mut case in cases(Order::Ordered, Count::Totals, false)) {
        case.shape.optional = 0;
        holds(&case)?;
    }

    #[test]
    fn totals_strict(mut case in cases(Order::Strict, Count::Totals, false)) {
        case.shape.optional = 0;
        holds(&case)?;
    }

    #[test]
    fn totals_unordered(case in cases(Order::Unordered, Count::Totals, false)) {
        holds(&case)?;
    }
}

/// The cases above prove something only as long as they get to the dark corners.
#[test]
fn the_cases_reach_what_they_are_to_prove() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let all = [
        cases(Order::Ordered, Count::Users, true).boxed(),
        cases(Order::Strict, Count::Users, false).boxed(),
        cases(Order::Ordered, Count::Totals, true).boxed(),
    ];
    for (index, cases) in all.into_iter().enumerate() {
        let mut sum = [0; 11];
        for _ in 0..400 {
            let case = cases.new_tree(&mut runner).unwrap().current();
            let counts = holds(&case).unwrap();
            let one = [
                counts.applied,
                counts.late,
                counts.replayed,
                counts.looked_up,
                counts.too_late,
                counts.before_begin,
                counts.refused_subject,
                counts.evicted,
                counts.evicted_open,
                counts.windows_dropped,
                counts.refused_mark,
            ];
            for (sum, one) in sum.iter_mut().zip(one) {
                *sum += one;
            }
        }
        // Marks of a plain funnel need no room but for ties.
        let all = if index == 0 { 10 } else { 11 };
        assert!(sum.iter().take(all).all(|sum| *sum > 20), "{sum:?}");
    }
}
