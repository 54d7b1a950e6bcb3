//! What a definition names and no event of the file has. The answer is right all the same, but a misspelt name makes
//! it useless, so it is said on standard error, with the nearest name that there is.
//!
//! Looks at an event's names only as long as something has not been seen, and keeps a thousand names to suggest from.

use std::collections::BTreeSet;

use funnel_engine::{Condition, Count, Event, FunnelDefinition, Op, StepEvent};

/// Names kept of events and of properties, each.
const KEPT_MAX: usize = 1_000;
/// Names listed where none is near.
const LISTED: usize = 8;
/// From here on two names are near each other, of 1.
const NEAR: f64 = 0.8;

/// A name that the definition writes.
struct Wanted {
    path: String,
    name: String,
    kind: Kind,
    /// Not worth a word unless another name is near: an exclusion may well be about what nobody did.
    is_optional: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Event,
    Property,
}

/// What the events read so far have.
pub(crate) struct Seen {
    missing: Vec<Wanted>,
    count: Count,
    range: Option<(i64, i64)>,
    names: BTreeSet<String>,
    properties: BTreeSet<String>,
    events: u64,
    in_range: u64,
    subjects: u64,
}

impl Seen {
    pub(crate) fn new(definition: &FunnelDefinition) -> Self {
        Self {
            missing: wanted(definition),
            count: definition.count,
            range: definition
                .time_range
                .as_ref()
                .map(funnel_engine::TimeRange::nanoseconds),
            names: BTreeSet::new(),
            properties: BTreeSet::new(),
            events: 0,
            in_range: 0,
            subjects: 0,
        }
    }

    pub(crate) fn look(&mut self, event: &Event) {
        let is_subject = match self.count {
            Count::Users | Count::Totals => event.user.is_some(),
            Count::Sessions => event.property("session").is_some(),
        };
        let is_in_range = self
            .range
            .is_none_or(|(from, to)| (from..to).contains(&event.at_ns));
        self.events += 1;
        self.subjects += u64::from(is_subject);
        self.in_range += u64::from(is_in_range);
        if self.missing.is_empty() {
            return;
        }
        self.missing.retain(|wanted| match wanted.kind {
            Kind::Event => wanted.name != event.name,
            Kind::Property => event.property(&wanted.name).is_none(),
        });
        keep(&mut self.names, &event.name);
        for name in event.properties.keys() {
            keep(&mut self.properties, name);
        }
    }

    /// What to tell the user, a line each.
    pub(crate) fn remarks(&self) -> Vec<String> {
        if self.events == 0 {
            return vec!["there are no events".to_owned()];
        }
        let mut remarks: Vec<String> = self
            .missing
            .iter()
            .filter_map(|wanted| self.remark(wanted))
            .collect();
        if self.in_range == 0 {
            remarks.push("time_range: no event lies in it".to_owned());
        }
        let (key, other) = match self.count {
            Count::Users | Count::Totals => ("user", "sessions"),
            Count::Sessions => ("session", "users"),
        };
        match self.events - self.subjects {
            0 => {}
            without if without == self.events => remarks.push(format!(
                "no event has a `{key}`, so nobody is counted: write it in each event, or count {other}"
            )),
            without => remarks.push(format!(
                "{without} of {} events have no `{key}` and are ignored",
                self.events
            )),
        }
        remarks
    }

    fn remark(&self, wanted: &Wanted) -> Option<String> {
        let (path, name) = (&wanted.path, &wanted.name);
        let (known, lacks) = match wanted.kind {
            Kind::Event => (&self.names, format!("no event is named `{name}`")),
            Kind::Property => (
                &self.properties,
                format!("no event has the property `{name}`"),
            ),
        };
        if let Some(near) = nearest(known, name) {
            return Some(format!("{path}: {lacks}: is it `{near}`?"));
        }
        if wanted.is_optional {
            return None;
        }
        let listed: Vec<&str> = known.iter().take(LISTED).map(String::as_str).collect();
        Some(if listed.is_empty() {
            format!(
                "{path}: {lacks}: properties stand inside `properties`, in CSV and Parquet they are columns"
            )
        } else {
            let more = if known.len() > LISTED { ", ..." } else { "" };
            format!("{path}: {lacks}; there are `{}`{more}", listed.join("`, `"))
        })
    }
}

fn wanted(definition: &FunnelDefinition) -> Vec<Wanted> {
    let mut all = Vec::new();
    for (index, step) in definition.steps.iter().enumerate() {
        let path = format!("steps[{index}]");
        if step.http.is_none() {
            all.extend(of_event(&path, &step.event, false));
        }
        all.extend(of_conditions(&path, &step.conditions));
    }
    all.extend(of_conditions("", &definition.conditions));
    for (index, exclusion) in definition.exclusions.iter().enumerate() {
        let path = format!("exclusions[{index}]");
        all.extend(of_event(&path, &exclusion.event, true));
        all.extend(of_conditions(&path, &exclusion.conditions));
    }
    let properties = definition.breakdown.iter();
    let properties = properties.flat_map(|breakdown| breakdown.properties.iter().enumerate());
    all.extend(properties.map(|(index, name)| Wanted {
        path: format!("breakdown.properties[{index}]"),
        name: name.clone(),
        kind: Kind::Property,
        is_optional: false,
    }));
    all
}

fn of_event(path: &str, event: &StepEvent, is_optional: bool) -> Vec<Wanted> {
    let names = event.names().unwrap_or_default();
    let is_list = matches!(event, StepEvent::Many(_));
    let one = |(index, name): (usize, &str)| Wanted {
        path: if is_list {
            format!("{path}.event[{index}]")
        } else {
            format!("{path}.event")
        },
        name: name.to_owned(),
        kind: Kind::Event,
        is_optional,
    };
    names.into_iter().enumerate().map(one).collect()
}

fn of_conditions(path: &str, conditions: &[Condition]) -> Vec<Wanted> {
    let dot = if path.is_empty() { "" } else { "." };
    let asks = |(_, condition): &(usize, &Condition)| condition.op != Op::IsNotSet;
    let one = |(index, condition): (usize, &Condition)| Wanted {
        path: format!("{path}{dot}where[{index}].property"),
        name: condition.property.clone(),
        kind: Kind::Property,
        is_optional: false,
    };
    let conditions = conditions.iter().enumerate();
    conditions.filter(asks).map(one).collect()
}

fn keep(names: &mut BTreeSet<String>, name: &str) {
    if names.len() < KEPT_MAX && !names.contains(name) {
        names.insert(name.to_owned());
    }
}

fn nearest<'a>(known: &'a BTreeSet<String>, name: &str) -> Option<&'a String> {
    let name = name.to_lowercase();
    let near = known
        .iter()
        .map(|other| (strsim::jaro_winkler(&other.to_lowercase(), &name), other));
    let best = near.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(likeness, _)| *likeness >= NEAR)
        .map(|(_, name)| name)
}
