//! How the shop served each step: latency of the step's requests and its failed attempts, whoever made them.
//!
//! An event's duration is its property `duration_ms`; in the store it is the column of the exchange. A failed
//! attempt is an event named `<event>.failed` (see the collector's event rules).

use crate::{
    definition::FunnelDefinition,
    event::Event,
    figures::{Latency, latency},
    reference::is_considered,
};

/// What a failed attempt's event is called, after the name of the step's event.
pub(crate) const FAILED_SUFFIX: &str = ".failed";

/// One step's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct StepService {
    pub(crate) latency_ms: Option<Latency>,
    pub(crate) errors: u64,
}

/// The figures of all steps over events in memory.
pub(crate) fn step_service(definition: &FunnelDefinition, events: &[Event]) -> Vec<StepService> {
    let considered: Vec<&Event> = events
        .iter()
        .filter(|event| is_considered(definition, event))
        .collect();
    let of_step = |step: &crate::definition::Step| {
        let holds = |event: &Event| {
            step.conditions
                .iter()
                .all(|condition| condition.holds(event))
        };
        let durations = considered
            .iter()
            .filter(|event| step.event.accepts(&event.name) && holds(event))
            .filter_map(|event| event.properties.get("duration_ms")?.as_f64());
        let errors = considered.iter().filter(|event| {
            let attempted = event.name.strip_suffix(FAILED_SUFFIX);
            attempted.is_some_and(|name| step.event.accepts(name)) && holds(event)
        });
        StepService {
            latency_ms: latency(durations.collect()),
            errors: errors.count() as u64,
        }
    };
    definition.steps.iter().map(of_step).collect()
}
