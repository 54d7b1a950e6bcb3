//! One shopper: who they are, what they mean to do, and their way through the shop.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rand::{Rng as _, RngExt as _, rngs::StdRng};
use serde_json::{Value, json};

use crate::ledger::Deed;

const DEVICES: &[&str] = &["phone", "phone", "phone", "desktop", "desktop", "tablet"];
const CHANNELS: &[&str] = &["direct", "search", "social", "affiliate"];
/// As seeded by `shop serve`.
const PASSWORD: &str = "let me shop";
/// One in this many makes a mistake first: a wrong password, a product that is gone, a declined card.
const CLUMSY_ONE_IN: u32 = 12;

/// The shop as a shopper sees it.
pub(crate) struct Shop {
    http: reqwest::Client,
    url: String,
}

/// How shoppers tend to decide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mind {
    pub(crate) cart_probability: f64,
    pub(crate) pay_probability: f64,
    pub(crate) think_ms: u64,
}

/// One of them.
pub(crate) struct Shopper {
    number: u32,
    tenant: String,
    user: String,
    device: &'static str,
    channel: &'static str,
    session: String,
    mind: Mind,
    rng: StdRng,
    token: Option<String>,
    deeds: Vec<Deed>,
}

impl Shop {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            http: reqwest::Client::new(),
            url: url.trim_end_matches('/').to_owned(),
        }
    }
}

impl Shopper {
    pub(crate) fn new(number: u32, tenants: u32, mind: Mind, mut rng: StdRng) -> Self {
        let tenant = format!("t{}", number % tenants + 1);
        let user = format!("{tenant}-u{}", number / tenants + 1);
        let pick = |list: &'static [&'static str], at: u32| {
            list.get(at as usize % list.len())
                .copied()
                .unwrap_or("other")
        };
        let (device, channel) = (
            pick(DEVICES, rng.next_u32()),
            pick(CHANNELS, rng.next_u32()),
        );
        let session = format!("s{:016x}", rng.next_u64());
        Self {
            number,
            tenant,
            user,
            device,
            channel,
            session,
            mind,
            rng,
            token: None,
            deeds: Vec::new(),
        }
    }

    /// The whole visit; what was done comes back, mistakes included.
    pub(crate) async fn visit(mut self, shop: &Shop) -> anyhow::Result<Vec<Deed>> {
        // Decided beforehand, so that what a shopper means to do depends on the seed alone.
        let fills_cart = self.rng.random_bool(self.mind.cart_probability);
        let pays = self.rng.random_bool(self.mind.pay_probability);
        let clumsy = self.rng.random_ratio(1, CLUMSY_ONE_IN);
        let sku = format!("sku-{}", self.rng.random_range(1..=20));
        if clumsy {
            self.login(shop, "wrong").await?;
            self.think().await;
        }
        self.login(shop, PASSWORD).await?;
        self.think().await;
        self.request(shop, "browse", "GET", "/products", None)
            .await?;
        if fills_cart {
            self.think().await;
            if clumsy {
                self.request(
                    shop,
                    "cart",
                    "POST",
                    "/cart",
                    Some(json!({ "sku": "sku-gone", "quantity": 1 })),
                )
                .await?;
            }
            self.request(
                shop,
                "cart",
                "POST",
                "/cart",
                Some(json!({ "sku": sku, "quantity": 1 })),
            )
            .await?;
        }
        if fills_cart && pays {
            self.think().await;
            if clumsy {
                self.request(
                    shop,
                    "pay",
                    "POST",
                    "/pay",
                    Some(json!({ "sku": sku, "quantity": 1, "card": "declined" })),
                )
                .await?;
            }
            self.request(
                shop,
                "pay",
                "POST",
                "/pay",
                Some(json!({ "sku": sku, "quantity": 1, "card": "visa" })),
            )
            .await?;
        }
        Ok(self.deeds)
    }

    async fn login(&mut self, shop: &Shop, password: &str) -> anyhow::Result<()> {
        let body = json!({ "tenant": self.tenant, "user": self.user, "password": password });
        let answer = self
            .request(shop, "login", "POST", "/login", Some(body))
            .await?;
        self.token = answer
            .get("token")
            .and_then(Value::as_str)
            .map(str::to_owned);
        Ok(())
    }

    async fn request(
        &mut self,
        shop: &Shop,
        event: &'static str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).context("a method")?;
        let mut request = shop
            .http
            .request(method, format!("{}{path}", shop.url))
            .header("x-tenant-id", &self.tenant)
            .header("x-device", self.device)
            .header("x-channel", self.channel)
            .header("cookie", format!("session_id={}", self.session))
            .header(
                "idempotency-key",
                format!("{}-{}", self.session, self.deeds.len()),
            )
            .timeout(Duration::from_secs(20));
        if let Some(token) = &self.token {
            request = request.header("x-auth-token", token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let (ts, started) = (jiff::Timestamp::now().to_string(), Instant::now());
        let response = request
            .send()
            .await
            .with_context(|| format!("the shop did not answer {path}"))?;
        let status = response.status().as_u16();
        let answer = response
            .bytes()
            .await
            .with_context(|| format!("the answer to {path} was cut"))?;
        self.deeds.push(Deed {
            shopper: self.number,
            tenant: self.tenant.clone(),
            user: self.user.clone(),
            ts,
            event,
            status,
            elapsed_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            device: self.device,
            channel: self.channel,
        });
        Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }

    async fn think(&mut self) {
        let mean = self.mind.think_ms;
        let pause = self.rng.random_range(mean / 2..=mean + mean / 2);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}
