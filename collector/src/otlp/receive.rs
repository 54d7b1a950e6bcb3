//! The two doors of OTLP. Retryable refusals are 503 and UNAVAILABLE, as the protocol asks.

use std::io::Read as _;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use prost::Message as _;

use super::{Full, Intake};
use crate::limits::OTLP_BODY_BYTES_MAX;

struct Service(Intake);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0
            .offer(request.into_inner())
            .map_err(|Full| tonic::Status::unavailable("the queue of spans is full, try again"))?;
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

/// OTLP over gRPC.
pub fn grpc_router(intake: Intake) -> Router {
    let service =
        TraceServiceServer::new(Service(intake)).max_decoding_message_size(OTLP_BODY_BYTES_MAX);
    tonic::service::Routes::new(service).into_axum_router()
}

/// OTLP over HTTP: `POST /v1/traces`, protobuf or JSON, plain or gzip.
pub fn http_router(intake: Intake) -> Router {
    Router::new()
        .route("/v1/traces", post(export))
        .layer(DefaultBodyLimit::max(OTLP_BODY_BYTES_MAX))
        .with_state(intake)
}

async fn export(State(intake): State<Intake>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let is_json = header("content-type").starts_with("application/json");
    let request = plain(&body, header("content-encoding")).and_then(|body| parse(&body, is_json));
    let request = match request {
        Ok(request) => request,
        Err(message) => return (StatusCode::BAD_REQUEST, message).into_response(),
    };
    if intake.offer(request).is_err() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            [("retry-after", "1")],
            "the queue of spans is full",
        )
            .into_response();
    }
    if is_json {
        ([("content-type", "application/json")], "{}").into_response()
    } else {
        let body = ExportTraceServiceResponse::default().encode_to_vec();
        ([("content-type", "application/x-protobuf")], body).into_response()
    }
}

fn plain(body: &[u8], encoding: &str) -> Result<Vec<u8>, String> {
    match encoding {
        "" | "identity" => Ok(body.to_vec()),
        "gzip" => {
            let mut out = Vec::new();
            let limit = OTLP_BODY_BYTES_MAX as u64;
            flate2::read::GzDecoder::new(body)
                .take(limit)
                .read_to_end(&mut out)
                .map_err(|error| format!("the body is no gzip: {error}"))?;
            Ok(out)
        }
        other => Err(format!(
            "content encoding `{other}` is not supported; use gzip or none"
        )),
    }
}

fn parse(body: &[u8], is_json: bool) -> Result<ExportTraceServiceRequest, String> {
    if is_json {
        serde_json::from_slice(body).map_err(|error| format!("the body is no OTLP JSON: {error}"))
    } else {
        ExportTraceServiceRequest::decode(body)
            .map_err(|error| format!("the body is no OTLP protobuf: {error}"))
    }
}
