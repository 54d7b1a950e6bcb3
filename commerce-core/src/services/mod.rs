//! The services. Each is a router over the shared database, and listens on its own.

mod accounts;
mod calls;
mod catalogue;
mod gateway;
mod inventory;
mod orders;

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::{Router, middleware};
use sqlx::SqlitePool;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

pub use calls::{Called, Caller};

use crate::{
    auth::Tokens,
    telemetry::{self, Telemetry},
};

/// Where each service listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The one that shoppers call.
    pub gateway: SocketAddr,
    /// Login.
    pub accounts: SocketAddr,
    /// Products and carts.
    pub catalogue: SocketAddr,
    /// Stock.
    pub inventory: SocketAddr,
    /// Orders and payments.
    pub orders: SocketAddr,
}

impl Addresses {
    /// Five ports from `first` on, gateway first, on the loopback.
    pub fn from_port(first: u16) -> Self {
        let at = |offset: u16| SocketAddr::from(([127, 0, 0, 1], first.saturating_add(offset)));
        Self {
            gateway: at(0),
            accounts: at(1),
            catalogue: at(2),
            inventory: at(3),
            orders: at(4),
        }
    }
}

/// Serves all services until `closing` turns true, then ends in order and exports the last spans.
///
/// # Errors
/// When an address cannot be listened on.
pub async fn serve_all(
    pool: SqlitePool,
    tokens: Tokens,
    addresses: Addresses,
    otlp: Option<&str>,
    closing: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let telemetry = |service: &str| Telemetry::new(service, otlp);
    let (gateway, accounts, catalogue, inventory, orders) = (
        telemetry("gateway")?,
        telemetry("accounts")?,
        telemetry("catalogue")?,
        telemetry("inventory")?,
        telemetry("orders")?,
    );
    let services: [(SocketAddr, Router, Telemetry); 5] = [
        (
            addresses.accounts,
            accounts::router(pool.clone(), tokens.clone()),
            accounts,
        ),
        (
            addresses.catalogue,
            catalogue::router(pool.clone()),
            catalogue,
        ),
        (
            addresses.inventory,
            inventory::router(pool.clone()),
            inventory,
        ),
        (
            addresses.orders,
            orders::router(pool, Caller::new(orders.clone()), addresses),
            orders,
        ),
        (
            addresses.gateway,
            gateway::router(Caller::new(gateway.clone()), tokens, addresses),
            gateway,
        ),
    ];
    let mut running = JoinSet::new();
    let mut providers = Vec::new();
    for (address, router, telemetry) in services {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("while listening on {address}"))?;
        let app = router.route_layer(middleware::from_fn_with_state(
            telemetry.clone(),
            telemetry::server_span,
        ));
        providers.push(telemetry);
        let mut closing = closing.clone();
        running.spawn(async move {
            // The sender having gone is a reason to close as well.
            let until = async move {
                drop(closing.wait_for(|closing| *closing).await);
            };
            axum::serve(listener, app)
                .with_graceful_shutdown(until)
                .await
        });
    }
    tracing::info!(gateway = %addresses.gateway, "the shop is open");
    while let Some(ended) = running.join_next().await {
        ended
            .context("a service panicked")?
            .context("a service ended")?;
    }
    tokio::task::spawn_blocking(move || providers.iter().for_each(Telemetry::shutdown))
        .await
        .context("while exporting the last spans")
}
