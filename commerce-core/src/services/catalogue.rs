//! What there is to buy, and what a user means to.

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;

use super::orders::identity;
use crate::problem::Problem;

#[derive(Serialize, sqlx::FromRow)]
struct Product {
    sku: String,
    title: String,
    price_minor: i64,
    currency: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CartLine {
    sku: String,
    quantity: i64,
}

pub(super) fn router(pool: SqlitePool) -> Router {
    Router::new()
        .route("/products", get(products))
        .route("/products/{sku}", get(product))
        .route("/cart", post(add_to_cart))
        .with_state(pool)
}

async fn products(
    State(pool): State<SqlitePool>,
    headers: HeaderMap,
) -> Result<Json<Vec<Product>>, Problem> {
    let (tenant, _) = identity(&headers)?;
    let products = sqlx::query_as(
        "SELECT sku, title, price_minor, currency FROM catalogue_products WHERE tenant_id = ? ORDER BY sku LIMIT 50",
    );
    Ok(Json(products.bind(tenant).fetch_all(&pool).await?))
}

async fn product(
    State(pool): State<SqlitePool>,
    headers: HeaderMap,
    axum::extract::Path(sku): axum::extract::Path<String>,
) -> Result<Json<Product>, Problem> {
    let (tenant, _) = identity(&headers)?;
    Ok(Json(find(&pool, &tenant, &sku).await?))
}

async fn add_to_cart(
    State(pool): State<SqlitePool>,
    headers: HeaderMap,
    Json(line): Json<CartLine>,
) -> Result<Json<Product>, Problem> {
    let (tenant, user) = identity(&headers)?;
    if !(1..=1_000).contains(&line.quantity) {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad_quantity",
            "a quantity is 1 to 1000",
        ));
    }
    let product = find(&pool, &tenant, &line.sku).await?;
    sqlx::query("INSERT INTO catalogue_cart_lines VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET quantity = excluded.quantity")
        .bind(tenant)
        .bind(user)
        .bind(&line.sku)
        .bind(line.quantity)
        .execute(&pool)
        .await?;
    Ok(Json(product))
}

async fn find(pool: &SqlitePool, tenant: &str, sku: &str) -> Result<Product, Problem> {
    let product = sqlx::query_as(
        "SELECT sku, title, price_minor, currency FROM catalogue_products WHERE tenant_id = ? AND sku = ?",
    );
    let product: Option<Product> = product.bind(tenant).bind(sku).fetch_optional(pool).await?;
    product.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no_such_product",
            format!("there is no product {sku}"),
        )
    })
}
