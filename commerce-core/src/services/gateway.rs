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

pub(super) fn router(caller: Caller, tokens: Tokens, addresses: Addresses) -> Router {
    Router::new()
        .route("/login", post(login))
        .route("/products", get(catalogue))
        .route("/products/{sku}", get(catalogue))
        .route("/cart", post(catalogue))
        .route("/pay", post(orders))
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

async fn catalogue(
    State(gateway): State<Gateway>,
    Extension(context): Extension<Context>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    gateway
        .pass(
            &context,
            gateway.addresses.catalogue,
            method,
            &uri,
            headers,
            body,
        )
        .await
}

async fn orders(
    State(gateway): State<Gateway>,
    Extension(context): Extension<Context>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    gateway
        .pass(
            &context,
            gateway.addresses.orders,
            method,
            &uri,
            headers,
            body,
        )
        .await
}

impl Gateway {
    async fn pass(
        &self,
        context: &Context,
        to: SocketAddr,
        method: Method,
        uri: &Uri,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let claims = self.tokens.check(&headers)?;
        let user = HeaderValue::from_str(&claims.sub).ok().ok_or_else(|| {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthorised",
                "the token's user is not usable",
            )
        })?;
        headers.insert("x-user-id", user);
        let url = format!("http://{to}{}", uri.path());
        Ok(self
            .caller
            .call(context, method, &url, &headers, body)
            .await?
            .into_response())
    }
}
