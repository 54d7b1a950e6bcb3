//! Orders and their payment. The same idempotency key is the same order, however often it is sent.

use axum::{
    Extension, Json, Router,
    extract::State,
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post,
};
use opentelemetry::Context;
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;

use super::{Addresses, Caller, inventory::Deduction};
use crate::problem::Problem;

#[derive(Clone)]
struct Orders {
    pool: SqlitePool,
    caller: Caller,
    addresses: Addresses,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payment {
    sku: String,
    quantity: i64,
    /// What the offline payment provider is told; `declined` is refused by it.
    card: String,
}

#[derive(Serialize, sqlx::FromRow)]
struct Order {
    #[serde(rename = "order_id")]
    #[sqlx(rename = "order_id")]
    id: String,
    amount_minor: i64,
    currency: String,
}

pub(super) fn router(pool: SqlitePool, caller: Caller, addresses: Addresses) -> Router {
    Router::new().route("/pay", post(pay)).with_state(Orders {
        pool,
        caller,
        addresses,
    })
}

async fn pay(
    State(orders): State<Orders>,
    Extension(context): Extension<Context>,
    headers: HeaderMap,
    Json(payment): Json<Payment>,
) -> Result<Response, Problem> {
    let (tenant, user) = identity(&headers)?;
    let key = headers
        .get("idempotency-key")
        .and_then(|value| value.to_str().ok())
        .filter(|key| !key.is_empty() && key.len() <= 255);
    let key = key.ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "no_idempotency_key",
            "send Idempotency-Key, at most 255 characters",
        )
    })?;
    if let Some(order) = orders.find(&tenant, key).await? {
        return Ok((StatusCode::OK, Json(order)).into_response());
    }
    let price: Option<(i64, String)> = sqlx::query_as(
        "SELECT price_minor, currency FROM catalogue_products WHERE tenant_id = ? AND sku = ?",
    )
    .bind(&tenant)
    .bind(&payment.sku)
    .fetch_optional(&orders.pool)
    .await?;
    let (price_minor, currency) = price.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no_such_product",
            format!("there is no product {}", payment.sku),
        )
    })?;
    let amount_minor = price_minor
        .checked_mul(payment.quantity)
        .filter(|amount| *amount > 0);
    let amount_minor = amount_minor.ok_or_else(|| {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad_quantity",
            "the amount is out of range",
        )
    })?;
    if payment.card == "declined" {
        return Err(Problem::new(
            StatusCode::PAYMENT_REQUIRED,
            "declined",
            "the payment was declined",
        ));
    }
    orders.deduct(&context, &headers, key, &payment).await?;
    sqlx::query("INSERT OR IGNORE INTO orders_orders VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(format!("ord_{}", uuid::Uuid::now_v7().simple()))
        .bind(&tenant)
        .bind(user)
        .bind(key)
        .bind(&payment.sku)
        .bind(payment.quantity)
        .bind(amount_minor)
        .bind(currency)
        .execute(&orders.pool)
        .await?;
    let order = orders
        .find(&tenant, key)
        .await?
        .ok_or_else(|| Problem::internal(&"an order vanished"))?;
    Ok((StatusCode::CREATED, Json(order)).into_response())
}

impl Orders {
    async fn find(&self, tenant: &str, key: &str) -> Result<Option<Order>, Problem> {
        let order = sqlx::query_as(
            "SELECT order_id, amount_minor, currency FROM orders_orders WHERE tenant_id = ? AND idempotency_key = ?",
        );
        Ok(order
            .bind(tenant)
            .bind(key)
            .fetch_optional(&self.pool)
            .await?)
    }

    async fn deduct(
        &self,
        context: &Context,
        headers: &HeaderMap,
        key: &str,
        payment: &Payment,
    ) -> Result<(), Problem> {
        let deduction = Deduction {
            key: key.to_owned(),
            sku: payment.sku.clone(),
            quantity: payment.quantity,
        };
        let body = serde_json::to_vec(&deduction).map_err(|error| Problem::internal(&error))?;
        let url = format!("http://{}/deductions", self.addresses.inventory);
        let answer = self
            .caller
            .call(context, Method::POST, &url, headers, body)
            .await?;
        match answer.status {
            StatusCode::OK | StatusCode::CREATED => Ok(()),
            StatusCode::CONFLICT => Err(Problem::new(
                StatusCode::CONFLICT,
                "out_of_stock",
                format!("not enough of {}", payment.sku),
            )),
            status => Err(Problem::internal(&format!("inventory answered {status}"))),
        }
    }
}

/// Tenant and user as the gateway has established them; services behind it trust only the gateway.
pub(super) fn identity(headers: &HeaderMap) -> Result<(String, String), Problem> {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    match (header("x-tenant-id"), header("x-user-id")) {
        (Some(tenant), Some(user)) => Ok((tenant, user)),
        _ => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "no_identity",
            "this service is called through the gateway",
        )),
    }
}
