//! The one door: checks tenant and token, then passes the request to the service it is for.

use std::net::SocketAddr;

use axum::{
    Extension, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri},
    response::Response,
    routing::{get, post},
};
use opentelemetry::Context;

use super::{Addresses, Caller};
use crate::{auth::Tokens, problem::Problem};

#[derive(Clone)]
struct Gateway {
    caller: Caller,
    tokens: Tokens,
    addresses: Addresses,
}

/// The service that a route leads to.
#[derive(Clone, Copy)]
struct To(SocketAddr);

pub(super) fn router(caller: Caller, tokens: Tokens, addresses: Addresses) -> Router {
    let catalogue = Router::new()
        .route("/products", get(pass))
        .route("/products/{sku}", get(pass))
        .route("/cart", post(pass))
        .layer(Extension(To(addresses.catalogue)));
    let orders = Router::new()
        .route("/pay", post(pass))
        .layer(Extension(To(addresses.orders)));
    Router::new()
        .route("/login", post(login))
        .merge(catalogue)
        .merge(orders)
        .with_state(Gateway {
            caller,
            tokens,
            addresses,
        })
}

async fn login(
    State(gateway): State<Gateway>,
    Extension(context): Extension<Context>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let url = format!("http://{}/login", gateway.addresses.accounts);
    Ok(gateway
        .caller
        .call(&context, Method::POST, &url, &headers, body)
        .await?
        .into_response())
}

/// Checks the token and passes the request on, with the user it names.
async fn pass(
    State(gateway): State<Gateway>,
    Extension(context): Extension<Context>,
    Extension(To(address)): Extension<To>,
    method: Method,
    uri: Uri,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let claims = gateway.tokens.check(&headers)?;
    let user = HeaderValue::from_str(&claims.sub).ok().ok_or_else(|| {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorised",
            "the token's user is not usable",
        )
    })?;
    headers.insert("x-user-id", user);
    let url = format!("http://{address}{}", uri.path());
    Ok(gateway
        .caller
        .call(&context, method, &url, &headers, body)
        .await?
        .into_response())
}
