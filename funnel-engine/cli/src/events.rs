//! Event files, read one event at a time with the progress shown.

use std::{
    fs::File,
    io::{BufReader, IsTerminal as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use event_store::TenantId;
use funnel_engine::{CsvEvents, Event, NdjsonEvents};
use funnel_frames::parquet_events;
use indicatif::{ProgressBar, ProgressStyle};
use weir_settings::BadUsage;

/// Files below this are read before a bar could be looked at, bytes.
const SHOWN_FROM: u64 = 16 << 20;
/// Events between two looks at the clock.
const STRIDE: u64 = 4_096;

/// Hands every event of a file (of one tenant, if one is named) to `take`.
pub(crate) fn read(
    path: &Path,
    tenant: Option<&TenantId>,
    take: &mut dyn FnMut(Event) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let within = || format!("in {}", path.display());
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let bytes = file.metadata().with_context(within)?.len();
    let input = BufReader::with_capacity(1 << 20, file);
    let mut pass = |event: Event| match tenant {
        Some(tenant) if event.tenant() != tenant.as_str() => Ok(()),
        _ => take(event),
    };
    let mut count = 0_u64;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ndjson" | "jsonl") => {
            let bar = bar(bytes, bytes >= SHOWN_FROM, true);
            let mut events = NdjsonEvents::new(input);
            while let Some(event) = events.next() {
                pass(event.with_context(within)?)?;
                advance(&bar, &mut count, || events.bytes_read());
            }
            bar.finish_and_clear();
            if events.skipped() > 0 {
                tracing::info!(
                    exchanges = events.skipped(),
                    "left out: not seen at the server"
                );
            }
        }
        Some("csv") => {
            let bar = bar(bytes, bytes >= SHOWN_FROM, true);
            let mut events = CsvEvents::new(input).with_context(within)?;
            while let Some(event) = events.next() {
                pass(event.with_context(within)?)?;
                advance(&bar, &mut count, || events.bytes_read());
            }
            bar.finish_and_clear();
        }
        Some("parquet") => {
            let events = parquet_events(path).with_context(within)?;
            let bar = bar(events.len() as u64, bytes >= SHOWN_FROM, false);
            for (row, event) in (0_u64..).zip(events) {
                pass(event.with_context(within)?)?;
                advance(&bar, &mut count, || row);
            }
            bar.finish_and_clear();
        }
        _ => bail!(BadUsage(format!(
            "{}: the name must end in .ndjson, .csv or .parquet",
            path.display()
        ))),
    }
    Ok(())
}

fn bar(length: u64, is_large: bool, is_bytes: bool) -> ProgressBar {
    if !is_large || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = if is_bytes {
        "reading {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left"
    } else {
        "reading {bar:30} {human_pos}/{human_len} events {per_sec} {eta} left"
    };
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn advance(bar: &ProgressBar, count: &mut u64, position: impl Fn() -> u64) {
    *count += 1;
    if count.is_multiple_of(STRIDE) {
        bar.set_position(position());
    }
}
