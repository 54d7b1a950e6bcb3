//! The reference matcher: slow, and obviously right. Every other backend must agree with it.
//!
//! Owns: what one subject did, decided straight from the written meaning of a funnel: one function for each clause,
//! with the clause quoted beside it, and a search that tries every possibility. Refuses: speed, and every shortcut
//! whose rightness needs an argument. Time grows exponentially with the marks of a subject; it is meant for
//! subjects of about a dozen marks.

use crate::{
    definition::{Count, Order},
    shape::{Attempt, Kind, Mark, Shape, Verdict},
};

mod totals;
mod unordered;
mod ways;
mod window_funnel;

/// Decides what one subject did. `marks` are its participating events, in any order; times are UTC nanoseconds.
pub fn judge(shape: &Shape, marks: &[Mark]) -> Verdict {
    let instants = instants(shape, marks);
    match (shape.order, shape.count) {
        (Order::Clickhouse, Count::Users | Count::Sessions | Count::Totals) => {
            level_only(shape, window_funnel::level(shape, marks))
        }
        (Order::Ordered | Order::Strict | Order::Unordered, Count::Totals) => {
            totals::judge(shape, &instants)
        }
        (Order::Unordered, Count::Users | Count::Sessions) => unordered::judge(shape, &instants),
        (Order::Ordered | Order::Strict, Count::Users | Count::Sessions) => {
            ways::judge(shape, &instants)
        }
    }
}

/// "No timings (null): windowFunnel gives a level only." There are no starts to list either.
fn level_only(shape: &Shape, level: usize) -> Verdict {
    let reached = Attempt {
        level,
        times_ns: vec![None; shape.steps],
    };
    Verdict {
        counted: (level > 0).then_some(reached).into_iter().collect(),
        attempts: Vec::new(),
    }
}

/// "An *instant* is the group of a subject's participating events with equal `at_ns`."
struct Instant {
    at_ns: i64,
    /// Of its events, sorted, so that the order in which they came does not matter.
    kinds: Vec<Kind>,
}

impl Instant {
    /// "It is *mixed* if not all of its events are alike (same fills, same excl) and at least one fills a step."
    fn is_mixed(&self) -> bool {
        let are_alike = self
            .kinds
            .iter()
            .all(|kind| self.kinds.first() == Some(kind));
        !are_alike && self.has_a_fill()
    }

    fn has_a_fill(&self) -> bool {
        self.kinds.iter().any(|kind| kind.fills != 0)
    }

    fn can_fill(&self, step: usize) -> bool {
        self.kinds.iter().any(|kind| fills(*kind, step))
    }

    /// The exclusions that apply at this instant, by their numbers as bits: at a mixed instant none does.
    fn exclusions(&self) -> u64 {
        if self.is_mixed() {
            return 0;
        }
        self.kinds.iter().fold(0, |all, kind| all | kind.excludes)
    }
}

/// Whether an event can fill a step, counted from 1.
fn fills(kind: Kind, step: usize) -> bool {
    kind.fills >> (step - 1) & 1 == 1
}

/// The instants of a subject in time order.
fn instants(shape: &Shape, marks: &[Mark]) -> Vec<Instant> {
    let mut events: Vec<(i64, Kind)> = marks
        .iter()
        .map(|mark| (mark.at_ns, known(shape, mark.kind)))
        .filter(|(_, kind)| participates(shape, *kind))
        .collect();
    events.sort_unstable();
    events
        .chunk_by(|(one, _), (other, _)| one == other)
        .filter_map(|group| {
            Some(Instant {
                at_ns: group.first()?.0,
                kinds: group.iter().map(|(_, kind)| *kind).collect(),
            })
        })
        .collect()
}

/// Bits beyond the funnel's steps and exclusions mean nothing.
fn known(shape: &Shape, kind: Kind) -> Kind {
    let lowest = |bits: usize| (0..bits).fold(0, |all, bit| all | 1_u64 << bit);
    Kind {
        fills: kind.fills & lowest(shape.steps),
        excludes: kind.excludes & lowest(shape.exclusions.len()),
    }
}

/// "*Participating*: fills at least one step or matches at least one exclusion; for `strict`: every considered event."
fn participates(shape: &Shape, kind: Kind) -> bool {
    shape.order == Order::Strict || kind.fills != 0 || kind.excludes != 0
}

/// The instants of an attempt: from its start S "until S+window (inclusive)".
fn window_from<'a>(shape: &Shape, instants: &'a [Instant], start_ns: i64) -> &'a [Instant] {
    let before = instants.partition_point(|instant| instant.at_ns < start_ns);
    let (_, from_start) = instants.split_at(before);
    let within = from_start.partition_point(|instant| is_in_window(shape, start_ns, instant.at_ns));
    from_start.split_at(within).0
}

