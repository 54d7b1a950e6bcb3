//! The `shop` command.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use commerce_core::{
    auth::Tokens,
    database::{self, Seed},
    services::{Addresses, serve_all},
};
use tokio::sync::watch;

/// The mall's services.
#[derive(Debug, Parser)]
#[command(name = "shop", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Open the shop: gateway, accounts, catalogue, inventory and orders on five ports in a row.
    Serve(ServeArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Port of the gateway; the others follow.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Database file; created when missing.
    #[arg(long, default_value = "shop.sqlite")]
    database: PathBuf,
    /// Secret that signs tokens.
    #[arg(long, env = "SHOP_TOKEN_SECRET", hide_env_values = true)]
    token_secret: String,
    /// Where spans go (OTLP over gRPC), such as <http://127.0.0.1:4317>.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp: Option<String>,
    /// Tenants to open with.
    #[arg(long, default_value_t = 3)]
    tenants: u32,
    /// Users per tenant to open with.
    #[arg(long, default_value_t = 1_000)]
    users: u32,
    /// Products per tenant to open with.
    #[arg(long, default_value_t = 20)]
    products: u32,
    /// Pieces of each product to open with.
    #[arg(long, default_value_t = 1_000_000)]
    stock: i64,
}

fn main() -> ExitCode {
    let Command::Serve(args) = match weir_settings::start::<Cli>() {
        Ok(cli) => cli.command,
        Err(code) => return code,
    };
    let result = weir_settings::block_on(serve(args));
    weir_settings::end(result, |_| false)
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let pool = database::open(&args.database).await?;
    let seed = Seed {
        tenants: args.tenants,
        users: args.users,
        products: args.products,
        stock: args.stock,
    };
    database::seed(&pool, seed).await?;
    let (close, closing) = watch::channel(false);
    let asked = weir_settings::asked_to_end()?;
    tokio::spawn(async move {
        asked.await;
        close.send_replace(true);
    });
    serve_all(
        pool,
        Tokens::new(args.token_secret.as_bytes()),
        Addresses::from_port(args.port),
        args.otlp.as_deref(),
        closing,
    )
    .await
}
