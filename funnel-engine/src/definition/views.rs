//! Whether a breakdown, a trend and a time range fit the steps.

use std::collections::HashSet;

use super::{
    Attribution, Breakdown, FunnelDefinition, Order, TimeRange, Trend,
    validate::{Checked, refuse},
};
use crate::event::EARLIEST_NS;

const PROPERTIES_MAX: usize = 4;
const LIMIT_MAX: usize = 1_000;

/// Checks how the answer is asked for.
pub(super) fn check(definition: &FunnelDefinition) -> Checked {
    if let Some(breakdown) = &definition.breakdown {
        self::breakdown(breakdown, definition)?;
    }
    if let Some(trend) = &definition.trend {
        self::trend(trend, definition)?;
    }
    definition.time_range.as_ref().map_or(Ok(()), time_range)
}

fn breakdown(breakdown: &Breakdown, definition: &FunnelDefinition) -> Checked {
    let (properties, steps) = (&breakdown.properties, definition.steps.len());
    if !(1..=PROPERTIES_MAX).contains(&properties.len()) {
        return refuse(
            "breakdown.properties",
            format!(
                "a breakdown has 1 to {PROPERTIES_MAX} properties, this one has {}",
                properties.len()
            ),
        );
    }
    let mut seen = HashSet::new();
    for (index, property) in properties.iter().enumerate() {
        let path = format!("breakdown.properties[{index}]");
        if property.is_empty() {
            return refuse(path, "must not be empty: write the property's name");
        }
        if !seen.insert(property) {
            return refuse(path, format!("`{property}` is listed twice: leave one out"));
        }
    }
    if !(1..=LIMIT_MAX).contains(&breakdown.limit) {
        return refuse(
            "breakdown.limit",
            format!("is {}: write 1 to {LIMIT_MAX}", breakdown.limit),
        );
    }
    let Attribution::Step(step) = breakdown.attribution else {
        return Ok(());
    };
    let path = "breakdown.attribution";
    match definition.order {
        Order::Clickhouse => refuse(
            path,
            "`windowFunnel` does not say which event filled a step: write first_touch, last_touch or all_steps",
        ),
        Order::Unordered if step != 1 => refuse(
            path,
            "in `unordered` order only the event that starts is known: write step:1",
        ),
        Order::Ordered | Order::Strict | Order::Unordered if (1..=steps).contains(&step) => Ok(()),
        Order::Ordered | Order::Strict | Order::Unordered => refuse(
            path,
            format!("there is no step {step}: write step:1 to step:{steps}"),
        ),
    }
}

fn trend(trend: &Trend, definition: &FunnelDefinition) -> Checked {
    let steps = definition.steps.len();
    let (from, to) = (trend.from_step, trend.to_step);
    for (path, step) in [("trend.from_step", from), ("trend.to_step", to)] {
        if !(1..=steps).contains(&step) {
            return refuse(path, format!("there is no step {step}: write 1 to {steps}"));
        }
        let step = definition.steps.get(step - 1);
        if step.is_some_and(|step| step.optional) {
            return refuse(path, "is an optional step: write a required one");
        }
    }
    if from > to {
        return refuse(
            "trend.from_step",
            format!("{from} comes after `to_step` {to}: write {to} or less"),
        );
    }
    if trend.timezone.iana_name().is_none() || trend.timezone.is_unknown() {
        return refuse(
            "trend.timezone",
            "has no IANA name: write one such as Asia/Shanghai",
        );
    }
    Ok(())
}

fn time_range(range: &TimeRange) -> Checked {
    for (path, at) in [("time_range.from", range.from), ("time_range.to", range.to)] {
        if !(i128::from(EARLIEST_NS)..=i128::from(i64::MAX)).contains(&at.as_nanosecond()) {
            return refuse(
                path,
                format!("{at} lies outside 1678 to 2262: write a time within"),
            );
        }
    }
    if range.from >= range.to {
        return refuse(
            "time_range.from",
            format!(
                "{} does not lie before `to` {}: write an earlier time",
                range.from, range.to
            ),
        );
    }
    Ok(())
}