/// "time - S <= window"; both in nanoseconds, 128 bits wide because the difference of two times may not fit in 64.
fn is_in_window(shape: &Shape, start_ns: i64, at_ns: i64) -> bool {
    i128::from(at_ns) - i128::from(start_ns) <= i128::from(shape.window_ns)
}

/// "The one with the earliest time of step L*, of those the latest S", of attempts of the highest level L*.
fn furthest(attempts: &[Attempt]) -> Option<Attempt> {
    let highest = attempts.iter().map(|attempt| attempt.level).max()?;
    attempts
        .iter()
        .filter(|attempt| attempt.level == highest)
        .min_by_key(|attempt| {
            (
                time_of(attempt, highest),
                std::cmp::Reverse(time_of(attempt, 1)),
            )
        })
        .cloned()
}

/// When an attempt filled a step (unordered: a position), counted from 1.
fn time_of(attempt: &Attempt, step: usize) -> Option<i64> {
    attempt.times_ns.get(step - 1).copied().flatten()
}

/// Marks and results as short texts, and random ones.
#[cfg(test)]
mod notation {
    use proptest::prelude::*;

    use super::judge;
    use crate::{
        definition::{Count, Mode, Order},
        shape::{Attempt, Kind, Mark, Range, Shape},
    };

    /// `"ab@3 x@5 .@6"`: at 3 one event that can fill step 1 or step 2, at 5 one that matches the first exclusion (y:
    /// the second), at 6 one that is neither.
    pub(super) fn marks(text: &str) -> Vec<Mark> {
        text.split_whitespace()
            .map(|word| {
                let (letters, at_ns) = word.split_once('@').unwrap();
                let mut kind = Kind::default();
                for letter in letters.bytes() {
                    match letter {
                        b'a'..=b'f' => kind.fills |= 1 << (letter - b'a'),
                        b'x'..=b'z' => kind.excludes |= 1 << (letter - b'x'),
                        other => assert_eq!(other, b'.', "an unknown letter"),
                    }
                }
                Mark {
                    at_ns: at_ns.parse().unwrap(),
                    kind,
                }
            })
            .collect()
    }

    fn shape(order: Order, steps: usize) -> Shape {
        Shape {
            steps,
            order,
            count: Count::Users,
            modes: Vec::new(),
            window_ns: 10,
            optional: 0,
            within_ns: vec![i64::MAX; steps],
            not_before_ns: vec![0; steps],
            exclusions: Vec::new(),
        }
    }

    pub(super) fn ordered(steps: usize) -> Shape {
        shape(Order::Ordered, steps)
    }

    pub(super) fn strict(steps: usize) -> Shape {
        shape(Order::Strict, steps)
    }

    pub(super) fn unordered(steps: usize) -> Shape {
        shape(Order::Unordered, steps)
    }

    pub(super) fn clickhouse(steps: usize, modes: &[Mode]) -> Shape {
        let modes = modes.to_vec();
        with(shape(Order::Clickhouse, steps), |shape| shape.modes = modes)
    }

    pub(super) fn with(mut shape: Shape, change: impl FnOnce(&mut Shape)) -> Shape {
        change(&mut shape);
        shape
    }

    pub(super) fn range(from_step: usize, to_step: usize) -> Range {
        Range { from_step, to_step }
    }

    /// `"3: 0 - 9"`: level 3, step 1 at 0, step 2 not filled, step 3 at 9.
    fn shown(attempts: &[Attempt]) -> Vec<String> {
        let time = |time: &Option<i64>| time.map_or("-".to_owned(), |time| time.to_string());
        attempts
            .iter()
            .map(|attempt| {
                let times: Vec<String> = attempt.times_ns.iter().map(time).collect();
                format!("{}: {}", attempt.level, times.join(" "))
            })
            .collect()
    }

    pub(super) fn counted(shape: &Shape, text: &str) -> Vec<String> {
        shown(&judge(shape, &marks(text)).counted)
    }

    pub(super) fn attempts(shape: &Shape, text: &str) -> Vec<String> {
        shown(&judge(shape, &marks(text)).attempts)
    }

