//! Funnels over the columnar index, against the engine's own `windowFunnel` over the same rows in the same run.

use std::{num::NonZero, path::PathBuf, time::Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use event_store::Store;
use funnel_engine::{FunnelDefinition, FunnelResult, StoreIndex, run_on_index, tail::Tail};
use serde_json::{Value, json};

#[derive(Debug, Args)]
pub(crate) struct FunnelArgs {
    /// The store, empty.
    #[arg(long)]
    clickhouse: String,
    /// Folder of the index.
    #[arg(long)]
    path: PathBuf,
    /// Events of each of the two tenants.
    #[arg(long, default_value_t = 20_000_000)]
    events: u64,
    /// Events per user.
    #[arg(long, default_value_t = 10)]
    per_user: u64,
    /// How often each question is asked; medians are told.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Users of sessions of an hour within thirty days; times are whole milliseconds. Binds: tenant, users, names, events.
const FILL: &str = "INSERT INTO events (tenant_id, user_id, timestamp, event, duration_ns, properties) \
    SELECT ?, concat('u', toString(user)), \
        fromUnixTimestamp64Milli(toInt64(1767225600000 + cityHash64(user, number % 3) % 2592000000 + cityHash64(number, 1) % 3600000)), \
        concat('e', toString(cityHash64(number, 2) % ?)), 1000000, map() \
    FROM (SELECT number, cityHash64(number) % ? AS user FROM numbers(?))";

/// The two tenants: how many event names, and the step counts of the funnels asked.
const TENANTS: [(&str, u64, &[usize]); 2] = [("few", 3, &[3]), ("many", 40, &[3, 2, 4, 8, 16, 32])];

pub(crate) async fn run(args: &FunnelArgs) -> anyhow::Result<Value> {
    let store = Store::at(&args.clickhouse);
    store.migrate().await?;
    for (tenant, names, _) in TENANTS {
        let fill = store.database().query(FILL).bind(tenant).bind(names);
        fill.bind(args.events / args.per_user)
            .bind(args.events)
            .execute()
            .await?;
    }
    store
        .database()
        .query("OPTIMIZE TABLE events FINAL")
        .execute()
        .await?;
    let mut figures = build(args, &store).await?;
    let (index, _) = StoreIndex::open(&args.path)?;
    let mut asked = Vec::new();
    for (tenant, names, lengths) in TENANTS {
        for (number, steps) in lengths.iter().enumerate() {
            let definition = definition(*steps, &[]);
            let mut line = ours(&index, tenant, &definition, args.rounds)?;
            if number == 0 {
                let theirs = window_funnel(&store, tenant, *steps, names > 3, args.rounds).await?;
                ensure!(
                    line.counts == theirs.counts,
                    "{:?} are not {:?}",
                    line.counts,
                    theirs.counts
                );
                line.baseline = Some(theirs.seconds);
            }
            asked.push(line.json(tenant, &definition));
        }
    }
    let definition = definition(10, &[(10, 1, 3), (11, 2, 10)]);
    let mut line = ours(&index, "many", &definition, args.rounds)?;
    // It knows no exclusions: any SQL that does has more to do.
    line.baseline = Some(
        window_funnel(&store, "many", 10, true, args.rounds)
            .await?
            .seconds,
    );
    asked.push(line.json("many", &definition));
    if let Some(figures) = figures.as_object_mut() {
        figures.insert("asked".to_owned(), asked.into());
        figures.insert("peak_rss_kib".to_owned(), peak_rss_kib().into());
    }
    Ok(figures)
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
    let filled = started.elapsed().as_secs_f64();
    drop(tail);
    let (mut index, _) = StoreIndex::open(&args.path)?;
    let started = Instant::now();
    index.compact()?;
    let stats = index.index().stats();
    Ok(json!({
        "rows": rows, "seconds_to_fill": filled, "seconds_to_compact": started.elapsed().as_secs_f64(),
        "events": stats.events, "users": stats.users, "segments": stats.segments, "bytes": stats.bytes(),
        "user_bytes": stats.user_bytes,
    }))
}

fn definition(steps: usize, exclusions: &[(usize, usize, usize)]) -> FunnelDefinition {
    let step = |step: usize| json!({ "name": step.to_string(), "event": format!("e{step}") });
    let exclusion = |(name, from, to): &(usize, usize, usize)| json!({ "event": format!("e{name}"), "from_step": from, "to_step": to });
    let json = json!({
        "name": format!("{steps} steps, {} exclusions", exclusions.len()), "window": "1h",
        "steps": (0..steps).map(step).collect::<Vec<_>>(),
        "exclusions": exclusions.iter().map(exclusion).collect::<Vec<_>>(),
    });
    match FunnelDefinition::parse(&json.to_string()) {
        Ok(definition) => definition,
        Err(error) => unreachable!("{error}"),
    }
}

struct Line {
    counts: Vec<u64>,
    /// By one thread, and by one per core.
    seconds: [f64; 2],
    baseline: Option<f64>,
}

struct Theirs {
    counts: Vec<u64>,
    seconds: f64,
}

impl Line {
    fn json(&self, tenant: &str, definition: &FunnelDefinition) -> Value {
        let [one, all] = self.seconds;
        json!({
            "tenant": tenant, "definition": definition.name, "counts": self.counts, "seconds_one_thread": one,
            "seconds": all, "baseline_seconds": self.baseline, "ratio": self.baseline.map(|baseline| baseline / all),
        })
    }
}

fn ours(
    index: &StoreIndex,
    tenant: &str,
    definition: &FunnelDefinition,
    rounds: usize,
) -> anyhow::Result<Line> {
    let snapshot = index.index().snapshot(Some(tenant))?;
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let ask = |threads: usize| -> anyhow::Result<(f64, FunnelResult)> {
        let mut seconds = Vec::new();
        let mut result = run_on_index(definition, &snapshot, threads)?;
        for _ in 0..rounds {
            let started = Instant::now();
            result = run_on_index(definition, &snapshot, threads)?;
            seconds.push(started.elapsed().as_secs_f64());
        }
        Ok((median(seconds), result))
    };
    let (one, _) = ask(1)?;
    let (all, result) = ask(cores)?;
    Ok(Line {
        counts: result.steps.iter().map(|step| step.count).collect(),
        seconds: [one, all],
        baseline: None,
    })
}

/// The engine's own way, with the settings that make it fastest on this table; the faster of reading in order and not.
async fn window_funnel(
    store: &Store,
    tenant: &str,
    steps: usize,
    filtered: bool,
    rounds: usize,
) -> anyhow::Result<Theirs> {
    let column = |of: &dyn Fn(usize) -> String| (0..steps).map(of).collect::<Vec<_>>().join(", ");
    let conditions = column(&|step| format!("event = 'e{step}'"));
    let names = column(&|step| format!("'e{step}'"));
    let only = if filtered {
        format!("AND event IN ({names})")
    } else {
        String::new()
    };
    let reached = column(&|step| format!("countIf(level > {step})"));
    let mut best: Option<Theirs> = None;
    for in_order in [0, 1] {
        let text = format!(
            "SELECT [{reached}] AS counts FROM (SELECT windowFunnel(3600000)(toUInt64(toUnixTimestamp64Milli(timestamp)), {conditions}) AS level \
             FROM events WHERE tenant_id = ? {only} GROUP BY tenant_id, user_id) \
             SETTINGS optimize_aggregation_in_order = {in_order}"
        );
        let mut seconds = Vec::new();
        let mut counts: Vec<u64> = Vec::new();
        for round in 0..=rounds {
            let started = Instant::now();
            counts = store
                .database()
                .query(&text)
                .bind(tenant)
                .fetch_one()
                .await?;
            // The first is to warm up.
            if round > 0 {
                seconds.push(started.elapsed().as_secs_f64());
            }
        }
        let seconds = median(seconds);
        if best.as_ref().is_none_or(|best| seconds < best.seconds) {
            best = Some(Theirs { counts, seconds });
        }
    }
    best.context("no round was run")
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
