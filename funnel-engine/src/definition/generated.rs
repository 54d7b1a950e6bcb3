//! Definitions made at random: valid ones survive writing and reading, damaged ones are read or refused.

use proptest::{
    option,
    prelude::*,
    sample::{select, subsequence},
};
use serde_json::{Value, json};

use super::*;
use crate::predicate::Op;

prop_compose! {
    fn span(most_ms: i64)(ms in 1..=most_ms) -> Span {
        format!("{ms}ms").parse().unwrap()
    }
}

fn a_condition() -> impl Strategy<Value = Condition> {
    let scalar = prop_oneof![
        "\\PC{0,6}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_map(Value::from)
            .prop_filter("finite", Value::is_number),
        any::<bool>().prop_map(Value::from),
    ];
    let list = proptest::collection::vec(scalar.clone(), 1..5).prop_map(Value::from);
    let number = prop_oneof![(-1e9..1e9).prop_map(Value::from), Just(json!("2.5e3"))];
    let pattern = select(vec!["^/p/\\d+$", "a|b", "(?i)phone", "[^x]*"]).prop_map(Value::from);
    ("\\PC{1,6}", select(Op::ALL), scalar, list, number, pattern).prop_map(
        |(property, op, scalar, list, number, pattern)| Condition {
            property,
            op,
            value: match op {
                Op::Eq | Op::Ne | Op::Contains | Op::NotContains => scalar,
                Op::In | Op::NotIn => list,
                Op::Gt | Op::Gte | Op::Lt | Op::Lte => number,
                Op::IsSet | Op::IsNotSet => Value::Null,
                Op::Matches => pattern,
            },
        },
    )
}

fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    proptest::collection::vec(a_condition(), 0..3)
}

fn an_event() -> impl Strategy<Value = StepEvent> {
    prop_oneof![
        "[a-z]{1,6}|\\*".prop_map(StepEvent::One),
        proptest::collection::hash_set("[a-zä]{1,6}", 1..5)
            .prop_map(|names| StepEvent::Many(names.into_iter().collect())),
    ]
}

fn http() -> impl Strategy<Value = HttpMatch> {
    let status = prop_oneof![
        (1_u8..=5).prop_map(StatusMatch::Class),
        (100_u16..=599).prop_map(StatusMatch::Code),
    ];
    let parts = (
        option::of("/[a-z]{0,5}"),
        option::of("[A-Z]{1,5}"),
        option::of(status),
    );
    let http = parts.prop_map(|(route, method, status)| HttpMatch {
        route,
        method,
        status,
    });
    http.prop_filter("says something", |http| *http != HttpMatch::default())
}

prop_compose! {
    fn a_step(window_ms: i64)(
        name in "\\PC{0,20}", event in an_event(), http in option::weighted(0.3, http()), conditions in conditions(),
        optional in any::<bool>(), gaps in (option::of(span(window_ms)), option::of(span(window_ms))),
        occurrence in select(Occurrence::ALL),
    ) -> Step {
        let (not_before, within) = match gaps {
            (Some(one), Some(other)) => (Some(one.min(other)), Some(one.max(other))),
            other => other,
        };
        let event = if http.is_some() { StepEvent::One("*".to_owned()) } else { event };
        Step { name, event, http, conditions, optional, within, not_before, occurrence }
    }
}

prop_compose! {
    fn an_exclusion(steps: usize)(
        event in an_event(), conditions in conditions(), from_step in 1..steps, length in 1..steps,
    ) -> Exclusion {
        Exclusion { event, conditions, from_step, to_step: (from_step + length).min(steps) }
    }
}

fn a_breakdown(steps: usize) -> impl Strategy<Value = Breakdown> {
    let attribution = prop_oneof![
        select(vec![
            Attribution::FirstTouch,
            Attribution::LastTouch,
            Attribution::AllSteps
        ]),
        (1..=steps).prop_map(Attribution::Step),
    ];
    let properties = proptest::collection::hash_set("\\PC{1,6}", 1..=4);
    (properties, attribution, 1_usize..=1_000).prop_map(|(properties, attribution, limit)| {
        Breakdown {
            properties: properties.into_iter().collect(),
            attribution,
            limit,
        }
    })
}

fn a_trend(steps: usize) -> impl Strategy<Value = Trend> {
    let zones = vec![
        "UTC",
        "Etc/UTC",
        "Asia/Shanghai",
        "asia/tokyo",
        "America/St_Johns",
        "Europe/London",
    ];
    let steps = (1..=steps, 1..=steps);
    (
        select(Interval::ALL),
        select(zones),
        select(WeekStart::ALL),
        steps,
    )
        .prop_map(|(interval, zone, week_start, (one, other))| Trend {
            interval,
            timezone: jiff::tz::TimeZone::get(zone).unwrap(),
            week_start,
            from_step: one.min(other),
            to_step: one.max(other),
        })
}

