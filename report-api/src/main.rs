//! The `report-api` command.

use std::{io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use event_store::{Scope, StoreLogin, TenantId};
use report_api::{Access, AccessError, FunnelFileError, NewToken, Settings, load_funnels, serve};
use tokio::net::TcpListener;

/// Funnels, reports and traces over HTTP, and the console.
#[derive(Debug, Parser)]
#[command(name = "report-api", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API and the console.
    Serve(ServeArgs),
    /// Make an access token; prints it to standard error and its entry for the token file to standard output.
    Token(TokenArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address of the ClickHouse.
    #[arg(
        long,
        env = "WEIR_CLICKHOUSE",
        value_name = "URL",
        default_value = "http://127.0.0.1:8123"
    )]
    clickhouse: String,
    #[command(flatten)]
    login: StoreLogin,
    /// Folder of funnel definitions, one JSON file each; the file's name becomes part of the address.
    #[arg(long, value_name = "DIR")]
    funnels: PathBuf,
    /// File of access tokens' digests (TOML).
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TokenArgs {
    /// Opens this shop.
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Opens all shops.
    #[arg(long)]
    operator: bool,
}

fn main() -> ExitCode {
    let result = match weir_settings::start::<Cli>().map(|cli| cli.command) {
        Ok(Command::Serve(args)) => weir_settings::block_on(run_server(args)),
        Ok(Command::Token(args)) => make_token(&args),
        Err(code) => return code,
    };
    weir_settings::end(result, |cause| {
        cause.is::<AccessError>() || cause.is::<FunnelFileError>()
    })
}

async fn run_server(args: ServeArgs) -> anyhow::Result<()> {
    let access = Access::load(&args.tokens)
        .with_context(|| format!("while reading the tokens in {}", args.tokens.display()))?;
    let funnels = load_funnels(&args.funnels).context("while reading the funnels")?;
    let store = args.login.store(&args.clickhouse);
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("while listening on {}", args.listen))?;
    tracing::info!(address = %listener.local_addr()?, funnels = funnels.len(), "serving");
    let shutdown = weir_settings::asked_to_end()?;
    let settings = Settings {
        store,
        index: None,
        funnels,
        access,
    };
    serve(settings, listener, shutdown)
        .await
        .context("while serving")
}

fn make_token(args: &TokenArgs) -> anyhow::Result<()> {
    let scope = match &args.tenant {
        Some(tenant) => Scope::Tenant(TenantId::new(tenant).context("--tenant must not be empty")?),
        None => Scope::Operator,
    };
    let token = NewToken::make(&scope);
    writeln!(std::io::stderr(), "{}", token.token).context("while printing the token")?;
    write!(std::io::stdout(), "{}", token.entry).context("while printing the entry")
}
