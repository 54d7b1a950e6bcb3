//! The format as users meet it: what is read, and what is written again.

use serde_json::{Value, json};

use super::*;
use crate::predicate::Op;

pub(super) fn minimal() -> Value {
    json!({"name": "checkout", "window": "14d", "steps": [
        {"name": "A", "event": "a"}, {"name": "B", "event": ["b", "c"]}, {"name": "C", "event": "*"}]})
}

/// Replaces or adds a part, by JSON pointer.
pub(super) fn put(json: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = json.pointer_mut(parent).unwrap();
    if let Some(list) = parent.as_array_mut() {
        list[key.parse::<usize>().unwrap()] = value;
    } else {
        let object = parent.as_object_mut().unwrap();
        object.insert(key.to_owned(), value);
    }
}

/// The minimal definition with changes, written as pointers and values: `/order "strict" & /steps/1/within "5s"`.
pub(super) fn changed(changes: &str) -> Value {
    let mut json = minimal();
    for change in changes.split(" & ") {
        let (pointer, value) = change.split_once(' ').unwrap();
        put(&mut json, pointer, serde_json::from_str(value).unwrap());
    }
    json
}

pub(super) fn parse(json: &Value) -> Result<FunnelDefinition, DefinitionError> {
    FunnelDefinition::parse(&json.to_string())
}

/// Changes that are unusual, and right.
const UNUSUAL: &str = r#"
/window "1ms"
/window "3653d"
/name ""
/steps/1/within "20d"
/steps/1/within "0s"
/steps/1/within "5m" & /steps/1/not_before "5m"
/steps/1/not_before "14d"
/steps/1/optional true & /steps/2/optional true
/steps/2/occurrence "first_ever"
/steps/0/event "*" & /steps/0/occurrence "first_matching"
/steps/1 {"name":"Paid","http":{"status":"404"}}
/exclusions [{"event":"x","from_step":2,"to_step":3}]
/exclusions [{"event":"*","where":[{"property":"p","op":"is_set"}],"from_step":1,"to_step":2}]
/where [{"property":"p","op":"gt","value":"1e3"}]
/where [{"property":"p","op":"is_not_set","value":null}]
/where [{"property":"session","op":"is_set"}]
/where [{"property":"p","op":"eq","value":""}]
/where [{"property":"p","op":"matches","value":"^/p/\\d+$"}]
/breakdown {"properties":["a","b","c","d"],"attribution":"step:3","limit":1000}
/breakdown {"properties":["a"],"attribution":"step:2"} & /steps/1/optional true
/trend {"interval":"hour","timezone":"America/St_Johns","week_start":"sunday","from_step":2,"to_step":2}
/time_range {"from":"1678-01-01T00:00:00Z","to":"2262-04-11T00:00:00Z"}
/count "totals" & /order "strict"
/count "totals" & /order "unordered"
/order "unordered" & /exclusions [{"event":"x","from_step":1,"to_step":3}]
/order "unordered" & /breakdown {"properties":["a"],"attribution":"step:1"}
/order "unordered" & /trend {"interval":"month","from_step":2,"to_step":3}
/order "clickhouse" & /modes ["strict_order","allow_reentry","strict_once"]
/order "clickhouse" & /count "sessions" & /breakdown {"properties":["a"],"attribution":"all_steps"}
/order "clickhouse" & /steps/1/occurrence "first_ever"
"#;

#[test]
fn the_example_of_the_contract_is_read_in_full() {
    let json = r#"{"name":"checkout","order":"ordered","window":"14d","count":"users",
     "steps":[{"name":"Login","event":"login"},
              {"name":"Cart","event":["cart_add","cart_view"],"where":[{"property":"amount","op":"gte","value":100}],"optional":false,"within":"30m","not_before":"5s"},
              {"name":"Pay","event":"pay"}],
     "where":[], "exclusions":[{"event":"logout","where":[],"from_step":1,"to_step":3}],
     "breakdown":{"properties":["device"],"attribution":"first_touch","limit":25},
     "trend":{"interval":"day","timezone":"Asia/Shanghai","week_start":"monday","from_step":1,"to_step":3},
     "time_range":{"from":"2026-01-01T00:00:00Z","to":"2026-02-01T00:00:00Z"}}"#;
    let definition = FunnelDefinition::parse(json).unwrap();
    assert_eq!(definition.order, Order::Ordered);
    assert_eq!(definition.count, Count::Users);
    assert_eq!(definition.window.nanoseconds(), 14 * 86_400_000_000_000);
    let cart = &definition.steps[1];
    assert_eq!(cart.event.names(), Some(vec!["cart_add", "cart_view"]));
    assert_eq!(cart.conditions[0].op, Op::Gte);
    assert_eq!(cart.within.unwrap().nanoseconds(), 1_800_000_000_000);
    assert_eq!(cart.not_before.unwrap().nanoseconds(), 5_000_000_000);
    assert_eq!(cart.occurrence, Occurrence::Any);
    assert_eq!(
        (
            definition.exclusions[0].from_step,
            definition.exclusions[0].to_step
        ),
        (1, 3)
    );
    let breakdown = definition.breakdown.as_ref().unwrap();
    assert_eq!(
        (breakdown.attribution, breakdown.limit),
        (Attribution::FirstTouch, 25)
    );
    let trend = definition.trend.as_ref().unwrap();
    assert_eq!(trend.timezone.iana_name(), Some("Asia/Shanghai"));
    assert_eq!((trend.from_step, trend.to_step), (1, 3));
    let range = definition.time_range.as_ref().unwrap().nanoseconds();
    assert_eq!(
        range,
        (1_767_225_600_000_000_000, 1_769_904_000_000_000_000)
    );
}

