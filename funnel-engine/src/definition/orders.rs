//! What each order knows: steps without order have no gaps, and `windowFunnel` has its own limits.

use std::collections::HashSet;

use super::{
    Count, FunnelDefinition, Mode, Order,
    validate::{Checked, refuse},
};

/// `windowFunnel` takes no more conditions.
const CLICKHOUSE_STEPS_MAX: usize = 32;

/// Checks what depends on the order.
pub(super) fn check(definition: &FunnelDefinition) -> Checked {
    match definition.order {
        Order::Ordered | Order::Strict => {}
        Order::Unordered => unordered(definition)?,
        Order::Clickhouse => clickhouse(definition)?,
    }
    modes(definition)
}

/// Refuses what relates one step to the previous one.
fn no_gaps(definition: &FunnelDefinition, reason: &str) -> Checked {
    for (index, step) in definition.steps.iter().enumerate() {
        for (key, is_given) in [
            ("optional", step.optional),
            ("within", step.within.is_some()),
            ("not_before", step.not_before.is_some()),
        ] {
            if is_given {
                return refuse(format!("steps[{index}].{key}"), reason);
            }
        }
    }
    Ok(())
}

fn unordered(definition: &FunnelDefinition) -> Checked {
    no_gaps(
        definition,
        "has no meaning in `unordered` order, where no step is before another: leave it out",
    )?;
    let steps = definition.steps.len();
    for (index, exclusion) in definition.exclusions.iter().enumerate() {
        for (key, step, needed) in [
            ("from_step", exclusion.from_step, 1),
            ("to_step", exclusion.to_step, steps),
        ] {
            if step != needed {
                return refuse(
                    format!("exclusions[{index}].{key}"),
                    format!("in `unordered` order an exclusion spans all steps: write {needed}"),
                );
            }
        }
    }
    Ok(())
}

fn clickhouse(definition: &FunnelDefinition) -> Checked {
    const REASON: &str =
        "is not known to `windowFunnel`: leave it out, or write another `order` than `clickhouse`";
    let steps = definition.steps.len();
    if steps > CLICKHOUSE_STEPS_MAX {
        return refuse(
            "steps",
            format!(
                "`windowFunnel` takes at most {CLICKHOUSE_STEPS_MAX} steps, this funnel has {steps}"
            ),
        );
    }
    no_gaps(definition, REASON)?;
    for (path, is_given) in [
        ("exclusions", !definition.exclusions.is_empty()),
        ("trend", definition.trend.is_some()),
    ] {
        if is_given {
            return refuse(path, REASON);
        }
    }
    if definition.count == Count::Totals {
        return refuse(
            "count",
            "`windowFunnel` does not count totals: write users or sessions",
        );
    }
    Ok(())
}

fn modes(definition: &FunnelDefinition) -> Checked {
    let modes = &definition.modes;
    if !modes.is_empty() && definition.order != Order::Clickhouse {
        return refuse(
            "modes",
            "belong to `windowFunnel`: leave them out, or write \"order\":\"clickhouse\"",
        );
    }
    let mut seen = HashSet::new();
    for (index, mode) in modes.iter().enumerate() {
        if !seen.insert(mode) {
            return refuse(
                format!("modes[{index}]"),
                format!("`{}` is listed twice: leave one out", mode.as_str()),
            );
        }
        if *mode == Mode::AllowReentry && !modes.contains(&Mode::StrictOrder) {
            return refuse(
                format!("modes[{index}]"),
                "`allow_reentry` loosens `strict_order`: write that too",
            );
        }
    }
    Ok(())
}
