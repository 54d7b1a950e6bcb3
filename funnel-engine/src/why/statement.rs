//! The statement that counts exposures inside ClickHouse: [`facts_of`](super::facts::facts_of) in SQL.
//!
//! Only numbers and texts of this crate are ever put into it; subjects, names, tenants, times and words are bound.
//! What travels back is one row per fact, at most [`FACTS_MAX`](super::FACTS_MAX) of them.

use super::{
    drivers::FACTS_MAX,
    exposures::VALUES_MAX,
    facts::{BANDS, SLOW_NS, TEXT_CHARS_MAX},
};

/// Different facts that are kept of what one subject met after the step.
const LATER_FACTS_MAX: usize = 1_000;

/// How subjects are written, one array of JSON per line, for the table function `format`.
const SUBJECT_COLUMNS: &str = "id UInt32, tenant String, user String, session String, reached Int64, ends Int64, \
    in_time Int64, dropped UInt8";

/// Counts per fact. Binds: subjects; then twice, for events and for exchanges: any event, event names, all tenants,
/// tenant, first and last instant; then ignored properties, words of: out of stock, the same, stock, declined, the same.
pub(super) fn fact_counts() -> String {
    format!(
        "WITH subjects AS (SELECT * FROM format(JSONCompactEachRow, '{SUBJECT_COLUMNS}', ?)),
        seen AS ({events} UNION ALL {exchanges}),
        told AS ({told}),
        each AS ({each}),
        counted AS ({counted})
        {folded}",
        events = seen("events", EVENT_COLUMNS, "e.tenant_id"),
        exchanges = seen(
            "http_exchanges",
            EXCHANGE_COLUMNS,
            "ifNull(e.tenant_id, '')"
        ),
        told = told(),
        each = each(),
        counted = counted(),
        folded = folded(),
    )
}

/// What the two tables are read as. An event knows nothing of its request; its exchange does.
const EVENT_COLUMNS: &str = "CAST(e.event, 'String') AS name, '' AS who, '' AS route, false AS is_request, '' AS ended,
    mapFilter((k, v) -> v != '', map('tenant', s.tenant, 'status_code', ifNull(toString(e.status_code), ''))) AS known,
    CAST(e.properties, 'Map(String, String)') AS properties";
const EXCHANGE_COLUMNS: &str = "CAST(ifNull(e.event, ''), 'String') AS name,
    arrayStringConcat(arrayFilter(part -> part != '', [ifNull(e.service, ''), ifNull(e.method, ''), ifNull(e.route, '')]), ' ') AS who,
    CAST(ifNull(e.route, ''), 'String') AS route, true AS is_request, CAST(e.outcome, 'String') AS ended,
    mapFilter((k, v) -> v != '', map('tenant', s.tenant, 'status_code', ifNull(toString(e.status_code), ''),
        'route', ifNull(e.route, ''), 'method', ifNull(e.method, ''), 'service', ifNull(e.service, ''))) AS known,
    CAST(e.attributes, 'Map(String, String)') AS properties";

/// Rows of one table that belong to a subject while it is watched. A call seen at both ends counts at its server.
fn seen(table: &str, columns: &str, tenant: &str) -> String {
    let served = match table {
        "http_exchanges" => "e.role = 'server' AND ",
        _ => "",
    };
    format!(
        "SELECT s.id AS id, s.dropped = 1 AS is_dropped, toUnixTimestamp64Nano(e.timestamp) AS at_ns,
            at_ns > s.reached AS is_later, at_ns <= s.in_time AS is_in_time,
            at_ns = s.reached AND (? OR has(?, ifNull(e.event, ''))) AS is_step,
            e.duration_ns AS ns, ifNull(e.status_code, 0) AS status, {columns}
        FROM {table} AS e INNER JOIN subjects AS s ON {tenant} = s.tenant AND e.user_id = s.user
        WHERE {served}(? OR e.tenant_id = ?)
            AND e.timestamp >= fromUnixTimestamp64Nano(?) AND e.timestamp <= fromUnixTimestamp64Nano(?)
            AND (at_ns = s.reached OR (at_ns > s.reached AND at_ns <= s.ends))
            AND (s.session = '' OR ifNull(e.session_id, '') = s.session)"
    )
}

