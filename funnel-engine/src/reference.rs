//! The reference matcher: slow, and obviously right. Every other backend must agree with it.
//!
//! For each event that can start an attempt it searches all ways of filling the following steps. Events of one
//! instant may be taken in any order, each once, so the search remembers which events of the current instant
//! an attempt has used. Results do not depend on the order of the input.

use std::collections::BTreeMap;

use crate::{
    answer::FunnelResult,
    definition::{DefinitionError, FunnelDefinition},
    event::Event,
    service::step_service,
};

/// Answers a funnel over events in memory.
///
/// # Errors
/// The part of the definition that is not answered yet.
pub fn run_reference(
    definition: &FunnelDefinition,
    events: &[Event],
) -> Result<FunnelResult, DefinitionError> {
    definition.require_supported()?;
    let names: Vec<String> = definition
        .steps
        .iter()
        .map(|step| step.name.clone())
        .collect();
    let mut per_user: BTreeMap<(&str, &str), Vec<StepEvents>> = BTreeMap::new();
    for event in events
        .iter()
        .filter(|event| is_considered(definition, event))
    {
        let Some(user) = event.user.as_deref() else {
            continue;
        };
        let fills: Vec<usize> = (0..definition.steps.len())
            .filter(|step| fills(definition, *step, event))
            .collect();
        if !fills.is_empty() {
            let user = (event.tenant(), user);
            per_user.entry(user).or_default().push((event.at_ns, fills));
        }
    }
    let attempts: Vec<Vec<i64>> = per_user
        .into_values()
        .filter_map(|mut events| {
            events.sort();
            User { definition, events }.best_attempt()
        })
        .collect();
    let scanned = events.len() as u64;
    let mut result = FunnelResult::from_attempts(&names, &attempts, scanned, "reference");
    result.set_service(&step_service(definition, events));
    Ok(result)
}

/// Whether an event lies in the definition's time range and passes its global conditions.
pub(crate) fn is_considered(definition: &FunnelDefinition, event: &Event) -> bool {
    let in_range = definition.time_range.as_ref().is_none_or(|range| {
        let at = i128::from(event.at_ns);
        range.from.as_nanosecond() <= at && at < range.to.as_nanosecond()
    });
    in_range
        && definition
            .conditions
            .iter()
            .all(|condition| condition.holds(event))
}

fn fills(definition: &FunnelDefinition, step: usize, event: &Event) -> bool {
    definition.steps.get(step).is_some_and(|step| {
        step.event.accepts(&event.name)
            && step
                .conditions
                .iter()
                .all(|condition| condition.holds(event))
    })
}

/// When an event was, and which steps it can fill.
type StepEvents = (i64, Vec<usize>);

/// One user's events that can fill any step, sorted by time.
struct User<'a> {
    definition: &'a FunnelDefinition,
    events: Vec<StepEvents>,
}