prop_compose! {
    fn a_time_range()(from in -9_000_000_000_i64..9_000_000_000, nanosecond in 0..999_999_999, seconds in 1_i64..100_000_000) -> TimeRange {
        let at = |second: i64| jiff::Timestamp::new(second, nanosecond).unwrap();
        TimeRange { from: at(from), to: at(from + seconds) }
    }
}

/// Removes what the order does not know.
fn suited(mut definition: FunnelDefinition) -> FunnelDefinition {
    let steps = definition.steps.len();
    let no_gaps = matches!(definition.order, Order::Unordered | Order::Clickhouse);
    for (index, step) in definition.steps.iter_mut().enumerate() {
        if index == 0 || no_gaps {
            (step.optional, step.within, step.not_before) = (false, None, None);
        }
    }
    for exclusion in &mut definition.exclusions {
        if definition.order == Order::Unordered {
            (exclusion.from_step, exclusion.to_step) = (1, steps);
        }
    }
    if let (true, Some(breakdown)) = (no_gaps, &mut definition.breakdown) {
        breakdown.attribution = Attribution::AllSteps;
    }
    if definition.order == Order::Clickhouse {
        definition.exclusions.clear();
        definition.trend = None;
        definition.count = Count::Sessions;
        if !definition.modes.contains(&Mode::StrictOrder) {
            definition.modes.retain(|mode| *mode != Mode::AllowReentry);
        }
    } else {
        definition.modes.clear();
    }
    if let Some(trend) = &definition.trend {
        definition.steps[trend.from_step - 1].optional = false;
        definition.steps[trend.to_step - 1].optional = false;
    }
    definition
}

fn a_definition() -> impl Strategy<Value = FunnelDefinition> {
    (2_usize..8, 1_i64..=315_619_200_000).prop_flat_map(|(steps, window_ms)| {
        let head = (
            "\\PC{0,20}",
            select(Order::ALL),
            select(Count::ALL),
            conditions(),
        );
        let body = (
            proptest::collection::vec(a_step(window_ms), steps),
            proptest::collection::vec(an_exclusion(steps), 0..3),
            subsequence(Mode::ALL, 0..=Mode::ALL.len()),
        );
        let views = (
            option::of(a_breakdown(steps)),
            option::of(a_trend(steps)),
            option::of(a_time_range()),
        );
        (head, body, views).prop_map(move |(head, body, views)| {
            suited(FunnelDefinition {
                name: head.0,
                order: head.1,
                window: format!("{window_ms}ms").parse().unwrap(),
                count: head.2,
                steps: body.0,
                conditions: head.3,
                exclusions: body.1,
                modes: body.2,
                breakdown: views.0,
                trend: views.1,
                time_range: views.2,
            })
        })
    })
}

proptest! {
    // A definition is a large thing to make; 256 of them take seconds.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_definition_survives_writing_and_reading(definition in a_definition()) {
        definition.validate().unwrap();
        let json = serde_json::to_string(&definition).unwrap();
        let again = FunnelDefinition::parse(&json).unwrap();
        prop_assert_eq!(&again, &definition);
        prop_assert_eq!(serde_json::to_string(&again).unwrap(), json);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}", jsonish in "[{}\\[\\]\",:a-z0-9 ]{0,60}") {
        let _error = FunnelDefinition::parse(&text).unwrap_err();
        let _error = FunnelDefinition::parse(&jsonish).unwrap_err();
    }

    /// A valid text with one piece replaced or one value exchanged: read or refused, and what is read is valid.
    #[test]
    fn any_damage_is_read_or_refused(
        definition in a_definition(), at in any::<prop::sample::Index>(), length in 0_usize..6, piece in "[{}\\[\\]\",:.a-z0-9-]{0,6}",
        value in select(vec!["0", "-1", "1e400", "18446744073709551616", "null", "[]", "{}", "\"\"", "\"*\"", "\"step:9999999999\"", "true"]),
    ) {
        let json = serde_json::to_string(&definition).unwrap();
        let letters: Vec<char> = json.chars().collect();
        let start = at.index(letters.len());
        let end = (start + length).min(letters.len());
        let damaged: String = letters[..start].iter().copied().chain(piece.chars()).chain(letters[end..].iter().copied()).collect();
        let values: Vec<(usize, &str)> = json.match_indices("\":").collect();
        let after = values[at.index(values.len())].0 + 2;
        let old = json[after..].find([',', '}', ']']).map_or(json.len(), |end| after + end);
        let exchanged = format!("{}{value}{}", &json[..after], &json[old..]);
        for text in [damaged, exchanged] {
            match FunnelDefinition::parse(&text) {
                Ok(read) => prop_assert_eq!(read.validate(), Ok(())),
                Err(error) => prop_assert!(!error.path.is_empty() && !error.message.is_empty()),
            }
        }
    }
}
