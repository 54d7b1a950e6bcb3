//! HTTP/2 as the `h2` crate speaks it, watched: an in-memory client and server talk, both directions are recorded,
//! cut into pieces, and every exchange must come out as it was made. The independent truths are the plan that client
//! and server follow, and a plain walk over the whole recording.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use collector::{
    clock::MonotonicNs,
    exchange::{Outcome, Protocol},
    facts::FactRules,
    http::Side,
    http2::Http2,
    ledger::{Ledger, Line},
    pairing::{InFlight, Surroundings},
    privacy::scrub,
    tcp::Piece,
};
use http::{HeaderMap, HeaderValue, Request, Response};
use proptest::prelude::*;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    task::JoinSet,
};

/// One exchange that client and server agree to make.
#[derive(Clone, Debug)]
struct Plan {
    method: &'static str,
    path: String,
    tenant: String,
    request_body: usize,
    status: u16,
    user: String,
    response_body: usize,
    /// Makes it gRPC, with this status in the trailers.
    grpc_status: Option<u32>,
    /// Bytes of header fields that nobody asks for; many make CONTINUATION frames.
    padding: usize,
}

type Log = Arc<Mutex<Vec<(Side, Vec<u8>)>>>;

/// The client's end of the wire; writes down what passes.
struct Tap {
    wire: DuplexStream,
    log: Log,
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.wire).poll_read(context, buffer))?;
        let bytes = buffer.filled()[before..].to_vec();
        self.log.lock().unwrap().push((Side::Response, bytes));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.wire).poll_write(context, bytes))?;
        let bytes = bytes[..count].to_vec();
        self.log.lock().unwrap().push((Side::Request, bytes));
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}

fn body(plan: usize, length: usize) -> Bytes {
    (0..length)
        .map(|at| u8::try_from((at * 31 + plan * 7) % 251).unwrap())
        .collect()
}

async fn drain(mut stream: h2::RecvStream) -> usize {
    let mut length = 0;
    while let Some(chunk) = stream.data().await {
        let chunk = chunk.unwrap();
        length += chunk.len();
        stream.flow_control().release_capacity(chunk.len()).unwrap();
    }
    stream.trailers().await.unwrap();
    length
}

fn pad(headers: &mut HeaderMap, bytes: usize) {
    for (number, size) in (0..bytes).step_by(6_000).enumerate() {
        // Seven bits each in the Huffman code.
        let value = "q".repeat(6_000.min(bytes - size));
        let name = format!("x-padding-{number}");
        headers.insert(
            http::HeaderName::try_from(name).unwrap(),
            value.parse().unwrap(),
        );
    }
}

async fn serve(
    number: usize,
    plan: Plan,
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    assert_eq!(drain(request.into_body()).await, plan.request_body);
    let user = HeaderValue::from_bytes(plan.user.as_bytes()).unwrap();
    let mut head = Response::builder()
        .status(plan.status)
        .header("x-user", user)
        .body(())
        .unwrap();
    pad(head.headers_mut(), plan.padding);
    let is_head_only = plan.response_body == 0 && plan.grpc_status.is_none();
    let mut stream = respond.send_response(head, is_head_only).unwrap();
    if plan.response_body > 0 {
        let is_last = plan.grpc_status.is_none();
        stream
            .send_data(body(number, plan.response_body), is_last)
            .unwrap();
    }
    if let Some(status) = plan.grpc_status {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.to_string().parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    }
}

fn request_of(number: usize, plan: &Plan) -> Request<()> {
    let tenant = HeaderValue::from_bytes(plan.tenant.as_bytes()).unwrap();
    let mut request = Request::builder()
        .method(plan.method)
        .uri(format!("http://shop.example{}?q=secret", plan.path))
        .header("x-tenant", tenant)
        .header("x-plan", number.to_string());
    if plan.grpc_status.is_some() {
        request = request.header("content-type", "application/grpc+proto");
    }
    let mut request = request.body(()).unwrap();
    pad(request.headers_mut(), plan.padding);
    request
}

