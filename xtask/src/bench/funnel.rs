//! Funnels over the columnar index, against `windowFunnel` inside the embedded engine: same rows, same answers, one run.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{binary, build, start_store};
use crate::{
    process::Folder,
    shell::{output_of, say},
};

pub(super) fn run(events: u64, only_few: bool) -> anyhow::Result<Value> {
    build(&["event-store", "bench-peers"])?;
    let folder = Folder::create()?;
    let (store, url) = start_store(&folder)?;
    let index = folder.path().join("index");
    let program = binary("bench-peers")?;
    let (index, events) = (index.to_string_lossy(), events.to_string());
    let mut arguments = vec![
        "funnel",
        "--clickhouse",
        &url,
        "--path",
        &index,
        "--events",
        &events,
    ];
    if only_few {
        arguments.push("--only-few");
    }
    let text = output_of(&program.to_string_lossy(), &arguments);
    store.end()?;
    let figures: Value = serde_json::from_str(&text.context("asking failed")?)?;
    tell(&figures)?;
    Ok(figures)
}

fn tell(figures: &Value) -> anyhow::Result<()> {
    let number = |path: &str| {
        let found = figures.pointer(path).and_then(Value::as_f64);
        found.with_context(|| format!("the figure {path} is missing"))
    };
    let (held, rows) = (number("/events")?, number("/tail/rows")?);
    ensure!(
        (rows - held).abs() < 1.0,
        "the index does not hold what was read"
    );
    say(&format!(
        "tail and index  {:.0} events/s (goal: 1,000,000), {:.2} bytes/event with user ids (goal: 6), peak RSS {:.0} MiB",
        rows / number("/tail/seconds")?,
        number("/bytes")? / held,
        number("/peak_rss_kib")? / 1024.0
    ));
    say(
        "shop       events  users     definition                          one thread   all cores    baseline   ratio  goal",
    );
    for line in lines(figures, "/asked")
        .iter()
        .chain(lines(figures, "/growth"))
    {
        say(&format!(
            "{:<10} {:>6.1}M {:>5.2}M    {:<34} {:>11} {:>11} {:>11} {:>7} {:>5}",
            text(line, "shop"),
            millions(line, "events"),
            millions(line, "users"),
            text(line, "definition"),
            cell(line, "seconds_one_thread", 3, " s"),
            cell(line, "seconds", 3, " s"),
            cell(line, "baseline_seconds", 3, " s"),
            cell(line, "ratio", 1, ""),
            cell(line, "goal", 0, ""),
        ));
    }
    for line in lines(figures, "/lists") {
        say(&format!(
            "first page of who dropped at step {} of {:<5} found in {}, with session and trace in {} (goal: 0.2 s)",
            cell(line, "step", 0, ""),
            text(line, "shop"),
            cell(line, "seconds_to_find", 3, " s"),
            cell(line, "seconds", 3, " s"),
        ));
    }
    Ok(())
}

fn lines<'a>(figures: &'a Value, path: &str) -> &'a [Value] {
    let lines = figures.pointer(path).and_then(Value::as_array);
    lines.map_or(&[], Vec::as_slice)
}

fn text<'a>(line: &'a Value, name: &str) -> &'a str {
    line.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn millions(line: &Value, name: &str) -> f64 {
    line.get(name).and_then(Value::as_f64).unwrap_or_default() / 1e6
}

fn cell(line: &Value, name: &str, digits: usize, unit: &str) -> String {
    let number = line.get(name).and_then(Value::as_f64);
    number.map_or_else(
        || "-".to_owned(),
        |number| format!("{number:.digits$}{unit}"),
    )
}
