//! The `event-store` command.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use event_store::{
    StoreLogin,
    serve::{Credentials, Engine, serve},
};
use tokio::net::TcpListener;
use weir_settings::BadUsage;

/// The embedded ClickHouse, and the schema of any ClickHouse that Weir uses.
#[derive(Debug, Parser)]
#[command(name = "event-store", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the ClickHouse HTTP protocol from a data folder.
    Serve(ServeArgs),
    /// Create or update Weir's tables in a ClickHouse.
    Migrate {
        /// Address of the ClickHouse.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8123")]
        clickhouse: String,
        #[command(flatten)]
        login: StoreLogin,
    },
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Data folder; created when missing.
    #[arg(long, value_name = "DIR")]
    path: PathBuf,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8123")]
    listen: SocketAddr,
    /// The engine library, libchdb.so; default: where `cargo xtask setup` puts it.
    #[arg(long, env = "WEIR_ENGINE", value_name = "FILE")]
    engine: Option<PathBuf>,
    /// The one user.
    #[arg(long, default_value = "default")]
    user: String,
    /// Its password; required when listening beyond this host.
    #[arg(
        long,
        env = "WEIR_STORE_PASSWORD",
        default_value = "",
        hide_env_values = true
    )]
    password: String,
}

fn main() -> ExitCode {
    let cli = match weir_settings::start::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let result = weir_settings::block_on(async {
        match cli.command {
            Command::Serve(args) => run_server(args).await,
            Command::Migrate { clickhouse, login } => {
                Ok(login.store(&clickhouse).migrate().await?)
            }
        }
    });
    weir_settings::end(result, |_| false)
}

async fn run_server(args: ServeArgs) -> anyhow::Result<()> {
    if !args.listen.ip().is_loopback() && args.password.is_empty() {
        return Err(BadUsage(format!(
            "refusing to listen on {} without a password: give WEIR_STORE_PASSWORD, or listen on 127.0.0.1",
            args.listen
        ))
        .into());
    }
    std::fs::create_dir_all(&args.path)
        .with_context(|| format!("while creating {}", args.path.display()))?;
    let library = args.engine.unwrap_or_else(default_engine);
    let engine = Engine::open(&library, &args.path)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("while listening on {}", args.listen))?;
    tracing::info!(address = %listener.local_addr()?, path = %args.path.display(), "serving");
    let shutdown = weir_settings::asked_to_end()?;
    serve(
        engine,
        listener,
        Credentials {
            user: args.user,
            password: args.password,
        },
        shutdown,
    )
    .await
    .context("while serving")
}

fn default_engine() -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    home.join(".cache/weir/engine-26.7.3/libchdb.so")
}