impl User<'_> {
    /// Step times of the attempt that got furthest; of those that reach that level first, the one that
    /// started last; of its ways there, the one with the earliest steps.
    fn best_attempt(&self) -> Option<Vec<i64>> {
        let mut best: Option<Vec<i64>> = None;
        for (start, (_, fills)) in self.events.iter().enumerate() {
            if !fills.contains(&0) {
                continue;
            }
            let mut path = vec![start];
            let mut found: Vec<i64> = Vec::new();
            self.extend(&mut path, &mut found);
            // Starts are tried in time order, so at an equal end the later start wins.
            let is_better = best.as_ref().is_none_or(|best| {
                found.len() > best.len()
                    || (found.len() == best.len() && found.last() <= best.last())
            });
            if is_better {
                best = Some(found);
            }
        }
        best
    }

    /// Tries every event for the next step, keeping in `found` the furthest path, of those the one that ends
    /// first, of those the one with the earliest steps.
    fn extend(&self, path: &mut Vec<usize>, found: &mut Vec<i64>) {
        let times: Vec<i64> = path.iter().filter_map(|index| self.time(*index)).collect();
        let is_better = times.len() > found.len()
            || (times.len() == found.len() && (times.last(), &times) < (found.last(), found));
        if is_better {
            found.clone_from(&times);
        }
        let step = path.len();
        let (Some(next), Some(first), Some(last)) =
            (self.definition.steps.get(step), times.first(), times.last())
        else {
            return;
        };
        for (index, (at, fills)) in self.events.iter().enumerate() {
            let gap = at - last;
            let fits = fills.contains(&step)
                && gap >= 0
                && !path.contains(&index)
                && at - first <= self.definition.window.nanoseconds()
                && next.within.is_none_or(|within| gap <= within.nanoseconds())
                && next
                    .not_before
                    .is_none_or(|not_before| gap >= not_before.nanoseconds());
            if fits {
                path.push(index);
                self.extend(path, found);
                path.pop();
                // Without gap limits an earlier event leaves at least as much open as a later one at
                // another instant: the first that fits outside the tie decides.
                if !self.has_gap_limits() && gap > 0 && self.next_instant_differs(index) {
                    return;
                }
            }
        }
    }

    fn has_gap_limits(&self) -> bool {
        self.definition
            .steps
            .iter()
            .any(|step| step.within.is_some() || step.not_before.is_some())
    }

    fn next_instant_differs(&self, index: usize) -> bool {
        self.time(index) != self.time(index + 1)
    }

    fn time(&self, index: usize) -> Option<i64> {
        self.events.get(index).map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(definition: &str, events: &[(&str, i64, &str)]) -> FunnelResult {
        let definition = FunnelDefinition::parse(definition).unwrap();
        let event = |(user, seconds, name): &(&str, i64, &str)| Event {
            user: (!user.is_empty()).then(|| (*user).to_owned()),
            at_ns: seconds * 1_000_000_000,
            name: (*name).to_owned(),
            properties: BTreeMap::new(),
        };
        let events: Vec<Event> = events.iter().map(event).collect();
        run_reference(&definition, &events).unwrap()
    }

    fn counts(result: &FunnelResult) -> Vec<u64> {
        result.steps.iter().map(|step| step.count).collect()
    }

    const ABC: &str = r#"{"name":"abc","window":"10s","steps":[{"name":"A","event":"a"},{"name":"B","event":"b"},{"name":"C","event":"c"}]}"#;

    #[test]
    fn the_window_is_inclusive_and_starts_at_the_first_step() {
        assert_eq!(
            counts(&run(ABC, &[("u", 0, "a"), ("u", 5, "b"), ("u", 10, "c")])),
            [1, 1, 1]
        );
        assert_eq!(
            counts(&run(ABC, &[("u", 0, "a"), ("u", 5, "b"), ("u", 11, "c")])),
            [1, 1, 0]
        );
    }

    #[test]
    fn events_of_one_instant_may_be_taken_in_any_order_each_once() {
        assert_eq!(
            counts(&run(ABC, &[("u", 5, "b"), ("u", 5, "a")])),
            [1, 1, 0]
        );
        let twice = r#"{"name":"aa","window":"10s","steps":[{"name":"1","event":"a"},{"name":"2","event":"a"}]}"#;
        assert_eq!(counts(&run(twice, &[("u", 5, "a")])), [1, 0]);
        assert_eq!(counts(&run(twice, &[("u", 5, "a"), ("u", 5, "a")])), [1, 1]);
    }

    #[test]
    fn the_attempt_that_started_last_before_the_level_gives_the_times() {
        let result = run(
            ABC,
            &[
                ("u", 0, "a"),
                ("u", 4, "a"),
                ("u", 5, "b"),
                ("u", 6, "b"),
                ("u", 7, "c"),
                ("u", 8, "a"),
            ],
        );
        let gaps: Vec<f64> = result
            .steps
            .iter()
            .filter_map(|step| step.time_from_previous_s)
            .map(|t| t.mean)
            .collect();
        assert_eq!(gaps, [1.0, 2.0], "from 4 over 5 to 7");
    }

    #[test]
    fn gap_limits_are_measured_from_the_previous_step() {
        let limited = ABC.replace(
            r#""event":"c""#,
            r#""event":"c","within":"2s","not_before":"1s""#,
        );
        assert_eq!(
            counts(&run(
                &limited,
                &[("u", 0, "a"), ("u", 1, "b"), ("u", 1, "c"), ("u", 4, "c")]
            )),
            [1, 1, 0]
        );
        assert_eq!(
            counts(&run(
                &limited,
                &[("u", 0, "a"), ("u", 1, "b"), ("u", 3, "b"), ("u", 4, "c")]
            )),
            [1, 1, 1]
        );
    }

    #[test]
    fn a_steps_service_counts_all_its_requests_and_failures() {
        let definition = FunnelDefinition::parse(ABC).unwrap();
        let event = |name: &str, duration: u32| Event {
            user: Some("u".to_owned()),
            at_ns: 0,
            name: name.to_owned(),
            properties: BTreeMap::from([("duration_ms".to_owned(), duration.into())]),
        };
        let events = [event("b", 10), event("b", 30), event("b.failed", 500)];
        let result = run_reference(&definition, &events).unwrap();
        let latency = result.steps[1].latency_ms.unwrap();
        assert!((latency.mean - 20.0).abs() < 1e-12);
        assert!((latency.p95 - 29.0).abs() < 1e-12);
        assert_eq!(result.steps[1].errors, 1);
        assert_eq!(
            (result.steps[0].latency_ms, result.steps[0].errors),
            (None, 0)
        );
    }

    #[test]
    fn the_same_user_id_in_two_shops_is_two_buyers() {
        let definition = FunnelDefinition::parse(ABC).unwrap();
        let event = |tenant: &str, name: &str, at_ns: i64| Event {
            user: Some("u".to_owned()),
            at_ns,
            name: name.to_owned(),
            properties: BTreeMap::from([("tenant".to_owned(), tenant.into())]),
        };
        let events = [event("t1", "a", 0), event("t2", "b", 1)];
        assert_eq!(
            counts(&run_reference(&definition, &events).unwrap()),
            [1, 0, 0]
        );
    }

    #[test]
    fn events_without_a_user_are_ignored() {
        assert_eq!(counts(&run(ABC, &[("", 0, "a"), ("v", 0, "a")])), [1, 0, 0]);
    }
}
