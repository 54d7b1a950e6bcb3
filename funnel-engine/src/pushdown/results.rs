//! From the rows of a summary to a result.

use super::{source::shifted, summary};
use crate::{
    answer::{
        BreakdownRow, FunnelResult, StepResult, TimeToConvert, TrendPoint, named, set_counts,
    },
    calendar::Calendar,
    definition::{Attribution, DefinitionError, FunnelDefinition},
    figures::{bin_edges_ns, bins},
    tally::{self, Steps},
};

/// The result, without how the steps were served.
pub(super) fn result(
    definition: &FunnelDefinition,
    rows: &[summary::Row],
    buckets: Option<&[i64]>,
) -> Result<FunnelResult, DefinitionError> {
    // The trend is filled in below, from its own buckets.
    let nothing = FunnelDefinition {
        trend: None,
        ..definition.clone()
    };
    let mut result = FunnelResult::of(&nothing, tally::Sums::of(&nothing), "clickhouse")?;
    let (total, values): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.is_total == 1);
    let total = total.first().copied();
    if let Some(total) = total {
        result.steps = steps(definition, total);
        result.events_scanned = total.scanned;
        result.time_to_convert_s = summary::timing(&total.whole).map(|timing| TimeToConvert {
            mean: timing.mean,
            median: timing.median,
            p90: timing.p90,
            histogram: bins(&binned(&total.bins)),
        });
    }
    if let (Some(trend), Some(buckets)) = (&definition.trend, buckets) {
        let points = points(&Calendar::new(trend), buckets, total);
        result.trend = trimmed(points, definition.time_range.is_some());
    }
    let found = values.first().map_or(0, |row| row.rows);
    let total_among_them = u64::from(found > 0 && values_share_a_statement(definition));
    result.breakdown_omitted = found.saturating_sub(total_among_them + values.len() as u64);
    let row = |row: &&summary::Row| BreakdownRow {
        value: row.label.clone(),
        steps: steps(definition, row),
    };
    result.breakdown = values.iter().map(row).collect();
    Ok(result)
}

fn steps(definition: &FunnelDefinition, row: &summary::Row) -> Vec<StepResult> {
    let mut results = named(definition);
    for (step, gap) in results.iter_mut().zip(&row.gaps) {
        step.time_from_previous_s = summary::timing(gap);
    }
    set_counts(&mut results, &Steps::of(definition), &row.counts);
    results
}

/// Whether the row of all subjects is counted among the rows of the values.
fn values_share_a_statement(definition: &FunnelDefinition) -> bool {
    let breakdown = definition.breakdown.as_ref();
    breakdown.is_some_and(|breakdown| breakdown.attribution != Attribution::AllSteps)
}

/// Counts in the order of the bins.
fn binned((edges, counts): &(Vec<i64>, Vec<u64>)) -> Vec<u64> {
    let of_edge = |edge: i64| {
        let found = edges.iter().zip(counts).find(|(at, _)| **at == edge);
        found.map_or(0, |(_, count)| *count)
    };
    bin_edges_ns().into_iter().map(of_edge).collect()
}

fn points(calendar: &Calendar, buckets: &[i64], total: Option<&summary::Row>) -> Vec<TrendPoint> {
    let of = |counts: Option<&(Vec<u64>, Vec<u64>)>, start: i64| {
        let (starts, counts) = counts?;
        let found = starts.binary_search(&shifted(start)).ok()?;
        counts.get(found).copied()
    };
    let point = |start: &i64| TrendPoint {
        bucket: calendar.label(*start),
        entered: of(total.map(|row| &row.entered), *start).unwrap_or(0),
        converted: of(total.map(|row| &row.converted), *start).unwrap_or(0),
    };
    buckets.iter().map(point).collect()
}

/// Without a time range, the trend runs from the first to the last bucket that anybody entered.
fn trimmed(mut points: Vec<TrendPoint>, is_fixed: bool) -> Vec<TrendPoint> {
    if !is_fixed {
        let is_entered = |point: &TrendPoint| point.entered > 0;
        let first = points.iter().position(is_entered).unwrap_or(points.len());
        let end = points
            .iter()
            .rposition(is_entered)
            .map_or(first, |last| last + 1);
        points.truncate(end);
        points.drain(..first);
    }
    points
}
