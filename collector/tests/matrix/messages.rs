//! Shapes that differ in how whole messages are built and cut.

use std::{thread, time::Duration};

use rustix::net::SendFlags;

use crate::{
    client::Connection,
    ledger::{Expected, Target},
    uring,
    wire::Request,
};

/// Long enough that it cannot be mistaken for the time between two segments.
const LATE: Duration = Duration::from_millis(20);

/// A mixture that every server understands, with the status it must give.
fn mixed(target: &Target, number: usize) -> (Request, u16) {
    match number % 6 {
        0 => (Request::post(target, number, 40 + number), 200),
        1 => (Request::get(target, "missing", number), 404),
        2 => (Request::new(target, "HEAD", "plain", number), 200),
        3 => (Request::get(target, "medium", number), 200),
        4 => (Request::get(target, "fail", number), 503),
        _ => (Request::get(target, "plain", number), 200),
    }
}

pub(crate) fn sequential(target: &Target) -> Vec<Expected> {
    let mut connection = Connection::open(target);
    for number in 0..50 {
        let (request, status) = mixed(target, number);
        connection.ask(&request, status);
    }
    connection.close()
}

/// Through the rings of `io_uring` instead of system calls.
pub(crate) fn uring_client(target: &Target) -> Vec<Expected> {
    let (stream, port) = uring::Stream::connect(target.address);
    let mut connection = Connection::over(target, Box::new(stream), port);
    for number in 0..12 {
        let (request, status) = mixed(target, number);
        connection.ask(&request, status);
    }
    connection.close()
}

/// Sends many requests at once, however `send` does it, and only then reads the answers.
fn pipelined(target: &Target, send: impl FnOnce(&mut Connection, &[u8])) -> Vec<Expected> {
    let requests: Vec<_> = (0..30).map(|number| mixed(target, number)).collect();
    let wire: Vec<u8> = requests
        .iter()
        .flat_map(|(request, _)| request.wire())
        .collect();
    let mut connection = Connection::open(target);
    connection.begin();
    send(&mut connection, &wire);
    for (request, status) in &requests {
        connection.answered(request, *status);
    }
    connection.close()
}

pub(crate) fn pipelined_in_one_send(target: &Target) -> Vec<Expected> {
    pipelined(target, Connection::send)
}

pub(crate) fn pipelined_in_several_sends(target: &Target) -> Vec<Expected> {
    pipelined(target, |connection, wire| {
        connection.send_parts(wire.chunks(97));
    })
}

/// A few requests on one connection, with and without a body, each sent as `send` likes it.
fn each(
    target: &Target,
    dress: impl Fn(Request) -> Request,
    send: impl Fn(&mut Connection, &[u8]),
) -> Vec<Expected> {
    let mut connection = Connection::open(target);
    for number in 0..3 {
        let request = match number {
            1 => Request::post(target, number, 500),
            _ => Request::get(target, "plain", number),
        };
        let request = dress(request);
        connection.begin();
        send(&mut connection, &request.wire());
        connection.answered(&request, 200);
    }
    connection.close()
}

fn as_is(request: Request) -> Request {
    request
}

fn split_at(target: &Target, at: usize) -> Vec<Expected> {
    each(target, as_is, |connection, wire| {
        let (first, second) = wire.split_at(at);
        connection.send_parts([first, second]);
    })
}

pub(crate) fn split_after_2(target: &Target) -> Vec<Expected> {
    split_at(target, 2)
}

pub(crate) fn split_after_12(target: &Target) -> Vec<Expected> {
    split_at(target, 12)
}

/// Every byte of the head, up to the last one of its empty line, on its own.
pub(crate) fn split_into_bytes(target: &Target) -> Vec<Expected> {
    each(target, as_is, |connection, wire| {
        let head = wire.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let (head, body) = wire.split_at(head);
        let body = [body].into_iter().filter(|body| !body.is_empty());
        connection.send_parts(head.chunks(1).chain(body));
    })
}

