//! Exchanges into the store through its HTTP protocol, and the same number made inside the engine as the limit.

use std::{sync::Arc, time::Instant};

use anyhow::Context as _;
use clap::Args;
use event_store::{ExchangeRow, Store};
use serde_json::{Value, json};
use tokio::task::JoinSet;

#[derive(Clone, Debug, Args)]
pub(crate) struct IngestArgs {
    /// The store.
    #[arg(long)]
    clickhouse: String,
    /// Exchanges.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Exchanges per insert.
    #[arg(long, default_value_t = 20_000)]
    batch: u64,
    /// Inserts at the same time.
    #[arg(long, default_value_t = 2)]
    writers: u64,
}

/// What ClickHouse does without HTTP, rows or our columns' values: the same table filled by itself.
const INSIDE: &str = "INSERT INTO http_exchanges (timestamp, duration_ns, role, service, method, path, route, status_code, protocol, tenant_id, user_id, session_id, trace_id, span_id, event, outcome) \
    SELECT now64(9) + number / 1e9, number % 1000000, 'server', 'gateway', 'POST', concat('/cart/', toString(number % 1000)), '/cart/{id}', 200, 'http/1.1', \
    concat('t', toString(number % 3)), concat('u', toString(number % 50000)), concat('s', toString(number % 50000)), lower(hex(MD5(toString(number)))), lower(hex(cityHash64(number))), \
    if(number % 4 = 0, 'cart', NULL), 'ok' FROM numbers(?)";

pub(crate) async fn run(args: &IngestArgs) -> anyhow::Result<Value> {
    let store = Store::at(&args.clickhouse);
    store.migrate().await?;
    let started = Instant::now();
    store
        .database()
        .query(INSIDE)
        .bind(args.rows)
        .execute()
        .await
        .context("inside the engine")?;
    let inside = started.elapsed().as_secs_f64();
    let args = Arc::new(args.clone());
    let mut writers = JoinSet::new();
    let started = Instant::now();
    for writer in 0..args.writers {
        writers.spawn(write(store.clone(), Arc::clone(&args), writer));
    }
    while let Some(done) = writers.join_next().await {
        done.context("a writer panicked")??;
    }
    let through_http = started.elapsed().as_secs_f64();
    let count: u64 = store
        .database()
        .query("SELECT count() FROM http_exchanges")
        .fetch_one()
        .await?;
    Ok(json!({
        "rows": args.rows, "stored": count, "seconds_inside": inside, "seconds_through_http": through_http,
    }))
}

async fn write(store: Store, args: Arc<IngestArgs>, writer: u64) -> anyhow::Result<()> {
    let batches = args.rows / args.batch;
    for batch in (0..batches).filter(|batch| batch % args.writers == writer) {
        let rows: Vec<ExchangeRow> = (batch * args.batch..(batch + 1) * args.batch)
            .map(row)
            .collect();
        store
            .insert_exchanges(&rows, &format!("bench-{batch}"))
            .await?;
    }
    Ok(())
}

/// Like a shop's traffic: few routes, many users, ids that do not compress.
fn row(number: u64) -> ExchangeRow {
    let text = |text: String| Some(text);
    // The golden ratio's multiples look random to a compressor.
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_nanos());
    ExchangeRow {
        timestamp: i64::try_from(now).unwrap_or(i64::MAX),
        duration_ns: scattered % 10_000_000,
        ttfb_ns: Some(scattered % 9_000_000),
        role: "server".to_owned(),
        service: text("gateway".to_owned()),
        pid: Some(4_711),
        process: text("shop".to_owned()),
        method: text("POST".to_owned()),
        path: text(format!("/cart/{}", scattered % 1_000)),
        route: text("/cart/{id}".to_owned()),
        host: text("shop.example".to_owned()),
        status_code: Some(200),
        protocol: "http/1.1".to_owned(),
        tls: false,
        request_bytes: 300 + scattered % 100,
        response_bytes: 900 + scattered % 300,
        client_address: "127.0.0.1".to_owned(),
        client_port: u16::try_from(scattered % 60_000).unwrap_or(0),
        server_address: "127.0.0.1".to_owned(),
        server_port: 8_080,
        tenant_id: text(format!("t{}", scattered % 3)),
        user_id: text(format!("u{}", scattered % 50_000)),
        session_id: text(format!("s{}", scattered % 50_000)),
        trace_id: text(format!("{scattered:016x}{number:016x}")),
        span_id: text(format!("{scattered:016x}")),
        parent_span_id: None,
        event: number.is_multiple_of(4).then(|| "cart".to_owned()),
        outcome: "ok".to_owned(),
        attributes: vec![("x-device".to_owned(), "phone".to_owned())],
    }
}
