//! `cargo xtask bench`: what watching costs, as ratios against the same server unwatched in the same run.
//!
//! Rounds alternate (unwatched, watched, unwatched, ...), so that a machine whose speed drifts treats both alike;
//! medians are quoted. Figures are for release builds. JSON goes to `target/bench/`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    ports,
    process::{Folder, Running},
    setup,
    shell::{self, output_of, root, say},
};

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Which benchmark; `capture` is the only one so far.
    #[arg(default_value = "capture")]
    name: String,
    /// Pairs of rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load per round.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
}

/// One round of load.
#[derive(Clone, Copy, Debug)]
struct Round {
    requests: f64,
    server_cpu_us: f64,
    collector_cpu_share: f64,
    bpf_ns: f64,
}

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    ensure!(
        args.name == "capture",
        "there is no benchmark `{}`; there is: capture",
        args.name
    );
    setup::make_ready(setup::Purpose::Tests)?;
    say("building for release (some minutes the first time)");
    shell::cargo(&["build", "--release", "--locked", "--package", "collector"])?;
    let collector = binary("collector")?;
    let folder = Folder::create()?;
    let port = ports::free_row(1)?;
    let server = start_server(folder.path(), port)?;
    load(port, 1)?;
    let (mut plain, mut watched, mut timed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        say(&format!("round {round} of {}", args.rounds));
        plain.push(measure(&server, None, port, args.seconds)?);
        let observer = start_collector(&collector, folder.path(), port)?;
        watched.push(measure(&server, Some(&observer), port, args.seconds)?);
        // The kernel's own statistics cost something, so their round is not part of the ratio.
        statistics(true)?;
        timed.push(measure(&server, Some(&observer), port, args.seconds)?);
        statistics(false)?;
        observer.end()?;
    }
    let result = report(&plain, &watched, &timed, args, &collector, folder.path())?;
    let file = root().join("target/bench/capture.json");
    fs::create_dir_all(file.parent().context("the file has a folder")?)
        .context("while creating target/bench")?;
    fs::write(&file, serde_json::to_string_pretty(&result)?)
        .context("while writing the figures")?;
    say(&format!("written to {}", file.display()));
    Ok(())
}

fn report(
    plain: &[Round],
    watched: &[Round],
    timed: &[Round],
    args: &BenchArgs,
    collector: &Path,
    folder: &Path,
) -> anyhow::Result<Value> {
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
    let collector_share = median(watched.iter().map(|round| round.collector_cpu_share));
    let summary: Value = serde_json::from_str(
        &fs::read_to_string(folder.join("summary.json"))
            .context("the collector left no summary")?,
    )?;
    let lost = summary
        .get("lost")
        .and_then(Value::as_u64)
        .context("the summary has no `lost`")?;
    let megabytes = fs::metadata(collector)
        .context("while looking at the binary")?
        .len()
        / 1_000_000;
    say(&format!(
        "server CPU per request   {base:.2} us unwatched, {with:.2} us watched: {:.3} times",
        with / base
    ));
    say(&format!(
        "throughput               {:.0}/s unwatched, {:.0}/s watched",
        rate(plain),
        rate(watched)
    ));
    say(&format!(
        "BPF time per request     {bpf_us:.2} us (kernel.bpf_stats_enabled, both hooks, all packets)"
    ));
    say(&format!(
        "collector                {collector_share:.2} cores, {lost} lost in the last round, {megabytes} MB binary"
    ));
    Ok(json!({
        "benchmark": "capture", "baseline": "the same nginx unwatched, same run",
        "server_cpu_us_per_request": { "unwatched": base, "watched": with, "ratio": with / base },
        "requests_per_second": { "unwatched": rate(plain), "watched": rate(watched) },
        "bpf_us_per_request": bpf_us, "collector_cores": collector_share, "lost_last_round": lost,
        "collector_binary_mb": megabytes, "rounds": args.rounds, "seconds": args.seconds,
        "kernel": output_of("uname", &["-sr"]), "commit": output_of("git", &["rev-parse", "HEAD"]),
    }))
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

fn start_server(folder: &Path, port: u16) -> anyhow::Result<Running> {
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

fn start_collector(program: &Path, folder: &Path, port: u16) -> anyhow::Result<Running> {
    let metrics = format!("127.0.0.1:{}", ports::free_row(1)?);
    let collector = Running::start(
        "collector",
        program,
        &folder.join("collector.log"),
        &[
            "run",
            "--port",
            &port.to_string(),
            "--output",
            "ndjson:/dev/null",
            "--metrics",
            &metrics,
            "--summary",
            &folder.join("summary.json").to_string_lossy(),
        ],
        &[],
    )?;
    collector.wait_for(&metrics, Duration::from_secs(20))?;
    Ok(collector)
}

fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("while looking for the binaries")?;
    let target = own
        .parent()
        .and_then(Path::parent)
        .context("the binary has a folder")?;
    Ok(target.join("release").join(name))
}

fn statistics(on: bool) -> anyhow::Result<()> {
    fs::write(
        "/proc/sys/kernel/bpf_stats_enabled",
        if on { "1" } else { "0" },
    )
    .context("while switching kernel.bpf_stats_enabled (needs root)")
}

/// The process and its children.
fn family(id: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    std::iter::once(id)
        .chain(
            children
                .split_whitespace()
                .filter_map(|child| child.parse().ok()),
        )
        .collect()
}

/// CPU time of a process by the scheduler's count, microseconds, all threads.
fn cpu_us(id: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{id}/task"))
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<f64>().ok())
        .sum::<f64>()
        / 1_000.0
}

/// Run time of the BPF programs that a process holds, nanoseconds, each program once.
fn bpf_ns(id: u32) -> f64 {
    let field = |text: &str, name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok())
    };
    let infos = fs::read_dir(format!("/proc/{id}/fdinfo"))
        .into_iter()
        .flatten()
        .flatten();
    let mut programs: Vec<(u64, f64)> = infos
        .filter_map(|info| fs::read_to_string(info.path()).ok())
        .filter_map(|text| {
            let number = text
                .lines()
                .find_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u64>().ok())?;
            Some((number, field(&text, "run_time_ns:")?))
        })
        .collect();
    programs.sort_by_key(|(number, _)| *number);
    programs.dedup_by_key(|(number, _)| *number);
    programs.iter().map(|(_, ns)| ns).sum()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