    /// Any shape of an order with 2 to `most` steps, of what the order allows.
    pub(super) fn shape_of(order: Order, most: usize) -> impl Strategy<Value = Shape> {
        let limit = |none| prop_oneof![3 => Just(none), 1 => 0..6_i64];
        let parts = (
            2..=most,
            1..12_i64,
            any::<u64>(),
            proptest::collection::vec(limit(i64::MAX), most),
            proptest::collection::vec(limit(0), most),
            proptest::collection::vec((1..most, 1..most), 0..3),
            proptest::sample::subsequence(
                vec![
                    Mode::StrictOrder,
                    Mode::AllowReentry,
                    Mode::StrictDeduplication,
                    Mode::StrictIncrease,
                    Mode::StrictOnce,
                ],
                0..=5,
            ),
            prop_oneof![Just(Count::Users), Just(Count::Totals)],
        );
        parts.prop_map(
            move |(steps, window_ns, optional, within, not_before, ranges, mut modes, count)| {
                let plain = shape(order, steps);
                if !modes.contains(&Mode::StrictOrder) {
                    modes.retain(|mode| *mode != Mode::AllowReentry);
                }
                let exclusions = ranges.iter().map(|(from, length)| {
                    let from = (*from).min(steps - 1);
                    range(from, (from + length).min(steps))
                });
                match order {
                    Order::Ordered | Order::Strict => Shape {
                        count,
                        window_ns,
                        optional: optional & 0b1_1110 & ((1 << steps) - 1),
                        within_ns: within[..steps].to_vec(),
                        not_before_ns: not_before[..steps].to_vec(),
                        exclusions: exclusions.collect(),
                        ..plain
                    },
                    Order::Unordered => Shape {
                        count,
                        window_ns,
                        exclusions: exclusions.map(|_| range(1, steps)).collect(),
                        ..plain
                    },
                    Order::Clickhouse => Shape {
                        modes,
                        window_ns,
                        ..plain
                    },
                }
            },
        )
    }

