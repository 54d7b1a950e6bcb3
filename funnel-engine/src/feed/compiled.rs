//! What an event is to a funnel: names looked up, conditions prepared once.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::{
    definition::{FunnelDefinition, StepEvent},
    event::Event,
    live::Classify,
    predicate::{Condition, Test},
    shape::Kind,
};

/// A definition made ready to say what an event is to it.
#[derive(Debug)]
pub struct Compiled {
    from_ns: i64,
    to_ns: i64,
    conditions: Vec<Test>,
    /// Which steps and exclusions want an event of this name.
    named: HashMap<String, Kind, RandomState>,
    /// Which want an event of any other name.
    unnamed: Kind,
    steps: Vec<Vec<Test>>,
    exclusions: Vec<Vec<Test>>,
}

impl Compiled {
    /// Prepares a definition, of which `occurrence` must be `any` throughout.
    pub fn new(definition: &FunnelDefinition) -> Self {
        let (from_ns, to_ns) = definition.time_range_ns();
        let steps: Vec<&StepEvent> = definition.steps.iter().map(|step| &step.event).collect();
        let exclusions = definition.exclusions.iter().map(|one| &one.event);
        let exclusions: Vec<&StepEvent> = exclusions.collect();
        let kind = |accepts: &dyn Fn(&StepEvent) -> bool| Kind {
            fills: bits(&steps, accepts),
            excludes: bits(&exclusions, accepts),
        };
        let names = steps
            .iter()
            .chain(&exclusions)
            .filter_map(|event| event.names());
        Self {
            from_ns,
            to_ns,
            conditions: tests(&definition.conditions),
            named: names
                .flatten()
                .map(|name| (name.to_owned(), kind(&|event| event.accepts(name))))
                .collect(),
            unnamed: kind(&|event| event.names().is_none()),
            steps: definition
                .steps
                .iter()
                .map(|step| tests(&step.all_conditions()))
                .collect(),
            exclusions: definition
                .exclusions
                .iter()
                .map(|exclusion| tests(&exclusion.conditions))
                .collect(),
        }
    }
}

impl Classify for Compiled {
    fn kind(&self, event: &Event) -> Option<Kind> {
        let is_considered =
            (self.from_ns..self.to_ns).contains(&event.at_ns) && all_pass(&self.conditions, event);
        if !is_considered {
            return None;
        }
        let wanted = self.named.get(&event.name).unwrap_or(&self.unnamed);
        Some(Kind {
            fills: passing(wanted.fills, &self.steps, event),
            excludes: passing(wanted.excludes, &self.exclusions, event),
        })
    }
}

fn bits(events: &[&StepEvent], accepts: &dyn Fn(&StepEvent) -> bool) -> u64 {
    let accepting = events
        .iter()
        .enumerate()
        .filter(|(_, event)| accepts(event));
    accepting.map(|(index, _)| 1 << index).sum()
}

/// Those of the wanted bits whose conditions hold.
fn passing(mut wanted: u64, tests: &[Vec<Test>], event: &Event) -> u64 {
    let mut passing = 0;
    while wanted != 0 {
        let index = wanted.trailing_zeros();
        wanted &= wanted - 1;
        let tests = tests.get(index as usize);
        if tests.is_some_and(|tests| all_pass(tests, event)) {
            passing |= 1 << index;
        }
    }
    passing
}

fn all_pass(tests: &[Test], event: &Event) -> bool {
    tests.iter().all(|test| test.passes(event))
}

fn tests(conditions: &[Condition]) -> Vec<Test> {
    conditions.iter().map(Test::compile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::EventParts,
        population::{is_considered, passes},
    };

    const DEFINITION: &str = r#"{"name":"f","window":"1h",
        "where":[{"property":"device","op":"ne","value":"bot"}],
        "time_range":{"from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z"},
        "steps":[{"name":"A","event":["a","b"],"where":[{"property":"amount","op":"gte","value":5}]},
                 {"name":"B","event":"*","where":[{"property":"tenant","op":"eq","value":"t1"}]},
                 {"name":"C","event":"b"}],
        "exclusions":[{"event":"x","from_step":1,"to_step":2},{"event":"*","from_step":1,"to_step":3,
            "where":[{"property":"amount","op":"is_not_set"}]}]}"#;

    fn event(name: &str, ms: i64, properties: &[(&str, &str)]) -> Event {
        let properties = properties.iter();
        let parts = EventParts {
            user: Some("u".to_owned()),
            time: Some(crate::EventTime::Milliseconds(ms)),
            event: Some(name.to_owned()),
            properties: properties
                .map(|(key, value)| ((*key).to_owned(), (*value).into()))
                .collect(),
            ..EventParts::default()
        };
        parts.into_event().unwrap()
    }

    #[test]
    fn it_says_what_the_reference_says() {
        let definition = FunnelDefinition::parse(DEFINITION).unwrap();
        let compiled = Compiled::new(&definition);
        let start = 1_767_225_600_000;
        let mut seen = std::collections::BTreeSet::new();
        for name in ["a", "b", "x", "other"] {
            for ms in [start - 1, start, start + 86_400_000] {
                for amount in [None, Some("4"), Some("5.0")] {
                    for (tenant, device) in [("t1", "pc"), ("t2", "pc"), ("t1", "bot")] {
                        let amount = amount.map(|amount| ("amount", amount));
                        let others = [("tenant", tenant), ("device", device)];
                        let properties: Vec<_> = amount.into_iter().chain(others).collect();
                        let event = event(name, ms, &properties);
                        let steps = definition.steps.iter().enumerate();
                        let fills = steps.filter(|(_, step)| passes(step, &event));
                        let exclusions = definition.exclusions.iter().enumerate();
                        let excludes = exclusions.filter(|(_, one)| {
                            let mut conditions = one.conditions.iter();
                            one.event.accepts(name) && conditions.all(|one| one.holds(&event))
                        });
                        let expected = is_considered(&definition, &event).then(|| Kind {
                            fills: fills.map(|(index, _)| 1 << index).sum(),
                            excludes: excludes.map(|(index, _)| 1 << index).sum(),
                        });
                        assert_eq!(compiled.kind(&event), expected, "{event:?}");
                        seen.insert(expected.map(|kind| (kind.fills, kind.excludes)));
                    }
                }
            }
        }
        assert!(seen.len() > 10, "the cases differ: {seen:?}");
    }
}
