//! What a definition must say to mean something. Each rule names the JSON path of what breaks it and says what to
//! write instead.

use std::collections::HashSet;

use super::{
    DefinitionError, FunnelDefinition, Step, StepEvent, conditions::Checker, orders, step::ANY,
    views,
};
use crate::duration::Span;

const STEPS_MAX: usize = 64;
/// Event names of one step or exclusion.
const EVENTS_MAX: usize = 100;
const EXCLUSIONS_MAX: usize = 64;
/// Characters of the name of a funnel or step.
const NAME_MAX: usize = 200;
/// Ten years, two or three of them leap years, nanoseconds.
const WINDOW_MAX_NS: i64 = 3_653 * 86_400_000_000_000;

/// Nothing, or the first rule broken.
pub(super) type Checked = Result<(), DefinitionError>;

/// The error at a path.
pub(super) fn refuse(path: impl Into<String>, message: impl Into<String>) -> Checked {
    Err(DefinitionError::at(path, message))
}

/// Checks every rule; the first one broken is the error.
pub(super) fn definition(definition: &FunnelDefinition) -> Checked {
    name("name", &definition.name)?;
    let window = definition.window.nanoseconds();
    if !(1..=WINDOW_MAX_NS).contains(&window) {
        return refuse(
            "window",
            format!("is {}: write 1ms to 3653d (10 years)", definition.window),
        );
    }
    let steps = definition.steps.len();
    if !(2..=STEPS_MAX).contains(&steps) {
        return refuse(
            "steps",
            format!("a funnel has 2 to {STEPS_MAX} steps, this one has {steps}"),
        );
    }
    let mut conditions = Checker::default();
    for (index, step) in definition.steps.iter().enumerate() {
        let path = format!("steps[{index}]");
        self::step(&path, step, definition.window)?;
        conditions.check(&format!("{path}.where"), &step.conditions)?;
    }
    first_step(definition)?;
    conditions.check("where", &definition.conditions)?;
    exclusions(definition, &mut conditions)?;
    orders::check(definition)?;
    views::check(definition)
}

fn name(path: &str, name: &str) -> Checked {
    let length = name.chars().count();
    if length > NAME_MAX {
        return refuse(
            path,
            format!("a name has at most {NAME_MAX} characters, this one has {length}"),
        );
    }
    Ok(())
}

fn step(path: &str, step: &Step, window: Span) -> Checked {
    name(&format!("{path}.name"), &step.name)?;
    event(&format!("{path}.event"), &step.event)?;
    if let Some(http) = &step.http {
        let path = format!("{path}.http");
        if http.route.is_none() && http.method.is_none() && http.status.is_none() {
            return refuse(path, "says nothing: write `route`, `method` or `status`");
        }
        for (key, text) in [("route", &http.route), ("method", &http.method)] {
            if text.as_ref().is_some_and(String::is_empty) {
                return refuse(
                    format!("{path}.{key}"),
                    "must not be empty: leave it out for any",
                );
            }
        }
    }
    let Some(not_before) = step.not_before else {
        return Ok(());
    };
    let path = format!("{path}.not_before");
    if let Some(within) = step.within.filter(|within| not_before > *within) {
        return refuse(
            path,
            format!(
                "{not_before} is longer than `within` {within}, so no event can fill the step: write less"
            ),
        );
    }
    if not_before > window {
        return refuse(
            path,
            format!(
                "{not_before} is longer than `window` {window}, so no event can fill the step: write less"
            ),
        );
    }
    Ok(())
}

/// Names of a step or an exclusion.
fn event(path: &str, event: &StepEvent) -> Checked {
    let names = match event {
        StepEvent::One(name) if name.is_empty() => {
            return refuse(
                path,
                "must not be empty: write the event's name, or \"*\" for any",
            );
        }
        StepEvent::One(_) => return Ok(()),
        StepEvent::Many(names) => names,
    };
    if !(1..=EVENTS_MAX).contains(&names.len()) {
        return refuse(
            path,
            format!(
                "a list has 1 to {EVENTS_MAX} event names, this one has {}",
                names.len()
            ),
        );
    }
    let mut seen = HashSet::new();
    for (index, name) in names.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if name.is_empty() {
            return refuse(path, "must not be empty: write the event's name");
        }
        if name == ANY {
            return refuse(
                path,
                "`*` is any event and stands alone: write \"event\":\"*\"",
            );
        }
        if !seen.insert(name) {
            return refuse(path, format!("`{name}` is listed twice: leave one out"));
        }
    }
    Ok(())
}

fn first_step(definition: &FunnelDefinition) -> Checked {
    let Some(first) = definition.steps.first() else {
        return Ok(());
    };
    if first.optional {
        return refuse(
            "steps[0].optional",
            "the first step starts the funnel and cannot be optional: leave it out",
        );
    }
    for (key, is_given) in [
        ("within", first.within.is_some()),
        ("not_before", first.not_before.is_some()),
    ] {
        if is_given {
            return refuse(
                format!("steps[0].{key}"),
                "measures from the previous step, and the first has none: leave it out",
            );
        }
    }
    Ok(())
}

fn exclusions(definition: &FunnelDefinition, conditions: &mut Checker) -> Checked {
    let (given, steps) = (definition.exclusions.len(), definition.steps.len());
    if given > EXCLUSIONS_MAX {
        return refuse(
            "exclusions",
            format!("a funnel has at most {EXCLUSIONS_MAX} exclusions, this one has {given}"),
        );
    }
    for (index, exclusion) in definition.exclusions.iter().enumerate() {
        let path = format!("exclusions[{index}]");
        event(&format!("{path}.event"), &exclusion.event)?;
        conditions.check(&format!("{path}.where"), &exclusion.conditions)?;
        let (from, to) = (exclusion.from_step, exclusion.to_step);
        let needed = format!("write 1 <= from_step < to_step <= {steps}");
        if to > steps {
            return refuse(
                format!("{path}.to_step"),
                format!("there is no step {to}: {needed}"),
            );
        }
        if !(1..to).contains(&from) {
            return refuse(
                format!("{path}.from_step"),
                format!("{from} to {to} is no range of steps: {needed}"),
            );
        }
    }
    Ok(())
}
