//! From what was seen to an exchange: service, route, event, ids.

use std::{
    collections::BTreeMap,
    hash::{Hash as _, Hasher as _},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use ebpf_probes::abi::watch;

use super::{ConnectionKey, Listener, Listeners, PipelineConfig};
use crate::{
    clock::ClockAnchor,
    exchange::{Exchange, Role},
    pairing::InFlight,
    trace_context::{TraceParent, derive_ids},
};

/// What is known of the connection that carried an exchange.
#[derive(Clone, Debug, Default)]
pub(super) struct Carried {
    pub(super) tls: bool,
    /// See [`crate::connection::Connection::identity`].
    pub(super) identity: u64,
    /// The calling end is watched too, and makes a span of the same call.
    pub(super) is_seen_at_client: bool,
    /// Who opened it, when that was on this host.
    pub(super) opener: Option<Arc<super::OpenedBy>>,
}

impl Carried {
    /// The span of the calling end, for the serving end of the same call.
    fn client_span(&self, key: &ConnectionKey, ordinal: u64) -> Option<String> {
        (key.side == watch::SERVER && self.is_seen_at_client)
            .then(|| client_span_of(key, self.identity, ordinal))
    }
}

/// Names what was seen.
pub(super) struct Namer {
    pub(super) config: PipelineConfig,
    pub(super) listeners: Box<dyn Listeners>,
    pub(super) anchor: ClockAnchor,
}

impl Namer {
    /// Who serves a connection.
    pub(super) fn listener(&mut self, key: &ConnectionKey) -> Arc<Listener> {
        let port = key.client_to_server.destination_port;
        self.listeners.of_port(port)
    }

    pub(super) fn name(
        &mut self,
        key: &ConnectionKey,
        listener: &Listener,
        carried: &Carried,
        seen: InFlight,
    ) -> Exchange {
        let flow = &key.client_to_server;
        let outcome = seen.outcome();
        let duration_ns = seen.ended().since(seen.started);
        let route = seen.path.as_deref().map(|path| {
            self.config
                .routes
                .route(listener.service.as_deref().unwrap_or_default(), path)
        });
        let event = route.as_deref().and_then(|route| {
            let (service, method) = (listener.service.as_deref(), seen.method.as_deref());
            self.config.events.name(service, method, route, seen.status)
        });
        let (request, response) = (seen.request_facts, seen.response_facts);
        let ids = ids_of(key, carried.identity, seen.ordinal);
        let tenant = request.tenant.or(response.tenant);
        let pseudonyms = &self.config.pseudonyms;
        let user = |id| pseudonyms.user(tenant.as_deref(), id);
        let session = |id: String| pseudonyms.session(tenant.as_deref(), &id);
        let user_id = request.user.or(response.user).map(user);
        let session_id = request.session.or(response.session).map(session);
        let mut attributes: BTreeMap<String, String> = request.attributes;
        if let Some(status) = seen.grpc_status {
            attributes.insert("grpc_status".to_owned(), status.to_string());
        }
        attributes.extend(listener.attributes.iter().cloned());
        if let Some(opener) = &carried.opener {
            self.name_opener(opener, &mut attributes);
        }
        let answered_by = (key.side == watch::SERVER)
            .then_some(seen.task)
            .flatten()
            .map(|task| task.process)
            .filter(|process| listener.pids.is_empty() || listener.pids.contains(process));
        let (trace_id, parent) = trace_of(request.trace, response.trace, ids.0, &mut attributes);
        let parent_span_id = parent.or_else(|| carried.client_span(key, seen.ordinal));
        Exchange {
            timestamp: self.anchor.to_unix(seen.started),
            duration_ns,
            ttfb_ns: seen.response_started.map(|at| at.since(seen.started)),
            role: if key.side == watch::SERVER {
                Role::Server
            } else {
                Role::Client
            },
            service: listener.service.clone(),
            pid: answered_by.or(listener.pid),
            process: listener.process.clone(),
            method: seen.method,
            path: seen.path,
            route,
            host: request.host,
            status_code: seen.status,
            protocol: seen.protocol.as_str(),
            tls: carried.tls,
            request_bytes: seen.request_bytes,
            response_bytes: seen.response_bytes,
            client_address: ip(flow.source_address),
            client_port: flow.source_port,
            server_address: ip(flow.destination_address),
            server_port: flow.destination_port,
            tenant_id: tenant,
            user_id,
            session_id,
            trace_id: Some(trace_id),
            span_id: Some(ids.1),
            parent_span_id,
            event,
            outcome,
            attributes,
        }
    }
}

impl Namer {
    /// The calling end, when it is on this host: with the server's name this is an edge of the service map.
    fn name_opener(&mut self, opener: &super::OpenedBy, attributes: &mut BTreeMap<String, String>) {
        let service = self.listeners.service_of(opener.task.process);
        let service = service.unwrap_or_else(|| opener.command.clone());
        if service != opener.command {
            attributes.insert("client_process".to_owned(), opener.command.clone());
        }
        attributes.insert("client_service".to_owned(), service);
        attributes.insert("client_pid".to_owned(), opener.task.process.to_string());
    }
}

/// Trace id and parent: the request's, else the trace that the service says it began, else our own.
fn trace_of(
    request: Option<TraceParent>,
    response: Option<TraceParent>,
    derived: String,
    attributes: &mut BTreeMap<String, String>,
) -> (String, Option<String>) {
    match (request, response) {
        (Some(parent), _) => (parent.trace_id, Some(parent.span_id)),
        (None, Some(answer)) => {
            attributes.insert("service_span_id".to_owned(), answer.span_id);
            (answer.trace_id, None)
        }
        (None, None) => (derived, None),
    }
}

/// Trace and span of an exchange that names none. They depend only on what both ends of the connection see, so that
/// the two sights of one call, even from two hosts, share a trace; the span is that of the end observed.
fn ids_of(key: &ConnectionKey, identity: u64, ordinal: u64) -> (String, String) {
    let flow = &key.client_to_server;
    let (identity, ordinal) = (identity.to_le_bytes(), ordinal.to_le_bytes());
    let (client_port, server_port) = (
        flow.source_port.to_le_bytes(),
        flow.destination_port.to_le_bytes(),
    );
    derive_ids(
        &[
            &flow.source_address,
            &flow.destination_address,
            &client_port,
            &server_port,
            &identity,
            &ordinal,
        ],
        key.side,
    )
}

/// The span that the calling end of the same call becomes: what makes the two sights of a call one edge.
fn client_span_of(key: &ConnectionKey, identity: u64, ordinal: u64) -> String {
    let client = ConnectionKey {
        side: watch::CLIENT,
        ..*key
    };
    ids_of(&client, identity, ordinal).1
}

/// Names a request among those that are open.
pub(super) fn key_of(key: &ConnectionKey, identity: u64, ordinal: u64) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (key, identity, ordinal).hash(&mut hasher);
    hasher.finish()
}

fn ip(address: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(address).to_canonical()
}
