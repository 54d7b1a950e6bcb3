//! Mistakes, and where each is found. A row of a table: changes to the minimal definition, the path of the error,
//! and a part of what it says.

use serde_json::{Value, json};

use super::tests::{changed, minimal, parse, put};

/// What is not of the right form.
const SHAPE: &str = r#"
/windw "1d" | windw | unknown field
/steps/1/withn "1d" | steps[1].withn | unknown field
/where [{"property":"p","operator":"eq"}] | where[0].operator | unknown field
/steps/2 {"name":"C","http":{"path":"/"}} | steps[2].http.path | `route`, `method`, `status`
/exclusions [{"event":"x","form_step":1}] | exclusions[0].form_step | unknown field
/breakdown {"property":"a"} | breakdown.property | unknown field
/trend {"zone":"UTC"} | trend.zone | unknown field
/time_range {"since":"x"} | time_range.since | unknown field
/name 5 | name | expected a string
/order "sequential" | order | ordered, strict, unordered, clickhouse
/order {"strict":null} | order | expected a string
/count "people" | count | users, sessions, totals
/modes ["strict"] | modes[0] | strict_deduplication, strict_order
/modes "strict_order" | modes | expected a sequence
/window 14 | window | a duration as text
/window "14w" | window | write 500ms
/steps {} | steps | expected a sequence
/steps/1 ["B","b"] | steps[1] | expected a step
/steps/1 {"event":"b"} | steps[1].name | is missing
/steps/1 {"name":"B"} | steps[1] | write `event` or `http`
/steps/1/http {"route":"/"} | steps[1] | write one of them
/steps/1/event 7 | steps[1].event | a list of names
/steps/1/event ["b",7] | steps[1].event[1] | expected a string
/steps/1/optional "yes" | steps[1].optional | expected a boolean
/steps/1/occurrence "first" | steps[1].occurrence | any, first_matching, first_ever
/steps/1/within 30 | steps[1].within | a duration as text
/steps/1/not_before "-5s" | steps[1].not_before | write 500ms
/steps/1/where [["p","eq",1]] | steps[1].where[0] | expected a condition
/where [{"property":"p","op":"like","value":"a"}] | where[0].op | not_contains, is_set, is_not_set, matches
/where [{"op":"is_set"}] | where[0].property | is missing
/steps/1 {"name":"B","http":{"status":600}} | steps[1].http.status | a code from 100 to 599
/steps/1 {"name":"B","http":{"status":"2x"}} | steps[1].http.status | "1xx" to "5xx"
/exclusions [{"event":"x","from_step":1}] | exclusions[0].to_step | is missing
/exclusions [{"event":"x","from_step":-1,"to_step":2}] | exclusions[0].from_step | invalid value
/exclusions [{"event":"x","from_step":1.5,"to_step":2}] | exclusions[0].from_step | invalid type
/breakdown {"properties":"device"} | breakdown.properties | expected a sequence
/breakdown {"properties":["a"],"attribution":"step:x"} | breakdown.attribution | first_touch, last_touch
/trend {} | trend.interval | is missing
/trend {"interval":"year"} | trend.interval | hour, day, week, month
/trend {"interval":"day","timezone":"Asia/Nowhere"} | trend.timezone | IANA name
/trend {"interval":"day","timezone":"localtime"} | trend.timezone | IANA name
/trend {"interval":"day","timezone":"Etc/Unknown"} | trend.timezone | IANA name
/trend {"interval":"day","timezone":"../../etc/passwd"} | trend.timezone | IANA name
/trend {"interval":"day","week_start":"friday"} | trend.week_start | monday, sunday
/time_range {"from":"2026-01-01","to":"2026-02-01T00:00:00Z"} | time_range.from | RFC 3339
/time_range {"from":"2026-01-01T00:00:00Z","to":5} | time_range.to | RFC 3339
/time_range {"from":"2026-01-01T00:00:00Z"} | time_range.to | is missing
"#;

