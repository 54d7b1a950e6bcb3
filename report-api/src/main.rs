//! The `report-api` command.

use std::{io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use event_store::{Scope, Store, StoreLogin, TenantId};
use report_api::{
    Access, AccessError, Funnel, FunnelFileError, Index, Live, LiveSettings, LiveSetupError,
    LiveWindow, NewToken, Settings, WebhookFileError, load_funnels, load_webhooks, serve,
};
use tokio::net::TcpListener;

/// Funnels, reports and traces over HTTP, and the console.
#[derive(Debug, Parser)]
#[command(name = "report-api", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// A window of the past is at most this many windows back; what is kept is read again at every start.
const MAX_WINDOWS_BACK: i64 = 2_000;

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
    /// Folder of a columnar index of the store, kept up to date beside the server: funnels and lists are answered from
    /// it. It is derived data and may be deleted at any time.
    #[arg(long, value_name = "DIR")]
    index: Option<PathBuf>,
    #[command(flatten)]
    live: LiveArgs,
}

#[derive(Args)]
struct LiveArgs {
    /// Keep funnels up to date as events arrive, with results per hour or per day.
    #[arg(long, value_name = "WINDOW")]
    live: Option<LiveWindow>,
    /// How many result windows before the current one are kept; they are read again at every start.
    #[arg(long, value_name = "N", default_value_t = 31, value_parser = clap::value_parser!(u32).range(..=MAX_WINDOWS_BACK))]
    live_windows: u32,
    /// Address of a Redis that results go to: `redis://host:6379/0`.
    #[arg(
        long,
        env = "WEIR_REDIS",
        value_name = "URL",
        requires = "live",
        hide_env_values = true
    )]
    redis: Option<String>,
    /// File of endpoints that results are posted to, signed (TOML).
    #[arg(long, value_name = "FILE", requires = "live")]
    webhooks: Option<PathBuf>,
}

impl std::fmt::Debug for LiveArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address of Redis may hold its password.
        f.debug_struct("LiveArgs")
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

impl LiveArgs {
    fn set_up(self, store: &Store, funnels: &[Funnel]) -> anyhow::Result<Option<Live>> {
        let Some(window) = self.live else {
            return Ok(None);
        };
        let slugs: Vec<&str> = funnels.iter().map(|funnel| funnel.slug.as_str()).collect();
        let webhooks = self.webhooks.map(|file| load_webhooks(&file, &slugs));
        let settings = LiveSettings {
            window,
            windows_back: self.live_windows,
            redis: self.redis,
            webhooks: webhooks
                .transpose()
                .context("while reading the webhooks")?
                .unwrap_or_default(),
        };
        let live = Live::new(store, funnels, settings).context("while setting up --redis")?;
        Ok(Some(live))
    }
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
        cause.is::<AccessError>()
            || cause.is::<FunnelFileError>()
            || cause.is::<WebhookFileError>()
            || cause.is::<LiveSetupError>()
    })
}

async fn run_server(args: ServeArgs) -> anyhow::Result<()> {
    let access = Access::load(&args.tokens)
        .with_context(|| format!("while reading the tokens in {}", args.tokens.display()))?;
    let funnels = load_funnels(&args.funnels).context("while reading the funnels")?;
    let store = args.login.store(&args.clickhouse);
    let index = args.index.map(|folder| {
        let index = Index::open(&store, &folder);
        index.with_context(|| format!("while opening the index in {}", folder.display()))
    });
    let index = index.transpose()?;
    let live = args.live.set_up(&store, &funnels)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("while listening on {}", args.listen))?;
    tracing::info!(address = %listener.local_addr()?, funnels = funnels.len(), "serving");
    let shutdown = weir_settings::asked_to_end()?;
    let settings = Settings {
        store,
        index,
        funnels,
        access,
        live,
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
