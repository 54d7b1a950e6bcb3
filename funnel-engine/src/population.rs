//! Which events of a heap of events take part in a funnel, subject by subject: section "Population" of docs/funnels.md,
//! word for word. For the reference backend and for live rejudging; the columnar index has its own way.

use std::{borrow::Cow, collections::BTreeMap};

use crate::{
    answer::FunnelResult,
    definition::{Attribution, Count, DefinitionError, FunnelDefinition, Occurrence, Step},
    event::Event,
    predicate::Condition,
    reference::judge,
    service::ServiceTally,
    shape::{Attempt, Kind, Mark, Shape, Verdict},
    tally::Sums,
};

/// Answers a funnel over events in memory by the reference matcher: slow, and obviously right.
///
/// # Errors
/// When the trend has too many buckets.
pub fn run_reference(
    definition: &FunnelDefinition,
    events: &[Event],
) -> Result<FunnelResult, DefinitionError> {
    let shape = Shape::of(definition);
    let mut service = ServiceTally::new(definition);
    for event in events {
        service.push(event);
    }
    let sums = over_events(definition, events, &mut |marks| judge(&shape, marks));
    let mut result = FunnelResult::of(definition, sums, "reference")?;
    result.set_service(&service.finish());
    Ok(result)
}

/// Tenant, user, session: as many of them as tell subjects apart.
type Key<'a> = (&'a str, Option<&'a str>, Option<Cow<'a, str>>);

/// One that is counted, with the events that take part, by time.
struct Subject<'a> {
    seen: Vec<Seen<'a>>,
}

/// An event that takes part.
struct Seen<'a> {
    event: &'a Event,
    kind: Kind,
}

/// Judges every subject among the events and adds up what counts.
pub(crate) fn over_events(
    definition: &FunnelDefinition,
    events: &[Event],
    judge: &mut dyn FnMut(&[Mark]) -> Verdict,
) -> Sums {
    let shape = Shape::of(definition);
    let mut sums = Sums::of(definition);
    sums.scanned = events.len() as u64;
    for subject in subjects(definition, &shape, events).values() {
        let verdict = judge(&subject.marks(None));
        sums.add(&verdict);
        match definition
            .breakdown
            .as_ref()
            .map(|breakdown| breakdown.attribution)
        {
            None => {}
            Some(Attribution::AllSteps) => {
                for (value, marks) in subject.per_value(definition) {
                    for attempt in judge(&marks).counted {
                        sums.add_to_value(&value, &attempt);
                    }
                }
            }
            Some(attribution) => {
                for attempt in &verdict.counted {
                    let value = subject.value(definition, attribution, attempt);
                    if let Some(value) = value {
                        sums.add_to_value(&value, attempt);
                    }
                }
            }
        }
    }
    sums
}

fn subjects<'a>(
    definition: &FunnelDefinition,
    shape: &Shape,
    events: &'a [Event],
) -> BTreeMap<Key<'a>, Subject<'a>> {
    let firsts = Firsts::of(definition, events);
    let mut subjects: BTreeMap<Key<'a>, Subject<'a>> = BTreeMap::new();
    for event in events
        .iter()
        .filter(|event| is_considered(definition, event))
    {
        let key = match definition.count {
            Count::Users | Count::Totals if event.user.is_some() => {
                (event.tenant(), event.user.as_deref(), None)
            }
            Count::Sessions if event.property("session").is_some() => (
                event.tenant(),
                event.user.as_deref(),
                event.property("session"),
            ),
            Count::Users | Count::Totals | Count::Sessions => continue,
        };
        let kind = Kind {
            fills: bits(&definition.steps, |index, step| {
                passes(step, event) && firsts.allow(index, event)
            }),
            excludes: bits(&definition.exclusions, |_, exclusion| {
                exclusion.event.accepts(&event.name) && all_hold(&exclusion.conditions, event)
            }),
        };
        if shape.wants(kind) {
            let subject = subjects
                .entry(key)
                .or_insert_with(|| Subject { seen: Vec::new() });
            subject.seen.push(Seen { event, kind });
        }
    }
    for subject in subjects.values_mut() {
        subject.seen.sort_by_key(|seen| seen.event.at_ns);
    }
    subjects
}

/// Whether an event lies in the definition's time range and passes its global conditions.
pub(crate) fn is_considered(definition: &FunnelDefinition, event: &Event) -> bool {
    let in_range = definition.time_range.as_ref().is_none_or(|range| {
        let at = i128::from(event.at_ns);
        range.from.as_nanosecond() <= at && at < range.to.as_nanosecond()
    });
    in_range && all_hold(&definition.conditions, event)
}

/// Whether an event has the name and passes the conditions of a step.
pub(crate) fn passes(step: &Step, event: &Event) -> bool {
    step.event.accepts(&event.name) && all_hold(&step.all_conditions(), event)
}

