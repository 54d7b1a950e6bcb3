//! What watching costs at saturation, as ratios against the same server unwatched.
//!
//! Rounds alternate (unwatched, watched, unwatched, ...), so that a machine whose speed drifts treats both alike;
//! medians are quoted.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{
    BenchArgs, build, from_summary,
    measure::{bpf_ns, bpf_statistics, cpu_us, family, median},
    start_collector, start_hello,
};
use crate::{
    ports,
    process::{Folder, Running},
    shell::{self, output_of, say},
};

/// One round of load.
#[derive(Clone, Copy, Debug)]
struct Round {
    requests: f64,
    server_cpu_us: f64,
    collector_cpu_share: f64,
    bpf_ns: f64,
}

/// Two servers: nginx, whose requests are the cheapest, and an axum server, whose are like a service's.
pub(super) fn run(args: &BenchArgs) -> anyhow::Result<Value> {
    build(&["collector", "bench-peers"])?;
    let axum = against(args, "axum, one thread", start_hello)?;
    let nginx = against(args, "nginx, one worker", start_nginx)?;
    Ok(json!({
        "baseline": "the same server unwatched, same run", "axum": axum, "nginx": nginx,
        "rounds": args.rounds, "seconds": args.seconds,
    }))
}

fn against(
    args: &BenchArgs,
    name: &str,
    start: impl Fn(&Path, u16) -> anyhow::Result<Running>,
) -> anyhow::Result<Value> {
    let folder = Folder::create()?;
    let port = ports::free_row(1)?;
    let server = start(folder.path(), port)?;
    load(port, 1)?;
    let (mut plain, mut watched, mut timed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        say(&format!("{name}: round {round} of {}", args.rounds));
        plain.push(measure(&server, None, port, args.seconds)?);
        let observer = start_collector(folder.path(), port)?;
        watched.push(measure(&server, Some(&observer), port, args.seconds)?);
        // The kernel's own statistics cost something, so their round is not part of the ratio.
        bpf_statistics(true)?;
        timed.push(measure(&server, Some(&observer), port, args.seconds)?);
        bpf_statistics(false)?;
        observer.end()?;
    }
    let lost = from_summary(folder.path(), "/lost")?;
    Ok(report(args, name, (&plain, &watched, &timed), lost))
}

fn report(
    args: &BenchArgs,
    name: &str,
    (plain, watched, timed): (&[Round], &[Round], &[Round]),
    lost: u64,
) -> Value {
    let cpu = |rounds: &[Round]| {
        median(
            rounds
                .iter()
                .map(|round| round.server_cpu_us / round.requests),
        )
    };
    let rate = |rounds: &[Round]| {
        median(
            rounds
                .iter()
                .map(|round| round.requests / f64::from(args.seconds)),
        )
    };
    let (base, with) = (cpu(plain), cpu(watched));
    let bpf_us = median(
        timed
            .iter()
            .map(|round| round.bpf_ns / round.requests / 1_000.0),
    );
    let collector_cores = median(watched.iter().map(|round| round.collector_cpu_share));
    let (rate_base, rate_with) = (rate(plain), rate(watched));
    say(name);
    say(&format!(
        "  server CPU per request  {base:.2} us unwatched, {with:.2} us watched: {:.3} times",
        with / base
    ));
    say(&format!(
        "  throughput              {rate_base:.0}/s unwatched, {rate_with:.0}/s watched"
    ));
    say(&format!(
        "  BPF time per request    {bpf_us:.2} us (kernel.bpf_stats_enabled, both hooks, all packets)"
    ));
    say(&format!(
        "  collector               {collector_cores:.2} cores, {lost} records lost in the last round"
    ));
    json!({
        "server_cpu_us_per_request": { "unwatched": base, "watched": with, "ratio": with / base },
        "requests_per_second": { "unwatched": rate_base, "watched": rate_with },
        "bpf_us_per_request": bpf_us, "collector_cores": collector_cores, "lost_last_round": lost,
    })
}

/// Loads the server for a while and reads what it cost.
fn measure(
    server: &Running,
    watcher: Option<&Running>,
    port: u16,
    seconds: u32,
) -> anyhow::Result<Round> {
    let server_ids = family(server.id());
    let cpu = |ids: &[u32]| ids.iter().map(|id| cpu_us(*id)).sum::<f64>();
    let watcher_ids: Vec<u32> = watcher.map(Running::id).into_iter().collect();
    let before = (
        cpu(&server_ids),
        cpu(&watcher_ids),
        watcher.map_or(0.0, |watcher| bpf_ns(watcher.id())),
    );
    let started = Instant::now();
    let requests = load(port, seconds)?;
    let wall_us = started.elapsed().as_secs_f64() * 1e6;
    let after = (
        cpu(&server_ids),
        cpu(&watcher_ids),
        watcher.map_or(0.0, |watcher| bpf_ns(watcher.id())),
    );
    Ok(Round {
        requests,
        server_cpu_us: after.0 - before.0,
        collector_cpu_share: (after.1 - before.1) / wall_us,
        bpf_ns: after.2 - before.2,
    })
}

/// Requests that wrk completed.
fn load(port: u16, seconds: u32) -> anyhow::Result<f64> {
    let text = output_of(
        "wrk",
        &[
            "-t1",
            "-c16",
            &format!("-d{seconds}s"),
            &format!("http://127.0.0.1:{port}/"),
        ],
    )
    .context("wrk failed")?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let at = words
        .iter()
        .position(|word| *word == "requests")
        .context("wrk printed no count")?;
    let count = at
        .checked_sub(1)
        .and_then(|before| words.get(before))
        .context("wrk printed no count")?;
    count
        .parse()
        .context("wrk printed a count that is no number")
}

fn start_nginx(folder: &Path, port: u16) -> anyhow::Result<Running> {
    let at = folder.display();
    let config = format!(
        "daemon off; user root; worker_processes 1; pid {at}/nginx.pid; error_log {at}/error.log;
         events {{ worker_connections 256; }}
         http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {at}/b; proxy_temp_path {at}/p;
           server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"Hello, world!\\n\"; }} }} }}"
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, config).context("while writing the server's configuration")?;
    let program = shell::find_program("nginx").context("nginx is missing: cargo xtask setup")?;
    let server = Running::start(
        "nginx",
        &program,
        &folder.join("nginx.log"),
        &["-c", &path.to_string_lossy()],
        &[],
    )?;
    server.wait_for(&format!("127.0.0.1:{port}"), Duration::from_secs(10))?;
    Ok(server)
}