    /// Up to `most` events with many ties, sorted by time; most of them are one step, some are several or none.
    pub(super) fn times_and_kinds(most: usize) -> impl Strategy<Value = Vec<Mark>> {
        let fills =
            prop_oneof![6 => (0..4_u32).prop_map(|step| 1 << step), 2 => 0..16_u64, 1 => Just(0)];
        let excludes = prop_oneof![5 => Just(0), 1 => 0..4_u64];
        let event = (0..14_i64, fills, excludes).prop_map(|(at_ns, fills, excludes)| Mark {
            at_ns,
            kind: Kind { fills, excludes },
        });
        proptest::collection::vec(event, 0..=most).prop_map(|mut marks| {
            marks.sort_by_key(|mark| mark.at_ns);
            marks
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        notation::{shape_of, times_and_kinds, with},
        *,
    };

    fn any_shape() -> impl Strategy<Value = Shape> {
        prop_oneof![
            shape_of(Order::Ordered, 5),
            shape_of(Order::Strict, 5),
            shape_of(Order::Unordered, 5),
            shape_of(Order::Clickhouse, 5),
        ]
    }

    /// A shape counted by users and without exclusions.
    fn plain(order: Order) -> impl Strategy<Value = Shape> {
        shape_of(order, 5).prop_map(|shape| {
            with(shape, |shape| {
                shape.count = Count::Users;
                shape.exclusions.clear();
            })
        })
    }

    fn no_order() -> impl Strategy<Value = Shape> {
        prop_oneof![
            plain(Order::Ordered),
            plain(Order::Strict),
            plain(Order::Unordered)
        ]
    }

    fn without_exclusions(marks: Vec<Mark>) -> Vec<Mark> {
        let clear = |mark: Mark| Mark {
            kind: Kind {
                excludes: 0,
                ..mark.kind
            },
            ..mark
        };
        marks.into_iter().map(clear).collect()
    }

    fn level(shape: &Shape, marks: &[Mark]) -> usize {
        judge(shape, marks)
            .counted
            .iter()
            .map(|attempt| attempt.level)
            .max()
            .unwrap_or(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn the_order_of_marks_does_not_matter(
            shape in any_shape(),
            (marks, shuffled) in times_and_kinds(9)
                .prop_flat_map(|marks| (Just(marks.clone()), Just(marks).prop_shuffle())),
        ) {
            prop_assert_eq!(judge(&shape, &marks), judge(&shape, &shuffled));
        }

        #[test]
        fn shifting_all_times_shifts_the_result(
            shape in any_shape(),
            marks in times_and_kinds(9),
            by in -1_000_000..1_000_000_i64,
        ) {
            let mut shifted = marks.clone();
            for mark in &mut shifted {
                mark.at_ns += by;
            }
            let mut expected = judge(&shape, &marks);
            let all = expected.counted.iter_mut().chain(&mut expected.attempts);
            for time in all.flat_map(|attempt| attempt.times_ns.iter_mut().flatten()) {
                *time += by;
            }
            prop_assert_eq!(judge(&shape, &shifted), expected);
        }

        #[test]
        fn the_counted_attempt_is_one_of_the_listed_ones(
            shape in prop_oneof![
                shape_of(Order::Ordered, 5),
                shape_of(Order::Strict, 5),
                shape_of(Order::Unordered, 5),
            ],
            marks in times_and_kinds(9),
        ) {
            let verdict = judge(&shape, &marks);
            if shape.count == Count::Totals {
                prop_assert_eq!(&verdict.attempts, &verdict.counted);
            } else {
                prop_assert!(verdict.counted.len() <= 1);
                prop_assert_eq!(verdict.counted.is_empty(), verdict.attempts.is_empty());
                prop_assert!(verdict.counted.iter().all(|one| verdict.attempts.contains(one)));
            }
            prop_assert!(verdict.attempts.is_sorted_by(|one, next| one.times_ns[0] < next.times_ns[0]));
        }

        #[test]
        fn another_event_like_one_there_is_never_lowers_the_level(
            shape in no_order(),
            marks in times_and_kinds(9),
            which in any::<proptest::sample::Index>(),
        ) {
            if marks.is_empty() {
                return Ok(());
            }
            let mut more = without_exclusions(marks);
            let before = level(&shape, &more);
            more.push(more[which.index(more.len())]);
            prop_assert!(level(&shape, &more) >= before);
        }

        #[test]
        fn a_longer_window_never_lowers_the_level(
            shape in no_order(),
            marks in times_and_kinds(9),
            more in 1..5_i64,
        ) {
            let marks = without_exclusions(marks);
            let longer = with(shape.clone(), |shape| shape.window_ns += more);
            prop_assert!(level(&longer, &marks) >= level(&shape, &marks));
        }

        #[test]
        fn a_step_more_changes_no_count_of_the_steps_before(
            shape in plain(Order::Ordered),
            marks in times_and_kinds(9),
        ) {
            let shape = with(shape, |shape| shape.optional = 0);
            if shape.steps == 2 {
                return Ok(());
            }
            let shorter = with(shape.clone(), |shape| shape.steps -= 1);
            let mut fewer = without_exclusions(marks.clone());
            for mark in &mut fewer {
                mark.kind.fills &= (1 << shorter.steps) - 1;
            }
            let marks = without_exclusions(marks);
            prop_assert_eq!(level(&shorter, &fewer), level(&shape, &marks).min(shorter.steps));
        }

        #[test]
        fn unordered_reaches_at_least_ordered_and_ordered_at_least_strict(
            shape in plain(Order::Strict),
            marks in times_and_kinds(9),
        ) {
            let marks = without_exclusions(marks);
            let ordered = with(shape.clone(), |shape| shape.order = Order::Ordered);
            prop_assert!(level(&ordered, &marks) >= level(&shape, &marks));
            let free = with(ordered, |shape| {
                shape.optional = 0;
                shape.within_ns.fill(i64::MAX);
                shape.not_before_ns.fill(0);
            });
            let unordered = with(free.clone(), |shape| shape.order = Order::Unordered);
            prop_assert!(level(&unordered, &marks) >= level(&free, &marks));
        }

        #[test]
        fn ordered_agrees_with_window_funnel_where_an_event_fills_one_step(
            shape in plain(Order::Ordered),
            marks in times_and_kinds(9),
        ) {
            let mut marks = without_exclusions(marks);
            marks.retain(|mark| mark.kind.fills.is_power_of_two());
            let ordered = with(shape, |shape| {
                shape.optional = 0;
                shape.within_ns.fill(i64::MAX);
                shape.not_before_ns.fill(0);
            });
            let clickhouse = with(ordered.clone(), |shape| shape.order = Order::Clickhouse);
            prop_assert_eq!(level(&ordered, &marks), level(&clickhouse, &marks));
        }

        #[test]
        fn exclusions_take_users_out_and_never_change_the_level_of_those_who_stay(
            shape in shape_of(Order::Ordered, 5),
            marks in times_and_kinds(9),
        ) {
            let shape = with(shape, |shape| shape.count = Count::Users);
            let with_exclusions = level(&shape, &marks);
            let without = level(&shape, &without_exclusions(marks));
            prop_assert!(with_exclusions == 0 || with_exclusions == without);
        }

        #[test]
        fn entries_of_one_user_do_not_overlap(
            shape in any_shape(),
            marks in times_and_kinds(9),
        ) {
            let shape = with(shape, |shape| shape.count = Count::Totals);
            let entries = judge(&shape, &marks).counted;
            for pair in entries.windows(2) {
                let last = pair[0].times_ns.iter().flatten().max();
                let next = pair[1].times_ns.iter().flatten().min();
                prop_assert!(last < next);
            }
        }

        #[test]
        fn totals_hold_somebody_who_is_in_the_funnel_and_never_get_further_than_users(
            shape in no_order(),
            marks in times_and_kinds(9),
        ) {
            let marks = without_exclusions(marks);
            let totals = with(shape.clone(), |shape| shape.count = Count::Totals);
            prop_assert_eq!(level(&totals, &marks) > 0, level(&shape, &marks) > 0);
            prop_assert!(level(&totals, &marks) <= level(&shape, &marks));
        }
    }
}