#[test]
fn what_is_absent_is_not_written() {
    let definition = parse(&minimal()).unwrap();
    assert_eq!(serde_json::to_value(&definition).unwrap(), minimal());
    let nulls = changed(
        r"/breakdown null & /trend null & /time_range null & /steps/1/within null & /steps/1/http null",
    );
    assert_eq!(parse(&nulls).unwrap(), definition);
    let nulls = changed(
        r#"/order "ordered" & /count "users" & /steps/1/occurrence "any" & /steps/1/optional false"#,
    );
    assert_eq!(parse(&nulls).unwrap(), definition);
}

#[test]
fn defaults_are_resolved() {
    let json = changed(r#"/breakdown {"properties":["device"]} & /trend {"interval":"week"}"#);
    let definition = parse(&json).unwrap();
    let breakdown = definition.breakdown.as_ref().unwrap();
    assert_eq!(
        (breakdown.attribution, breakdown.limit),
        (Attribution::FirstTouch, 25)
    );
    let trend = definition.trend.as_ref().unwrap();
    assert_eq!(trend.timezone.iana_name(), Some("UTC"));
    assert_eq!(trend.week_start, WeekStart::Monday);
    assert_eq!((trend.from_step, trend.to_step), (1, 3));
    assert_eq!(serde_json::to_value(&definition).unwrap(), json);
}

#[test]
fn unusual_definitions_are_read_too() {
    for changes in UNUSUAL.lines().filter(|row| !row.is_empty()) {
        let definition =
            parse(&changed(changes)).unwrap_or_else(|error| panic!("{changes}: {error}"));
        let again = serde_json::to_string(&definition).unwrap();
        assert_eq!(FunnelDefinition::parse(&again).unwrap(), definition);
    }
}

#[test]
fn text_that_is_no_definition_is_refused() {
    let good = r#"{"name":"checkout","window":"14d","steps":[{"name":"A","event":"a"},{"name":"B","event":"b"}]}"#;
    FunnelDefinition::parse(good).unwrap();
    let deep = |depth: usize| format!("{{\"name\":\"x\",\"where\":{}", "[".repeat(depth));
    let long_key = format!("{{\"{}\":1}}", "k".repeat(5_000));
    for (text, path, says) in [
        ("", "$", "EOF"),
        ("null", "$", "expected a funnel definition"),
        ("[]", "$", "expected a funnel definition"),
        ("\"x\"", "$", "expected a funnel definition"),
        ("{}", "name", "is missing at line 1 column 2"),
        (&format!("{good} {good}"), "$", "trailing characters"),
        (
            &good.replace("\"14d\",", "\"14d\""),
            "$",
            "expected `,` or `}` at line 1 column 34",
        ),
        (
            &good.replace("\"A\",", "\"A\""),
            "steps[0]",
            "expected `,` or `}`",
        ),
        (
            &good.replace("\"event\":\"a\"", "\"event\":\"a\",\"event\":\"b\""),
            "steps[0].event",
            "is there twice",
        ),
        (
            &good.replace("\"window\"", "\"what?\""),
            "what?",
            "unknown field",
        ),
        (
            &good.replace("{\"name\":\"checkout\"", "{\"name\":\"a\",\"name\":\"b\""),
            "name",
            "is there twice",
        ),
        (&deep(100_000), "where[0]", "expected a condition"),
        (
            &good.replacen("\"a\"", &"[".repeat(100_000), 1),
            "steps[0].event[0]",
            "expected a string",
        ),
        (
            &long_key,
            &format!("{}...", "k".repeat(500)),
            "unknown field",
        ),
    ] {
        let error = FunnelDefinition::parse(text).unwrap_err();
        assert_eq!(error.path, path, "{error}");
        assert!(error.message.contains(says), "{error}");
        assert!(error.to_string().len() < 1_100, "{error}");
    }
    let error = FunnelDefinition::parse(&" ".repeat((16 << 20) + 1)).unwrap_err();
    assert_eq!(
        (error.path.as_str(), error.message.as_str()),
        ("$", "a definition has at most 16 MiB")
    );
}

#[test]
fn nesting_ends_where_the_reader_says() {
    let head = r#"{"where":[{"property":"p","op":"eq","value":"#;
    let error = FunnelDefinition::parse(&format!("{head}{}", "[".repeat(100_000))).unwrap_err();
    assert!(error.path.starts_with("where[0].value[0][0]"), "{error}");
    assert!(error.message.contains("recursion limit"), "{error}");
}

#[test]
fn a_definition_that_was_changed_can_be_checked_again() {
    let mut definition = parse(&minimal()).unwrap();
    definition.steps.truncate(1);
    assert_eq!(definition.validate().unwrap_err().path, "steps");
    let mut definition = parse(&changed(r#"/trend {"interval":"day"}"#)).unwrap();
    definition.trend.as_mut().unwrap().timezone = jiff::tz::TimeZone::unknown();
    assert_eq!(definition.validate().unwrap_err().path, "trend.timezone");
}