/// Plays the plans, `at_once` of them at a time, and returns what went over the wire, in order.
fn play(plans: &[Plan], at_once: usize, table_bytes: u32) -> Vec<(Side, Vec<u8>)> {
    let log = Log::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (near, far) = tokio::io::duplex(20_000);
        let tap = Tap {
            wire: near,
            log: Arc::clone(&log),
        };
        let server_plans = plans.to_vec();
        let server = tokio::spawn(async move {
            let mut server = h2::server::Builder::new()
                .initial_window_size(30_000)
                .handshake::<_, Bytes>(far)
                .await
                .unwrap();
            while let Some(Ok((request, respond))) = server.accept().await {
                let number = request.headers()["x-plan"]
                    .to_str()
                    .unwrap()
                    .parse()
                    .unwrap();
                let plan: &Plan = &server_plans[number];
                tokio::spawn(serve(number, plan.clone(), request, respond));
            }
        });
        let (client, connection) = h2::client::Builder::new()
            .header_table_size(table_bytes)
            .handshake::<_, Bytes>(tap)
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let mut running = JoinSet::new();
        for (number, plan) in plans.iter().enumerate() {
            if running.len() >= at_once {
                running.join_next().await.unwrap().unwrap();
            }
            let is_head_only = plan.request_body == 0;
            client = client.ready().await.unwrap();
            let (response, mut stream) = client
                .send_request(request_of(number, plan), is_head_only)
                .unwrap();
            if !is_head_only {
                stream
                    .send_data(body(number, plan.request_body), true)
                    .unwrap();
            }
            let plan = plan.clone();
            running.spawn(async move {
                let response = response.await.unwrap();
                assert_eq!(response.status(), plan.status);
                assert_eq!(drain(response.into_body()).await, plan.response_body);
            });
        }
        while let Some(joined) = running.join_next().await {
            joined.unwrap();
        }
        drop(client);
        connection.await.unwrap().unwrap();
        server.await.unwrap();
    });
    Arc::try_unwrap(log).unwrap().into_inner().unwrap()
}

/// A stretch of one direction, as the reassembly hands it over.
#[derive(Clone, Debug)]
struct Stretch {
    side: Side,
    bytes: Vec<u8>,
    hole: u64,
    lost: bool,
}

fn seen(side: Side, bytes: &[u8]) -> Stretch {
    Stretch {
        side,
        bytes: bytes.to_vec(),
        hole: 0,
        lost: false,
    }
}

/// Cuts the recording anew: what one side said without interruption is one run, cut at `sizes`.
fn cut(recording: &[(Side, Vec<u8>)], sizes: &[usize]) -> Vec<Stretch> {
    let mut sizes = sizes.iter().copied().cycle();
    recording
        .chunk_by(|a, b| a.0 == b.0)
        .flat_map(|run| {
            let bytes: Vec<u8> = run.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            let (mut rest, mut out) = (bytes.as_slice(), Vec::new());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(sizes.next().unwrap().min(rest.len()));
                out.push(seen(run[0].0, piece));
                rest = after;
            }
            out
        })
        .collect()
}

const PREFACE_BYTES: usize = 24;

/// The recording as whole frames, each where its last byte stands, the client's preface in front.
fn frames(recording: &[(Side, Vec<u8>)]) -> Vec<Stretch> {
    let mut buffers = [Vec::new(), Vec::new()];
    let mut out = Vec::new();
    let mut preface_due = true;
    for (side, bytes) in recording {
        let buffer = &mut buffers[usize::from(*side == Side::Response)];
        buffer.extend_from_slice(bytes);
        loop {
            let length = if preface_due && *side == Side::Request {
                PREFACE_BYTES
            } else if buffer.len() >= 9 {
                9 + usize::try_from(u32::from_be_bytes([0, buffer[0], buffer[1], buffer[2]]))
                    .unwrap()
            } else {
                break;
            };
            if buffer.len() < length {
                break;
            }
            preface_due &= *side == Side::Response;
            out.push(seen(*side, &buffer[..length]));
            buffer.drain(..length);
        }
    }
    assert!(buffers.iter().all(Vec::is_empty));
    out
}

/// What a plain walk tells of one stream in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Walked {
    wire_bytes: u64,
    body_bytes: usize,
    continuations: u32,
}

fn stream_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[5..9].try_into().unwrap())
}

fn walk(recording: &[(Side, Vec<u8>)]) -> BTreeMap<(bool, u32), Walked> {
    let mut walked: BTreeMap<(bool, u32), Walked> = BTreeMap::new();
    for Stretch { side, bytes, .. } in frames(recording) {
        if bytes.starts_with(b"PRI") || !matches!(bytes[3], 0 | 1 | 9) {
            continue;
        }
        let of_stream = walked
            .entry((side == Side::Response, stream_of(&bytes)))
            .or_default();
        of_stream.wire_bytes += bytes.len() as u64;
        of_stream.body_bytes += if bytes[3] == 0 { bytes.len() - 9 } else { 0 };
        of_stream.continuations += u32::from(bytes[3] == 9);
    }
    walked
}

struct Watched {
    exchanges: Vec<InFlight>,
    ledger: Ledger,
}

