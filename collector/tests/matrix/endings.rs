//! Shapes that differ in how a connection ends.

use std::{thread, time::Duration};

use crate::{
    client::Connection,
    harness::own_port,
    ledger::{Expected, Target},
    wire::Request,
};

pub(crate) fn connection_close(target: &Target) -> Vec<Expected> {
    let one = |number| {
        let mut connection = Connection::open(target);
        connection.ask(&Request::get(target, "plain", number), 200);
        let request = Request::get(target, "plain", number + 1).with("Connection", "close");
        connection.ask(&request, 200);
        connection.wait_for_close();
        connection.close()
    };
    [one(0), one(2)].concat()
}

/// The end of the connection is the end of the body.
pub(crate) fn http_1_0_until_close(target: &Target) -> Vec<Expected> {
    let one = |behaviour, number| {
        let mut connection = Connection::open(target);
        let request = Request::get(target, behaviour, number).of_version("HTTP/1.0");
        connection.ask(&request, 200);
        connection.wait_for_close();
        connection.close()
    };
    [one("close", 0), one("plain", 1), one("close", 2)].concat()
}

pub(crate) fn until_close(target: &Target) -> Vec<Expected> {
    let mut connection = Connection::open(target);
    connection.ask(&Request::get(target, "plain", 0), 200);
    connection.ask(&Request::get(target, "close", 1), 200);
    connection.close()
}

/// One whole exchange, and one that the client leaves before there is an answer.
fn abort_before_response(
    target: &Target,
    leave: impl Fn(Connection) -> Vec<Expected>,
) -> Vec<Expected> {
    let one = |number| {
        let mut connection = Connection::open(target);
        connection.ask(&Request::get(target, "plain", number), 200);
        let request = Request::get(target, "hang", number + 1);
        connection.send(&request.wire());
        connection.given_up(&request, None).response_bytes = Some(0);
        // Long enough for the server to have read the request: that it hangs is what is aborted here.
        thread::sleep(Duration::from_millis(5));
        leave(connection)
    };
    [one(0), one(2)].concat()
}

pub(crate) fn client_leaves_before(target: &Target) -> Vec<Expected> {
    abort_before_response(target, Connection::close)
}

pub(crate) fn client_resets_before(target: &Target) -> Vec<Expected> {
    abort_before_response(target, Connection::reset)
}

fn abort_during(target: &Target, behaviour: &str) -> Vec<Expected> {
    let mut connection = Connection::open(target);
    connection.ask(&Request::get(target, "plain", 0), 200);
    let request = Request::get(target, behaviour, 1);
    connection.send(&request.wire());
    connection.read_some(200, 100_000);
    connection.given_up(&request, Some(200));
    // Most of the body is unread, so the kernel answers it with RST.
    connection.close()
}

pub(crate) fn client_leaves_during(target: &Target) -> Vec<Expected> {
    abort_during(target, "big")
}

/// Of a body that would have lasted until the connection's end.
pub(crate) fn client_leaves_endless(target: &Target) -> Vec<Expected> {
    abort_during(target, "endless")
}

pub(crate) fn client_leaves_in_its_body(target: &Target) -> Vec<Expected> {
    let mut connection = Connection::open(target);
    connection.ask(&Request::post(target, 0, 10), 200);
    let request = Request::post(target, 1, 1_000);
    let wire = request.wire();
    let sent = &wire[..wire.len() - 300];
    connection.send(sent);
    let line = connection.given_up(&request, None);
    line.request_bytes = Some(sent.len() as u64);
    line.response_bytes = Some(0);
    connection.close()
}

fn server_breaks_off(target: &Target, behaviour: &str, status: Option<u16>) -> Vec<Expected> {
    let one = |number| {
        let mut connection = Connection::open(target);
        connection.ask(&Request::get(target, "plain", number), 200);
        connection.begin();
        let request = Request::get(target, behaviour, number + 1);
        connection.send(&request.wire());
        connection.broken_off(&request, status);
        connection.close()
    };
    [one(0), one(2)].concat()
}

pub(crate) fn server_closes_in_body(target: &Target) -> Vec<Expected> {
    server_breaks_off(target, "cut", Some(200))
}

pub(crate) fn server_closes_in_chunks(target: &Target) -> Vec<Expected> {
    server_breaks_off(target, "cut-chunked", Some(200))
}

pub(crate) fn server_resets_in_body(target: &Target) -> Vec<Expected> {
    server_breaks_off(target, "reset", Some(200))
}

pub(crate) fn server_closes_in_head(target: &Target) -> Vec<Expected> {
    server_breaks_off(target, "cut-head", None)
}

pub(crate) fn server_closes_silently(target: &Target) -> Vec<Expected> {
    server_breaks_off(target, "silent", None)
}

/// The answer is there before the request is: the server wants no more of it.
pub(crate) fn early_413(target: &Target) -> Vec<Expected> {
    let one = |number| {
        let mut connection = Connection::open(target);
        let request = Request::new(target, "POST", "early", number).with_body(200_000);
        let wire = request.wire();
        let sent = &wire[..request.head().len() + 100];
        connection.begin();
        connection.send(sent);
        connection.answered(&request, 413).request_bytes = Some(sent.len() as u64);
        connection.wait_for_close();
        connection.close()
    };
    [one(0), one(1)].concat()
}

/// While a body that the kernel was told not to copy is on its way, the client resets, and the next connection on the
/// same ports has large segments that must be copied.
pub(crate) fn port_after_abort(target: &Target) -> Vec<Expected> {
    let port = own_port(target.cell.v6);
    let mut connection = Connection::open_from(target, port);
    let request = Request::get(target, "big", 0);
    connection.send(&request.wire());
    connection.read_some(200, 1_000_000);
    // Nothing outside tells when the collector has told the kernel; it polls every 10 ms at the latest.
    thread::sleep(Duration::from_millis(60));
    connection.given_up(&request, Some(200));
    [connection.reset(), large_segments(target, port)].concat()
}

/// The same after a tunnel, where both directions are of no more interest.
pub(crate) fn port_after_tunnel(target: &Target) -> Vec<Expected> {
    let port = own_port(target.cell.v6);
    let mut connection = Connection::open_from(target, port);
    let request = Request::get(target, "upgrade", 0)
        .with("Connection", "Upgrade")
        .with("Upgrade", "websocket");
    let line = connection.ask(&request, 101);
    line.request_bytes = None;
    line.response_bytes = None;
    for _ in 0..3 {
        connection.send(&[b't'; 5_000]);
        connection.read_raw(5_000);
        // As above.
        thread::sleep(Duration::from_millis(30));
    }
    [connection.reset(), large_segments(target, port)].concat()
}

fn large_segments(target: &Target, port: u16) -> Vec<Expected> {
    let mut connection = Connection::open_from(target, port);
    for number in 1..4 {
        let request = Request::get(target, "medium", number)
            .with("Cookie", &"c".repeat(9_000))
            .with_trace(number as u64);
        connection.ask(&request, 200);
    }
    connection.reset()
}
