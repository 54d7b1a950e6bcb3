//! Funnels over the columnar index, against the engine itself over the same rows in the same run.

mod ask;
mod definitions;
mod growth;
mod shops;

use std::{path::PathBuf, time::Instant};

use clap::Args;
use event_store::Store;
use funnel_engine::{StoreIndex, tail::Tail};
use serde_json::{Value, json};

use shops::Shop;

#[derive(Debug, Args)]
pub(crate) struct FunnelArgs {
    /// The store, empty.
    #[arg(long)]
    clickhouse: String,
    /// Folder of the index.
    #[arg(long)]
    path: PathBuf,
    /// Events of each of the large shops.
    #[arg(long, default_value_t = 20_000_000)]
    events: u64,
    /// How often each question is asked; medians are told.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only the large shop with three event names: what many events cost.
    #[arg(long)]
    only_few: bool,
}

pub(crate) async fn run(args: &FunnelArgs) -> anyhow::Result<Value> {
    let store = Store::at(&args.clickhouse);
    store.migrate().await?;
    let few = Shop::few(args.events);
    let many = Shop::many(args.events);
    let grown = if args.only_few {
        Vec::new()
    } else {
        growth::shops(args.events)
    };
    few.fill(&store).await?;
    if !args.only_few {
        many.fill(&store).await?;
    }
    for shop in &grown {
        shop.fill(&store).await?;
    }
    // As events come in: in the parts in which they were inserted.
    let tailed = build(args, &store).await?;
    store
        .database()
        .query("OPTIMIZE TABLE events FINAL")
        .execute()
        .await?;
    let (mut index, _) = StoreIndex::open(&args.path)?;
    let started = Instant::now();
    index.compact()?;
    let joined = started.elapsed().as_secs_f64();
    let stats = index.index().stats();
    let mut asking = ask::Asking::new(&store, index, args.rounds);
    let mut asked = ask::of_few(&mut asking, &few).await?;
    let mut lists = ask::lists(&mut asking, &few).await?;
    if !args.only_few {
        asked.extend(ask::of_many(&mut asking, &many).await?);
        lists.extend(ask::lists(&mut asking, &many).await?);
    }
    let growth = growth::ask(&mut asking, &grown).await?;
    Ok(json!({
        "tail": tailed,
        "seconds_to_join": joined,
        "events": stats.events, "users": stats.users, "segments": stats.segments,
        "bytes": stats.bytes() - stats.property_bytes, "user_bytes": stats.user_bytes,
        "asked": asked, "lists": lists, "growth": growth,
        "peak_rss_kib": peak_rss_kib(),
    }))
}

async fn build(args: &FunnelArgs, store: &Store) -> anyhow::Result<Value> {
    let started = Instant::now();
    let (index, _) = StoreIndex::open(&args.path)?;
    let mut tail = Tail::new(store.clone(), index, || 0);
    let mut rows = 0;
    loop {
        let polled = tail.poll_once().await?;
        rows += polled.rows;
        if polled.rows == 0 && polled.awaited_merges == 0 {
            break;
        }
    }
    tail.hand_over()?;
    Ok(json!({ "rows": rows, "seconds": started.elapsed().as_secs_f64() }))
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The most memory that this process ever held, files that are mapped included.
fn peak_rss_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
