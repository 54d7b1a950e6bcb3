//! Stock. A deduction takes the whole quantity or nothing, and the same key deducts once.

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;

use super::orders::identity;
use crate::problem::Problem;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deduction {
    pub(super) key: String,
    pub(super) sku: String,
    pub(super) quantity: i64,
}

pub(super) fn router(pool: SqlitePool) -> Router {
    Router::new()
        .route("/deductions", post(deduct))
        .with_state(pool)
}

async fn deduct(
    State(pool): State<SqlitePool>,
    headers: HeaderMap,
    Json(wanted): Json<Deduction>,
) -> Result<StatusCode, Problem> {
    let (tenant, _) = identity(&headers)?;
    if wanted.quantity <= 0 {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad_quantity",
            "a quantity is positive",
        ));
    }
    // BEGIN IMMEDIATE: the key and the stock change together, and writers queue instead of failing half-way.
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let fresh = sqlx::query("INSERT OR IGNORE INTO inventory_deductions VALUES (?, ?, ?, ?)")
        .bind(&tenant)
        .bind(&wanted.key)
        .bind(&wanted.sku)
        .bind(wanted.quantity)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    if fresh == 0 {
        return Ok(StatusCode::OK);
    }
    let deducted = sqlx::query("UPDATE inventory_stock SET available = available - ?1 WHERE tenant_id = ?2 AND sku = ?3 AND available >= ?1")
        .bind(wanted.quantity)
        .bind(&tenant)
        .bind(&wanted.sku)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    if deducted == 0 {
        // Dropping the transaction takes the key back too: a later retry may succeed after a restock.
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "out_of_stock",
            format!("not enough of {}", wanted.sku),
        ));
    }
    transaction.commit().await?;
    Ok(StatusCode::CREATED)
}
