//! Ordered and strict funnels in general: optional steps, exclusions, events that can fill several steps.
//!
//! Owns: one automaton per start instant, run over the subject's instants by `arrayFold`, and the choice of the attempt
//! that counts. Its state is a bit set of the levels at which a way stands: bit k for level k, so level k is also the
//! place before step k + 1. Refuses gap limits (the time of the last step would be part of the state; see `gaps`).
//!
//! Taking steps at one instant is carrying bits through an addition. Let M be the levels, B the steps that can be
//! filled, and C the steps that can be filled or skipped. `(((M & C) + C) ^ C) | M` are the places reached from M by
//! passing steps of C one after another: a carry runs through a run of ones as a way runs through a run of steps.
//! Those of them that end by filling a step are new levels: `& B`, shifted by one.
//!
//! Where steps share events, each event of a tie must be used once. The sets of steps that a tie can fill together are
//! then gathered first (`BASES`): the largest sets that can be matched to different events. A way uses a part of one.

use super::{
    sql::{Sql, list},
    ways,
};
use crate::{
    definition::Order,
    shape::{Range, Shape},
};

/// Above every time.
pub(super) const NEVER: u64 = u64::MAX;

/// Largest sets of steps that the events of one instant can fill together, each event one step. Adding an event makes
/// every set one step larger, or none.
const BASES: &str =
    "arrayFold((bases, fills) -> if(notEmpty(GROWN), GROWN, bases), g.2, [toUInt64(0)])";
const GROWN: &str = "arrayDistinct(arrayFlatten(arrayMap(base -> arrayMap(step -> bitOr(base, step), bitmaskToArray(bitAnd(fills, bitNot(base)))), bases)))";

/// How the tuples of an instant are laid out: time, steps that any event can fill, then what the funnel needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant<'a> {
    pub(super) shape: &'a Shape,
    /// Whether some event may fill more than one step.
    pub(super) shares: bool,
}

impl Instant<'_> {
    pub(super) fn is_strict(self) -> bool {
        self.shape.order == Order::Strict
    }

    pub(super) fn excludes(self) -> bool {
        !self.shape.exclusions.is_empty()
    }

    /// Sets of steps that can be filled together, where steps share events.
    pub(super) const BASES: usize = 3;

    /// Levels that an exclusion taints.
    pub(super) fn cover(self) -> usize {
        Self::BASES + usize::from(self.shares)
    }

    /// Whether ways may go on without taking a step.
    pub(super) fn mixed(self) -> usize {
        self.cover() + usize::from(self.excludes())
    }

    /// The tuple, from the group `g` of events of one instant.
    fn tuple(self) -> String {
        let differs = if self.excludes() {
            "(e.2, e.3) != (g[1].2, g[1].3)"
        } else {
            "e.2 != g[1].2"
        };
        let mixed = format!("(arrayExists(e -> {differs}, g) AND arrayMax(g.2) != 0)");
        let mut parts = vec![
            "g[1].1".to_owned(),
            "arrayReduce('groupBitOr', g.2)".to_owned(),
        ];
        if self.shares {
            parts.push(BASES.replace("GROWN", GROWN));
        }
        if self.excludes() {
            parts.push(format!(
                "if({mixed}, toUInt64(0), {})",
                cover(&self.shape.exclusions)
            ));
        }
        if self.is_strict() {
            parts.push(format!("toUInt8({mixed})"));
        }
        format!("({})", list(parts))
    }

    /// Levels reached from the levels `from` by filling at least one step at the instant `i`.
    fn advanced(self, from: &str) -> String {
        if self.shares {
            format!(
                "arrayReduce('groupBitOr', arrayMap(base -> {}, i.{}))",
                self.carried(from, "base"),
                Self::BASES
            )
        } else {
            self.carried(from, "i.2")
        }
    }

    fn carried(self, from: &str, base: &str) -> String {
        let passed = match self.shape.optional {
            0 => base.to_owned(),
            optional => format!("bitOr({base}, toUInt64({optional}))"),
        };
        format!(
            "bitShiftLeft(bitAnd(bitOr(bitXor(bitAnd({from}, {passed}) + {passed}, {passed}), {from}), {base}), 1)"
        )
    }

    /// The levels after the start instant `s`, at which step 1 is filled.
    fn started(self) -> String {
        let from = "toUInt64(2)";
        if self.shares {
            let rest = self.carried(from, "bitXor(base, 1)");
            format!(
                "arrayReduce('groupBitOr', arrayMap(base -> if(bitTest(base, 0), bitOr({from}, {rest}), toUInt64(0)), s.{}))",
                Self::BASES
            )
        } else {
            format!("bitOr({from}, {})", self.carried(from, "bitXor(s.2, 1)"))
        }
    }

    /// The automaton: what it starts with, what an instant `i` makes of its state `a`, and where in the state are: all
    /// levels reached, those where an untainted way stands, and when the highest of these was reached.
    fn automaton(self) -> (String, String, [usize; 3]) {
        let started = self.started();
        let mixed = format!("i.{} = 1", self.mixed());
        let cover = format!("bitNot(i.{})", self.cover());
        let gone_on = |from: &str| {
            format!(
                "bitOr({}, if({mixed}, {from}, toUInt64(0)))",
                self.advanced(from)
            )
        };
        let rises =
            |new: &str, old: &str, at: &str| format!("if(bitXor({new}, {old}) > {old}, i.1, {at})");
        // `one` holds the highest level of `all`, of which it is a part.
        let tops = |one: &str, all: &str| format!("bitXor({one}, {all}) < {one}");
        let arrives = |stays: &str, clean: &str, all: &str, at: &str| {
            format!(
                "if(NOT {} AND {}, i.1, {at})",
                tops(stays, all),
                tops(clean, all)
            )
        };
        match (self.is_strict(), self.excludes()) {
            (false, false) => {
                let all = format!("bitOr(a.1, {})", self.advanced("a.1"));
                let at = rises(&all, "a.1", "a.2");
                (
                    format!("({started}, s.1)"),
                    format!("({all}, {at})"),
                    [1, 1, 2],
                )
            }
            (true, false) => {
                let all = format!("bitOr(a.2, {})", self.advanced("a.1"));
                let at = rises(&all, "a.2", "a.3");
                let next = format!("({}, {all}, {at})", gone_on("a.1"));
                (format!("({started}, {started}, s.1)"), next, [2, 2, 3])
            }
            (false, true) => {
                let all = format!("bitOr(a.1, {})", self.advanced("a.1"));
                let stays = format!("bitAnd(a.2, {cover})");
                let clean = format!("bitOr({stays}, {})", self.advanced("a.2"));
                let at = arrives(&stays, &clean, &all, "a.3");
                (
                    format!("({started}, {started}, s.1)"),
                    format!("({all}, {clean}, {at})"),
                    [1, 2, 3],
                )
            }
            (true, true) => {
                let all = format!("bitOr(a.3, {})", self.advanced("a.1"));
                let stays = format!("bitAnd(a.4, {cover})");
                let clean = format!("bitOr({stays}, {})", self.advanced("a.2"));
                let at = arrives(&stays, &clean, &all, "a.5");
                let next = format!(
                    "({}, {}, {all}, {clean}, {at})",
                    gone_on("a.1"),
                    gone_on("a.2")
                );
                (
                    format!("({started}, {started}, {started}, {started}, s.1)"),
                    next,
                    [3, 4, 5],
                )
            }
        }
    }
}

