//! Funnels with their shops' events out of a seed, put into a store, and what all backends must agree on.

use std::time::SystemTime;

use event_store::{ExchangeRow, Scope, Store, TenantId};
use funnel_engine::{
    AtHand, Bar, Condition, Event, FunnelDefinition, FunnelResult, HeapBuilder, HeapIndex,
    LastStep, Member, Which, last_steps, members,
};
use serde_json::Value;
use weir_testing::exchange;

use crate::{
    answers::answer,
    generate::{self, Dice},
    pushed::{self, Aim},
};

/// Of each drawn definition.
const USERS: u64 = 400;
/// Rows of one insert.
const ROWS: usize = 50_000;

/// What is drawn from a seed.
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) definition: FunnelDefinition,
    pub(crate) events: Vec<Event>,
    pub(crate) scope: Scope,
}

impl Case {
    pub(crate) fn drawn(seed: u64, start_ns: i64) -> Self {
        let mut dice = Dice(seed);
        let tenant = format!("t{seed}");
        let aim = match seed % 8 {
            0 => Aim::Plain,
            1 => Aim::Gaps,
            2 => Aim::Bent,
            3 => Aim::Shared,
            4 => Aim::Unordered,
            5 => Aim::Window(usize::try_from(seed / 8).unwrap()),
            6 => Aim::Http,
            _ => return Self::of_every_kind(seed, dice, start_ns),
        };
        // Users and sessions of two shops that are called alike are different.
        let is_of_two = seed.is_multiple_of(9);
        let users = if is_of_two { USERS / 2 } else { USERS };
        let mut events = pushed::events(&mut dice, aim, &tenant, users, start_ns);
        let mut definition = pushed::definition(&mut dice, aim, start_ns);
        let mut scope = Scope::Tenant(TenantId::new(&tenant).unwrap());
        if is_of_two {
            let other = format!("{tenant}-too");
            events.extend(pushed::events(&mut dice, aim, &other, users, start_ns));
            definition = within_shops(&definition, &[&tenant, &other]);
            scope = Scope::Operator;
        }
        Self {
            seed,
            definition,
            events,
            scope,
        }
    }

    /// By the generator that draws everything, with what only exchanges have.
    fn of_every_kind(seed: u64, mut dice: Dice, start_ns: i64) -> Self {
        let tenant = format!("t{seed}");
        let mut events = generate::events(&mut dice, &tenant, USERS, start_ns);
        for event in &mut events {
            event
                .properties
                .insert("duration_ms".to_owned(), dice.below(900).into());
        }
        let definition = generate::definition(&mut dice, start_ns);
        let scope = Scope::Tenant(TenantId::new(&tenant).unwrap());
        Self {
            seed,
            definition,
            events,
            scope,
        }
    }
}

fn within_shops(definition: &FunnelDefinition, shops: &[&str]) -> FunnelDefinition {
    let mut json = serde_json::to_value(definition).unwrap();
    let only = serde_json::json!({"property": "tenant", "op": "in", "value": shops});
    match json["where"].as_array_mut() {
        Some(conditions) => conditions.push(only),
        None => json["where"] = Value::Array(vec![only]),
    }
    FunnelDefinition::parse(&json.to_string()).unwrap()
}

/// Yesterday, 10:00 UTC: the store forgets exchanges after 90 days.
pub(crate) fn start_ns() -> i64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    i64::try_from((now / 86_400 - 1) * 86_400 + 36_000).unwrap() * 1_000_000_000
}

/// The exchange of which the store makes this event.
fn row(event: &Event) -> ExchangeRow {
    let columns = [
        "tenant",
        "session",
        "status_code",
        "duration_ms",
        "route",
        "method",
    ];
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let get = |name: &str| event.properties.get(name).map(text);
    let others = event
        .properties
        .iter()
        .filter(|(name, _)| !columns.contains(&name.as_str()));
    let usual = exchange(event.at_ns, event.user.as_deref().unwrap(), &event.name);
    ExchangeRow {
        tenant_id: get("tenant"),
        session_id: get("session"),
        trace_id: Some(trace(event)),
        status_code: get("status_code").map(|code| code.parse().unwrap()),
        duration_ns: event.properties["duration_ms"].as_u64().unwrap() * 1_000_000,
        route: get("route").or(usual.route),
        method: get("method").or(usual.method),
        event: usual.event.filter(|name| name != "http"),
        attributes: others
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
        ..usual
    }
}

