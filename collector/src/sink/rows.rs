//! Exchanges as rows of the store, and as spans.

use event_store::{ExchangeRow, HealthRow, SpanRow};

use crate::{exchange::Exchange, health::Minute};

/// The exchange's row.
pub(super) fn row_of(exchange: Exchange) -> ExchangeRow {
    ExchangeRow {
        timestamp: i64::try_from(exchange.timestamp.0).unwrap_or(i64::MAX),
        duration_ns: exchange.duration_ns,
        ttfb_ns: exchange.ttfb_ns,
        role: exchange.role.as_str().to_owned(),
        service: exchange.service,
        pid: exchange.pid,
        process: exchange.process,
        method: exchange.method,
        path: exchange.path,
        route: exchange.route,
        host: exchange.host,
        status_code: exchange.status_code,
        protocol: exchange.protocol.to_owned(),
        tls: exchange.tls,
        request_bytes: exchange.request_bytes,
        response_bytes: exchange.response_bytes,
        client_address: exchange.client_address.to_string(),
        client_port: exchange.client_port,
        server_address: exchange.server_address.to_string(),
        server_port: exchange.server_port,
        tenant_id: exchange.tenant_id,
        user_id: exchange.user_id,
        session_id: exchange.session_id,
        trace_id: exchange.trace_id,
        span_id: exchange.span_id,
        parent_span_id: exchange.parent_span_id,
        event: exchange.event,
        outcome: exchange.outcome.as_str().to_owned(),
        attributes: exchange.attributes.into_iter().collect(),
    }
}

/// A minute's rows.
pub(super) fn health_rows(minute: &Minute) -> Vec<HealthRow> {
    minute
        .rows
        .iter()
        .map(|(service, row)| HealthRow {
            minute: minute.starts_at_s,
            service: service.clone(),
            connections: row.connections,
            connect_ns_sum: row.connect_ns_sum,
            connect_ns_max: row.connect_ns_max,
            rtt_us_sum: row.round_trip_us_sum,
            rtt_count: row.round_trip_count,
            retransmits: row.retransmits,
            resets_client: row.resets_client,
            resets_server: row.resets_server,
            syn_unanswered: row.syn_unanswered,
            tls_handshakes: row.tls_handshakes,
            tls_handshake_ns_sum: row.tls_handshake_ns_sum,
            tls_handshake_ns_max: row.tls_handshake_ns_max,
            tls_failures: row
                .tls_failures
                .iter()
                .map(|(reason, count)| ((*reason).to_owned(), *count))
                .collect(),
        })
        .collect()
}

/// The span that an exchange becomes: named and attributed by the OpenTelemetry conventions for HTTP.
pub(super) fn span_of(row: &ExchangeRow) -> Option<SpanRow> {
    let is_server = row.role == "server";
    let method = row.method.as_deref().unwrap_or("HTTP");
    let failed = match row.outcome.as_str() {
        "ok" => !is_server && row.status_code.is_some_and(|status| status >= 400),
        _ => true,
    };
    let mut attributes = vec![
        ("http.request.method".to_owned(), method.to_owned()),
        (
            "network.protocol.version".to_owned(),
            match row.protocol.as_str() {
                "h2" | "grpc" => "2".to_owned(),
                other => other.trim_start_matches("http/").to_owned(),
            },
        ),
        ("server.address".to_owned(), row.server_address.clone()),
        ("server.port".to_owned(), row.server_port.to_string()),
        ("client.address".to_owned(), row.client_address.clone()),
        ("weir.outcome".to_owned(), row.outcome.clone()),
    ];
    let optional = [
        ("url.path", row.path.clone()),
        ("http.route", row.route.clone()),
        (
            "http.response.status_code",
            row.status_code.map(|status| status.to_string()),
        ),
        ("weir.event", row.event.clone()),
        ("weir.ttfb_ns", row.ttfb_ns.map(|ns| ns.to_string())),
    ];
    attributes.extend(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?))),
    );
    attributes.extend(
        row.attributes
            .iter()
            .map(|(name, value)| (format!("weir.{name}"), value.clone())),
    );
    Some(SpanRow {
        timestamp: row.timestamp,
        trace_id: row.trace_id.clone()?,
        span_id: row.span_id.clone()?,
        parent_span_id: row.parent_span_id.clone().unwrap_or_default(),
        trace_state: String::new(),
        span_name: row
            .route
            .as_ref()
            .map_or_else(|| method.to_owned(), |route| format!("{method} {route}")),
        span_kind: if is_server { "Server" } else { "Client" }.to_owned(),
        service_name: row.service.clone().unwrap_or_else(|| "unknown".to_owned()),
        resource_attributes: vec![("telemetry.sdk.name".to_owned(), "weir".to_owned())],
        scope_name: "weir.collector".to_owned(),
        scope_version: env!("CARGO_PKG_VERSION").to_owned(),
        span_attributes: attributes,
        duration: row.duration_ns,
        status_code: if failed { "Error" } else { "Unset" }.to_owned(),
        status_message: String::new(),
    })
}
