//! As `levels`, for steps with `within` or `not_before`.
//!
//! An attempt's future now depends on the time of its last step too, so each event that can be a step's end is kept
//! with its latest start. Of the events of the step before, only the last that is `not_before` away matters: starts
//! never grow smaller with time, so an earlier one starts no later, and if the last is not `within`, none is. Both lists
//! are merged by time and the last one before is found by `arrayFill`; the work is that of sorting.

use super::sql::{Sql, list};
use crate::shape::Shape;

/// As [`levels::attempts`](super::levels::attempts); a trend starts at step 1.
pub(super) fn attempts(
    shape: &Shape,
    carry: &str,
    trend: Option<(usize, usize)>,
    subjects: Sql,
) -> Sql {
    let steps = shape.steps;
    let of_step =
        |step: usize| format!("arrayFilter((t, m) -> m = {}, ts, ms)", 1_u64 << (step - 1));
    // Gaps to steps 2, 3 and so on. No gap is longer than the window.
    let rest = shape.not_before_ns.iter().zip(&shape.within_ns).skip(1);
    let (least, most): (Vec<String>, Vec<String>) = rest
        .map(|(least, most)| {
            let most = most.min(&shape.window_ns);
            (format!("toUInt64({least})"), format!("toUInt64({most})"))
        })
        .unzip();
    let found = format!(
        "SELECT {carry}, es, arrayFold((found, step, least, most) -> arrayPushBack(found, {next}),
            arraySlice(es, 2), [{least}], [{most}], [arrayMap(t -> (t, t), es[1])]) AS nodes, [{least}] AS gaps, [{most}] AS limits
        FROM (SELECT {carry}, [{events}] AS es FROM (SELECT {carry}, ev.1 AS ts, ev.2 AS ms FROM ({{}})))",
        next = next(shape),
        least = list(least),
        most = list(most),
        events = list((1..=steps).map(of_step)),
    );
    let mut columns = vec![
        format!("{carry}, es, gaps, limits"),
        "toUInt8(arrayCount(node -> notEmpty(node), nodes)) AS level".to_owned(),
        "nodes[level][1].2 AS starting".to_owned(),
        "nodes[level][1].1 AS ending".to_owned(),
        "greatest(toInt16(level) - 2, 0) AS between".to_owned(),
    ];
    columns.extend(trend.map(|(_, to)| moves(shape, to)));
    let ways = format!(
        "SELECT {}, arrayFold((found, step, least, most) -> arrayPushFront(found, {}),
            arrayReverse(arraySlice(es, 2, between)), arrayReverse(arraySlice(gaps, 2, between)), arrayReverse(arraySlice(limits, 2, between)),
            [[(ending, ending)]]) AS open
        FROM ({found})",
        list(columns),
        back("found[1]", "arrayFilter(t -> t >= starting AND t <= ending, step)"),
    );
    let moves = if trend.is_some() { ", moves" } else { "" };
    let template = format!(
        "SELECT {carry}, level{moves}, arrayResize(arrayFold((times, step, least) -> arrayPushBack(times, arrayFirst(t -> t >= times[-1] + least, step.1)),
            arraySlice(open, 1, greatest(toInt16(level) - 1, 0)), arraySlice(gaps, 1, greatest(toInt16(level) - 1, 0)), [starting]), {steps}) AS times
        FROM ({ways})"
    );
    Sql::fill(&template, [subjects])
}

/// The events of a step that end a way, with their latest starts, from those of the step before.
fn next(shape: &Shape) -> String {
    let merged = "arraySort(arrayConcat(
        arrayMap(node -> (node.1 + least, toUInt8(0), node.1, node.2), found[-1]),
        arrayMap(t -> (t, toUInt8(1), toUInt64(0), toUInt64(0)), step)))";
    let fits = format!(
        "one.2 = 1 AND last.4 != 0 AND one.1 <= last.3 + most AND one.1 <= last.4 + {}",
        shape.window_ns
    );
    format!(
        "arrayFilter(node -> node.2 != 0, arrayMap((one, last) -> (one.1, if({fits}, last.4, 0)),
            {merged}, arrayFill(one -> one.2 = 0, {merged})))"
    )
}

/// The events of a step from which one of the next step's (time and end) is in reach, with the earliest end.
fn back(next: &str, step: &str) -> String {
    let merged = format!(
        "arraySort(arrayConcat(arrayMap(node -> (node.1, toUInt8(1), node.1, node.2), {next}),
            arrayMap(t -> (t + least, toUInt8(0), t, toUInt64(0)), {step})))"
    );
    format!(
        "arrayFilter(node -> node.2 != 0, arrayMap((one, next) ->
            (one.3, if(one.2 = 0 AND next.2 = 1 AND next.1 <= one.3 + most, next.4, 0)),
            {merged}, arrayReverseFill(one -> one.2 = 1, {merged})))"
    )
}

/// For each start, whether `to` is in reach.
fn moves(shape: &Shape, to: usize) -> String {
    let own = format!("arrayMap(t -> (t, t), es[{to}])");
    let reached = format!(
        "arrayFold((found, step, least, most) -> {}, arrayReverse(arraySlice(es, 1, {before})), arrayReverse(arraySlice(gaps, 1, {before})),
            arrayReverse(arraySlice(limits, 1, {before})), {own})",
        back("found", "step"),
        before = to - 1,
    );
    format!(
        "arrayConcat(arrayMap(t -> (t, toUInt8(0)), es[1]),
            arrayMap(node -> (node.1, toUInt8(1)), arrayFilter(node -> node.2 <= node.1 + {}, {reached}))) AS moves",
        shape.window_ns
    )
}
