//! From a built tree to the first funnel of real traffic: the demo with a handful of shoppers.

use std::{fs, time::Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{
    process::Folder,
    shell::{self, say},
};

pub(super) fn run() -> anyhow::Result<Value> {
    shell::cargo(&["build", "--workspace", "--locked"])?;
    let folder = Folder::create()?;
    let out = folder.path().join("out");
    let started = Instant::now();
    let args = [
        "xtask",
        "demo",
        "--once",
        "--shoppers",
        "20",
        "--out",
        &out.to_string_lossy(),
    ];
    shell::cargo(&args)?;
    let whole = started.elapsed().as_secs_f64();
    let summary: Value = serde_json::from_str(&fs::read_to_string(out.join("summary.json"))?)?;
    let inside = summary
        .get("elapsed_s")
        .and_then(Value::as_f64)
        .context("the summary has no elapsed_s")?;
    say(&format!(
        "{whole:.1} s from the command to its end, reports and 20 shoppers included (goal: 20 s)"
    ));
    Ok(json!({ "seconds": whole, "seconds_by_summary": inside, "shoppers": 20 }))
}
