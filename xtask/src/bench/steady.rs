//! 10,000 requests a second for a minute: what is lost, and what the collector takes.

use anyhow::Context as _;
use serde_json::{Value, json};
use std::time::Instant;

use super::{binary, build, from_summary, measure, start_collector, start_hello};
use crate::{
    ports,
    process::Folder,
    shell::{output_of, say},
};

const RATE: u32 = 10_000;
const SECONDS: u32 = 60;

pub(super) fn run() -> anyhow::Result<Value> {
    build(&["collector", "bench-peers"])?;
    let folder = Folder::create()?;
    let port = ports::free_row(1)?;
    let _server = start_hello(folder.path(), port)?;
    let unwatched = load(port, 10)?;
    let collector = start_collector(folder.path(), port)?;
    let (before, started) = (measure::cpu_us(collector.id()), Instant::now());
    let watched = load(port, SECONDS)?;
    let cores = (measure::cpu_us(collector.id()) - before) / started.elapsed().as_secs_f64() / 1e6;
    let rss_mb = measure::peak_rss_mb(collector.id()).context("the collector has gone")?;
    collector.end()?;
    let lost = from_summary(folder.path(), "/lost")?;
    let seen = from_summary(folder.path(), "/ledger/exchanges")?;
    let sent = watched
        .get("requests")
        .and_then(Value::as_u64)
        .context("the client printed no count")?;
    say(&format!(
        "sent {sent} in {SECONDS} s, seen {seen}, records lost {lost}"
    ));
    say(&format!(
        "collector {cores:.3} cores, {rss_mb:.0} MB at most (goals: 0.5 cores, 200 MB)"
    ));
    let p99 = |figures: &Value| {
        figures
            .get("p99_ms")
            .and_then(Value::as_f64)
            .unwrap_or(f64::NAN)
    };
    say(&format!(
        "p99 {:.2} ms unwatched, {:.2} ms watched",
        p99(&unwatched),
        p99(&watched)
    ));
    Ok(json!({
        "baseline": "the same axum server unwatched, 10 s", "rate": RATE, "seconds": SECONDS, "sent": sent, "seen": seen,
        "lost": lost, "collector_cores": cores, "collector_peak_rss_mb": rss_mb, "unwatched": unwatched, "watched": watched,
    }))
}

fn load(port: u16, seconds: u32) -> anyhow::Result<Value> {
    let server = format!("127.0.0.1:{port}");
    let (rate, seconds) = (RATE.to_string(), seconds.to_string());
    let args = [
        "load",
        "--server",
        &server,
        "--rate",
        &rate,
        "--seconds",
        &seconds,
    ];
    let text =
        output_of(&binary("bench-peers")?.to_string_lossy(), &args).context("the client failed")?;
    serde_json::from_str(&text).context("the client printed no figures")
}