pub(crate) fn scattered(target: &Target) -> Vec<Expected> {
    let by_writev = each(target, as_is, Connection::send_vectored);
    let by_sendmsg = each(target, as_is, |connection, wire| {
        connection.send_message(wire, SendFlags::empty());
    });
    // The kernel waits for the second part before it sends the first.
    let corked = each(target, as_is, |connection, wire| {
        let (first, second) = wire.split_at(30);
        connection.send_message(first, SendFlags::MORE);
        connection.send_message(second, SendFlags::empty());
    });
    [by_writev, by_sendmsg, corked].concat()
}

fn cookie(target: &Target, bytes: usize, segment_bytes: usize) -> Vec<Expected> {
    let dress = |request: Request| {
        let number = bytes as u64 * 100 + request.wire().len() as u64;
        request
            .with("Cookie", &format!("a={}", "c".repeat(bytes)))
            .with_trace(number)
    };
    each(target, dress, |connection, wire| {
        connection.send_parts(wire.chunks(segment_bytes));
    })
}

pub(crate) fn cookie_of_3_kb(target: &Target) -> Vec<Expected> {
    cookie(target, 3_000, usize::MAX)
}

pub(crate) fn cookie_of_12_kb(target: &Target) -> Vec<Expected> {
    cookie(target, 12_000, usize::MAX)
}

pub(crate) fn cookie_in_segments(target: &Target) -> Vec<Expected> {
    cookie(target, 12_000, 1_448)
}

pub(crate) fn late_body(target: &Target) -> Vec<Expected> {
    let mut connection = Connection::open(target);
    for number in 0..3 {
        let request = Request::post(target, number, 2_000);
        connection.begin();
        connection.send(&request.head());
        thread::sleep(LATE);
        connection.send_parts(request.body.chunks(900));
        let line = connection.answered(&request, 200);
        // nginx answers before it has read a body that it has no use for; the clock ends with the answer.
        if target.cell.server != "nginx" {
            line.at_least = LATE;
        }
    }
    connection.close()
}

pub(crate) fn upload_of_300_kb(target: &Target) -> Vec<Expected> {
    let mut connection = Connection::open(target);
    connection.ask(&Request::post(target, 0, 300_000), 200);
    connection.ask(&Request::get(target, "plain", 1), 200);
    connection.close()
}

/// Once both windows have grown, the kernel makes segments of more than 64 KB on loopback, with anything in them.
pub(crate) fn large_segments(target: &Target) -> Vec<Expected> {
    let mut connection = Connection::open(target);
    connection.ask(&Request::post(target, 0, 2_000_000), 200);
    connection.ask(&Request::get(target, "chunked-big", 1), 200);
    let requests: Vec<Request> = (2..400)
        .map(|number| Request::get(target, "plain", number).with("Cookie", &"c".repeat(250)))
        .collect();
    let wire: Vec<u8> = requests.iter().flat_map(Request::wire).collect();
    connection.begin();
    connection.send(&wire);
    for request in &requests {
        connection.answered(request, 200);
    }
    connection.ask(&Request::get(target, "chunked-big", 400), 200);
    connection.ask(&Request::get(target, "plain", 401), 200);
    connection.close()
}

const CHUNKS: &[u8] = b"5\r\nHTTP/\r\n00c;name=\"v\"\r\n1.1 200 OK\r\n\r\nA\r\n0123456789\r\n0\r\n";

fn chunked(target: &Target, behaviour: &str, end: &str) -> Vec<Expected> {
    let chunks = [CHUNKS, end.as_bytes()].concat();
    let mut connection = Connection::open(target);
    for (number, segment_bytes) in [usize::MAX, 1, 7].into_iter().enumerate() {
        let request = Request::new(target, "POST", behaviour, number).with_chunks(&chunks);
        connection.begin();
        connection.send(&request.head());
        connection.send_parts(request.body.chunks(segment_bytes));
        connection.answered(&request, 200);
    }
    connection.close()
}

pub(crate) fn chunked_request(target: &Target) -> Vec<Expected> {
    chunked(target, "plain", "\r\n")
}

