//! The rows of the matrix: every shape, and the servers that can do their part of it.

use crate::{
    clients, crowds, endings, http2,
    ledger::{Expected, Target},
    messages,
};

/// Does something to a server and tells what.
pub(crate) type Shape = fn(&Target) -> Vec<Expected>;

/// A row: its name, which is the first part of its paths, what it does, and to whom.
pub(crate) type Row = (&'static str, Shape, &'static [&'static str]);

/// Every server of HTTP/1.
pub(crate) const ALL: &[&str] = &[
    "raw-rust",
    "raw-python",
    "asyncio",
    "http.server",
    "node",
    "nginx",
    "axum",
    "io_uring",
];
/// Without the one that knows lengths only.
const WHOLE: &[&str] = ALL.split_at(7).0;
/// Of those, the ones that send trailers.
const TRAILERS: &[&str] = ALL.split_at(6).0;
const NO_NGINX: &[&str] = ALL.split_at(5).0;
/// Those that write their bytes themselves.
const BY_HAND: &[&str] = ALL.split_at(4).0;
const NO_LIBRARY: &[&str] = ALL.split_at(3).0;
/// Those that switch protocols.
const SWITCHING: &[&str] = &["raw-rust", "raw-python", "asyncio", "node", "nginx"];
/// Python's http.server closes on an empty line.
const PATIENT: &[&str] = &[
    "raw-rust",
    "raw-python",
    "asyncio",
    "node",
    "nginx",
    "axum",
    "io_uring",
];
/// Those that are made for many connections. A collector without optimisation must keep up with the sum of all shapes.
const QUICK: &[&str] = &["raw-rust", "node", "nginx", "axum"];
const QUICKEST: &[&str] = &["nginx", "axum"];

/// HTTP/1.
pub(crate) const SHAPES: &[Row] = &[
    ("sequential", messages::sequential, ALL),
    ("pipelined-one-send", messages::pipelined_in_one_send, ALL),
    ("pipelined-sends", messages::pipelined_in_several_sends, ALL),
    ("split-after-2", messages::split_after_2, ALL),
    ("split-after-12", messages::split_after_12, ALL),
    ("split-into-bytes", messages::split_into_bytes, ALL),
    ("scattered", messages::scattered, ALL),
    ("cookie-3-kb", messages::cookie_of_3_kb, ALL),
    ("cookie-12-kb", messages::cookie_of_12_kb, ALL),
    ("cookie-in-segments", messages::cookie_in_segments, ALL),
    ("lower-case-names", messages::lower_case_names, ALL),
    ("empty-lines-first", messages::empty_lines_first, PATIENT),
    ("late-body", messages::late_body, ALL),
    ("upload-300-kb", messages::upload_of_300_kb, ALL),
    ("large-segments", messages::large_segments, ALL),
    ("head", messages::head_requests, ALL),
    ("io_uring-client", messages::uring_client, ALL),
    ("chunked-request", messages::chunked_request, WHOLE),
    ("chunked-response", messages::chunked_response, WHOLE),
    (
        "chunked-trailers",
        messages::chunked_both_with_trailers,
        TRAILERS,
    ),
    ("without-body", messages::without_body, WHOLE),
    ("expect-continue", messages::expect_continue, WHOLE),
    (
        "interim",
        messages::interim_responses,
        &["raw-rust", "node"],
    ),
    ("dribbled-response", messages::dribbled_response, BY_HAND),
    ("sendfile-1-gb", messages::sendfile_of_1_gb, &["nginx"]),
    ("websocket", messages::websocket, SWITCHING),
    ("connection-close", endings::connection_close, ALL),
    ("http-1.0", endings::http_1_0_until_close, WHOLE),
    ("until-close", endings::until_close, BY_HAND),
    ("client-leaves", endings::client_leaves_before, WHOLE),
    ("client-resets", endings::client_resets_before, WHOLE),
    ("client-leaves-body", endings::client_leaves_during, WHOLE),
    (
        "client-leaves-endless",
        endings::client_leaves_endless,
        &["raw-rust"],
    ),
    (
        "client-leaves-own-body",
        endings::client_leaves_in_its_body,
        NO_LIBRARY,
    ),
    (
        "server-leaves-body",
        endings::server_closes_in_body,
        TRAILERS,
    ),
    (
        "server-leaves-chunks",
        endings::server_closes_in_chunks,
        WHOLE,
    ),
    (
        "server-resets-body",
        endings::server_resets_in_body,
        NO_NGINX,
    ),
    (
        "server-leaves-head",
        endings::server_closes_in_head,
        BY_HAND,
    ),
    ("server-leaves", endings::server_closes_silently, NO_NGINX),
    ("early-413", endings::early_413, WHOLE),
    ("port-after-abort", endings::port_after_abort, WHOLE),
    ("port-after-tunnel", endings::port_after_tunnel, SWITCHING),
    ("short-connections", crowds::short_connections, QUICK),
    ("same-port", crowds::same_port, QUICK),
    ("slow-loris", crowds::slow_loris, ALL),
    ("thousands", crowds::thousands, QUICKEST),
    ("python-client", clients::python_client, QUICKEST),
    ("node-client", clients::node_client, QUICK),
    ("curl", clients::curl_keep_alive, ALL),
    ("curl-upload", clients::curl_upload, ALL),
    ("curl-expect-continue", clients::curl_expect_continue, WHOLE),
];

const H2: &[&str] = &["node-h2", "nginx-h2", "axum-h2"];
/// hyper takes no heads of more than 16 KB.
const H2_LARGE_HEADS: &[&str] = H2.split_at(2).0;
const H2_NODE: &[&str] = H2.split_at(1).0;

/// HTTP/2 in clear text.
pub(crate) const HTTP2_SHAPES: &[Row] = &[
    ("h2-curl", http2::curl_prior_knowledge, H2),
    ("h2-curl-upgrade", http2::curl_upgrade, &["h2c-upgrade"]),
    ("h2-mixed", http2::node_mixed, H2_LARGE_HEADS),
    ("h2-bodies", http2::node_bodies, H2),
    ("h2-parallel", http2::node_parallel, H2),
    ("h2-overtaken", http2::node_overtaken, H2_NODE),
    ("h2-trailers", http2::node_trailers, H2_NODE),
    ("h2-interim", http2::node_interim, H2_NODE),
    ("h2-client-leaves", http2::node_client_leaves, H2),
    ("h2-server-refuses", http2::node_server_refuses, H2_NODE),
    // Node ends a stream before it resets it.
    (
        "h2-server-leaves",
        http2::node_server_leaves,
        &["nginx-h2", "axum-h2"],
    ),
    ("h2-connection-ends", http2::node_connection_ends, H2),
];