/// What is of the right form and means nothing.
const MEANING: &str = r#"
/window "0s" | window | write 1ms to 3653d
/window "3654d" | window | write 1ms to 3653d
/steps/0/optional true | steps[0].optional | cannot be optional
/steps/0/within "1m" | steps[0].within | the first has none
/steps/0/not_before "1m" | steps[0].not_before | the first has none
/steps/1/not_before "15d" | steps[1].not_before | longer than `window` 14d
/steps/1/event "" | steps[1].event | must not be empty
/steps/1/event [] | steps[1].event | 1 to 100 event names, this one has 0
/steps/1/event ["b",""] | steps[1].event[1] | must not be empty
/steps/1/event ["b","c","b"] | steps[1].event[2] | `b` is listed twice
/steps/1/event ["*","c"] | steps[1].event[0] | stands alone
/steps/1 {"name":"B","http":{}} | steps[1].http | `route`, `method` or `status`
/steps/1 {"name":"B","http":{"route":""}} | steps[1].http.route | must not be empty
/steps/1 {"name":"B","http":{"method":""}} | steps[1].http.method | must not be empty
/exclusions [{"event":"x","from_step":0,"to_step":2}] | exclusions[0].from_step | 1 <= from_step < to_step <= 3
/exclusions [{"event":"x","from_step":2,"to_step":2}] | exclusions[0].from_step | 1 <= from_step < to_step <= 3
/exclusions [{"event":"x","from_step":3,"to_step":2}] | exclusions[0].from_step | 1 <= from_step < to_step <= 3
/exclusions [{"event":"x","from_step":1,"to_step":4}] | exclusions[0].to_step | there is no step 4
/exclusions [{"event":"x","from_step":1,"to_step":0}] | exclusions[0].from_step | no range
/exclusions [{"event":"","from_step":1,"to_step":2}] | exclusions[0].event | must not be empty
/modes ["strict_order"] | modes | "order":"clickhouse"
/breakdown {"properties":[]} | breakdown.properties | 1 to 4 properties
/breakdown {"properties":["a","b","c","d","e"]} | breakdown.properties | 1 to 4 properties
/breakdown {"properties":["a","a"]} | breakdown.properties[1] | listed twice
/breakdown {"properties":[""]} | breakdown.properties[0] | must not be empty
/breakdown {"properties":["a"],"limit":0} | breakdown.limit | write 1 to 1000
/breakdown {"properties":["a"],"limit":1001} | breakdown.limit | write 1 to 1000
/breakdown {"properties":["a"],"attribution":"step:0"} | breakdown.attribution | there is no step 0
/breakdown {"properties":["a"],"attribution":"step:4"} | breakdown.attribution | there is no step 4
/trend {"interval":"day","from_step":0,"to_step":2} | trend.from_step | there is no step 0
/trend {"interval":"day","from_step":1,"to_step":4} | trend.to_step | there is no step 4
/trend {"interval":"day","from_step":3,"to_step":2} | trend.from_step | comes after
/time_range {"from":"1677-12-31T00:00:00Z","to":"2026-01-01T00:00:00Z"} | time_range.from | 1678 to 2262
/time_range {"from":"2026-01-01T00:00:00Z","to":"2263-01-01T00:00:00Z"} | time_range.to | 1678 to 2262
/where [{"property":"","op":"is_set"}] | where[0].property | must not be empty
/where [{"property":"p","op":"eq","value":null}] | where[0].value | needs one value
/where [{"property":"p","op":"ne","value":["a"]}] | where[0].value | needs one value
/where [{"property":"p","op":"contains","value":{}}] | where[0].value | needs one value
/where [{"property":"p","op":"not_contains"}] | where[0].value | needs one value
/where [{"property":"p","op":"in","value":"a"}] | where[0].value | needs a list
/where [{"property":"p","op":"in","value":[]}] | where[0].value | needs a list
/where [{"property":"p","op":"not_in","value":["a",null]}] | where[0].value[1] | no single value
/where [{"property":"p","op":"in","value":[["a"]]}] | where[0].value[0] | no single value
/where [{"property":"p","op":"is_set","value":true}] | where[0].value | takes no value
/where [{"property":"p","op":"is_not_set","value":""}] | where[0].value | takes no value
/where [{"property":"p","op":"gt","value":"ten"}] | where[0].value | compares numbers
/where [{"property":"p","op":"lte","value":true}] | where[0].value | compares numbers
/where [{"property":"p","op":"lt","value":null}] | where[0].value | compares numbers
/steps/1/where [{"property":"p","op":"matches","value":"(a"}] | steps[1].where[0].value | unclosed group
/where [{"property":"p","op":"matches","value":5}] | where[0].value | needs a regular expression
/where [{"property":"p","op":"matches","value":"(?=a)"}] | where[0].value | look-around
/where [{"property":"p","op":"matches","value":"((a{1000}){1000}){1000}"}] | where[0].value | too large
/steps/1/within "5s" & /steps/1/not_before "6s" | steps[1].not_before | longer than `within` 5s
/exclusions [{"event":"x","where":[{"property":"p","op":"gt","value":"a"}],"from_step":1,"to_step":2}] | exclusions[0].where[0].value | compares numbers
/trend {"interval":"day","from_step":2} & /steps/1/optional true | trend.from_step | optional
/trend {"interval":"day"} & /steps/2/optional true | trend.to_step | optional
/time_range {"from":"2026-01-01T00:00:00Z","to":"2026-01-01T08:00:00+08:00"} | time_range.from | does not lie before
/steps [] | steps | 2 to 64 steps, this one has 0
/steps [{"name":"A","event":"a"}] | steps | 2 to 64 steps, this one has 1
"#;

