//! Unordered funnels: from each instant with a step, distinct steps are collected until the window ends.
//!
//! The state is the set of steps collected. Where steps share events, it is every largest set that the events so far
//! can fill, each event one step: another event makes all of them one step larger, or none. An event at which an
//! exclusion applies voids an attempt that is not complete by then.

use super::{
    attempts::NEVER,
    sql::{Sql, list},
};
use crate::shape::Shape;

/// As [`levels::attempts`](super::levels::attempts); times are by position.
pub(super) fn attempts(
    shape: &Shape,
    shares: bool,
    carry: &str,
    trend: Option<(usize, usize)>,
    subjects: Sql,
) -> Sql {
    let (steps, window) = (shape.steps, shape.window_ns);
    let excludes = !shape.exclusions.is_empty();
    // An event that may void, voids at an instant whose events are all alike, or of which none fills a step.
    let marked = if excludes {
        let mixed = "(arrayExists(e -> (e.2, e.3) != (g[1].2, g[1].3), g) AND arrayMax(g.2) != 0)";
        format!(
            "SELECT {carry}, arrayFlatten(arrayMap(g -> arrayMap(e -> (e.1, e.2, toUInt8(e.3 != 0 AND NOT {mixed})), g),
                arraySplit((e, gap) -> gap != 0, ev, arrayDifference(ev.1)))) AS marked FROM ({{}})"
        )
    } else {
        format!("SELECT {carry}, ev AS marked FROM ({{}})")
    };
    let (nothing, larger, grows) = if shares {
        let grown = "arrayDistinct(arrayFlatten(arrayMap(base -> arrayMap(step -> bitOr(base, step), bitmaskToArray(bitAnd(e.2, bitNot(base)))), a.1)))";
        (
            "[toUInt64(0)]",
            grown.to_owned(),
            format!("notEmpty({grown})"),
        )
    } else {
        (
            "toUInt64(0)",
            "bitOr(a.1, e.2)".to_owned(),
            "bitAnd(e.2, bitNot(a.1)) != 0".to_owned(),
        )
    };
    let open = format!("length(a.2) < {steps}");
    let mut next = vec![
        format!("if({open} AND {grows}, {larger}, a.1)"),
        format!("if({open} AND {grows}, arrayPushBack(a.2, e.1), a.2)"),
    ];
    let mut first = vec![nothing.to_owned(), "emptyArrayUInt64()".to_owned()];
    if excludes {
        next.push(format!("if({open} AND e.3 = 1, toUInt8(1), a.3)"));
        first.push("toUInt8(0)".to_owned());
    }
    let kept = if excludes { "run.2.3 = 0" } else { "1" };
    let runs = format!(
        "SELECT {carry}, arrayMap(s -> (s, arrayFold((a, e) -> ({next}), arrayFilter(e -> e.1 >= s AND e.1 <= s + {window}, marked), ({first}))),
            arrayDistinct(arrayFilter((t, fills) -> fills != 0, marked.1, marked.2))) AS runs FROM ({marked})",
        next = list(next),
        first = list(first),
    );
    let tries = format!(
        "SELECT {carry}, arraySort(arrayMap(run -> (toUInt8(64 - length(run.2.2)), run.2.2[-1], {NEVER} - run.1, run.2.2), arrayFilter(run -> {kept}, runs))) AS tries
        FROM ({runs})"
    );
    let moves = trend.map_or_else(String::new, |(from, to)| {
        format!(
            ", arrayMap(one -> (one.4[{from}], toUInt8(length(one.4) >= {to})), arrayFilter(one -> length(one.4) >= {from}, tries)) AS moves"
        )
    });
    let template = format!(
        "SELECT {carry}, toUInt8(length(tries[1].4)) AS level, arrayResize(tries[1].4, {steps}) AS times{moves} FROM ({tries})"
    );
    Sql::fill(&template, [subjects])
}