/// The facts of each row.
fn told() -> String {
    format!(
        "SELECT id, is_dropped, is_later, is_later AND is_in_time AS is_timely, is_step, ns,
            mapFilter((k, v) -> v != '' AND NOT has(?, k), mapUpdate(properties, known)) AS step_properties,
            splitByChar('.', name)[-1] AS last_word, properties['outcome'] AS told,
            multiIf(NOT is_request, '', ended = 'aborted', 'aborted', status BETWEEN 400 AND 499, '4xx', status BETWEEN 500 AND 599, '5xx', '') AS went_wrong,
            has(?, last_word) OR has(?, told) OR (status = 409
                AND hasAny(extractAll(lower(concat(route, ' ', name)), '[a-z0-9]+'), ?)) AS is_out_of_stock,
            has(?, last_word) OR has(?, told) OR status = 402 AS is_declined,
            arrayFilter(fact -> fact.1 > 0, [
                (toUInt8(if(endsWith(name, '.failed'), 3, 0)), {name}, ''),
                (toUInt8(if(went_wrong != '', 4, 0)), {who}, went_wrong),
                (toUInt8(if(who != '' AND ns >= {SLOW_NS}, 5, 0)), {who}, {band}),
                (toUInt8(if(is_out_of_stock, 6, 0)), '', ''),
                (toUInt8(if(is_declined, 7, 0)), '', '')]) AS facts
        FROM seen",
        name = cut("name"),
        who = cut("who"),
        band = band("ns"),
    )
}

/// Each subject once.
fn each() -> String {
    let later = |condition: &str| {
        format!(
            "groupUniqArrayArrayIf({LATER_FACTS_MAX})(facts, {condition}) AS {condition}_facts, maxIf(ns, {condition}) AS {condition}_ns"
        )
    };
    format!(
        "SELECT id, any(is_dropped) AS dropped, minMapIf(step_properties, is_step) AS properties, maxIf(ns, is_step) AS step_ns,
            {}, {} FROM told GROUP BY id",
        later("is_later"),
        later("is_timely")
    )
}

/// How many subjects were exposed to each fact. A subject has each fact at most once in all that was seen (`whole`)
/// and once in what was seen in time.
fn counted() -> String {
    let of_band =
        |kind: u8, ns: &str| format!("if({ns} > 0, [(toUInt8({kind}), '', {})], [])", band(ns));
    let flagged = |of: &str, flag: bool| {
        format!(
            "arrayMap(fact -> (fact.1, fact.2, fact.3, {flag}), arrayConcat(step_facts, {}, {of}_facts))",
            of_band(5, &format!("{of}_ns"))
        )
    };
    format!(
        "SELECT fact.1 AS kind, fact.2 AS name, fact.3 AS value, countIf(dropped AND fact.4) AS dropped_with,
            countIf(NOT dropped) AS converted_with, countIf(NOT fact.4) AS dropped_in_time
        FROM (SELECT dropped,
                arrayConcat(arrayMap((k, v) -> (toUInt8(1), {key}, {value}), mapKeys(properties), mapValues(properties)), {step}) AS step_facts,
                arrayJoin(arrayConcat({whole}, if(dropped, {in_time}, []))) AS fact
            FROM each)
        GROUP BY kind, name, value",
        key = cut("k"),
        value = cut("v"),
        step = of_band(2, "step_ns"),
        whole = flagged("is_later", true),
        in_time = flagged("is_timely", false),
    )
}

/// The rarer values of a property as one.
fn folded() -> String {
    format!(
        "SELECT kind, toValidUTF8(name) AS fact_name, toValidUTF8(if(is_rest, '', value)) AS fact_value, is_rest, sum(dropped_with) AS dropped,
            sum(converted_with) AS converted, sum(dropped_in_time) AS in_time, count() OVER () AS facts_seen
        FROM (SELECT *, kind = 1 AND row_number() OVER (PARTITION BY kind, name ORDER BY dropped_with + converted_with DESC, value) > {VALUES_MAX} AS is_rest
            FROM counted)
        GROUP BY kind, fact_name, fact_value, is_rest
        ORDER BY dropped + converted DESC, kind, fact_name, fact_value, is_rest LIMIT {FACTS_MAX}"
    )
}

fn cut(text: &str) -> String {
    format!("leftUTF8({text}, {TEXT_CHARS_MAX})")
}

/// The key of a duration's band.
fn band(ns: &str) -> String {
    let slowest_first = BANDS.iter().rev();
    let cases = slowest_first.map(|band| format!("{ns} >= {}, '{}'", band.from_ns, band.key));
    format!("multiIf({}, '')", cases.collect::<Vec<_>>().join(", "))
}
