//! The `shoppers` command: simulated buyers, and the ledger of what each of them really did.
//!
//! Open loop: shoppers arrive by the clock, whether or not the shop keeps up, so a slow shop shows as latency
//! and not as fewer shoppers. Seeded: the same seed gives the same shoppers with the same intentions.

mod ledger;
mod shopper;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;
use weir_settings::BadUsage;

use crate::{
    ledger::Ledger,
    shopper::{Mind, Shop, Shopper},
};

/// Sends simulated shoppers into the shop and writes down what each one did.
#[derive(Debug, Parser)]
#[command(name = "shoppers", version)]
struct Cli {
    /// The shop's gateway.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    shop: String,
    /// How many shoppers.
    #[arg(long, default_value_t = 500)]
    shoppers: u32,
    /// Number of the first, so that a later wave brings other people.
    #[arg(long, default_value_t = 0)]
    first: u32,
    /// Arrivals per second.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Same seed, same shoppers.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Tenants of the mall.
    #[arg(long, default_value_t = 3)]
    tenants: u32,
    /// Of those who logged in, how many put something into the cart.
    #[arg(long, default_value_t = 0.731)]
    cart_probability: f64,
    /// Of those, how many pay.
    #[arg(long, default_value_t = 0.618)]
    pay_probability: f64,
    /// Mean pause between two steps, milliseconds.
    #[arg(long, default_value_t = 150)]
    think_ms: u64,
    /// Where the ledger goes (NDJSON).
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,
}

fn main() -> ExitCode {
    let cli = match weir_settings::start::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let result = weir_settings::block_on(run(cli));
    weir_settings::end(result, |_| false)
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    if cli.rate <= 0.0 || cli.tenants == 0 {
        return Err(BadUsage("--rate and --tenants must be positive".to_owned()).into());
    }
    let shop = Arc::new(Shop::new(&cli.shop));
    let mut arrivals = StdRng::seed_from_u64(cli.seed);
    let mut inside = JoinSet::new();
    let started = tokio::time::Instant::now();
    let mut arrives_at = Duration::ZERO;
    for number in (cli.first..).take(usize::try_from(cli.shoppers)?) {
        // Exponential gaps: arrivals of people who do not know one another.
        let gap = -(1.0 - arrivals.random::<f64>()).ln() / cli.rate;
        arrives_at += Duration::from_secs_f64(gap);
        let rng = StdRng::seed_from_u64(arrivals.next_u64());
        let mind = Mind {
            cart_probability: cli.cart_probability,
            pay_probability: cli.pay_probability,
            think_ms: cli.think_ms,
        };
        let shopper = Shopper::new(number, cli.tenants, mind, rng);
        let shop = Arc::clone(&shop);
        inside.spawn(async move {
            tokio::time::sleep_until(started + arrives_at).await;
            shopper.visit(&shop).await
        });
    }
    let mut ledger = Ledger::create(&cli.ledger)?;
    while let Some(visit) = inside.join_next().await {
        ledger.append(&visit.context("a shopper panicked")??)?;
    }
    ledger.finish()
}
