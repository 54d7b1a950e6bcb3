//! Ordered funnels inside ClickHouse: one pass over each user's step events, aggregated there.
//!
//! `arrayFold` carries, per level, the step times of the newest attempt that stands there, and the first
//! attempt that reached the highest level. Only numbers are ever put into the statement's text; names are bound.

use std::fmt::Write as _;

use event_store::{Scope, Store};
use serde::Deserialize;

use crate::{
    answer::{FunnelResult, StepResult, TimeToConvert, Timing},
    definition::{DefinitionError, FunnelDefinition},
};

/// A funnel that ClickHouse could not answer.
#[derive(Debug, thiserror::Error)]
pub enum PushdownError {
    /// The definition has a part that is not pushed down; the reference backend may answer it.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// ClickHouse refused or is away.
    #[error("the store did not answer the funnel: {0}")]
    Store(#[from] clickhouse::error::Error),
}

#[derive(Debug, Deserialize, clickhouse::Row)]
struct Sums {
    counts: Vec<u64>,
    means: Vec<f64>,
    medians: Vec<f64>,
    p90s: Vec<f64>,
    scanned: u64,
}

/// Answers a funnel over the store's events of a scope.
///
/// # Errors
/// See [`PushdownError`].
pub async fn run_on_clickhouse(
    store: &Store,
    scope: &Scope,
    definition: &FunnelDefinition,
) -> Result<FunnelResult, PushdownError> {
    definition.require_supported()?;
    let steps = step_names(definition)?;
    let (all, tenant) = match scope {
        Scope::Operator => (true, ""),
        Scope::Tenant(tenant) => (false, tenant.as_str()),
    };
    let (from, to) = time_range(definition);
    let client = store.database();
    let sql = statement(steps.len(), definition.window.nanoseconds());
    let mut query = client.query(&sql);
    for names in &steps {
        query = query.bind(names);
    }
    let sums: Sums = query
        .bind(all)
        .bind(tenant)
        .bind(from)
        .bind(to)
        .fetch_one()
        .await?;
    Ok(result(definition, &sums))
}

/// The event names of each step; steps must not share any, because then one event could fill two.
fn step_names(definition: &FunnelDefinition) -> Result<Vec<Vec<&str>>, DefinitionError> {
    let refused = |path: String, what: &str| DefinitionError {
        path,
        message: format!("{what} is not pushed down to ClickHouse; use the reference backend"),
    };
    if !definition.conditions.is_empty() {
        return Err(refused("where".to_owned(), "a global condition"));
    }
    let mut steps: Vec<Vec<&str>> = Vec::new();
    for (index, step) in definition.steps.iter().enumerate() {
        if !step.conditions.is_empty() || step.within.is_some() || step.not_before.is_some() {
            return Err(refused(
                format!("steps[{index}]"),
                "a condition or gap limit of a step",
            ));
        }
        let names = step
            .event
            .names()
            .ok_or_else(|| refused(format!("steps[{index}].event"), "any event"))?;
        if names
            .iter()
            .any(|name| steps.iter().flatten().any(|earlier| earlier == name))
        {
            return Err(refused(
                format!("steps[{index}].event"),
                "an event that an earlier step has too",
            ));
        }
        steps.push(names);
    }
    Ok(steps)
}

fn time_range(definition: &FunnelDefinition) -> (i64, i64) {
    let nanoseconds = |at: &jiff::Timestamp| i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX);
    definition
        .time_range
        .as_ref()
        .map_or((0, i64::MAX), |range| {
            (nanoseconds(&range.from), nanoseconds(&range.to))
        })
}

/// The statement for a number of steps and a window. Binds: names per step, all, tenant, from, to.
fn statement(steps: usize, window_ns: i64) -> String {
    let mut step_of = String::from("multiIf(");
    for step in 1..=steps {
        // Writing into a string cannot fail.
        write!(step_of, "has(?, event), {step}, ").unwrap_or_default();
    }
    step_of.push_str("0)");
    let column = |of: &dyn Fn(usize) -> String| (1..=steps).map(of).collect::<Vec<_>>().join(", ");
    let gap = |step: usize| match step {
        1 => format!("(best[{steps}] - best[1]) / 1e9, level = {steps}"),
        _ => format!("(best[{step}] - best[{}]) / 1e9, level >= {step}", step - 1),
    };
    let counts = column(&|step| format!("countIf(level >= {step})"));
    let means = column(&|step| format!("ifNull(avgIf({}), nan)", gap(step)));
    let medians = column(&|step| format!("quantileExactInclusiveIf(0.5)({})", gap(step)));
    let p90s = column(&|step| format!("quantileExactInclusiveIf(0.9)({})", gap(step)));
    format!(
        "WITH arrayFold(
            (acc, e) -> if(
                if(e.2 = 1, true, length(acc.1[e.2 - 1]) > 0 AND e.1 - acc.1[e.2 - 1][1] <= {window_ns})
                    AND (length(acc.1[e.2]) = 0 OR if(e.2 = 1, e.1, acc.1[e.2 - 1][1]) > acc.1[e.2][1]),
                (
                    arrayMap((chain, i) -> if(i = e.2, arrayPushBack(if(e.2 = 1, emptyArrayInt64(), acc.1[e.2 - 1]), e.1), chain), acc.1, range(1, {end})),
                    if(e.2 > length(acc.2), arrayPushBack(if(e.2 = 1, emptyArrayInt64(), acc.1[e.2 - 1]), e.1), acc.2)
                ),
                acc
            ),
            events,
            (arrayWithConstant({steps}, emptyArrayInt64()), emptyArrayInt64())
        ).2 AS best, length(best) AS level
        SELECT [{counts}] AS counts, [{means}] AS means, [{medians}] AS medians, [{p90s}] AS p90s, sum(scanned) AS scanned
        FROM
        (
            SELECT arraySort(groupArrayIf((toUnixTimestamp64Nano(timestamp), toUInt8(step)), step > 0)) AS events, count() AS scanned
            FROM (SELECT tenant_id, user_id, timestamp, {step_of} AS step FROM events
                  WHERE (? OR tenant_id = ?) AND timestamp >= fromUnixTimestamp64Nano(?) AND timestamp < fromUnixTimestamp64Nano(?))
            GROUP BY tenant_id, user_id
        )",
        end = steps + 1,
    )
}

fn result(definition: &FunnelDefinition, sums: &Sums) -> FunnelResult {
    let timing = |index: usize| -> Option<Timing> {
        let (mean, median, p90) = (
            sums.means.get(index)?,
            sums.medians.get(index)?,
            sums.p90s.get(index)?,
        );
        mean.is_finite().then_some(Timing {
            mean: *mean,
            median: *median,
            p90: *p90,
        })
    };
    let names: Vec<String> = definition
        .steps
        .iter()
        .map(|step| step.name.clone())
        .collect();
    let mut result = FunnelResult::from_attempts(&names, &[], sums.scanned, "clickhouse");
    result.set_counts(&sums.counts);
    let later = result.steps.iter_mut().enumerate().skip(1);
    later.for_each(|(index, step): (usize, &mut StepResult)| {
        step.time_from_previous_s = timing(index);
    });
    // The first slot of the timing columns holds the whole way.
    result.time_to_convert_s = timing(0).map(|timing| TimeToConvert {
        median: timing.median,
        p90: timing.p90,
    });
    result
}
