//! `funnel index`: the columnar index of a store, kept beside it.

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use event_store::StoreLogin;
use funnel_engine::{StoreIndex, tail::Tail};

#[derive(Debug, Args)]
pub(crate) struct IndexArgs {
    /// The store whose events are indexed.
    #[arg(long, value_name = "URL", env = "WEIR_CLICKHOUSE")]
    clickhouse: String,
    #[command(flatten)]
    login: StoreLogin,
    /// Folder of the index; it is derived data and may be deleted at any time.
    #[arg(long, value_name = "DIR")]
    path: PathBuf,
    /// Go on following the store until the process is asked to end.
    #[arg(long)]
    follow: bool,
    /// Read every file of the index again and compare its checksums, instead of reading the store.
    #[arg(long, conflicts_with = "follow")]
    verify: bool,
}

pub(crate) fn index(args: &IndexArgs) -> anyhow::Result<()> {
    let (index, rebuilt) = StoreIndex::open(&args.path)?;
    if let Some(reason) = rebuilt {
        tracing::warn!("the index cannot be trusted and is built anew from the store: {reason}");
    }
    if args.verify {
        index.index().verify().with_context(|| {
            format!(
                "delete {} and run `funnel index` again",
                args.path.display()
            )
        })?;
        return say(&index);
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let store = args.login.store(&args.clickhouse);
    let mut tail = Tail::new(store, index, || {
        i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
    });
    let done: anyhow::Result<()> = runtime.block_on(async {
        if args.follow {
            return Ok(tail.follow(weir_settings::asked_to_end()?).await?);
        }
        // Until a poll finds nothing new; what is written meanwhile is the next run's.
        loop {
            let polled = tail.poll_once().await?;
            if polled.awaited_merges > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            } else if polled.rows == 0 && polled.rebuilt.is_empty() {
                return Ok(tail.hand_over()?);
            }
        }
    });
    done?;
    say(tail.index())
}

fn say(index: &StoreIndex) -> anyhow::Result<()> {
    let stats = index.index().stats();
    let line = serde_json::json!({
        "events": stats.events, "users": stats.users, "tenants": stats.tenants, "segments": stats.segments,
        "bytes": stats.bytes(),
    });
    writeln!(std::io::stdout(), "{line}").context("cannot write the figures")
}
