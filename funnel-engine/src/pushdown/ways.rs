//! When each step of an attempt was filled, once its start, its highest level and the time of that are known.
//!
//! Owns: the clean way whose times are smallest, read from step 2 on, with a skipped step later than any. For each
//! level, the smallest list of times of a clean way that stands there is carried from instant to instant. Ways that
//! stand at the same level have the same future, so only the smallest of them can be part of the answer.

use super::{
    attempts::{Instant, NEVER},
    sql::list,
};

/// Shown where no way is: larger than every list of times.
fn none() -> String {
    format!("[toUInt64({NEVER})]")
}

fn smaller(one: &str, other: &str) -> String {
    format!("if({one} < {other}, {one}, {other})")
}

/// The times of the steps of an attempt; 0 for a step that is not filled. The column `instants` is read.
pub(super) fn times(instant: Instant<'_>, start: &str, end: &str, level: &str) -> String {
    let steps = instant.shape.steps;
    let none = none();
    let levels = list((1..=steps).map(|level| format!("toUInt64({})", 1_u64 << level)));
    let nobody = list((1..=steps).map(|_| none.clone()));
    let new = if instant.shares {
        format!(
            "arrayFold((best, base) -> arrayMap((one, other) -> {}, best, {}), i.{}, [{nobody}])",
            smaller("one", "other"),
            taken(instant, "base"),
            Instant::BASES
        )
    } else {
        taken(instant, "i.2")
    };
    let ends = match (instant.excludes(), instant.is_strict()) {
        (false, false) => None,
        (true, false) => Some(format!("bitAnd(i.{}, level) != 0", instant.cover())),
        (false, true) => Some(format!("i.{} = 0", instant.mixed())),
        (true, true) => Some(format!(
            "i.{} = 0 OR bitAnd(i.{}, level) != 0",
            instant.mixed(),
            instant.cover()
        )),
    };
    let stays = ends.map_or_else(
        || "way".to_owned(),
        |ends| format!("if({ends}, {none}, way)"),
    );
    let next = format!(
        "arrayMap((way, new, level) -> {}, ways, {new}, [{levels}])",
        smaller(&stays, "new")
    );
    let first = list((1..=steps).map(|level| {
        if level == 1 {
            format!("[{start}]")
        } else {
            none.clone()
        }
    }));
    let ways = format!(
        "arrayFold((ways, i) -> {next}, arrayConcat(
            arrayMap(i -> {started}, arrayFilter(i -> i.1 = {start}, instants)),
            arrayFilter(i -> i.1 > {start} AND i.1 <= {end}, instants)), [{first}])",
        started = started(instant),
    );
    // Most subjects stop at step 1, where there is nothing to find.
    format!(
        "arrayResize(if({level} <= 1, [{start}], arrayMap(t -> if(t = {NEVER}, 0, t), {ways}[{level}])), {steps})"
    )
}

/// The start instant `i` after step 1 has been filled there: nothing ends at it.
fn started(instant: Instant<'_>) -> String {
    let mut parts = vec!["i.1".to_owned(), "bitXor(i.2, 1)".to_owned()];
    if instant.shares {
        parts.push(format!(
            "arrayMap(base -> bitXor(base, 1), arrayFilter(base -> bitTest(base, 0), i.{}))",
            Instant::BASES
        ));
    }
    if instant.excludes() {
        parts.push("toUInt64(0)".to_owned());
    }
    if instant.is_strict() {
        parts.push("toUInt8(1)".to_owned());
    }
    format!("({})", list(parts))
}

/// By level: the smallest times of a way that fills its last step at the instant `i`, with steps of one set.
fn taken(instant: Instant<'_>, base: &str) -> String {
    let steps = instant.shape.steps;
    let none = none();
    let bits = list((0..steps).map(|bit| format!("toUInt64({})", 1_u64 << bit)));
    // q.1: the smallest way to the place before this step; q.2: what has been found.
    let is_there = format!("q.1[1] != {NEVER}");
    let take =
        format!("if(bitAnd({base}, step) != 0 AND {is_there}, arrayPushBack(q.1, i.1), {none})");
    let passed = match instant.shape.optional {
        0 => smaller("way", &take),
        optional => {
            let skip = format!(
                "if(bitAnd(toUInt64({optional}), step) != 0 AND {is_there}, arrayPushBack(q.1, toUInt64({NEVER})), {none})"
            );
            smaller(&smaller("way", &take), &skip)
        }
    };
    format!(
        "arrayFold((q, way, step) -> ({passed}, arrayPushBack(q.2, {take})), ways, [{bits}], ({none}, emptyArrayUInt64Arrays)).2"
    )
    .replace("emptyArrayUInt64Arrays", "CAST([], 'Array(Array(UInt64))')")
}
