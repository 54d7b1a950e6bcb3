//! Definitions drawn to meet every kind of statement of the push-down, and shoppers who get somewhere in them.

use std::collections::BTreeMap;

use funnel_engine::{Event, FunnelDefinition};
use serde_json::{Value, json};

use crate::generate::{Dice, breakdown, time_range, trend};

/// What a seed is drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// Ordered, nothing else.
    Plain,
    /// Limits of gaps.
    Gaps,
    /// Optional steps, exclusions, strictness.
    Bent,
    /// The same, over steps that share events.
    Shared,
    /// Any order of steps.
    Unordered,
    /// `windowFunnel`, with this combination of modes.
    Window(usize),
    /// Steps by HTTP facts.
    Http,
}

const NAMES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "x", "y", "z"];
const ROUTES: [&str; 3] = ["/a", "/b", "/c/{id}"];

/// The combinations of modes that `windowFunnel` takes.
pub(crate) fn mode_sets() -> Vec<Vec<&'static str>> {
    let all = [
        "strict_deduplication",
        "strict_order",
        "strict_increase",
        "strict_once",
    ];
    let of = |set: usize| {
        (0..all.len())
            .filter(move |mode| set >> mode & 1 == 1)
            .map(|mode| all[mode])
    };
    let plain: Vec<Vec<&str>> = (0..16).map(|set| of(set).collect()).collect();
    let again = plain.iter().filter(|set| set.contains(&"strict_order"));
    let again = again.map(|set| [set.as_slice(), &["allow_reentry"]].concat());
    plain.clone().into_iter().chain(again).collect()
}

/// Events of `users` users of one shop, up to twelve each, within a minute after `start_ns`; half of the users go
/// through the alphabet more or less in order.
pub(crate) fn events(
    dice: &mut Dice,
    aim: Aim,
    tenant: &str,
    users: u64,
    start_ns: i64,
) -> Vec<Event> {
    let mut events = Vec::new();
    for user in 0..users {
        let mut walk = Walk {
            seconds: [3, 8, 20, 60][index(dice, 4)],
            names: [4, 6, 9][index(dice, 3)],
            goes_forward: dice.once_in(2),
            stage: 0,
            clock: 0,
        };
        for _ in 0..=dice.below(11) {
            let (name, second) = walk.next(dice);
            // Where every exchange is looked at, some have no event's name.
            let name = if aim == Aim::Http && dice.once_in(3) {
                "http"
            } else {
                name
            };
            // The first session is named alike in all shops.
            let session = if user == 0 {
                "s".to_owned()
            } else {
                format!("s{user}-{}", dice.below(2))
            };
            let mut properties = properties(dice, tenant, &session);
            if aim == Aim::Http {
                properties.insert(
                    "route".to_owned(),
                    (*dice.pick(&ROUTES.each_ref().map(|route| route))).into(),
                );
                properties.insert("method".to_owned(), dice.pick(&["GET", "POST"]).into());
            }
            events.push(Event {
                user: Some(format!("u{user}")),
                at_ns: start_ns + i64::try_from(second).unwrap() * 1_000_000_000,
                name: if dice.once_in(15) {
                    format!("{name}.failed")
                } else {
                    name.to_owned()
                },
                properties,
            });
        }
    }
    events
}

/// One user's way.
struct Walk {
    seconds: u64,
    names: usize,
    goes_forward: bool,
    stage: usize,
    clock: u64,
}

impl Walk {
    fn next(&mut self, dice: &mut Dice) -> (&'static str, u64) {
        self.clock += dice.below(3);
        if dice.once_in(6) {
            self.stage = 0;
        }
        let name = if self.goes_forward && !dice.once_in(3) {
            self.stage += 1;
            NAMES[(self.stage - 1) % 6]
        } else if dice.once_in(4) {
            NAMES[6 + index(dice, 3)]
        } else {
            NAMES[index(dice, self.names)]
        };
        (
            name,
            if self.goes_forward {
                self.clock
            } else {
                dice.below(self.seconds)
            },
        )
    }
}