fn watch(mut http2: Http2, pieces: &[Stretch], same_time: bool) -> Watched {
    let rules = FactRules {
        tenant: vec!["request.header:x-tenant".parse().unwrap()],
        user: vec!["response.header:x-user".parse().unwrap()],
        attribute_headers: vec!["x-plan".to_owned()],
        ..FactRules::default()
    };
    let ledger = Ledger::default();
    let around = Surroundings::new(&rules, &ledger, None);
    let mut exchanges = Vec::new();
    for (at, piece) in (1_u64..).zip(pieces) {
        let Stretch {
            side,
            bytes,
            hole,
            lost,
        } = piece;
        let piece = Piece {
            bytes,
            hole: *hole,
            lost: *lost,
            at: MonotonicNs(if same_time { 1 } else { at }),
        };
        http2.feed(*side, piece, &around, &mut exchanges);
    }
    http2.end(false, &around, &mut exchanges);
    assert_eq!(http2.outstanding(), 0);
    assert_eq!(ledger.get(Line::Exchanges), exchanges.len() as u64);
    Watched { exchanges, ledger }
}

fn number_of(exchange: &InFlight) -> Option<usize> {
    exchange
        .request_facts
        .attributes
        .get("plan")
        .map(|number| number.parse().unwrap())
}

/// Sorted by the number of the plan.
fn by_plan(mut watched: Watched) -> Vec<InFlight> {
    watched.exchanges.sort_by_key(number_of);
    watched.exchanges
}

fn check_one(exchange: &InFlight, number: usize, plan: &Plan) {
    let is_error = plan.status >= 500 || matches!(plan.grpc_status, Some(2 | 4 | 12..=15));
    assert_eq!(
        exchange.outcome(),
        if is_error {
            Outcome::Error
        } else {
            Outcome::Ok
        }
    );
    assert_eq!(number_of(exchange), Some(number));
    assert_eq!(exchange.method.as_deref(), Some(plan.method));
    assert_eq!(exchange.path.as_ref(), Some(&plan.path));
    assert_eq!(exchange.status, Some(plan.status));
    assert_eq!(exchange.request_facts.host.as_deref(), Some("shop.example"));
    assert_eq!(exchange.request_facts.tenant.as_ref(), Some(&plan.tenant));
    assert_eq!(exchange.response_facts.user.as_ref(), Some(&plan.user));
    assert_eq!(exchange.grpc_status, plan.grpc_status);
    let protocol = if plan.grpc_status.is_some() {
        Protocol::Grpc
    } else {
        Protocol::H2
    };
    assert_eq!(exchange.protocol, protocol);
    assert!(exchange.started <= exchange.response_started.unwrap());
    assert!(exchange.response_started.unwrap() <= exchange.ended());
}

/// Everything as planned, byte counts as walked. The client numbers its streams in the order of the plans.
fn check_all(recording: &[(Side, Vec<u8>)], plans: &[Plan], watched: Watched) {
    assert_eq!(watched.ledger.lost(), 0);
    for line in [
        Line::HeadsMalformed,
        Line::ResponsesOrphaned,
        Line::BytesSkipped,
        Line::ExchangesTruncated,
    ] {
        assert_eq!(watched.ledger.get(line), 0, "{line:?}");
    }
    let walked = walk(recording);
    let exchanges = by_plan(watched);
    assert_eq!(exchanges.len(), plans.len());
    for (number, (exchange, plan)) in exchanges.iter().zip(plans).enumerate() {
        check_one(exchange, number, plan);
        let stream = u32::try_from(2 * number + 1).unwrap();
        assert_eq!(exchange.ordinal, u64::from(stream));
        let (request, response) = (walked[&(false, stream)], walked[&(true, stream)]);
        assert_eq!(request.body_bytes, plan.request_body);
        assert_eq!(response.body_bytes, plan.response_body);
        assert_eq!(exchange.request_bytes, request.wire_bytes);
        assert_eq!(exchange.response_bytes, response.wire_bytes);
        if plan.padding > 20_000 {
            assert!(request.continuations > 0 && response.continuations > 0);
        }
    }
}

/// Nothing in it looks like a card number, a token or the like.
fn is_harmless(text: &str) -> bool {
    scrub(text) == text
}

/// Text that a header value may hold and that the facts keep as it is.
fn text() -> impl Strategy<Value = String> {
    let texts = prop_oneof!["[!-~]([ -~]{0,60}[!-~])?", "t[0-3]", "[a-zäöü€]{1,30}"];
    texts.prop_filter("the facts keep it", |text| is_harmless(text))
}

