//! Funnels and events out of a seed: small alphabets, many ties, everything the definition knows.

mod dice;

use std::collections::BTreeMap;

pub(crate) use dice::Dice;

use funnel_engine::{Event, FunnelDefinition};
use serde_json::{Value, json};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "x", "y"];

/// Events of `users` users of one shop, up to ten each, within half a minute after `start_ns`.
pub(crate) fn events(dice: &mut Dice, tenant: &str, users: u64, start_ns: i64) -> Vec<Event> {
    let mut events = Vec::new();
    for user in 0..users {
        let second = if dice.once_in(3) { 6 } else { 30 };
        for _ in 0..=dice.below(10) {
            let mut properties: BTreeMap<String, Value> =
                BTreeMap::from([("tenant".to_owned(), tenant.into())]);
            if !dice.once_in(3) {
                let value = *dice.pick(&[&"phone", &"pc", &"10", &"9.5", &"1e1", &"-3"]);
                properties.insert("p".to_owned(), value.into());
            }
            if dice.once_in(2) {
                properties.insert("q".to_owned(), dice.below(3).to_string().into());
            }
            if !dice.once_in(4) {
                let session = format!("s{user}-{}", dice.below(2));
                properties.insert("session".to_owned(), session.into());
            }
            events.push(Event {
                user: Some(format!("u{user}")),
                at_ns: start_ns + i64::try_from(dice.below(second)).unwrap() * 1_000_000_000,
                name: dice.pick(&NAMES).to_owned(),
                properties,
            });
        }
    }
    events
}

fn event(dice: &mut Dice) -> Value {
    match dice.below(8) {
        0 => json!("*"),
        1 | 2 => {
            let (one, other) = (dice.pick(&NAMES), dice.pick(&NAMES));
            if one == other {
                json!(one)
            } else {
                json!([one, other])
            }
        }
        _ => json!(dice.pick(&NAMES)),
    }
}

fn condition(dice: &mut Dice) -> Value {
    let property = dice.pick(&["p", "q", "session"]);
    match dice.below(9) {
        0 => json!({"property": property, "op": "is_set"}),
        1 => json!({"property": property, "op": "is_not_set"}),
        2 => json!({"property": property, "op": "ne", "value": "phone"}),
        3 => json!({"property": property, "op": "in", "value": ["phone", 10, "1"]}),
        4 => json!({"property": property, "op": "not_in", "value": ["pc", 2]}),
        5 => {
            json!({"property": property, "op": dice.pick(&["gt", "gte", "lt", "lte"]), "value": dice.below(12)})
        }
        6 => {
            json!({"property": property, "op": dice.pick(&["contains", "not_contains"]), "value": "P"})
        }
        7 => json!({"property": property, "op": "matches", "value": "^(p|1)"}),
        _ => json!({"property": property, "op": "eq", "value": dice.pick(&["phone", "10", "0"])}),
    }
}

fn conditions(dice: &mut Dice, once_in: u64) -> Value {
    if dice.once_in(once_in) {
        json!([condition(dice)])
    } else {
        json!([])
    }
}

fn step(dice: &mut Dice, index: u64, order: &str) -> Value {
    let mut step = json!({"name": format!("step {index}"), "event": event(dice), "where": conditions(dice, 6)});
    let bends = order == "ordered" || order == "strict";
    if bends && index > 0 {
        if dice.once_in(6) {
            step["optional"] = true.into();
        }
        if dice.once_in(6) {
            step["within"] = format!("{}s", 2 + dice.below(12)).into();
        }
        if dice.once_in(8) {
            step["not_before"] = format!("{}s", 1 + dice.below(2)).into();
        }
    }
    if dice.once_in(14) {
        step["occurrence"] = dice.pick(&["first_matching", "first_ever"]).into();
    }
    step
}

fn modes(dice: &mut Dice) -> Value {
    let all = [
        "strict_deduplication",
        "strict_order",
        "strict_increase",
        "strict_once",
    ];
    let mut modes: Vec<&str> = all.into_iter().filter(|_| dice.once_in(4)).collect();
    if modes.contains(&"strict_order") && dice.once_in(2) {
        modes.push("allow_reentry");
    }
    json!(modes)
}

pub(crate) fn breakdown(dice: &mut Dice, steps: u64, order: &str) -> Value {
    let properties = match dice.below(3) {
        0 => json!(["p", "q"]),
        1 => json!(["p"]),
        _ => json!(["q"]),
    };
    let attribution = match dice.below(4) {
        0 => "first_touch".to_owned(),
        1 => "last_touch".to_owned(),
        2 if order != "clickhouse" => format!(
            "step:{}",
            if order == "unordered" {
                1
            } else {
                1 + dice.below(steps)
            }
        ),
        _ => "all_steps".to_owned(),
    };
    json!({"properties": properties, "attribution": attribution, "limit": 1 + dice.below(8)})
}

/// A definition that the contract allows.
pub(crate) fn definition(dice: &mut Dice, start_ns: i64) -> FunnelDefinition {
    loop {
        let json = draw(dice, start_ns).to_string();
        // What is drawn may contradict itself; then it is drawn again.
        if let Ok(definition) = FunnelDefinition::parse(&json) {
            return definition;
        }
    }
}

fn draw(dice: &mut Dice, start_ns: i64) -> Value {
    let order = match dice.below(10) {
        0..5 => "ordered",
        5 | 6 => "strict",
        7 | 8 => "unordered",
        _ => "clickhouse",
    };
    let steps = 2 + dice.below(4);
    let count = match dice.below(6) {
        0 => "sessions",
        1 if order != "clickhouse" => "totals",
        _ => "users",
    };
    let mut json = json!({
        "name": "drawn", "order": order, "count": count,
        "window": dice.pick(&["1s", "3s", "5s", "10s", "1h"]),
        "steps": (0..steps).map(|index| step(dice, index, order)).collect::<Vec<_>>(),
        "where": conditions(dice, 12),
    });
    if order == "clickhouse" {
        json["modes"] = modes(dice);
    } else if dice.once_in(3) {
        let from = if order == "unordered" {
            1
        } else {
            1 + dice.below(steps - 1)
        };
        let to = if order == "unordered" {
            steps
        } else {
            from + 1 + dice.below(steps - from)
        };
        json["exclusions"] = json!([{"event": dice.pick(&["x", "y", "a", "d"]), "where": conditions(dice, 5), "from_step": from, "to_step": to}]);
    }
    if dice.once_in(3) {
        json["breakdown"] = breakdown(dice, steps, order);
    }
    if order != "clickhouse" && dice.once_in(4) {
        let from = 1 + dice.below(steps);
        json["trend"] = trend(dice, from, steps);
    }
    if dice.once_in(6) {
        json["time_range"] = time_range(dice, start_ns);
    }
    json
}

pub(crate) fn trend(dice: &mut Dice, from: u64, steps: u64) -> Value {
    let zone = dice.pick(&["UTC", "Asia/Shanghai", "America/St_Johns"]);
    json!({"interval": dice.pick(&["hour", "day", "week", "month"]), "timezone": zone,
        "from_step": from, "to_step": from + dice.below(steps + 1 - from), "week_start": dice.pick(&["monday", "sunday"])})
}

pub(crate) fn time_range(dice: &mut Dice, start_ns: i64) -> Value {
    let at = |second: u64| {
        let ns = i128::from(start_ns) + i128::from(second) * 1_000_000_000;
        jiff::Timestamp::from_nanosecond(ns).unwrap().to_string()
    };
    let from = dice.below(10);
    json!({"from": at(from), "to": at(from + 5 + dice.below(20))})
}
