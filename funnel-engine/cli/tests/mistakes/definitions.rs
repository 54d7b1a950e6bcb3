//! Definitions that mean nothing, and those that name what no event has.

use serde_json::json;

use super::{EVENTS, Files, definition, funnel};

#[test]
fn a_definition_that_means_nothing_is_refused_by_its_path() {
    let files = Files::new();
    let exclusion = |from: u8, to: u8| json!([{"event": "x", "from_step": from, "to_step": to}]);
    for (pointer, value, says) in [
        (
            "/steps/1/withn",
            json!("5m"),
            "steps[1].withn: unknown field `withn`, expected one of `name`",
        ),
        ("/windw", json!("5m"), "windw: unknown field"),
        (
            "/exclusions",
            exclusion(2, 2),
            "exclusions[0].from_step: 2 to 2 is no range of steps: write 1 <= from_step < to_step <= 2",
        ),
        (
            "/exclusions",
            exclusion(1, 3),
            "exclusions[0].to_step: there is no step 3",
        ),
        (
            "/window",
            json!("0s"),
            "window: is 0s: write 1ms to 3653d (10 years)",
        ),
        (
            "/window",
            json!("3654d"),
            "window: is 3654d: write 1ms to 3653d (10 years)",
        ),
        (
            "/window",
            json!("99999999999d"),
            "window: `99999999999d` is longer than any time",
        ),
        (
            "/breakdown",
            json!({"properties": ["device"], "limit": 10_000}),
            "breakdown.limit: is 10000: write 1 to 1000",
        ),
        (
            "/time_range",
            json!({"from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}),
            "time_range.from: 2026-02-01T00:00:00Z does not lie before",
        ),
    ] {
        let text = definition(&[(pointer, value)]);
        let run = files.run(&text, "e.csv", EVENTS);
        let path = files.path("d.json");
        let explained = funnel(&["explain", "--definition", &path.to_string_lossy()]);
        for ended in [run, explained] {
            assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""));
            assert!(
                ended.said.contains(says),
                "{} should say {says}",
                ended.said
            );
            assert!(ended.said.contains("d.json"), "{}", ended.said);
        }
    }
}

#[test]
fn a_name_that_no_event_has_is_said_with_the_nearest_one() {
    let files = Files::new();
    let asks = |property: &str, op: &str| json!([{"property": property, "op": op, "value": (op == "eq").then_some("phone")}]);
    for (pointer, value, counts, says) in [
        (
            "/steps/1/event",
            json!("Pay"),
            [2, 0],
            "steps[1].event: no event is named `Pay`: is it `pay`?",
        ),
        (
            "/steps/0/event",
            json!(["login", "signup"]),
            [2, 1],
            "steps[0].event[1]: no event is named `signup`; there are `login`, `pay`",
        ),
        (
            "/steps/1/where",
            asks("devise", "eq"),
            [2, 0],
            "steps[1].where[0].property: no event has the property `devise`: is it `device`?",
        ),
        (
            "/where",
            asks("country", "eq"),
            [0, 0],
            "where[0].property: no event has the property `country`; there are `device`",
        ),
        (
            "/breakdown",
            json!({"properties": ["device", "divice"]}),
            [2, 1],
            "breakdown.properties[1]: no event has the property `divice`: is it `device`?",
        ),
        (
            "/exclusions",
            json!([{"event": "logn", "from_step": 1, "to_step": 2}]),
            [2, 1],
            "exclusions[0].event: no event is named `logn`: is it `login`?",
        ),
        (
            "/time_range",
            json!({"from": "2025-01-01T00:00:00Z", "to": "2025-02-01T00:00:00Z"}),
            [0, 0],
            "time_range: no event lies in it",
        ),
    ] {
        let found = files.counts(&definition(&[(pointer, value)]), "e.csv", EVENTS);
        assert_eq!(found, (counts.to_vec(), says.to_owned()));
    }
    // What may well be missing is not remarked on.
    for (pointer, value) in [
        (
            "/exclusions",
            json!([{"event": "refund", "from_step": 1, "to_step": 2}]),
        ),
        ("/where", asks("coupon", "is_not_set")),
        ("/steps/1/event", json!("*")),
    ] {
        let (counts, said) = files.counts(&definition(&[(pointer, value)]), "e.csv", EVENTS);
        assert_eq!((counts, said.as_str()), (vec![2, 1], ""));
    }
    let flat = r#"{"user":"ann","ts":1,"event":"login","device":"phone"}"#;
    let text = definition(&[("/breakdown", json!({"properties": ["device"]}))]);
    let (_, said) = files.counts(&text, "e.ndjson", flat);
    assert!(
        said.contains("properties stand inside `properties`"),
        "{said}"
    );
}
