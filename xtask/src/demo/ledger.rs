//! What the shoppers really did, counted without any of Weir's own code.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context as _;
use serde::Deserialize;

#[derive(Deserialize)]
struct Deed {
    user: String,
    ts: String,
    event: String,
    status: u16,
}

/// How many users did the steps in order, with success: one number per step.
pub(crate) fn expected(path: &Path, steps: &[(&str, &str)]) -> anyhow::Result<Vec<u64>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("while reading {}", path.display()))?;
    count(&text, steps)
}

fn count(text: &str, steps: &[(&str, &str)]) -> anyhow::Result<Vec<u64>> {
    let mut users: BTreeMap<String, Vec<Deed>> = BTreeMap::new();
    for line in text.lines() {
        let deed: Deed =
            serde_json::from_str(line).context("the ledger has a line that is no deed")?;
        users.entry(deed.user.clone()).or_default().push(deed);
    }
    let mut counts = vec![0; steps.len()];
    for deeds in users.values_mut() {
        deeds.sort_by(|a, b| a.ts.cmp(&b.ts));
        let mut done = deeds
            .iter()
            .filter(|deed| (200..300).contains(&deed.status));
        for ((_, event), count) in steps.iter().zip(&mut counts) {
            if !done.any(|deed| deed.event == *event) {
                break;
            }
            *count += 1;
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_successes_in_order_count() {
        let line = |user: &str, second: u32, event: &str, status: u32| {
            format!(
                "{{\"user\":\"{user}\",\"ts\":\"2026-01-01T00:00:0{second}Z\",\"event\":\"{event}\",\"status\":{status}}}"
            )
        };
        let text = [
            line("a", 1, "login", 200),
            line("a", 2, "cart", 404),
            line("b", 3, "cart", 200),
            line("b", 1, "login", 200),
        ]
        .join("\n");
        let steps = [("Login", "login"), ("Cart", "cart"), ("Pay", "pay")];
        assert_eq!(super::count(&text, &steps).unwrap(), [2, 1, 0]);
    }
}
