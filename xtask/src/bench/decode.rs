//! How fast the collector decodes: a recorded capture replayed, against a plain pass over the same bytes.
//!
//! Recorded from real traffic of this run, kept in memory. Replay is one thread, so exchanges per second of its CPU
//! time are exchanges per second and core, whoever else runs.

use std::{path::Path, process::Command, time::Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};

use super::{
    BenchArgs, binary, build, from_summary,
    load::wrk,
    measure::{ended_children_cpu_us, median},
    scratch::{self, MemoryFile},
    start_collector_with, start_hello,
    tax::met,
};
use crate::{
    ports,
    process::Folder,
    shell::{output_of, say},
};

const RECORD_SECONDS: u32 = 8;
const GOAL: f64 = 1_000_000.0;

/// What the requests carry besides their first line and `Host`.
const TRAFFIC: [(&str, &[&str]); 2] = [
    ("bare", &[]),
    (
        "browser",
        &[
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
            "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
            "Accept-Language: en-GB,en;q=0.9,de;q=0.7",
            "Accept-Encoding: gzip, deflate, br, zstd",
            "Cookie: session=5f0c1d8e9a7b4c3d2e1f00112233445566778899aabbccdd; theme=dark; consent=yes",
            "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ],
    ),
];

/// One pass of the collector over a recording.
#[derive(Clone, Copy, Debug)]
struct Replayed {
    records: u64,
    exchanges: u64,
    cpu_s: f64,
    wall_s: f64,
}

pub(super) fn run(args: &BenchArgs) -> anyhow::Result<Value> {
    build(&["collector", "bench-peers"])?;
    let mut traffic = Map::new();
    for (name, headers) in TRAFFIC {
        traffic.insert(name.to_owned(), measure(args, name, headers)?);
    }
    Ok(json!({
        "baseline": "a plain pass over the same file: every record read, its bytes summed up",
        "recording": format!("a file in {}", scratch::folder().display()),
        "rounds": args.rounds, "traffic": traffic,
    }))
}

fn measure(args: &BenchArgs, name: &str, headers: &[&str]) -> anyhow::Result<Value> {
    let recording = MemoryFile::named("recording");
    let recorded = record(recording.path(), headers)?;
    let (mut plain, mut counted, mut written) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        say(&format!("{name}: round {round} of {}", args.rounds));
        plain.push(scan(recording.path())?);
        counted.push(replay(recording.path(), "none")?);
        written.push(replay(recording.path(), "ndjson:/dev/null")?);
    }
    let records = plain.first().map_or(0, |(records, _)| *records);
    for replayed in counted.iter().chain(&written) {
        ensure!(
            replayed.exchanges == recorded && replayed.records == records,
            "{recorded} exchanges in {records} records were captured, the replay says {} in {}",
            replayed.exchanges,
            replayed.records,
        );
    }
    let bytes = std::fs::metadata(recording.path())?.len();
    report(
        name,
        (recorded, bytes),
        median(plain.iter().map(|(_, seconds)| *seconds)),
        (&counted, &written),
    )
}

fn report(
    name: &str,
    (exchanges, bytes): (u64, u64),
    scan_s: f64,
    (counted, written): (&[Replayed], &[Replayed]),
) -> anyhow::Result<Value> {
    let (exchanges, bytes) = (small(exchanges)?, small(bytes)?);
    let per_core = |list: &[Replayed]| exchanges / median(list.iter().map(|it| it.cpu_s));
    let by_clock = |list: &[Replayed]| exchanges / median(list.iter().map(|it| it.wall_s));
    let (decoded, with_ndjson, limit) = (per_core(counted), per_core(written), exchanges / scan_s);
    say(&format!(
        "{name}: {exchanges:.0} exchanges of {:.0} bytes recorded",
        bytes / exchanges
    ));
    say(&format!(
        "  decoded                  {decoded:.0} exchanges/s per core (goal {GOAL:.0}: {}), {:.0}/s by the clock",
        met(decoded >= GOAL),
        by_clock(counted),
    ));
    say(&format!(
        "  and written as NDJSON    {with_ndjson:.0} exchanges/s per core, {:.0}/s by the clock",
        by_clock(written),
    ));
    say(&format!(
        "  a plain pass             {limit:.0} exchanges/s, {:.2} GB/s: decoding runs at {:.3} of it",
        bytes / scan_s / 1e9,
        decoded / limit,
    ));
    Ok(json!({
        "exchanges": exchanges, "bytes": bytes, "bytes_per_exchange": bytes / exchanges,
        "exchanges_per_second_per_core": {
            "decoded": decoded, "written_as_ndjson": with_ndjson, "plain_pass": limit,
            "ratio": decoded / limit, "goal": { "at_least": GOAL, "met": decoded >= GOAL },
        },
        "exchanges_per_second_by_the_clock": { "decoded": by_clock(counted), "written_as_ndjson": by_clock(written) },
        "plain_pass_bytes_per_second": bytes / scan_s,
    }))
}

