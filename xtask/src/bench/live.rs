//! Live funnels in memory: events a second that one core takes in.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{binary, build};
use crate::shell::{output_of, say};

pub(super) fn run() -> anyhow::Result<Value> {
    build(&["bench-peers"])?;
    let program = binary("bench-peers")?;
    let text = output_of(&program.to_string_lossy(), &["live"]);
    let figures: Value = serde_json::from_str(&text.context("measuring failed")?)?;
    let cases = figures.get("cases").and_then(Value::as_array);
    let cases = cases.context("no cases were measured")?;
    say("    users  steps  exclusion   events/s of one core (goal: 1,000,000)    left out");
    for case in cases {
        let number = |name: &str| case.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let excludes = case.get("exclusion").and_then(Value::as_bool);
        ensure!(
            number("too_late") < 1.0,
            "the bounds of the bench are too small"
        );
        say(&format!(
            "{:>9} {:>6} {:>10} {:>10.0} {:>40.0}",
            number("users"),
            number("steps"),
            if excludes == Some(true) { "yes" } else { "no" },
            number("events_per_cpu_s"),
            number("too_late")
        ));
    }
    Ok(figures)
}