fn index(dice: &mut Dice, below: usize) -> usize {
    usize::try_from(dice.below(below as u64)).unwrap()
}

fn properties(dice: &mut Dice, tenant: &str, session: &str) -> BTreeMap<String, Value> {
    let mut properties: BTreeMap<String, Value> = BTreeMap::from([
        ("tenant".to_owned(), tenant.into()),
        ("duration_ms".to_owned(), dice.below(900).into()),
    ]);
    let mut set = |name: &str, value: Value| properties.insert(name.to_owned(), value);
    match dice.below(8) {
        0..4 => {
            let texts = [
                "phone", "pc", "10", "9.5", "1e1", "-3", "PHONE x", "é", "É1",
            ];
            set("p", texts[index(dice, texts.len())].into());
        }
        4 => {
            set("p", "".into());
        }
        _ => {}
    }
    if dice.once_in(2) {
        set("q", dice.below(3).to_string().into());
    }
    if !dice.once_in(4) {
        set("session", session.into());
    }
    if dice.once_in(2) {
        set("status_code", [200, 204, 404, 503][index(dice, 4)].into());
    }
    properties
}

fn condition(dice: &mut Dice) -> Value {
    let names = [
        "p",
        "p",
        "p",
        "q",
        "session",
        "status_code",
        "status_class",
        "duration_ms",
        "tenant",
        "nothing",
    ];
    let property = names[index(dice, names.len())];
    let number = [0, 2, 10, 300, 404][index(dice, 5)];
    match dice.below(9) {
        0 => json!({"property": property, "op": "is_set"}),
        1 => json!({"property": property, "op": "is_not_set"}),
        2 => {
            json!({"property": property, "op": "ne", "value": dice.pick(&["phone", "", "200", "4xx"])})
        }
        3 => json!({"property": property, "op": "in", "value": ["phone", 10, "1", 200, "", "2xx"]}),
        4 => json!({"property": property, "op": "not_in", "value": ["pc", 2, 404]}),
        5 => {
            json!({"property": property, "op": dice.pick(&["gt", "gte", "lt", "lte"]), "value": number})
        }
        6 => {
            let part = dice.pick(&["P", "É", "X", "0", ""]);
            json!({"property": property, "op": dice.pick(&["contains", "not_contains"]), "value": part})
        }
        7 => {
            json!({"property": property, "op": "matches", "value": dice.pick(&["^(p|1)", "x$", "[0-9]"])})
        }
        _ => {
            json!({"property": property, "op": "eq", "value": dice.pick(&["phone", "10", "0", "", "2xx", "404"])})
        }
    }
}

fn conditions(dice: &mut Dice, once_in: u64) -> Value {
    match (dice.once_in(once_in), dice.once_in(4)) {
        (false, _) => json!([]),
        (true, false) => json!([condition(dice)]),
        (true, true) => json!([condition(dice), condition(dice)]),
    }
}

/// A definition that the contract allows.
pub(crate) fn definition(dice: &mut Dice, aim: Aim, start_ns: i64) -> FunnelDefinition {
    loop {
        let json = draw(dice, aim, start_ns).to_string();
        // What is drawn may contradict itself; then it is drawn again.
        if let Ok(definition) = FunnelDefinition::parse(&json) {
            return definition;
        }
    }
}

