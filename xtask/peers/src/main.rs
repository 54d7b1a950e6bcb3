//! The other side of the benchmarks: a small server, an open-loop client, a writer of exchanges, a reader of recordings.
//!
//! Each prints one JSON object. None of it is shipped.

mod funnel;
mod ingest;
mod live;
mod load;
mod scan;
mod work;

use std::{io::Write as _, net::SocketAddr, process::ExitCode};

use anyhow::Context as _;
use axum::{Router, routing::get};
use clap::{Parser, Subcommand};
use serde_json::json;

use self::work::Work;

/// Peers of the benchmarks.
#[derive(Debug, Parser)]
#[command(name = "bench-peers", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// An axum server on one thread that says hello.
    Serve {
        /// Address to listen on.
        #[arg(long)]
        listen: SocketAddr,
        /// Microseconds of computation per request (a checksum calibrated at start).
        #[arg(long, default_value_t = 0)]
        work_us: u32,
    },
    /// Requests at a fixed rate, whether or not the server keeps up.
    Load(load::LoadArgs),
    /// A plain pass over a recording of the collector.
    Scan(scan::ScanArgs),
    /// The columnar index of a store, built and asked.
    Funnel(funnel::FunnelArgs),
    /// Live funnels in memory, fed on one thread.
    Live(live::LiveArgs),
    /// Made-up exchanges into a store, as fast as it takes them.
    Ingest(ingest::IngestArgs),
}

fn main() -> ExitCode {
    let cli = match weir_settings::start::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("while starting the runtime")
        .and_then(|runtime| runtime.block_on(run(cli.command)));
    weir_settings::end(result, |_| false)
}

async fn run(command: Command) -> anyhow::Result<()> {
    let figures = match command {
        Command::Serve { listen, work_us } => return serve(listen, work_us).await,
        Command::Load(args) => load::run(&args)?,
        Command::Scan(args) => scan::run(&args)?,
        Command::Funnel(args) => funnel::run(&args).await?,
        Command::Live(args) => live::run(&args)?,
        Command::Ingest(args) => ingest::run(&args).await?,
    };
    writeln!(std::io::stdout(), "{figures}").context("while printing the figures")
}

async fn serve(listen: SocketAddr, work_us: u32) -> anyhow::Result<()> {
    let work = Work::calibrated(work_us);
    let figures = json!({ "work_us": work_us, "passes": work.passes() });
    writeln!(std::io::stdout(), "{figures}").context("while printing the calibration")?;
    let hello = move || async move {
        work.run();
        "Hello, world!\n"
    };
    // After calibrating: whoever waits for the port does not disturb it.
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let app = Router::new().route("/", get(hello));
    Ok(axum::serve(listener, app).await?)
}
