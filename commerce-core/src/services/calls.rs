//! Calls from one service to another: with trace context, a time-out, and a client span.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, Method, StatusCode},
    response::Response,
};
use opentelemetry::{
    Context, KeyValue,
    trace::{Status, TraceContextExt as _},
};

use crate::{
    problem::Problem,
    telemetry::{Telemetry, traceparent},
};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Headers that travel with a call; all others stay where they are.
const PASSED_ON: &[&str] = &[
    "x-tenant-id",
    "x-user-id",
    "content-type",
    "idempotency-key",
];

/// Calls other services.
#[derive(Clone, Debug)]
pub struct Caller {
    http: reqwest::Client,
    telemetry: Telemetry,
}

/// An answer of another service.
#[derive(Debug)]
pub struct Called {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Caller {
    /// A caller whose spans belong to a service.
    pub fn new(telemetry: Telemetry) -> Self {
        Self {
            http: reqwest::Client::new(),
            telemetry,
        }
    }

    /// Calls `method url` with the headers that travel and a body.
    ///
    /// # Errors
    /// 502 when the service does not answer in time.
    pub async fn call(
        &self,
        parent: &Context,
        method: Method,
        url: &str,
        headers: &HeaderMap,
        body: impl Into<reqwest::Body>,
    ) -> Result<Called, Problem> {
        let context = self.telemetry.client_span(parent, method.as_str());
        let mut request = self
            .http
            .request(method, url)
            .timeout(TIMEOUT)
            .header("traceparent", traceparent(&context))
            .body(body);
        for name in PASSED_ON {
            if let Some(value) = headers.get(*name) {
                request = request.header(HeaderName::from_static(name), value);
            }
        }
        let answer = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>(Called {
                status: response.status(),
                headers: response.headers().clone(),
                body: response.bytes().await?,
            })
        };
        let answer = answer.await;
        let span = context.span();
        match &answer {
            Ok(called) => span.set_attribute(KeyValue::new(
                "http.response.status_code",
                i64::from(called.status.as_u16()),
            )),
            Err(_) => span.set_status(Status::error("no answer")),
        }
        span.end();
        answer.map_err(|error| {
            tracing::warn!(%error, "a service did not answer");
            Problem::new(
                StatusCode::BAD_GATEWAY,
                "upstream",
                "a service behind this one did not answer",
            )
        })
    }
}

impl Called {
    /// The answer as our own, with the fields that callers may see.
    pub fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        for name in ["content-type", "x-auth-token"] {
            if let Some(value) = self.headers.get(name) {
                response
                    .headers_mut()
                    .insert(HeaderName::from_static(name), value.clone());
            }
        }
        response
    }
}
