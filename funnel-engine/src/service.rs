//! How the shop served each step: latency of the step's requests and its failed attempts, whoever made them.
//!
//! An event's duration is its property `duration_ms`; in the store it is the column of the exchange. A failed
//! attempt is an event named `<event>.failed` (see the collector's event rules).

use crate::{
    definition::{FunnelDefinition, Step},
    event::Event,
    figures::{Latency, latency},
    predicate::Test,
};

/// What a failed attempt's event is called, after the name of the step's event.
pub(crate) const FAILED_SUFFIX: &str = ".failed";

/// One step's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct StepService {
    pub(crate) latency_ms: Option<Latency>,
    pub(crate) errors: u64,
}

/// Collects the figures of all steps, event by event.
#[derive(Clone, Debug)]
pub(crate) struct ServiceTally {
    definition: FunnelDefinition,
    /// Of the funnel, and of each step.
    global: Vec<Test>,
    conditions: Vec<Vec<Test>>,
    /// Per step: milliseconds of each request, and failed attempts.
    steps: Vec<(Vec<f64>, u64)>,
}

impl ServiceTally {
    pub(crate) fn new(definition: &FunnelDefinition) -> Self {
        let steps = definition.steps.iter();
        let tests = |step: &Step| step.all_conditions().iter().map(Test::compile).collect();
        Self {
            global: definition.conditions.iter().map(Test::compile).collect(),
            conditions: steps.map(tests).collect(),
            steps: vec![Default::default(); definition.steps.len()],
            definition: definition.clone(),
        }
    }

    pub(crate) fn push(&mut self, event: &Event) {
        let duration = event
            .properties
            .get("duration_ms")
            .and_then(serde_json::Value::as_f64);
        let attempted = event.name.strip_suffix(FAILED_SUFFIX);
        let (from_ns, to_ns) = self.definition.time_range_ns();
        if (duration.is_none() && attempted.is_none())
            || !(from_ns..to_ns).contains(&event.at_ns)
            || !self.global.iter().all(|test| test.passes(event))
        {
            return;
        }
        let steps = self
            .definition
            .steps
            .iter()
            .zip(&self.conditions)
            .zip(&mut self.steps);
        for ((step, conditions), (durations, errors)) in steps {
            let holds = || conditions.iter().all(|test| test.passes(event));
            if duration.is_some() && step.event.accepts(&event.name) && holds() {
                durations.extend(duration);
            }
            if attempted.is_some_and(|name| step.event.accepts(name)) && holds() {
                *errors += 1;
            }
        }
    }

    pub(crate) fn finish(self) -> Vec<StepService> {
        let step = |(durations, errors)| StepService {
            latency_ms: latency(durations),
            errors,
        };
        self.steps.into_iter().map(step).collect()
    }
}
