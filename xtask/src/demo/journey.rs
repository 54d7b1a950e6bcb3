//! From each drop-off to the traces of those who dropped, asked of the running API as a reader would.
//!
//! Every trace must be one tree that holds spans seen by the kernel and spans told by the services.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::shell;

/// Buyers looked at per step.
const BUYERS: usize = 20;

/// Follows buyers of every step but the last; `signed_in` is the console's address with its token, `counts` says
/// how many reached each step.
pub(super) fn follow(signed_in: &str, counts: &[u64]) -> anyhow::Result<Value> {
    let (address, token) = signed_in
        .split_once("/?token=")
        .context("the console's address has no token")?;
    let get = |path: &str| -> anyhow::Result<Value> {
        let header = format!("Authorization: Bearer {token}");
        let url = format!("{address}{path}");
        let text = shell::output_of("curl", &["-sf", "-H", &header, &url]);
        let text = text.with_context(|| format!("{path} was not answered"))?;
        serde_json::from_str(&text).with_context(|| format!("{path} answered no JSON"))
    };
    let mut followed = Vec::new();
    for (step, (here, next)) in (1..).zip(counts.iter().zip(counts.iter().skip(1))) {
        let list = get(&format!(
            "/api/v1/funnels/checkout/steps/{step}/dropped?limit={BUYERS}"
        ))?;
        let users = list.get("users").and_then(Value::as_array).cloned();
        let users = users.unwrap_or_default();
        let expected = usize::try_from(here - next)?.min(BUYERS);
        ensure!(
            users.len() == expected,
            "step {step} lists {} of those who stopped there, not {expected}",
            users.len()
        );
        for user in &users {
            let trace = user.get("trace_id").and_then(Value::as_str);
            let trace = trace.with_context(|| format!("a buyer without a trace: {user}"))?;
            check_tree(trace, &get(&format!("/api/v1/traces/{trace}"))?)?;
        }
        followed.push(json!({ "step": step, "traces": users.len() }));
    }
    Ok(followed.into())
}

/// One root, seen by the kernel, and spans of services below it.
fn check_tree(trace_id: &str, trace: &Value) -> anyhow::Result<()> {
    let spans = trace.get("spans").and_then(Value::as_array);
    let spans = spans.context("a trace without spans")?;
    let has = |key: &str, value: &Value| {
        spans
            .iter()
            .filter(|span| span.get(key) == Some(value))
            .count()
    };
    let (roots, kernel) = (has("depth", &json!(0)), has("source", &json!("kernel")));
    let service = has("source", &json!("service"));
    ensure!(
        roots == 1 && kernel > 0 && service > 0,
        "trace {trace_id} is not one tree of both kinds: {roots} roots, {kernel} kernel spans, {service} service spans"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_tree_of_both_kinds_is_accepted() {
        let span = |depth: u32, source: &str| json!({ "depth": depth, "source": source });
        let check = |spans: Vec<Value>| check_tree("x", &json!({ "spans": spans })).is_ok();
        assert!(check(vec![span(0, "kernel"), span(1, "service")]));
        assert!(!check(vec![span(0, "kernel"), span(0, "service")]));
        assert!(!check(vec![span(0, "kernel"), span(1, "kernel")]));
        assert!(!check(Vec::new()));
    }
}
