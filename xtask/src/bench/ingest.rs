//! Exchanges into the embedded store over HTTP, against the engine filling the same table by itself.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{binary, build, start_store};
use crate::{
    process::Folder,
    shell::{output_of, say},
};

const ROWS: u32 = 2_000_000;

pub(super) fn run() -> anyhow::Result<Value> {
    build(&["event-store", "bench-peers"])?;
    let folder = Folder::create()?;
    let (store, url) = start_store(&folder)?;
    let rows = ROWS.to_string();
    let program = binary("bench-peers")?;
    let text = output_of(
        &program.to_string_lossy(),
        &["ingest", "--clickhouse", &url, "--rows", &rows],
    );
    store.end()?;
    let mut figures: Value = serde_json::from_str(&text.context("the writer failed")?)?;
    let number = |name: &str| {
        figures
            .get(name)
            .and_then(Value::as_f64)
            .context("the writer printed no figures")
    };
    let stored = number("stored")?;
    ensure!(
        (stored - 2.0 * f64::from(ROWS)).abs() < 1.0,
        "{stored} rows are stored, not twice {ROWS}"
    );
    let rate = |seconds: f64| f64::from(ROWS) / seconds;
    let (inside, through) = (
        rate(number("seconds_inside")?),
        rate(number("seconds_through_http")?),
    );
    say(&format!(
        "through HTTP    {through:.0} exchanges/s, the events view included (goal: 100,000)"
    ));
    say(&format!(
        "inside          {inside:.0} exchanges/s: {:.2} of the engine's own speed",
        through / inside
    ));
    if let Some(figures) = figures.as_object_mut() {
        figures.extend([
            (
                "baseline".to_owned(),
                json!("INSERT ... SELECT FROM numbers in the same engine and table"),
            ),
            (
                "exchanges_per_second".to_owned(),
                json!({ "inside": inside, "through_http": through, "ratio": through / inside }),
            ),
        ]);
    }
    Ok(figures)
}
