//! The shop's promises under concurrency: no piece sold twice, a retried order is one order, tenants stay apart.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

use std::{net::TcpListener, path::Path};

use commerce_core::{
    auth::Tokens,
    database::{self, SEED_PASSWORD, Seed},
    services::{Addresses, serve_all},
};
use serde_json::{Value, json};
use sqlx::SqlitePool;
use tokio::{sync::watch, task::JoinHandle};

struct Shop {
    url: String,
    pool: SqlitePool,
    close: watch::Sender<bool>,
    serving: JoinHandle<anyhow::Result<()>>,
}

fn free_row_of_five() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let rest: Option<Vec<_>> = (1..5)
            .map(|n| TcpListener::bind(("127.0.0.1", port.checked_add(n)?)).ok())
            .collect();
        if rest.is_some() {
            return port;
        }
    }
}

async fn open(folder: &Path, stock: i64) -> Shop {
    let pool = database::open(&folder.join("shop.sqlite")).await.unwrap();
    database::seed(
        &pool,
        Seed {
            tenants: 2,
            users: 3,
            products: 2,
            stock,
        },
    )
    .await
    .unwrap();
    let port = free_row_of_five();
    let (close, closing) = watch::channel(false);
    let addresses = Addresses::from_port(port);
    let tokens = Tokens::new(b"a secret of the test");
    let serving = tokio::spawn(serve_all(pool.clone(), tokens, addresses, None, closing));
    let shop = Shop {
        url: format!("http://{}", addresses.gateway),
        pool,
        close,
        serving,
    };
    while reqwest::get(format!("{}/products", shop.url))
        .await
        .is_err()
    {
        tokio::task::yield_now().await;
    }
    shop
}

impl Shop {
    async fn post(
        &self,
        path: &str,
        tenant: &str,
        token: &str,
        key: &str,
        body: Value,
    ) -> (u16, Value) {
        let answer = reqwest::Client::new()
            .post(format!("{}{path}", self.url))
            .header("x-tenant-id", tenant)
            .header("x-auth-token", token)
            .header("idempotency-key", key)
            .json(&body)
            .send()
            .await
            .unwrap();
        (
            answer.status().as_u16(),
            answer.json().await.unwrap_or(Value::Null),
        )
    }

    async fn login(&self, tenant: &str) -> String {
        let body =
            json!({ "tenant": tenant, "user": format!("{tenant}-u1"), "password": SEED_PASSWORD });
        let (status, answer) = self.post("/login", tenant, "", "", body).await;
        assert_eq!(status, 200, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }

    async fn end(self) {
        self.close.send_replace(true);
        self.serving.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_is_never_oversold_and_every_refusal_is_out_of_stock() {
    let folder = tempfile::tempdir().unwrap();
    let shop = std::sync::Arc::new(open(folder.path(), 10).await);
    let token = shop.login("t1").await;
    let buyers: Vec<_> = (0..30)
        .map(|n| {
            let (shop, token) = (std::sync::Arc::clone(&shop), token.clone());
            tokio::spawn(async move {
                let body = json!({ "sku": "sku-1", "quantity": 1, "card": "visa" });
                shop.post("/pay", "t1", &token, &format!("key-{n}"), body)
                    .await
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for buyer in buyers {
        statuses.push(buyer.await.unwrap().0);
    }
    assert_eq!(
        statuses.iter().filter(|status| **status == 201).count(),
        10,
        "{statuses:?}"
    );
    assert_eq!(
        statuses.iter().filter(|status| **status == 409).count(),
        20,
        "{statuses:?}"
    );
    let left: i64 = sqlx::query_scalar(
        "SELECT available FROM inventory_stock WHERE tenant_id = 't1' AND sku = 'sku-1'",
    )
    .fetch_one(&shop.pool)
    .await
    .unwrap();
    assert_eq!(left, 0);
    let Ok(shop) = std::sync::Arc::try_unwrap(shop) else {
        panic!("every buyer has left")
    };
    shop.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_order_is_one_order() {
    let folder = tempfile::tempdir().unwrap();
    let shop = open(folder.path(), 100).await;
    let token = shop.login("t1").await;
    let pay = || {
        shop.post(
            "/pay",
            "t1",
            &token,
            "one-key",
            json!({ "sku": "sku-2", "quantity": 3, "card": "visa" }),
        )
    };
    let first = pay().await;
    let again = pay().await;
    assert_eq!((first.0, again.0), (201, 200));
    assert_eq!(first.1["order_id"], again.1["order_id"]);
    assert_eq!(first.1["amount_minor"], 3 * 2 * 1_990);
    let left: i64 = sqlx::query_scalar(
        "SELECT available FROM inventory_stock WHERE tenant_id = 't1' AND sku = 'sku-2'",
    )
    .fetch_one(&shop.pool)
    .await
    .unwrap();
    assert_eq!(left, 97);
    shop.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_tenant_does_not_open_another() {
    let folder = tempfile::tempdir().unwrap();
    let shop = open(folder.path(), 1).await;
    let token = shop.login("t1").await;
    let cart = json!({ "sku": "sku-1", "quantity": 1 });
    assert_eq!(
        shop.post("/cart", "t1", &token, "", cart.clone()).await.0,
        200
    );
    assert_eq!(
        shop.post("/cart", "t2", &token, "", cart.clone()).await.0,
        401
    );
    assert_eq!(shop.post("/cart", "t1", "forged", "", cart).await.0, 401);
    assert_eq!(
        shop.post(
            "/login",
            "t1",
            "",
            "",
            json!({ "tenant": "t1", "user": "t1-u1", "password": "x" })
        )
        .await
        .0,
        401
    );
    shop.end().await;
}