/// A count as a number to divide by.
fn small(count: u64) -> anyhow::Result<f64> {
    let count = u32::try_from(count).context("a recording is less than 4 GB")?;
    Ok(f64::from(count))
}

/// Records wrk's traffic of the hello server; gives the exchanges in it.
fn record(path: &Path, headers: &[&str]) -> anyhow::Result<u64> {
    let folder = Folder::create()?;
    let port = ports::free_row(1)?;
    let _server = start_hello(folder.path(), port)?;
    let file = path.to_string_lossy();
    let collector = start_collector_with(folder.path(), port, &["--record", &file])?;
    let answers = wrk(port, RECORD_SECONDS, headers)?;
    collector.end()?;
    let lost = from_summary(folder.path(), "/lost")?;
    say(&format!(
        "recorded {RECORD_SECONDS} s of traffic: {} requests answered, {lost} records lost",
        answers.requests
    ));
    from_summary(folder.path(), "/ledger/exchanges")
}

/// Records and seconds of a plain pass.
fn scan(recording: &Path) -> anyhow::Result<(u64, f64)> {
    let program = binary("bench-peers")?;
    let text = output_of(
        &program.to_string_lossy(),
        &["scan", &recording.to_string_lossy()],
    )
    .context("the plain pass failed")?;
    let figures: Value = serde_json::from_str(&text)?;
    let records = figures.get("records").and_then(Value::as_u64);
    let seconds = figures.get("seconds").and_then(Value::as_f64);
    records
        .zip(seconds)
        .context("the plain pass printed no figures")
}

fn replay(recording: &Path, output: &str) -> anyhow::Result<Replayed> {
    let (cpu_before, started) = (ended_children_cpu_us(), Instant::now());
    let ran = Command::new(binary("collector")?)
        .arg("replay")
        .arg(recording)
        .args(["--output", output, "--log-format", "json"])
        .env("WEIR_LOG", "info")
        .output()
        .context("while starting the collector")?;
    let wall_s = started.elapsed().as_secs_f64();
    let cpu_s = (ended_children_cpu_us() - cpu_before) / 1e6;
    let log = String::from_utf8_lossy(&ran.stderr);
    ensure!(
        ran.status.success(),
        "`collector replay --output {output}` failed:\n{log}"
    );
    let (records, exchanges) =
        from_log(&log).with_context(|| format!("the replay counted nothing:\n{log}"))?;
    Ok(Replayed {
        records,
        exchanges,
        cpu_s,
        wall_s,
    })
}

/// Records and exchanges by the replay's closing line.
fn from_log(log: &str) -> Option<(u64, u64)> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|line| {
            let fields = line.get("fields")?;
            let number = |name: &str| fields.get(name).and_then(Value::as_u64);
            (fields.get("message")?.as_str()? == "replayed")
                .then(|| number("records").zip(number("exchanges")))?
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_is_found() {
        let log = "{\"level\":\"WARN\",\"fields\":{\"message\":\"odd\",\"records\":1,\"exchanges\":1}}\nno json\n\
            {\"level\":\"INFO\",\"fields\":{\"message\":\"replayed\",\"records\":20,\"exchanges\":10,\"lost\":0}}\n";
        assert_eq!(from_log(log), Some((20, 10)));
        assert_eq!(from_log("{\"fields\":{\"message\":\"replayed\"}}"), None);
        assert_eq!(from_log(""), None);
    }
}