fn plan() -> impl Strategy<Value = Plan> {
    let path = prop_oneof![
        "/[a-z]{1,8}",
        "/[A-Za-z0-9._~!$&'()*+,;=@/-]{0,60}",
        Just("/".to_owned())
    ]
    .prop_filter("the path is kept", |path| is_harmless(path));
    let body = || prop_oneof![3 => Just(0_usize), 3 => 1_usize..300, 1 => 30_000_usize..90_000];
    let padding = prop_oneof![12 => Just(0_usize), 1 => 21_000_usize..40_000];
    let status = prop_oneof![Just(200_u16), Just(404), Just(500), 200_u16..600];
    let methods = proptest::sample::select(vec!["GET", "POST", "PUT", "DELETE", "X-OWN"]);
    let head = (methods, path, text(), text(), status, padding);
    (
        head,
        body(),
        body(),
        proptest::option::weighted(0.3, 0_u32..17),
    )
        .prop_map(
            |((method, path, tenant, user, status, padding), request_body, response_body, grpc)| {
                Plan {
                    method,
                    path,
                    tenant,
                    request_body,
                    // Such a response has no body.
                    status: if status == 304 { 303 } else { status.max(205) },
                    user,
                    response_body,
                    grpc_status: grpc,
                    padding,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_h2_sends_is_seen_as_it_was(
        plans in proptest::collection::vec(plan(), 1..40),
        at_once in 1_usize..9,
        table_bytes in prop_oneof![Just(4_096_u32), Just(0), Just(100), Just(65_536), Just(1 << 20)],
        sizes in proptest::collection::vec(1_usize..3_000, 1..50),
    ) {
        let recording = play(&plans, at_once, table_bytes);
        let watched = watch(Http2::new(true), &cut(&recording, &sizes), false);
        check_all(&recording, &plans, watched);
    }
}

fn some_plans() -> Vec<Plan> {
    (0..30_u16)
        .map(|number| Plan {
            method: if number % 3 == 0 { "POST" } else { "GET" },
            path: format!("/products/{}", number % 7),
            tenant: format!("tenant-{}", number % 4),
            request_body: usize::from(number % 3 == 0) * 400 * usize::from(number),
            status: [200, 201, 404, 503][usize::from(number % 4)],
            user: format!("user-{number}"),
            response_body: usize::from(number % 5) * 9_000,
            grpc_status: (number % 6 == 5).then_some(u32::from(number % 2)),
            padding: usize::from(number == 11) * 30_000,
        })
        .collect()
}

static RECORDING: LazyLock<Vec<(Side, Vec<u8>)>> = LazyLock::new(|| play(&some_plans(), 6, 4_096));

#[test]
fn bodies_need_not_be_captured() {
    let pieces: Vec<Stretch> = frames(&RECORDING)
        .into_iter()
        .map(|mut frame| {
            let is_data = !frame.bytes.starts_with(b"PRI") && frame.bytes[3] == 0;
            let kept = if is_data {
                frame.bytes.len().min(9 + 100)
            } else {
                frame.bytes.len()
            };
            frame.hole = (frame.bytes.len() - kept) as u64;
            frame.bytes.truncate(kept);
            frame
        })
        .collect();
    assert!(pieces.iter().any(|piece| piece.hole > 10_000));
    let watched = watch(Http2::new(true), &pieces, false);
    check_all(&RECORDING, &some_plans(), watched);
}

#[test]
fn a_client_that_turns_away_leaves_an_aborted_exchange() {
    let log = Log::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (near, far) = tokio::io::duplex(20_000);
        let tap = Tap {
            wire: near,
            log: Arc::clone(&log),
        };
        let server = tokio::spawn(async move {
            let mut server = h2::server::handshake(far).await.unwrap();
            let mut open = Vec::new();
            while let Some(Ok((_, mut respond))) = server.accept().await {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream
                    .send_data(Bytes::from_static(b"some"), false)
                    .unwrap();
                open.push(stream);
            }
        });
        let (client, connection) = h2::client::handshake(tap).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = Request::get("http://shop.example/endless")
            .body(())
            .unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let response = response.await.unwrap();
        drop((response, client));
        connection.await.unwrap().unwrap();
        server.await.unwrap();
    });
    let recording = Arc::try_unwrap(log).unwrap().into_inner().unwrap();
    let watched = watch(Http2::new(true), &cut(&recording, &[50]), false);
    let seen: Vec<_> = watched
        .exchanges
        .iter()
        .map(|exchange| {
            (
                exchange.path.as_deref(),
                exchange.status,
                exchange.outcome(),
            )
        })
        .collect();
    assert_eq!(seen, [(Some("/endless"), Some(200), Outcome::Aborted)]);
}

/// A value is right or unknown.
fn right_or_unknown<T: PartialEq + std::fmt::Debug>(seen: Option<&T>, planned: &T) -> bool {
    seen.is_none_or(|seen| seen == planned)
}

/// The exchange is one of those planned, told by its start, with nothing in it that was not so.
fn nothing_is_made_up(exchange: &InFlight, plan: &Plan) {
    assert!(right_or_unknown(
        exchange.method.as_ref(),
        &plan.method.to_owned()
    ));
    assert!(right_or_unknown(exchange.path.as_ref(), &plan.path));
    assert!(right_or_unknown(exchange.status.as_ref(), &plan.status));
    assert!(right_or_unknown(
        exchange.request_facts.tenant.as_ref(),
        &plan.tenant
    ));
    assert!(right_or_unknown(
        exchange.response_facts.user.as_ref(),
        &plan.user
    ));
    if let Some(planned) = plan.grpc_status {
        assert!(right_or_unknown(exchange.grpc_status.as_ref(), &planned));
    }
}

#[test]
fn joined_at_any_frame_later_exchanges_are_seen_and_nothing_is_made_up() {
    let plans = some_plans();
    let frames = frames(&RECORDING);
    for from in 0..frames.len() {
        let rest = &frames[from..];
        // Which exchange begins where: one frame is one piece, so the start tells the stream.
        let began: BTreeMap<u64, usize> = (1..)
            .zip(rest)
            .filter(|(_, frame)| {
                let is_head = !frame.bytes.starts_with(b"PRI") && frame.bytes[3] == 1;
                frame.side == Side::Request && is_head
            })
            .map(|(at, frame)| (at, usize::try_from(stream_of(&frame.bytes) / 2).unwrap()))
            .collect();
        let watched = watch(Http2::new(false), rest, false);
        assert_eq!(watched.ledger.get(Line::HeadsMalformed), 0);
        assert_eq!(watched.exchanges.len(), began.len());
        for exchange in &watched.exchanges {
            let number = began[&exchange.started.0];
            nothing_is_made_up(exchange, &plans[number]);
            assert!(right_or_unknown(number_of(exchange).as_ref(), &number));
            // `h2` sends the path as a literal each time, so it is always known.
            assert_eq!(exchange.path.as_ref(), Some(&plans[number].path));
            assert_ne!(exchange.outcome(), Outcome::Aborted);
        }
    }
}

proptest! {
    #[test]
    fn any_segmentation_gives_the_same_exchanges(
        sizes in proptest::collection::vec(prop_oneof![1_usize..20, 1_usize..20_000], 1..40),
    ) {
        let whole = watch(Http2::new(true), &cut(&RECORDING, &[usize::MAX]), true);
        let pieces = watch(Http2::new(true), &cut(&RECORDING, &sizes), true);
        prop_assert_eq!(format!("{:?}", by_plan(whole)), format!("{:?}", by_plan(pieces)));
    }

    #[test]
    fn after_losses_what_is_called_whole_is_whole(
        sizes in proptest::collection::vec(20_usize..3_000, 1..40),
        gone in proptest::collection::vec(any::<proptest::sample::Index>(), 1..6),
    ) {
        let plans = some_plans();
        let mut pieces = cut(&RECORDING, &sizes);
        for index in gone {
            let piece = index.get(&pieces).clone();
            let at = index.index(pieces.len());
            pieces[at] = Stretch { bytes: vec![], hole: piece.hole + piece.bytes.len() as u64, lost: true, ..piece };
        }
        let watched = watch(Http2::new(true), &pieces, false);
        prop_assert!(watched.exchanges.len() <= plans.len());
        for exchange in &watched.exchanges {
            if let Some(number) = number_of(exchange) {
                nothing_is_made_up(exchange, &plans[number]);
            }
        }
    }

    #[test]
    fn damaged_bytes_end_in_exchanges_or_counts_but_never_in_a_panic(
        sizes in proptest::collection::vec(20_usize..3_000, 1..40),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<proptest::sample::Index>(), any::<u8>()), 1..40),
        from_start in any::<bool>(),
    ) {
        let mut pieces = cut(&RECORDING, &sizes);
        for (piece, at, byte) in damage {
            let bytes = &mut piece.get_mut(&mut pieces).bytes;
            *at.get_mut(bytes) = byte;
        }
        watch(Http2::new(from_start), &pieces, false);
    }
}