fn all_hold(conditions: &[Condition], event: &Event) -> bool {
    conditions.iter().all(|condition| condition.holds(event))
}

fn bits<T>(of: &[T], is_set: impl Fn(usize, &T) -> bool) -> u64 {
    let set = of
        .iter()
        .enumerate()
        .filter(|(index, item)| is_set(*index, item));
    set.map(|(index, _)| 1 << index).sum()
}

/// The first instants that `occurrence` speaks of, per step and user (per session, where there is no user).
struct Firsts<'a>(Vec<Option<BTreeMap<Key<'a>, i64>>>);

impl<'a> Firsts<'a> {
    fn of(definition: &FunnelDefinition, events: &'a [Event]) -> Self {
        let of_step = |step: &Step| {
            let counts: &dyn Fn(&Event) -> bool = match step.occurrence {
                Occurrence::Any => return None,
                Occurrence::FirstMatching => {
                    &|event| is_considered(definition, event) && passes(step, event)
                }
                Occurrence::FirstEver => &|event| step.event.accepts(&event.name),
            };
            let mut firsts: BTreeMap<Key<'a>, i64> = BTreeMap::new();
            for event in events.iter().filter(|event| counts(event)) {
                let first = firsts.entry(Self::owner(event)).or_insert(event.at_ns);
                *first = event.at_ns.min(*first);
            }
            Some(firsts)
        };
        Self(definition.steps.iter().map(of_step).collect())
    }

    fn owner(event: &Event) -> Key<'_> {
        let session = event.property("session").filter(|_| event.user.is_none());
        (event.tenant(), event.user.as_deref(), session)
    }

    fn allow(&self, step: usize, event: &Event) -> bool {
        self.0
            .get(step)
            .and_then(Option::as_ref)
            .is_none_or(|firsts| firsts.get(&Self::owner(event)) == Some(&event.at_ns))
    }
}

impl Subject<'_> {
    /// All that take part, or those of one value of the breakdown.
    fn marks(&self, of: Option<(&FunnelDefinition, &str)>) -> Vec<Mark> {
        let wanted = |seen: &&Seen<'_>| {
            of.is_none_or(|(definition, value)| value_of(definition, seen.event) == value)
        };
        let mark = |seen: &Seen<'_>| Mark {
            at_ns: seen.event.at_ns,
            kind: seen.kind,
        };
        self.seen.iter().filter(wanted).map(mark).collect()
    }

    fn per_value(&self, definition: &FunnelDefinition) -> BTreeMap<String, Vec<Mark>> {
        let filling = self.seen.iter().filter(|seen| seen.kind.fills != 0);
        let values = filling.map(|seen| value_of(definition, seen.event));
        let marks = values.map(|value| {
            let marks = self.marks(Some((definition, &value)));
            (value, marks)
        });
        marks.collect()
    }

    /// The value that an attempt counts under; `None` when it counts under none.
    fn value(
        &self,
        definition: &FunnelDefinition,
        attribution: Attribution,
        attempt: &Attempt,
    ) -> Option<String> {
        let filling = || {
            let filling = self.seen.iter().filter(|seen| seen.kind.fills != 0);
            filling.map(|seen| {
                (
                    seen.event.at_ns,
                    seen.kind.fills,
                    value_of(definition, seen.event),
                )
            })
        };
        let smallest_at = |at_ns: i64| {
            let there = filling().filter(|(at, _, value)| *at == at_ns && !value.is_empty());
            there.map(|(_, _, value)| value).min()
        };
        let times = || {
            filling()
                .filter(|(_, _, value)| !value.is_empty())
                .map(|(at, _, _)| at)
        };
        match attribution {
            Attribution::FirstTouch => {
                Some(times().min().and_then(smallest_at).unwrap_or_default())
            }
            Attribution::LastTouch => Some(times().max().and_then(smallest_at).unwrap_or_default()),
            Attribution::Step(step) => {
                let at_ns = attempt.time(step - 1)?;
                let any = definition.order == crate::definition::Order::Unordered;
                let there = filling()
                    .filter(|(at, fills, _)| *at == at_ns && (any || fills >> (step - 1) & 1 == 1));
                there.map(|(_, _, value)| value).min()
            }
            Attribution::AllSteps => None,
        }
    }
}

/// The value of an event in the breakdown: its properties' texts joined by `|`; empty when all are missing.
fn value_of(definition: &FunnelDefinition, event: &Event) -> String {
    let properties = definition
        .breakdown
        .iter()
        .flat_map(|breakdown| &breakdown.properties);
    let texts: Vec<_> = properties
        .map(|property| event.property(property).unwrap_or_default())
        .collect();
    if texts.iter().all(|text| text.is_empty()) {
        return String::new();
    }
    texts.join("|")
}
