//! The funnels that are asked for.

use funnel_engine::FunnelDefinition;
use serde_json::json;

/// So many steps e0, e1, ...; exclusions by name, from step and to step; perhaps a breakdown by a property.
pub(super) fn definition(
    steps: usize,
    exclusions: &[(usize, usize, usize)],
    breakdown: Option<&str>,
) -> anyhow::Result<FunnelDefinition> {
    let step = |step: usize| json!({ "name": step.to_string(), "event": format!("e{step}") });
    let exclusion = |(name, from, to): &(usize, usize, usize)| json!({ "event": format!("e{name}"), "from_step": from, "to_step": to });
    let name = match exclusions.len() {
        0 => format!("{steps} steps"),
        count => format!("{steps} steps, {count} exclusions"),
    };
    let mut json = json!({
        "name": name, "window": "1h",
        "steps": (0..steps).map(step).collect::<Vec<_>>(),
        "exclusions": exclusions.iter().map(exclusion).collect::<Vec<_>>(),
    });
    if let (Some(property), Some(definition)) = (breakdown, json.as_object_mut()) {
        definition.insert("breakdown".to_owned(), json!({ "properties": [property] }));
        definition.insert("name".to_owned(), json!(format!("{name}, by {property}")));
    }
    Ok(FunnelDefinition::parse(&json.to_string())?)
}
