//! The services' own spans: one provider per service, exported by OTLP, joined by W3C trace context.

use anyhow::Context as _;
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue},
    middleware::Next,
    response::Response,
};
use opentelemetry::{
    Context, KeyValue,
    trace::{
        SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
        TraceState, Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};

/// The tracer of one service.
#[derive(Clone, Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Telemetry {
    /// Spans of `service` go to `endpoint` (OTLP over gRPC), or nowhere. Call inside the runtime.
    ///
    /// # Errors
    /// When the endpoint is no address.
    pub fn new(service: &str, endpoint: Option<&str>) -> anyhow::Result<Self> {
        let mut builder = SdkTracerProvider::builder().with_resource(
            Resource::builder()
                .with_service_name(service.to_owned())
                .build(),
        );
        if let Some(endpoint) = endpoint {
            let exporter = opentelemetry_otlp::SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()
                .with_context(|| format!("while preparing the export of spans to {endpoint}"))?;
            builder = builder.with_batch_exporter(exporter);
        }
        let provider = builder.build();
        let tracer = provider.tracer("shop");
        Ok(Self { provider, tracer })
    }

    /// Sends what is buffered; blocks for at most the exporter's time-out.
    pub fn shutdown(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "some spans were not exported");
        }
    }

    /// A client span around an outgoing call; its context goes into the call's headers.
    pub fn client_span(&self, parent: &Context, name: &str) -> Context {
        let span = self
            .tracer
            .span_builder(name.to_owned())
            .with_kind(SpanKind::Client)
            .start_with_context(&self.tracer, parent);
        parent.with_span(span)
    }
}

/// `traceparent` of the context's span.
pub fn traceparent(context: &Context) -> String {
    let span = context.span().span_context().clone();
    format!(
        "00-{}-{}-{:02x}",
        span.trace_id(),
        span.span_id(),
        span.trace_flags().to_u8()
    )
}

/// Middleware: a server span per request, its context in the request's extensions, `traceresponse` in the answer.
pub async fn server_span(
    State(telemetry): State<Telemetry>,
    mut request: Request,
    next: Next,
) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("", MatchedPath::as_str)
        .to_owned();
    let method = request.method().to_string();
    let parent = remote_parent(request.headers());
    let span = telemetry
        .tracer
        .span_builder(format!("{method} {route}"))
        .with_kind(SpanKind::Server)
        .with_attributes([
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route),
        ])
        .start_with_context(&telemetry.tracer, &parent);
    let context = parent.with_span(span);
    request.extensions_mut().insert(context.clone());
    let mut response = next.run(request).await;
    let status = response.status();
    context.span().set_attribute(KeyValue::new(
        "http.response.status_code",
        i64::from(status.as_u16()),
    ));
    if status.is_server_error() {
        context.span().set_status(Status::error(""));
    }
    context.span().end();
    if let Ok(value) = HeaderValue::from_str(&traceparent(&context)) {
        response.headers_mut().insert("traceresponse", value);
    }
    response
}

fn remote_parent(headers: &HeaderMap) -> Context {
    let parsed = headers
        .get("traceparent")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| {
            let mut parts = text.split('-');
            let (_version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
            let context = SpanContext::new(
                TraceId::from_hex(trace).ok()?,
                SpanId::from_hex(span).ok()?,
                TraceFlags::SAMPLED,
                true,
                TraceState::default(),
            );
            context.is_valid().then_some(context)
        });
    parsed.map_or_else(Context::new, |remote| {
        Context::new().with_remote_span_context(remote)
    })
}