/// As [`levels::attempts`](super::levels::attempts).
pub(super) fn attempts(
    instant: Instant<'_>,
    carry: &str,
    trend: Option<(usize, usize)>,
    subjects: Sql,
) -> Sql {
    let window = instant.shape.window_ns;
    let (start, next, [all, clean, at]) = instant.automaton();
    let instants = format!(
        "SELECT {carry}, arrayMap(g -> {}, arraySplit((e, gap) -> gap != 0, ev, arrayDifference(ev.1))) AS instants FROM ({{}})",
        instant.tuple()
    );
    let runs = format!(
        "SELECT {carry}, instants, arrayMap(s -> (s.1, arrayFold((a, i) -> {next},
            arrayFilter(i -> i.1 > s.1 AND i.1 <= s.1 + {window}, instants), {start})), arrayFilter(i -> bitTest(i.2, 0), instants)) AS runs
        FROM ({instants})"
    );
    // Sorted as they are preferred: the highest level, untainted, reached first, started last.
    let tries = format!(
        "SELECT {carry}, instants, arraySort(arrayMap(run -> (toUInt8(64 - bitPositionsToArray(run.2.{all})[-1]),
            toUInt8(NOT (bitXor(run.2.{clean}, run.2.{all}) < run.2.{clean})), run.2.{at}, {NEVER} - run.1), runs)) AS tries
        FROM ({runs})"
    );
    let mut columns = vec![
        format!("{carry}, instants, tries"),
        "toUInt8(if(empty(tries) OR tries[1].2 = 1, 0, 64 - tries[1].1)) AS level".to_owned(),
        format!("toUInt64({NEVER} - tries[1].4) AS starting"),
        "tries[1].3 AS ending".to_owned(),
    ];
    let mut last = vec![
        format!("{carry}, level"),
        format!(
            "{} AS times",
            ways::times(instant, "starting", "ending", "level")
        ),
    ];
    if let Some((from, to)) = trend {
        columns.push(format!(
            "if(level = 0, [], arrayMap(one -> (toUInt64({NEVER} - one.4), one.3, toUInt8(64 - one.1)),
                arrayFilter(one -> one.2 = 0 AND one.1 <= {}, tries))) AS entries",
            64 - from
        ));
        let entered = match from {
            1 => "one.1".to_owned(),
            _ => format!(
                "{}[{from}]",
                ways::times(instant, "one.1", "one.2", "one.3")
            ),
        };
        last.push(format!(
            "arrayMap(one -> ({entered}, toUInt8(one.3 >= {to})), entries) AS moves"
        ));
    }
    let template = format!(
        "SELECT {} FROM (SELECT {} FROM ({tries}))",
        list(last),
        list(columns)
    );
    Sql::fill(&template, [subjects])
}

/// The levels that the exclusions among the events `g` taint.
fn cover(exclusions: &[Range]) -> String {
    let of_one = |(index, range): (usize, &Range)| {
        let levels: u64 = (range.from_step..range.to_step)
            .map(|level| 1_u64 << level)
            .sum();
        format!(
            "if(bitTest(arrayReduce('groupBitOr', g.3), {index}), toUInt64({levels}), toUInt64(0))"
        )
    };
    let mut each = exclusions.iter().enumerate().map(of_one);
    let first = each.next().unwrap_or_default();
    each.fold(first, |all, one| format!("bitOr({all}, {one})"))
}