pub(crate) async fn fill(store: &Store, seeds: &[u64], start_ns: i64) {
    let cases = seeds.iter().map(|seed| Case::drawn(*seed, start_ns));
    let rows: Vec<ExchangeRow> = cases
        .flat_map(|case| case.events)
        .map(|event| row(&event))
        .collect();
    for (number, rows) in rows.chunks(ROWS).enumerate() {
        // What comes again under the same name is dropped by the store.
        store
            .insert_exchanges(rows, &format!("events of {seeds:?} {number}"))
            .await
            .unwrap();
    }
}

/// Equal, but for the last digits of means, which are added up in another order.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
            (one - other).abs() <= 1e-9 * (1.0 + one.abs())
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(key, one): (&String, &Value)| {
                other.get(key).is_some_and(|other| is_same(one, other))
            };
            one.len() == other.len() && one.iter().all(same)
        }
        _ => one == other,
    }
}

pub(crate) fn assert_same(case: &Case, result: &FunnelResult, reference: &FunnelResult) {
    let (ours, theirs) = (answer(result), answer(reference));
    for (key, ours) in ours.as_object().unwrap() {
        let theirs = &theirs[key];
        assert!(
            is_same(ours, theirs),
            "seed {}, {} {key}:\n{ours}\nreference:\n{theirs}\n{}",
            case.seed,
            result.backend,
            serde_json::to_string(&case.definition).unwrap()
        );
    }
}

pub(crate) fn heap(case: &Case) -> HeapIndex {
    let mut builder = HeapBuilder::new(&case.definition);
    for event in &case.events {
        builder.push(event).unwrap();
    }
    builder.finish().unwrap()
}

/// A trace of its own for each kind of event at an instant.
fn trace(event: &Event) -> String {
    format!("{}-{}", event.at_ns, event.name)
}

/// The last session and trace of a member until they stopped, of the events that a step accepts.
fn last_step(case: &Case, member: &Member) -> LastStep {
    let definition = &case.definition;
    let all_hold = |conditions: &[Condition], event: &Event| {
        conditions.iter().all(|condition| condition.holds(event))
    };
    let from_to = definition
        .time_range
        .as_ref()
        .map(|range| [range.from, range.to].map(|at| i64::try_from(at.as_nanosecond()).unwrap()));
    let is_theirs = |event: &&Event| {
        event.tenant() == member.tenant_id
            && event.user.as_deref() == Some(&member.user_id)
            && (member.session_id.is_none()
                || event.property("session") == member.session_id.as_deref().map(Into::into))
            && event.at_ns <= member.stopped_at_ns()
            && from_to.is_none_or(|[from, to]| (from..to).contains(&event.at_ns))
            && all_hold(&definition.conditions, event)
            && definition.steps.iter().any(|step| {
                step.event.accepts(&event.name) && all_hold(&step.all_conditions(), event)
            })
    };
    let theirs: Vec<&Event> = case.events.iter().filter(is_theirs).collect();
    let session = |event: &&Event| Some((event.at_ns, event.property("session")?.into_owned()));
    let traces = theirs.iter().map(|event| (event.at_ns, trace(event)));
    LastStep {
        session_id: theirs.iter().filter_map(session).max().map(|last| last.1),
        trace_id: traces.max().map(|last| last.1),
    }
}

/// The lists of both backends are the same, page by page, and add up to the bars.
pub(crate) async fn assert_lists(at_hand: &AtHand, case: &Case, result: &FunnelResult) {
    let index = heap(case);
    let (scope, definition) = (&case.scope, &case.definition);
    for step in &result.steps {
        let mut listed = 0;
        for which in [Which::Dropped, Which::Converted] {
            let bar = Bar {
                step: step.step,
                which,
            };
            let (mut paged, mut after) = (Vec::new(), None);
            loop {
                let page = (after.as_ref(), 80);
                let mut page = members(at_hand, scope, definition, bar, page, 1)
                    .await
                    .unwrap();
                paged.append(&mut page.members);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let whole: Vec<Member> = index.members(bar, (None, usize::MAX), 2).unwrap();
            let text = serde_json::to_string(definition).unwrap();
            assert_eq!(paged, whole, "seed {}, {bar:?}: {text}", case.seed);
            if which == Which::Dropped {
                assert_eq!(
                    paged.len() as u64,
                    step.drop_off,
                    "seed {}, {bar:?}",
                    case.seed
                );
            }
            let last = last_steps(&at_hand.store, scope, definition, &paged)
                .await
                .unwrap();
            let expected: Vec<LastStep> = paged.iter().map(|one| last_step(case, one)).collect();
            assert_eq!(last, expected, "seed {}, {bar:?}: {text}", case.seed);
            listed += paged.len() as u64;
        }
        assert_eq!(listed, step.count, "seed {}, step {}", case.seed, step.step);
    }
}
