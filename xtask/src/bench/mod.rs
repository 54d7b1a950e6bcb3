//! `cargo xtask bench [NAME]`: figures as ratios against a baseline measured in the same run.
//!
//! Release builds; JSON goes to `target/bench/NAME.json`. Speed is measured here and never in timed tests.

mod baseline;
mod capture;
mod decode;
mod first_funnel;
mod funnel;
mod ingest;
mod live;
mod load;
mod measure;
mod scratch;
mod size;
mod steady;
mod tax;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;

use crate::{
    ports,
    process::{Folder, Running},
    setup,
    shell::{self, output_of, root, say},
};

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// capture, decode, steady, ingest, funnel, live, first-funnel, size, or all of them.
    #[arg(default_value = "all")]
    name: String,
    /// Rounds, in which the sides compared take turns (capture, decode).
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load per turn (capture).
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Events of each of the two large shops (funnel).
    #[arg(long, default_value_t = 20_000_000)]
    events: u64,
    /// Only one large shop, with three event names: for very many events (funnel).
    #[arg(long)]
    only_few: bool,
}

const NAMES: [&str; 8] = [
    "capture",
    "decode",
    "steady",
    "ingest",
    "funnel",
    "live",
    "first-funnel",
    "size",
];

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let names: Vec<&str> = match args.name.as_str() {
        "all" => NAMES.to_vec(),
        name if NAMES.contains(&name) => vec![name],
        name => bail!(
            "there is no benchmark `{name}`; there are: all, {}",
            NAMES.join(", ")
        ),
    };
    setup::make_ready(setup::Purpose::Tests)?;
    for name in names {
        say(&format!("--- {name}"));
        let mut figures = match name {
            "capture" => capture::run(args)?,
            "decode" => decode::run(args)?,
            "steady" => steady::run()?,
            "ingest" => ingest::run()?,
            "funnel" => funnel::run(args.events, args.only_few)?,
            "live" => live::run()?,
            "first-funnel" => first_funnel::run()?,
            _ => size::run()?,
        };
        if let Some(figures) = figures.as_object_mut() {
            let kernel = output_of("uname", &["-sr"]);
            let commit = output_of("git", &["rev-parse", "HEAD"]);
            figures.extend([
                ("benchmark".to_owned(), name.into()),
                ("kernel".to_owned(), kernel.into()),
                ("commit".to_owned(), commit.into()),
            ]);
        }
        write(name, &figures)?;
    }
    Ok(())
}

fn write(name: &str, figures: &Value) -> anyhow::Result<()> {
    let folder = root().join("target/bench");
    fs::create_dir_all(&folder).context("while creating target/bench")?;
    let file = folder.join(format!("{name}.json"));
    fs::write(&file, serde_json::to_string_pretty(figures)?).context("while writing the figures")
}

/// Starts an embedded store on a free port, with everything it writes in `folder`; its address.
fn start_store(folder: &Folder) -> anyhow::Result<(Running, String)> {
    let address = format!("127.0.0.1:{}", ports::free_row(1)?);
    let store = Running::start(
        "event-store",
        &binary("event-store")?,
        &folder.path().join("store.log"),
        &[
            "serve",
            "--path",
            &folder.path().join("store").to_string_lossy(),
            "--listen",
            &address,
            "--engine",
            &setup::engine_path().to_string_lossy(),
        ],
        &[],
    )?;
    store.wait_for(&address, Duration::from_mins(1))?;
    Ok((store, format!("http://{address}")))
}

/// Builds packages for release.
fn build(packages: &[&str]) -> anyhow::Result<()> {
    say("building for release (some minutes the first time)");
    let packages = packages.iter().flat_map(|name| ["--package", name]);
    let args: Vec<&str> = ["build", "--release", "--locked"]
        .into_iter()
        .chain(packages)
        .collect();
    shell::cargo(&args)
}

fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("while looking for the binaries")?;
    let target = own
        .parent()
        .and_then(Path::parent)
        .context("the binary has a folder")?;
    Ok(target.join("release").join(name))
}

/// A collector that watches a port, and leaves its summary in the folder.
fn start_collector(folder: &Path, port: u16) -> anyhow::Result<Running> {
    start_collector_with(folder, port, &[])
}

/// The same with further arguments.
fn start_collector_with(folder: &Path, port: u16, further: &[&str]) -> anyhow::Result<Running> {
    let metrics = format!("127.0.0.1:{}", ports::free_row(1)?);
    let (port, summary) = (port.to_string(), folder.join("summary.json"));
    let summary = summary.to_string_lossy();
    let key = folder.join("pseudonym.key");
    let key = key.to_string_lossy();
    let mut args = vec![
        "run",
        "--port",
        &port,
        "--output",
        "ndjson:/dev/null",
        "--metrics",
        &metrics,
        "--summary",
        &summary,
        "--pseudonym-key",
        &key,
    ];
    args.extend(further);
    let collector = Running::start(
        "collector",
        &binary("collector")?,
        &folder.join("collector.log"),
        &args,
        &[],
    )?;
    collector.wait_for(&metrics, Duration::from_secs(20))?;
    Ok(collector)
}

/// The axum server that says hello.
fn start_hello(folder: &Path, port: u16) -> anyhow::Result<Running> {
    start_hello_after(folder, port, 0)
}

/// The same after so many microseconds of computation per request.
fn start_hello_after(folder: &Path, port: u16, work_us: u32) -> anyhow::Result<Running> {
    let (address, work_us) = (format!("127.0.0.1:{port}"), work_us.to_string());
    let program = binary("bench-peers")?;
    let log = folder.join("hello.log");
    let server = Running::start(
        "hello",
        &program,
        &log,
        &["serve", "--listen", &address, "--work-us", &work_us],
        &[],
    )?;
    server.wait_for(&address, Duration::from_secs(10))?;
    Ok(server)
}

/// A number of the collector's summary, by its path.
fn from_summary(folder: &Path, pointer: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(folder.join("summary.json"));
    let summary: Value = serde_json::from_str(&text.context("the collector left no summary")?)?;
    let number = summary.pointer(pointer).and_then(Value::as_u64);
    number.with_context(|| format!("the collector's summary has no {pointer}"))
}
