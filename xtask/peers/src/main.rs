//! The other side of the benchmarks: a small server, an open-loop client, a writer of exchanges.
//!
//! Each prints one JSON object. None of it is shipped.

mod ingest;
mod load;

use std::{io::Write as _, net::SocketAddr, process::ExitCode};

use anyhow::Context as _;
use axum::{Router, routing::get};
use clap::{Parser, Subcommand};

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
    },
    /// Requests at a fixed rate, whether or not the server keeps up.
    Load(load::LoadArgs),
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
        Command::Serve { listen } => {
            let listener = tokio::net::TcpListener::bind(listen).await?;
            let app = Router::new().route("/", get(|| async { "Hello, world!\n" }));
            return Ok(axum::serve(listener, app).await?);
        }
        Command::Load(args) => load::run(&args).await?,
        Command::Ingest(args) => ingest::run(&args).await?,
    };
    writeln!(std::io::stdout(), "{figures}").context("while printing the figures")
}
