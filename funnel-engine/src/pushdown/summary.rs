//! Counts, times, breakdown and trend: one row for the whole funnel and one for each value of the breakdown.
//!
//! Owns: the statement over what every subject did, and the row it gives. Refuses: samples of any kind; quantiles are
//! exact, and interpolate as `figures` does.

use serde::Deserialize;

use super::{
    attempts::NEVER,
    source::shifted,
    sql::{Sql, list},
};
use crate::{
    definition::{Attribution, FunnelDefinition, Order},
    figures::{Timing, bin_edges_ns},
    tally::Steps,
};

/// What is added up over the subjects of one value, or over all.
#[derive(Debug, Deserialize, clickhouse::Row)]
pub(super) struct Row {
    /// 1 for all subjects.
    pub(super) is_total: u8,
    pub(super) label: String,
    pub(super) counts: Vec<u64>,
    /// By step: mean, median and ninth decile of the seconds since the previous required step.
    pub(super) gaps: Vec<Vec<f64>>,
    /// The same from the first to the last required step.
    pub(super) whole: Vec<f64>,
    /// Lower edges (ns) and counts.
    pub(super) bins: (Vec<i64>, Vec<u64>),
    /// Buckets and counts.
    pub(super) entered: (Vec<u64>, Vec<u64>),
    pub(super) converted: (Vec<u64>, Vec<u64>),
    pub(super) scanned: u64,
    /// Rows before the limit.
    pub(super) rows: u64,
}

/// Which rows are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// All subjects together.
    Total,
    /// And by value.
    TotalAndValues,
    /// Only by value.
    Values,
}

/// The statement over attempts: `level`, `times`, `scanned`, and as wanted `seen` or `value`, and `moves`.
pub(super) fn summary(
    definition: &FunnelDefinition,
    rows: Rows,
    buckets: Option<&[i64]>,
    attempts: Sql,
) -> Sql {
    let steps = Steps::of(definition);
    let (gaps, whole) = timings(definition, &steps);
    let nothing = "CAST(([], []), 'Tuple(Array(UInt64), Array(UInt64))')";
    let mut inner = vec!["level".to_owned(), "scanned".to_owned()];
    if definition.order != Order::Clickhouse {
        inner.push("times".to_owned());
    }
    let mut moved = [nothing.to_owned(), nothing.to_owned()];
    if let Some(buckets) = buckets {
        let starts = list(
            buckets
                .iter()
                .map(|start| format!("toUInt64({})", shifted(*start))),
        );
        inner.push(format!(
            "arrayMap(move -> (roundDown(move.1, [{starts}]), move.2), moves) AS spots"
        ));
        inner.push("arrayDistinct(spots.1) AS entered_in".to_owned());
        inner.push("arrayDistinct(arrayFilter((spot, converts) -> converts = 1, spots.1, spots.2)) AS converted_in".to_owned());
        moved = ["entered_in", "converted_in"]
            .map(|of| format!("sumMap({of}, arrayMap(spot -> toUInt64(1), {of}))"));
    }
    if rows != Rows::Total {
        inner.push(format!(
            "CAST({}, 'Nullable(String)') AS attributed",
            value(definition)
        ));
    }
    let is_whole = steps.last() + 1;
    let between = format!("times[{is_whole}] - times[1]");
    let edges = list(bin_edges_ns().iter().map(i64::to_string));
    let bins = match definition.order {
        Order::Clickhouse => "CAST(([], []), 'Tuple(Array(Int64), Array(UInt64))')".to_owned(),
        Order::Ordered | Order::Strict | Order::Unordered => format!(
            "sumMapIf([roundDown({between}, CAST([{edges}], 'Array(Int64)'))], [toUInt64(1)], level >= {is_whole})"
        ),
    };
    let [entered, converted] = moved;
    let (is_total, label, tail) = arrangement(definition, rows);
    let template = format!(
        "SELECT {is_total} AS is_total, {label} AS label, [{counts}] AS counts, [{gaps}] AS gaps, {whole} AS whole, {bins} AS bins,
            {entered} AS entered, {converted} AS converted, sum(scanned) AS scanned, count() OVER () AS rows
        FROM (SELECT {inner} FROM ({{}})) {tail}",
        counts = list(counts(&steps)),
        inner = list(inner),
    );
    Sql::fill(&template, [attempts])
}