/// What an order does not know.
const ORDERS: &str = r#"
/order "unordered" & /steps/1/optional true | steps[1].optional | `unordered`
/order "unordered" & /steps/1/within "1m" | steps[1].within | `unordered`
/order "unordered" & /steps/2/not_before "1m" | steps[2].not_before | `unordered`
/order "unordered" & /breakdown {"properties":["a"],"attribution":"step:2"} | breakdown.attribution | write step:1
/order "unordered" & /breakdown {"properties":["a"],"attribution":"step:0"} | breakdown.attribution | write step:1
/order "unordered" & /exclusions [{"event":"x","from_step":2,"to_step":3}] | exclusions[0].from_step | write 1
/order "unordered" & /exclusions [{"event":"x","from_step":1,"to_step":2}] | exclusions[0].to_step | write 3
/order "unordered" & /modes ["strict_once"] | modes | leave them out
/order "clickhouse" & /steps/1/optional true | steps[1].optional | `windowFunnel`
/order "clickhouse" & /steps/1/within "1m" | steps[1].within | `windowFunnel`
/order "clickhouse" & /steps/2/not_before "1m" | steps[2].not_before | `windowFunnel`
/order "clickhouse" & /exclusions [{"event":"x","from_step":1,"to_step":3}] | exclusions | `windowFunnel`
/order "clickhouse" & /trend {"interval":"day"} | trend | `windowFunnel`
/order "clickhouse" & /count "totals" | count | users or sessions
/order "clickhouse" & /breakdown {"properties":["a"],"attribution":"step:1"} | breakdown.attribution | first_touch
/order "clickhouse" & /modes ["strict_once","strict_once"] | modes[1] | twice
/order "clickhouse" & /modes ["strict_once","allow_reentry"] | modes[1] | `strict_order`
"#;

#[test]
fn every_mistake_is_found_at_its_path() {
    let rows = [SHAPE, MEANING, ORDERS].map(str::lines);
    let rows: Vec<&str> = rows
        .into_iter()
        .flatten()
        .filter(|row| !row.is_empty())
        .collect();
    assert!(rows.len() > 100, "{} rows", rows.len());
    for row in rows {
        let [changes, path, says] = row.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("{row} is no row");
        };
        found(&changed(changes), path, says);
    }
}

#[test]
fn limits_are_found_where_they_are_broken() {
    let names = |count: usize| -> Value { (0..count).map(|number| format!("e{number}")).collect() };
    let step = || json!({"name": "A", "event": "a"});
    let condition = json!({"property": "p", "op": "is_set"});
    let listed = |count: usize| json!([{"property": "p", "op": "not_in", "value": names(count)}]);
    let exclusion = json!({"event": "x", "from_step": 1, "to_step": 2});
    for (pointer, most, more, path, says) in [
        (
            "/name",
            json!("ä".repeat(200)),
            json!("ä".repeat(201)),
            "name",
            "at most 200 characters",
        ),
        (
            "/steps/2/name",
            json!("x".repeat(200)),
            json!("x".repeat(201)),
            "steps[2].name",
            "at most 200",
        ),
        (
            "/steps",
            many(step(), 64),
            many(step(), 65),
            "steps",
            "2 to 64 steps, this one has 65",
        ),
        (
            "/steps/1/event",
            names(100),
            names(101),
            "steps[1].event",
            "this one has 101",
        ),
        (
            "/where",
            many(condition.clone(), 100),
            many(condition, 101),
            "where",
            "at most 100 conditions",
        ),
        (
            "/steps/1/where",
            listed(10_000),
            listed(10_001),
            "steps[1].where[0].value",
            "at most 10000 values",
        ),
        (
            "/exclusions",
            many(exclusion.clone(), 64),
            many(exclusion, 65),
            "exclusions",
            "at most 64 exclusions",
        ),
    ] {
        let with = |value: Value| {
            let mut json = minimal();
            put(&mut json, pointer, value);
            json
        };
        parse(&with(most)).unwrap();
        found(&with(more), path, says);
    }
    let mut json = changed("/order \"clickhouse\"");
    put(&mut json, "/steps", many(step(), 32));
    parse(&json).unwrap();
    put(&mut json, "/steps", many(step(), 33));
    found(&json, "steps", "at most 32 steps");
}

#[test]
fn regular_expressions_are_counted_over_all_lists() {
    let pattern = json!({"property": "p", "op": "matches", "value": "a"});
    let patterns = |count: usize| {
        let mut json = minimal();
        put(&mut json, "/where", many(pattern.clone(), 60));
        let exclusion = json!({"event": "x", "where": many(pattern.clone(), count), "from_step": 1, "to_step": 2});
        put(&mut json, "/exclusions", json!([exclusion]));
        json
    };
    parse(&patterns(40)).unwrap();
    let says = "at most 100 regular expressions";
    found(&patterns(41), "exclusions[0].where[40].op", says);
}

fn many(one: Value, count: usize) -> Value {
    Value::from(vec![one; count])
}

fn found(json: &Value, path: &str, says: &str) {
    let Err(error) = parse(json) else {
        panic!("{json} has no mistake at {path}");
    };
    assert_eq!(error.path, path, "{json}: {error}");
    assert!(error.message.contains(says), "{error} should say {says}");
}
