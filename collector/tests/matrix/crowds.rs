//! Shapes with many connections, and with connections that were there before the collector.

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

use crate::{
    client::{BETWEEN_SEGMENTS, Connection},
    harness::own_port,
    ledger::{Expected, Target},
    raw_server,
    shapes::ALL,
    wire::Request,
};

const SHORT_CONNECTIONS: usize = 500;
const THOUSANDS: usize = 2_000;
const SLOW: usize = 40;

pub(crate) fn short_connections(target: &Target) -> Vec<Expected> {
    let one = |_| {
        let mut connection = Connection::open(target);
        connection.ask(&Request::get(target, "plain", 0), 200);
        connection.close()
    };
    (0..SHORT_CONNECTIONS).flat_map(one).collect()
}

/// All from one client port, each torn down with RST so that the next can follow at once.
pub(crate) fn same_port(target: &Target) -> Vec<Expected> {
    let port = own_port(target.cell.v6);
    let one = |_| {
        let mut connection = Connection::open_from(target, port);
        connection.ask(&Request::get(target, "plain", 0), 200);
        connection.reset()
    };
    (0..SHORT_CONNECTIONS).flat_map(one).collect()
}

/// Connections that send a byte of a head now and then, never finish it, and disturb nobody.
pub(crate) fn slow_loris(target: &Target) -> Vec<Expected> {
    let head = Request::get(target, "plain", 99).head();
    let mut slow: Vec<_> = (0..SLOW).map(|_| Connection::open(target)).collect();
    let mut quick = Connection::open(target);
    for number in 0..20 {
        for connection in &mut slow {
            connection.send(&head[number..=number]);
        }
        quick.ask(&Request::get(target, "plain", number), 200);
        thread::sleep(BETWEEN_SEGMENTS);
    }
    let speechless = |line: &Connection| Expected::speechless(&target.cell, line.port);
    let speechless: Vec<Expected> = slow.iter().map(speechless).collect();
    [quick.close(), speechless].concat()
}

/// Thousands of connections open at once. One server at a time: all together would need too many descriptors.
pub(crate) fn thousands(target: &Target) -> Vec<Expected> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut connections: Vec<_> = (0..THOUSANDS).map(|_| Connection::open(target)).collect();
    for round in 0..3 {
        let request = |index: usize| Request::get(target, "plain", index * 3 + round);
        for (index, connection) in connections.iter_mut().enumerate() {
            connection.begin();
            connection.send(&request(index).wire());
        }
        for (index, connection) in connections.iter_mut().enumerate() {
            connection.answered(&request(index), 200);
        }
    }
    connections
        .into_iter()
        .flat_map(Connection::close)
        .collect()
}

/// A shape in two parts: what happens to a connection before the collector starts, and after.
pub(crate) struct Older {
    pub(crate) name: &'static str,
    pub(crate) before: fn(&Target) -> Connection,
    pub(crate) after: fn(Connection, &Target) -> Vec<Expected>,
    pub(crate) servers: &'static [&'static str],
}

/// The shapes of connections that are older than the collector.
pub(crate) const OLDER: &[Older] = &[
    Older {
        name: "older",
        before: open_before,
        after: goes_on,
        servers: ALL,
    },
    Older {
        name: "older-pipelined",
        before: open_before,
        after: goes_on_pipelined,
        servers: ALL,
    },
    Older {
        name: "older-split-after-2",
        before: open_before,
        after: goes_on_split,
        servers: ALL,
    },
    Older {
        name: "older-asked-before",
        before: ask_before,
        after: answered_after,
        servers: &["raw-rust"],
    },
    Older {
        name: "older-in-body",
        before: begin_body_before,
        after: body_goes_on,
        servers: &["nginx"],
    },
];

/// Opened and used before the collector starts; that exchange is not expected.
fn open_before(target: &Target) -> Connection {
    let mut connection = Connection::open(target);
    connection.ask(&Request::get(target, "plain", 0), 200);
    connection.expected.clear();
    connection
}

fn goes_on(mut connection: Connection, target: &Target) -> Vec<Expected> {
    for number in 1..6 {
        connection.ask(&Request::post(target, number, 100), 200);
    }
    connection.close()
}

fn goes_on_pipelined(mut connection: Connection, target: &Target) -> Vec<Expected> {
    let requests: Vec<Request> = (1..6)
        .map(|number| Request::post(target, number, 100))
        .collect();
    let wire: Vec<u8> = requests.iter().flat_map(Request::wire).collect();
    connection.begin();
    connection.send(&wire);
    for request in &requests {
        connection.answered(request, 200);
    }
    connection.close()
}

/// What is left of a head without its first two bytes still looks like one, with another method.
fn goes_on_split(mut connection: Connection, target: &Target) -> Vec<Expected> {
    for number in 1..4 {
        let request = Request::get(target, "plain", number);
        let wire = request.wire();
        let (first, second) = wire.split_at(2);
        connection.begin();
        connection.send_parts([first, second]);
        connection.answered(&request, 200);
    }
    connection.close()
}

/// Asked before the collector starts, answered after; only what is asked later is expected.
fn ask_before(target: &Target) -> Connection {
    let mut connection = Connection::open(target);
    connection.send(&Request::get(target, "hold", 0).wire());
    connection
}

fn answered_after(mut connection: Connection, target: &Target) -> Vec<Expected> {
    raw_server::release();
    connection.answered(&Request::get(target, "hold", 0), 404);
    connection.expected.clear();
    goes_on(connection, target)
}

/// A body is on its way when the collector starts: nothing of it may be taken for a message.
fn begin_body_before(target: &Target) -> Connection {
    let mut connection = Connection::open(target);
    connection.send(&Request::get(target, "big", 0).wire());
    connection.read_some(200, 100_000);
    connection
}

fn body_goes_on(mut connection: Connection, target: &Target) -> Vec<Expected> {
    connection.read_raw(64_000_000 - 100_000);
    goes_on(connection, target)
}
