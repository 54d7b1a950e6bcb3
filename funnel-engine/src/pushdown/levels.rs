//! Ordered funnels whose steps share no event, without optional steps, exclusions and limits of gaps: level by level
//! over whole arrays.
//!
//! For each step, every event carries the latest start from which the steps up to it can be filled. That start is
//! enough: two attempts that stand at the same step differ only in how long their window lasts. As it never grows
//! smaller with time, "the latest so far" is the last one that was set, which `arrayFill` finds in one pass. Events of
//! one instant are sorted by step, so a tie can be taken in any order, each event once.

use super::sql::{Sql, list};
use crate::shape::Shape;

/// What the statements after this stage read: `carry`, `level`, `times` (by step, 0 for none) and, for a trend,
/// `moves`: for each start that reaches `from`, when it did, and whether it reaches `to` too.
pub(super) fn attempts(
    shape: &Shape,
    carry: &str,
    trend: Option<(usize, usize)>,
    subjects: Sql,
) -> Sql {
    let steps = shape.steps;
    let mut columns = vec![carry.to_owned(), "ts".to_owned(), "ms".to_owned()];
    columns.extend((1..=steps).map(|step| starts(shape, step)));
    let firsts = (1..=steps).map(|step| {
        format!(
            "arrayFirst((start, m) -> m = {} AND start != 0, s{step}, ms)",
            bit(step)
        )
    });
    columns.push(format!("[{}] AS starts", list(firsts)));
    columns.push("toUInt8(arrayCount(start -> start != 0, starts)) AS level".to_owned());
    if let Some((from, to)) = trend {
        columns.extend(moves(shape, from, to));
    }
    let mut last = vec![
        carry.to_owned(),
        "level".to_owned(),
        "starts[level] AS t1".to_owned(),
    ];
    last.extend((2..=steps).map(|step| {
        let before = step - 1;
        format!("if(level >= {step}, arrayFirst((t, m) -> m = {} AND t >= t{before}, ts, ms), 0) AS t{step}", bit(step))
    }));
    last.push(format!(
        "[{}] AS times",
        list((1..=steps).map(|step| format!("t{step}")))
    ));
    if trend.is_some() {
        last.push("moves".to_owned());
    }
    let template = format!(
        "SELECT {} FROM (SELECT {} FROM (SELECT {carry}, ev.1 AS ts, ev.2 AS ms FROM ({{}})))",
        list(last),
        list(columns)
    );
    Sql::fill(&template, [subjects])
}

/// Per event: the latest start of an attempt that stands at a step after it; 0 for none.
fn starts(shape: &Shape, step: usize) -> String {
    let bit = bit(step);
    let window = shape.window_ns;
    let set = match step {
        1 => format!("arrayMap((t, m) -> if(m = {bit}, t, 0), ts, ms)"),
        _ => format!(
            "arrayMap((t, m, start) -> if(m = {bit} AND start != 0 AND t <= start + {window}, start, 0), ts, ms, s{})",
            step - 1
        ),
    };
    format!("arrayFill(start -> start != 0, {set}) AS s{step}")
}

/// The same backwards: for each start, the earliest time at which a step can be reached.
fn moves(shape: &Shape, from: usize, to: usize) -> Vec<String> {
    let window = shape.window_ns;
    let mut columns = Vec::new();
    for (name, last) in [("a", from), ("b", to)] {
        let own = format!("arrayMap((t, m) -> if(m = {}, t, 0), ts, ms)", bit(last));
        columns.push(format!(
            "arrayReverseFill(end -> end != 0, {own}) AS {name}{last}"
        ));
        columns.extend((1..last).rev().map(|step| {
            let next = step + 1;
            let through = format!(
                "arrayMap((m, end) -> if(m = {}, end, 0), ms, {name}{next})",
                bit(step)
            );
            format!("arrayReverseFill(end -> end != 0, {through}) AS {name}{step}")
        }));
    }
    let entered = format!("if(m = 1 AND a != 0 AND a <= t + {window}, a, 0)");
    let converted = format!("toUInt8(b != 0 AND b <= t + {window})");
    columns.push(format!(
        "arrayFilter(move -> move.1 != 0, arrayMap((t, m, a, b) -> ({entered}, {converted}), ts, ms, a1, b1)) AS moves"
    ));
    columns
}

const fn bit(step: usize) -> u64 {
    1 << (step - 1)
}
