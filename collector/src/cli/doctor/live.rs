//! The books of a running collector, stage by stage: seen = passed + dropped + held.

use std::{collections::BTreeMap, io::Write as _, time::Duration};

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// Between two readings.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Deserialize)]
struct Stage {
    #[serde(rename = "stage")]
    name: String,
    unit: String,
    seen: u64,
    passed: u64,
    dropped: BTreeMap<String, u64>,
    held: i64,
}

/// Reads twice and prints the second, with the rate between.
pub(super) fn run(address: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("while starting the runtime")?;
    let (before, now) = runtime.block_on(async {
        let before = fetch(address).await?;
        tokio::time::sleep(INTERVAL).await;
        anyhow::Ok((before, fetch(address).await?))
    })?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{:<10} {:>14} {:>14} {:>12} {:>10} {:>10}  dropped because",
        "stage", "seen", "passed on", "dropped", "held", "per second"
    )?;
    let mut unsound = 0;
    for (stage, earlier) in now.iter().zip(&before) {
        let dropped: u64 = stage.dropped.values().sum();
        let reasons: Vec<String> = stage
            .dropped
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        let mark = if stage.held < 0 { "  UNSOUND" } else { "" };
        unsound += u32::from(stage.held < 0);
        writeln!(
            out,
            "{:<10} {:>14} {:>14} {:>12} {:>10} {:>10}  {}{mark}",
            stage.name,
            format!("{} {}", stage.seen, stage.unit),
            stage.passed,
            dropped,
            stage.held,
            stage.passed.saturating_sub(earlier.passed),
            if reasons.is_empty() {
                "-".to_owned()
            } else {
                reasons.join(", ")
            },
        )?;
    }
    if unsound > 0 {
        bail!("the books of {unsound} stages do not balance; please report this as a bug");
    }
    Ok(())
}

async fn fetch(address: &str) -> anyhow::Result<Vec<Stage>> {
    let url = format!("http://{address}/ledger");
    let request = async {
        reqwest::get(&url)
            .await?
            .error_for_status()?
            .json::<Vec<Stage>>()
            .await
    };
    tokio::time::timeout(Duration::from_secs(5), request)
        .await
        .context("no answer within five seconds")
        .and_then(|answer| Ok(answer?))
        .with_context(|| {
            format!("while asking {url}; is that what `collector run --metrics` was given?")
        })
}
