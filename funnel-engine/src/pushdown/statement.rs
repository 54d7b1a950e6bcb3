//! The text of the statements. Only numbers are ever put into it; names, tenants and times are bound.
//!
//! `arrayFold` carries, per level, the step times of the newest attempt that stands there, and the first
//! attempt that reached the highest level: one pass over each user's step events.

use std::fmt::Write as _;

use crate::figures::bin_edges_ns;

/// Which events are read. Binds: all, tenant, from, to.
const WHERE: &str = "(? OR tenant_id = ?) AND timestamp >= fromUnixTimestamp64Nano(?) AND timestamp < fromUnixTimestamp64Nano(?)";

/// Counts, timings and the histogram. Binds: names per step, then those of the filter.
pub(super) fn funnel(steps: usize, window_ns: i64) -> String {
    let column = |of: &dyn Fn(usize) -> String| (1..=steps).map(of).collect::<Vec<_>>().join(", ");
    let gap = |step: usize| match step {
        1 => format!("(best[{steps}] - best[1]) / 1e9, level = {steps}"),
        _ => format!("(best[{step}] - best[{}]) / 1e9, level >= {step}", step - 1),
    };
    let edges = bin_edges_ns();
    let edge_list = edges.iter().map(i64::to_string).collect::<Vec<_>>();
    format!(
        "WITH arrayCount(edge -> edge <= best[{steps}] - best[1], [{edge_list}]) AS bin
        SELECT [{counts}] AS counts, [{means}] AS means, [{medians}] AS medians, [{p90s}] AS p90s,
            sumForEachIf(arrayMap(i -> toUInt64(i = bin), range(1, {bins_end})), level = {steps}) AS bins, sum(scanned) AS scanned
        FROM ({attempts})",
        edge_list = edge_list.join(", "),
        counts = column(&|step| format!("countIf(level >= {step})")),
        means = column(&|step| format!("ifNull(avgIf({}), nan)", gap(step))),
        medians = column(&|step| format!("quantileExactInclusiveIf(0.5)({})", gap(step))),
        p90s = column(&|step| format!("quantileExactInclusiveIf(0.9)({})", gap(step))),
        bins_end = edges.len() + 1,
        attempts = attempts(steps, window_ns),
    )
}

/// Users whose chosen attempt ends between two levels, and when it reached `step` and the one after.
/// Binds: as [`funnel`], then least and most level, limit, offset.
pub(super) fn members(steps: usize, window_ns: i64, step: usize) -> String {
    let next = step + 1;
    format!(
        "SELECT tenant_id, user_id, best[1] AS started_at_ns, best[{step}] AS reached_at_ns,
            if(level >= {next}, toNullable(best[{next}]), NULL) AS next_at_ns
        FROM ({attempts})
        WHERE level >= ? AND level <= ? ORDER BY reached_at_ns DESC, tenant_id, user_id LIMIT ? OFFSET ?",
        attempts = attempts(steps, window_ns)
    )
}

/// Latency and failures of each step, from exchanges: a refused login has no user, so it is no event of anyone.
/// Binds: names per step, failed names per step, then those of the filter.
pub(super) fn service(steps: usize) -> String {
    let column = |of: &dyn Fn(usize) -> String| (1..=steps).map(of).collect::<Vec<_>>().join(", ");
    format!(
        "SELECT [{means}] AS means, [{p95s}] AS p95s, [{errors}] AS errors
        FROM (SELECT ms, {step_of} AS step, {step_of} AS failed FROM (
            SELECT e.duration_ns / 1e6 AS ms, assumeNotNull(e.event) AS event, ifNull(e.tenant_id, '') AS tenant_id, e.timestamp AS timestamp
            FROM http_exchanges AS e WHERE e.role = 'server' AND e.event IS NOT NULL)
        WHERE {WHERE})",
        means = column(&|step| format!("ifNull(avgIf(ms, step = {step}), nan)")),
        p95s = column(&|step| format!("quantileExactInclusiveIf(0.95)(ms, step = {step})")),
        errors = column(&|step| format!("countIf(failed = {step})")),
        step_of = step_of(steps),
    )
}

/// One row per user: the step times of the chosen attempt.
fn attempts(steps: usize, window_ns: i64) -> String {
    format!(
        "SELECT tenant_id, user_id, scanned, arrayFold(
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
        FROM
        (
            SELECT tenant_id, user_id, count() AS scanned,
                arraySort(groupArrayIf((toUnixTimestamp64Nano(timestamp), toUInt8(step)), step > 0)) AS events
            FROM (SELECT tenant_id, user_id, timestamp, {step_of} AS step FROM events WHERE {WHERE})
            GROUP BY tenant_id, user_id
        )",
        end = steps + 1,
        step_of = step_of(steps),
    )
}

fn step_of(steps: usize) -> String {
    let mut text = String::from("multiIf(");
    for step in 1..=steps {
        // Writing into a string cannot fail.
        write!(text, "has(?, event), {step}, ").unwrap_or_default();
    }
    text + "0)"
}
