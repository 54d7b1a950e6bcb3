//! An open-loop client: every connection sends on its own clock, and latency counts from when a request was due.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until},
};

#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    /// Where the server listens.
    #[arg(long)]
    server: SocketAddr,
    /// Requests per second, over all connections.
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
    /// Connections.
    #[arg(long, default_value_t = 50)]
    connections: u32,
    /// Seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

pub(crate) async fn run(args: &LoadArgs) -> anyhow::Result<Value> {
    let mut connections = JoinSet::new();
    let started = Instant::now();
    for number in 0..args.connections {
        connections.spawn(one_connection(args.clone(), number, started));
    }
    let mut latencies = Vec::new();
    while let Some(done) = connections.join_next().await {
        latencies.extend(done.context("a connection panicked")??);
    }
    latencies.sort_unstable();
    let quantile = |hundredths: usize| {
        let index = latencies.len().saturating_sub(1) * hundredths / 100;
        latencies
            .get(index)
            .map(Duration::as_secs_f64)
            .map(|seconds| seconds * 1e3)
    };
    Ok(json!({
        "requests": latencies.len(), "seconds": started.elapsed().as_secs_f64(),
        "p50_ms": quantile(50), "p99_ms": quantile(99),
    }))
}

async fn one_connection(
    args: LoadArgs,
    number: u32,
    started: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(args.server)
        .await
        .context("while connecting")?;
    stream.set_nodelay(true)?;
    let every = Duration::from_secs(1) * args.connections / args.rate;
    let first = started + every * number / args.connections;
    let count = u64::from(args.rate) * u64::from(args.seconds) / u64::from(args.connections);
    let mut latencies = Vec::with_capacity(usize::try_from(count)?);
    let mut buffer = Vec::new();
    for index in 0..u32::try_from(count)? {
        let due = first + every * index;
        sleep_until(due).await;
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n")
            .await?;
        read_response(&mut stream, &mut buffer).await?;
        latencies.push(due.elapsed());
    }
    Ok(latencies)
}

/// Reads one response of known length.
async fn read_response(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
    buffer.clear();
    loop {
        ensure!(
            stream.read_buf(buffer).await? > 0,
            "the server closed the connection"
        );
        let text = String::from_utf8_lossy(buffer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() >= length.context("a response without content-length")? {
            return Ok(());
        }
    }
}