fn counts(steps: &Steps) -> impl Iterator<Item = String> {
    let optional = steps.optional.iter().enumerate();
    optional.map(|(index, optional)| {
        if *optional {
            format!("countIf(times[{}] != 0)", index + 1)
        } else {
            format!("countIf(level >= {})", index + 1)
        }
    })
}

/// Per step, and from the first to the last required one.
fn timings(definition: &FunnelDefinition, steps: &Steps) -> (String, String) {
    let unknown = || "[nan, nan, nan]".to_owned();
    let between = |from: usize, to: usize| {
        let seconds = format!(
            "(times[{}] - times[{}]) / 1e9, level >= {}",
            to + 1,
            from + 1,
            to + 1
        );
        format!("arrayConcat([avgIf({seconds})], quantilesExactInclusiveIf(0.5, 0.9)({seconds}))")
    };
    if definition.order == Order::Clickhouse {
        return (list(steps.optional.iter().map(|_| unknown())), unknown());
    }
    let previous = steps.previous.iter().zip(&steps.optional).enumerate();
    let gaps = previous.map(|(index, (previous, optional))| match previous {
        Some(previous) if !optional => between(*previous, index),
        Some(_) | None => unknown(),
    });
    (list(gaps), between(0, steps.last()))
}

/// Whether a row is that of all subjects, its label, and how rows are grouped and sorted.
fn arrangement(definition: &FunnelDefinition, rows: Rows) -> (&'static str, &'static str, String) {
    let limit = definition
        .breakdown
        .as_ref()
        .map_or(0, |breakdown| breakdown.limit);
    let label = "ifNull(attributed, '')";
    let by_count = "ORDER BY is_total DESC, counts[1] DESC, label LIMIT";
    match rows {
        Rows::Total => ("toUInt8(1)", "''", String::new()),
        Rows::TotalAndValues => (
            "toUInt8(grouping(attributed))",
            label,
            format!(
                "GROUP BY GROUPING SETS ((), (attributed)) HAVING is_total = 1 OR (attributed IS NOT NULL AND counts[1] > 0) {by_count} {}",
                limit + 1
            ),
        ),
        Rows::Values => (
            "toUInt8(0)",
            label,
            format!("GROUP BY attributed HAVING counts[1] > 0 {by_count} {limit}"),
        ),
    }
}

/// The value that a subject counts under; NULL when it counts under none.
fn value(definition: &FunnelDefinition) -> String {
    let Some(breakdown) = &definition.breakdown else {
        return "''".to_owned();
    };
    let first = |at: &str| {
        format!(
            "arraySort(arrayMap(one -> ({at}, one.3), arrayFilter(one -> one.3 != '', seen)))[1].2"
        )
    };
    match breakdown.attribution {
        Attribution::FirstTouch => first("one.1"),
        Attribution::LastTouch => first(&format!("{NEVER} - one.1")),
        Attribution::Step(step) => {
            let fills = match definition.order {
                Order::Unordered => String::new(),
                Order::Ordered | Order::Strict | Order::Clickhouse => {
                    format!(" AND bitTest(one.2, {})", step - 1)
                }
            };
            let there = format!("arrayFilter(one -> one.1 = times[{step}]{fills}, seen)");
            format!("if(times[{step}] = 0, NULL, arraySort(arrayMap(one -> one.3, {there}))[1])")
        }
        Attribution::AllSteps => "value".to_owned(),
    }
}

/// Seconds as the store gives them: not a number where nobody came.
pub(super) fn timing(figures: &[f64]) -> Option<Timing> {
    match figures {
        [mean, median, p90] if mean.is_finite() => Some(Timing {
            mean: *mean,
            median: *median,
            p90: *p90,
        }),
        _ => None,
    }
}
