//! Funnels over the columnar index, against `windowFunnel` inside the embedded engine: same rows, same answers, one run.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{binary, build};
use crate::{
    ports,
    process::{Folder, Running},
    setup,
    shell::{output_of, say},
};

pub(super) fn run(events: u64) -> anyhow::Result<Value> {
    build(&["event-store", "bench-peers"])?;
    let folder = Folder::create()?;
    let address = format!("127.0.0.1:{}", ports::free_row(1)?);
    let store = Running::start(
        "event-store",
        &binary("event-store")?,
        &folder.path().join("store.log"),
        &[
            "serve",
            "--path",
            &folder.path().join("store").to_string_lossy(),
            "--listen",
            &address,
            "--engine",
            &setup::engine_path().to_string_lossy(),
        ],
        &[],
    )?;
    store.wait_for(&address, Duration::from_mins(1))?;
    let (url, index) = (format!("http://{address}"), folder.path().join("index"));
    let program = binary("bench-peers")?;
    let text = output_of(
        &program.to_string_lossy(),
        &[
            "funnel",
            "--clickhouse",
            &url,
            "--path",
            &index.to_string_lossy(),
            "--events",
            &events.to_string(),
        ],
    );
    store.end()?;
    let mut figures: Value = serde_json::from_str(&text.context("asking failed")?)?;
    tell(&figures)?;
    if let Some(figures) = figures.as_object_mut() {
        figures.insert(
            "baseline".to_owned(),
            json!("windowFunnel of the embedded engine over the same rows"),
        );
    }
    Ok(figures)
}

fn tell(figures: &Value) -> anyhow::Result<()> {
    let number = |name: &str| {
        figures
            .get(name)
            .and_then(Value::as_f64)
            .context("a figure is missing")
    };
    let held = number("events")?;
    ensure!(
        (number("rows")? - held).abs() < 1.0,
        "the index does not hold what was read"
    );
    say(&format!(
        "tail and index  {:.0} events/s (goal: 1,000,000), {:.2} bytes/event with user ids (goal: 6)",
        held / number("seconds_to_fill")?,
        number("bytes")? / held
    ));
    say("tenant definition                   one thread     all cores  windowFunnel   ratio");
    let asked = figures
        .get("asked")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for line in &asked {
        let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
        let cell = |name: &str, unit: &str| {
            let number = line.get(name).and_then(Value::as_f64);
            number.map_or_else(|| "-".to_owned(), |number| format!("{number:.3}{unit}"))
        };
        say(&format!(
            "{:<6} {:<25} {:>13} {:>13} {:>13} {:>7}",
            text("tenant"),
            text("definition"),
            cell("seconds_one_thread", " s"),
            cell("seconds", " s"),
            cell("baseline_seconds", " s"),
            cell("ratio", "")
        ));
    }
    Ok(())
}
