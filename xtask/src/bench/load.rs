//! The two loads: as fast as the server can (wrk), and a fixed rate whether or not the server keeps up.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::binary;
use crate::shell::output_of;

const CONNECTIONS: u32 = 16;

/// How a server is loaded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    /// wrk: every connection asks again as soon as it is answered. Latency is the server's queue.
    Saturating,
    /// The open-loop client: latency counts from when a request was due.
    Steady {
        /// Requests per second, over all connections.
        rate: u32,
    },
}

/// What the client saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Answers {
    /// Requests answered.
    pub(super) requests: u32,
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

impl Load {
    /// Loads the server on this port for a while; an error when a request fails.
    pub(super) fn run(self, port: u16, seconds: u32) -> anyhow::Result<Answers> {
        match self {
            Self::Saturating => wrk(port, seconds, &[]),
            Self::Steady { rate } => open_loop(port, seconds, rate),
        }
    }
}

/// Runs wrk on one thread, with these header lines added to each request.
pub(super) fn wrk(port: u16, seconds: u32, headers: &[&str]) -> anyhow::Result<Answers> {
    let (connections, duration) = (format!("-c{CONNECTIONS}"), format!("-d{seconds}s"));
    let url = format!("http://127.0.0.1:{port}/");
    let mut args = vec!["-t1", &connections, &duration, "--latency"];
    args.extend(headers.iter().flat_map(|header| ["-H", header]));
    args.push(&url);
    let text = output_of("wrk", &args).context("wrk failed")?;
    ensure!(
        !text.contains("Socket errors:") && !text.contains("Non-2xx"),
        "requests failed under load; wrk says:\n{text}"
    );
    from_wrk(&text).with_context(|| format!("wrk printed no figures but:\n{text}"))
}

fn from_wrk(text: &str) -> Option<Answers> {
    let after = |label: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(label))
            .map(str::trim)
    };
    let (requests, _) = text
        .lines()
        .find_map(|line| line.split_once(" requests in "))?;
    Some(Answers {
        requests: requests.trim().parse().ok()?,
        per_second: after("Requests/sec:")?.parse().ok()?,
        p50_us: microseconds(after("50%")?)?,
        p99_us: microseconds(after("99%")?)?,
    })
}

/// A time as wrk writes it: `124.00us`, `3.85ms`, `1.02s`, `1.00m`.
fn microseconds(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 60e6)];
    units.iter().find_map(|(unit, scale)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * scale)
    })
}

fn open_loop(port: u16, seconds: u32, rate: u32) -> anyhow::Result<Answers> {
    let server = format!("127.0.0.1:{port}");
    let numbers = [CONNECTIONS, rate, seconds].map(|number| number.to_string());
    let [connections, rate, seconds] = &numbers;
    let args = [
        "load",
        "--server",
        &server,
        "--connections",
        connections,
        "--rate",
        rate,
        "--seconds",
        seconds,
    ];
    let text =
        output_of(&binary("bench-peers")?.to_string_lossy(), &args).context("the client failed")?;
    let figures: Value = serde_json::from_str(&text)?;
    let number = |name: &str| {
        figures
            .get(name)
            .and_then(Value::as_f64)
            .with_context(|| format!("the client printed no {name}"))
    };
    let requests = figures.get("requests").and_then(Value::as_u64);
    let requests = u32::try_from(requests.context("the client printed no count")?)?;
    Ok(Answers {
        requests,
        per_second: f64::from(requests) / number("seconds")?,
        p50_us: number("p50_ms")? * 1e3,
        p99_us: number("p99_ms")? * 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Running 2s test @ http://127.0.0.1:18998/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.83ms    1.21ms   6.92ms   58.47%
    Req/Sec     5.66k     2.85k   14.47k    90.48%
  Latency Distribution
     50%  321.00us
     75%    3.46ms
     90%    4.23ms
     99%    5.25ms
  11845 requests in 2.10s, 1.48MB read
Requests/sec:   5641.33
Transfer/sec:    721.69KB";

    #[test]
    fn figures_of_wrk() {
        let expected = Answers {
            requests: 11_845,
            per_second: 5_641.33,
            p50_us: 321.0,
            p99_us: 5_250.0,
        };
        assert_eq!(from_wrk(TEXT), Some(expected));
        assert_eq!(from_wrk(&TEXT.replace("99%", "")), None);
        assert_eq!(from_wrk(""), None);
    }

    #[test]
    fn times_of_wrk() {
        assert_eq!(microseconds("124.00us"), Some(124.0));
        assert_eq!(microseconds("1.50s"), Some(1_500_000.0));
        assert_eq!(microseconds("2.00m"), Some(120_000_000.0));
        assert_eq!(microseconds("58.47%"), None);
    }
}