fn draw(dice: &mut Dice, aim: Aim, start_ns: i64) -> Value {
    let bends = matches!(aim, Aim::Bent | Aim::Shared | Aim::Http);
    let order = match aim {
        Aim::Plain | Aim::Gaps => "ordered",
        Aim::Bent | Aim::Shared | Aim::Http => dice.pick(&["ordered", "strict"]),
        Aim::Unordered => "unordered",
        Aim::Window(_) => "clickhouse",
    };
    let steps = 2 + dice.below(if aim == Aim::Shared { 4 } else { 5 });
    let count = if dice.once_in(5) { "sessions" } else { "users" };
    let mut json = json!({"name": "drawn", "order": order, "count": count,
        "window": dice.pick(&["1s", "3s", "5s", "10s", "20s", "1h"]), "where": conditions(dice, 14),
        "steps": drawn_steps(dice, aim, steps)});
    if let Aim::Window(modes) = aim {
        let sets = mode_sets();
        json["modes"] = json!(sets[modes % sets.len()]);
    }
    if (bends || aim == Aim::Unordered) && !dice.once_in(3) {
        let exclusions = (0..=dice.below(3)).map(|_| exclusion(dice, steps, order));
        json["exclusions"] = exclusions.collect();
    }
    if dice.once_in(3) {
        json["breakdown"] = breakdown(dice, steps, order);
    }
    if order != "clickhouse" && dice.once_in(4) {
        let from = if aim == Aim::Gaps || dice.once_in(2) {
            1
        } else {
            1 + dice.below(steps)
        };
        json["trend"] = trend(dice, from, steps);
    }
    if dice.once_in(6) {
        json["time_range"] = time_range(dice, start_ns);
    }
    json
}

fn drawn_steps(dice: &mut Dice, aim: Aim, steps: u64) -> Vec<Value> {
    let mut names: Vec<&str> = NAMES[..6].to_vec();
    if dice.once_in(3) {
        for place in (1..names.len()).rev() {
            names.swap(place, index(dice, place + 1));
        }
    }
    // Half of the unordered funnels and of those with modes, some by HTTP facts: an event can fill several steps.
    let shares = match aim {
        Aim::Plain | Aim::Gaps | Aim::Bent => false,
        Aim::Shared => true,
        Aim::Unordered | Aim::Window(_) | Aim::Http => dice.once_in(2),
    };
    let step = |(place, own): (usize, &str)| {
        let event = if shares {
            shared_event(dice)
        } else {
            json!(own)
        };
        let mut step = json!({"name": format!("step {place}"), "where": conditions(dice, 7)});
        if aim == Aim::Http && (place == 0 || dice.once_in(2)) {
            step["http"] = http(dice);
        } else {
            step["event"] = event;
        }
        if aim == Aim::Gaps && place > 0 {
            if dice.once_in(2) {
                step["within"] = format!("{}s", 1 + dice.below(12)).into();
            }
            if dice.once_in(3) {
                step["not_before"] = format!("{}s", 1 + dice.below(3)).into();
            }
        }
        if matches!(aim, Aim::Bent | Aim::Shared | Aim::Http) && place > 0 && dice.once_in(4) {
            step["optional"] = true.into();
        }
        if !matches!(aim, Aim::Window(_)) && dice.once_in(20) {
            step["occurrence"] = dice.pick(&["first_matching", "first_ever"]).into();
        }
        step
    };
    let own = names.into_iter().take(usize::try_from(steps).unwrap());
    own.enumerate().map(step).collect()
}

fn shared_event(dice: &mut Dice) -> Value {
    match dice.below(7) {
        0 => json!("*"),
        1 | 2 => {
            let (one, other) = (dice.pick(&["a", "b", "c"]), dice.pick(&["c", "d", "e"]));
            if one == other {
                json!(one)
            } else {
                json!([one, other])
            }
        }
        3..6 => json!(dice.pick(&["a", "b", "c"])),
        _ => json!(dice.pick(&["a", "b", "c", "d", "e", "f"])),
    }
}

fn http(dice: &mut Dice) -> Value {
    let mut http = json!({"route": ROUTES[index(dice, ROUTES.len())]});
    if dice.once_in(3) {
        http["method"] = dice.pick(&["GET", "POST"]).into();
    }
    if dice.once_in(3) {
        http["status"] = dice.pick(&["2xx", "404"]).into();
    }
    http
}

fn exclusion(dice: &mut Dice, steps: u64, order: &str) -> Value {
    let (from, to) = if order == "unordered" {
        (1, steps)
    } else {
        let from = 1 + dice.below(steps - 1);
        (from, from + 1 + dice.below(steps - from))
    };
    let event = dice.pick(&["x", "y", "z", "x", "y", "a", "c", "*"]);
    json!({"event": event, "where": conditions(dice, 4), "from_step": from, "to_step": to})
}
