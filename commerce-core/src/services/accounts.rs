//! Who may shop where: users of tenants, passwords, tokens.

use std::sync::Arc;

use argon2::{Argon2, PasswordVerifier as _, password_hash::phc::PasswordHash};
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use serde::Deserialize;
use sqlx::SqlitePool;
use tokio::sync::Semaphore;

use crate::{auth::Tokens, problem::Problem};

#[derive(Clone)]
struct Accounts {
    pool: SqlitePool,
    tokens: Tokens,
    /// Verifications at once: as many as there are cores. More would only starve the other services.
    verifying: Arc<Semaphore>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    tenant: String,
    user: String,
    password: String,
}

pub(super) fn router(pool: SqlitePool, tokens: Tokens) -> Router {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Router::new()
        .route("/login", post(login))
        .with_state(Accounts {
            pool,
            tokens,
            verifying: Arc::new(Semaphore::new(cores)),
        })
}

async fn login(
    State(accounts): State<Accounts>,
    Json(login): Json<Login>,
) -> Result<Response, Problem> {
    let refused = || {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "bad_credentials",
            "no such user, or another password",
        )
    };
    let hash: Option<String> = sqlx::query_scalar(
        "SELECT password_hash FROM accounts_users WHERE tenant_id = ? AND user_id = ?",
    )
    .bind(&login.tenant)
    .bind(&login.user)
    .fetch_optional(&accounts.pool)
    .await?;
    let hash = hash.ok_or_else(refused)?;
    // Verifying takes milliseconds of pure computation, by design; the runtime's threads are not for that.
    let _turn = accounts
        .verifying
        .acquire()
        .await
        .map_err(|error| Problem::internal(&error))?;
    let password = login.password;
    let fits = tokio::task::spawn_blocking(move || {
        PasswordHash::new(&hash).is_ok_and(|hash| {
            Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok()
        })
    });
    if !fits.await.map_err(|error| Problem::internal(&error))? {
        return Err(refused());
    }
    let token = accounts.tokens.issue(&login.tenant, &login.user)?;
    let body = Json(serde_json::json!({ "user": login.user, "token": token }));
    Ok(([("x-auth-token", token)], body).into_response())
}
