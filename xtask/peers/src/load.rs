//! An open-loop client: every connection sends on its own clock, and latency counts from when a request was due.
//!
//! One thread with a blocking socket per connection: an asynchronous runtime's timer has steps of a millisecond, which
//! is more than most latencies; a sleeping thread is woken within its timer slack, 50 microseconds.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::{Args, value_parser};
use serde_json::{Value, json};

/// Time for all connections to be made before the first request is due.
const START_AFTER: Duration = Duration::from_millis(50);
/// A server that says nothing for this long has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a response, at most.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    /// Where the server listens.
    #[arg(long)]
    server: SocketAddr,
    /// Requests per second, over all connections.
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u32).range(1..))]
    rate: u32,
    /// Connections, each a thread.
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// Seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

pub(crate) fn run(args: &LoadArgs) -> anyhow::Result<Value> {
    let started = Instant::now() + START_AFTER;
    let mut latencies = thread::scope(|scope| {
        let connections: Vec<_> = (0..args.connections)
            .map(|number| scope.spawn(move || one_connection(args, number, started)))
            .collect();
        let mut latencies = Vec::new();
        for connection in connections {
            latencies.extend(connection.join().ok().context("a connection panicked")??);
        }
        anyhow::Ok(latencies)
    })?;
    latencies.sort_unstable();
    Ok(json!({
        "requests": latencies.len(), "seconds": started.elapsed().as_secs_f64(),
        "p50_ms": quantile_ms(&latencies, 50), "p99_ms": quantile_ms(&latencies, 99),
    }))
}

/// Of sorted latencies, the one that this share is not above.
fn quantile_ms(latencies: &[Duration], hundredths: usize) -> Option<f64> {
    let index = latencies.len().saturating_sub(1) * hundredths / 100;
    latencies
        .get(index)
        .map(|latency| latency.as_secs_f64() * 1e3)
}

fn one_connection(args: &LoadArgs, number: u32, started: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(args.server).context("while connecting")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let every = Duration::from_secs(1) * args.connections / args.rate;
    // The connections' clocks are spread evenly, so that the server's queue is of its own making.
    let first = started + every * number / args.connections;
    let count = u64::from(args.rate) * u64::from(args.seconds) / u64::from(args.connections);
    let mut latencies = Vec::with_capacity(usize::try_from(count)?);
    let mut buffer = Vec::new();
    for index in 0..u32::try_from(count)? {
        let due = first + every * index;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n")?;
        read_response(&mut stream, &mut buffer)?;
        latencies.push(due.elapsed());
    }
    Ok(latencies)
}

/// Reads one response of known length.
fn read_response(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
    buffer.clear();
    let mut chunk = [0_u8; 4_096];
    loop {
        let read = stream
            .read(&mut chunk)
            .context("while waiting for a response")?;
        ensure!(read > 0, "the server closed the connection");
        buffer.extend(chunk.iter().take(read));
        ensure!(
            buffer.len() <= RESPONSE_BYTES_MAX,
            "a response of over {RESPONSE_BYTES_MAX} bytes"
        );
        if is_whole(buffer)? {
            return Ok(());
        }
    }
}

fn is_whole(response: &[u8]) -> anyhow::Result<bool> {
    let text = String::from_utf8_lossy(response);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Ok(false);
    };
    ensure!(head.starts_with("HTTP/1.1 200"), "the server says {head}");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    Ok(body.len() >= length.context("a response without content-length")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_whole_with_its_last_byte() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        for cut in 0..whole.len() {
            assert!(!is_whole(&whole[..cut]).unwrap(), "cut at {cut}");
        }
        assert!(is_whole(whole).unwrap());
        assert!(is_whole(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(is_whole(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").is_err());
    }

    #[test]
    fn quantiles_of_a_hundred() {
        let latencies: Vec<Duration> = (1..=101).map(Duration::from_millis).collect();
        assert_eq!(quantile_ms(&latencies, 50), Some(51.0));
        assert_eq!(quantile_ms(&latencies, 99), Some(100.0));
        assert_eq!(quantile_ms(&[], 99), None);
    }
}
