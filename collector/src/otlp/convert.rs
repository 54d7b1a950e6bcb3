//! OTLP spans to rows of `otel_traces`, with the values that the OpenTelemetry Collector's exporter writes.

use crate::trace_context::hex;
use event_store::SpanRow;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};

/// All spans of a request.
pub(super) fn rows(request: ExportTraceServiceRequest) -> Vec<SpanRow> {
    let mut rows = Vec::new();
    for resource_spans in request.resource_spans {
        let resource = resource_spans
            .resource
            .map(|resource| pairs(resource.attributes))
            .unwrap_or_default();
        let service = resource
            .iter()
            .find(|(key, _)| key == "service.name")
            .map_or_else(|| "unknown".to_owned(), |(_, value)| value.clone());
        for scope_spans in resource_spans.scope_spans {
            let (scope_name, scope_version) = scope_spans
                .scope
                .map(|scope| (scope.name, scope.version))
                .unwrap_or_default();
            for span in scope_spans.spans {
                rows.push(row(span, &service, &resource, &scope_name, &scope_version));
            }
        }
    }
    rows
}

fn row(
    span: Span,
    service: &str,
    resource: &[(String, String)],
    scope_name: &str,
    scope_version: &str,
) -> SpanRow {
    let kind = match span.kind() {
        SpanKind::Unspecified => "Unspecified",
        SpanKind::Internal => "Internal",
        SpanKind::Server => "Server",
        SpanKind::Client => "Client",
        SpanKind::Producer => "Producer",
        SpanKind::Consumer => "Consumer",
    };
    let status = span.status.clone().unwrap_or_default();
    let status_code = match status.code() {
        StatusCode::Unset => "Unset",
        StatusCode::Ok => "Ok",
        StatusCode::Error => "Error",
    };
    SpanRow {
        timestamp: i64::try_from(span.start_time_unix_nano).unwrap_or(i64::MAX),
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_span_id: hex(&span.parent_span_id),
        trace_state: span.trace_state,
        span_name: span.name,
        span_kind: kind.to_owned(),
        service_name: service.to_owned(),
        resource_attributes: resource.to_vec(),
        scope_name: scope_name.to_owned(),
        scope_version: scope_version.to_owned(),
        span_attributes: pairs(span.attributes),
        duration: span
            .end_time_unix_nano
            .saturating_sub(span.start_time_unix_nano),
        status_code: status_code.to_owned(),
        status_message: status.message,
    }
}

fn pairs(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    attributes
        .into_iter()
        .map(|pair| (pair.key, pair.value.map(text).unwrap_or_default()))
        .collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BytesValue(bytes)) => hex(&bytes),
        Some(Value::ArrayValue(list)) => {
            let items: Vec<String> = list.values.into_iter().map(text).collect();
            serde_json::to_string(&items).unwrap_or_default()
        }
        Some(Value::KvlistValue(list)) => {
            let items: std::collections::BTreeMap<String, String> =
                pairs(list.values).into_iter().collect();
            serde_json::to_string(&items).unwrap_or_default()
        }
        _ => String::new(),
    }
}