pub(crate) fn chunked_both_with_trailers(target: &Target) -> Vec<Expected> {
    chunked(target, "trailers", "X-Check: 1\r\nX-Other: 2\r\n\r\n")
}

pub(crate) fn chunked_response(target: &Target) -> Vec<Expected> {
    answers(
        target,
        &[("chunked", 200), ("chunked", 200), ("plain", 200)],
    )
}

/// One request after the other on one connection.
fn answers(target: &Target, wanted: &[(&str, u16)]) -> Vec<Expected> {
    let mut connection = Connection::open(target);
    for (number, (behaviour, status)) in wanted.iter().enumerate() {
        connection.ask(&Request::get(target, behaviour, number), *status);
    }
    connection.close()
}

pub(crate) fn without_body(target: &Target) -> Vec<Expected> {
    let wanted = [
        ("empty", 204),
        ("plain", 200),
        ("unchanged", 304),
        ("empty", 204),
        ("plain", 200),
    ];
    answers(target, &wanted)
}

pub(crate) fn dribbled_response(target: &Target) -> Vec<Expected> {
    answers(target, &[("dribble", 200), ("plain", 200)])
}

pub(crate) fn interim_responses(target: &Target) -> Vec<Expected> {
    answers(target, &[("interim", 200), ("plain", 200)])
}

pub(crate) fn expect_continue(target: &Target) -> Vec<Expected> {
    let mut connection = Connection::open(target);
    for number in 0..2 {
        let request = Request::post(target, number, 3_000).with("Expect", "100-continue");
        connection.begin();
        connection.send(&request.head());
        connection.wait_for_interim("100");
        connection.send(&request.body);
        connection.answered(&request, 200);
    }
    connection.close()
}

pub(crate) fn head_requests(target: &Target) -> Vec<Expected> {
    let mut connection = Connection::open(target);
    for number in 0..10 {
        let method = if number % 2 == 0 { "HEAD" } else { "GET" };
        connection.ask(&Request::new(target, method, "plain", number), 200);
    }
    connection.close()
}

pub(crate) fn empty_lines_first(target: &Target) -> Vec<Expected> {
    let mut connection = Connection::open(target);
    for number in 0..3 {
        let request = Request::get(target, "plain", number);
        connection.begin();
        connection.send(b"\r\n");
        connection.send(&request.wire());
        // Whether the empty line belongs to the request is nobody's business.
        connection.answered(&request, 200).request_bytes = None;
    }
    connection.close()
}

pub(crate) fn lower_case_names(target: &Target) -> Vec<Expected> {
    let dress = |request: Request| request.with_trace(7).lower_case();
    each(target, dress, Connection::send)
}

/// 1 GiB out of a file that has no blocks: all of it is `sendfile`.
pub(crate) fn sendfile_of_1_gb(target: &Target) -> Vec<Expected> {
    let mut connection = Connection::open(target);
    let line = connection.ask(&Request::get(target, "large", 0), 200);
    assert!(line.response_bytes.unwrap() > 1 << 30);
    // The last byte leaves the server a socket buffer before the client has read it.
    line.at_least = line.at_most.unwrap() / 2;
    connection.ask(&Request::get(target, "plain", 1), 200);
    connection.close()
}

pub(crate) fn websocket(target: &Target) -> Vec<Expected> {
    const FRAME: &[u8] =
        b"\x81\x1dGET / HTTP/1.1\r\nHost: a\r\n\r\n\x81\x13HTTP/1.1 200 OK\r\n\r\n";
    let mut connection = Connection::open(target);
    connection.ask(&Request::get(target, "plain", 0), 200);
    let request = Request::get(target, "upgrade", 1)
        .with("Connection", "Upgrade")
        .with("Upgrade", "websocket");
    let line = connection.ask(&request, 101);
    // Whether frames count as part of the messages is not said anywhere.
    line.request_bytes = None;
    line.response_bytes = None;
    for _ in 0..5 {
        connection.send(FRAME);
        connection.read_raw(FRAME.len() as u64);
        connection.send(&FRAME[2..]);
        connection.read_raw(FRAME.len() as u64 - 2);
    }
    connection.close()
}
