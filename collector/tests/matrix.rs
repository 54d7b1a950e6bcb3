//! The capture matrix: every way to send a request that other tools lose, against every kind of server, over both
//! address families, on the real kernel. The truth is what the clients themselves wrote into a ledger while they did
//! it; the collector must have each exchange exactly once and nothing else.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

#[path = "matrix/axum_server.rs"]
mod axum_server;
#[path = "matrix/client.rs"]
mod client;
#[path = "matrix/clients.rs"]
mod clients;
#[path = "matrix/crowds.rs"]
mod crowds;
#[path = "matrix/endings.rs"]
mod endings;
#[path = "matrix/harness.rs"]
mod harness;
#[path = "matrix/http2.rs"]
mod http2;
#[path = "matrix/ledger.rs"]
mod ledger;
#[path = "matrix/messages.rs"]
mod messages;
#[path = "matrix/raw_server.rs"]
mod raw_server;
#[path = "matrix/shapes.rs"]
mod shapes;
#[expect(
    unsafe_code,
    reason = "io_uring is given buffers that the kernel uses after the call"
)]
#[path = "matrix/uring.rs"]
mod uring;
#[path = "matrix/wire.rs"]
mod wire;

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
};

use crowds::{OLDER, Older};
use harness::{Collector, Server, allow_many_files, nginx, script};
use ledger::{Cell, Expected, Matrix, Target};
use shapes::{HTTP2_SHAPES, Row, SHAPES};

/// The tests measure time and fill the machine, so they take turns even where the runner starts them together.
static TURN: Mutex<()> = Mutex::new(());

fn target(shape: &str, server: &Server, v6: bool) -> Target {
    let cell = Cell {
        shape: shape.to_owned(),
        server: server.name,
        v6,
    };
    Target {
        cell,
        address: server.address(v6),
    }
}

fn both_families(servers: &[Server]) -> impl Iterator<Item = (&Server, bool)> {
    let families = |server| [(server, false), (server, true)];
    servers.iter().flat_map(families)
}

/// A few servers and families at the same time, each with one shape after the other: all at once would leave the
/// collector no processor.
fn run_shapes(shapes: &[Row], servers: &[Server]) -> Vec<Expected> {
    const AT_ONCE: usize = 5;
    let ways = Mutex::new(both_families(servers));
    let work = || {
        let mut ledger = Vec::new();
        loop {
            let Some((server, v6)) = ways.lock().unwrap().next() else {
                return ledger;
            };
            let suited = shapes
                .iter()
                .filter(|(_, _, servers)| servers.contains(&server.name));
            for (name, shape, _) in suited {
                ledger.extend(shape(&target(name, server, v6)));
            }
        }
    };
    thread::scope(|scope| {
        let threads = [(); AT_ONCE].map(|()| scope.spawn(work));
        let ledgers = threads.map(|thread| thread.join().unwrap());
        ledgers.concat()
    })
}

/// The servers of HTTP/1, which are all there is in [`shapes::ALL`].
fn start_servers(folder: &Path, upstream: &Server) -> Vec<Server> {
    let python = |name, kind: &str| {
        Server::outside(name, |port| {
            let mut command = script("python3", "servers.py");
            command.args([kind, &port.to_string()]);
            command
        })
    };
    let servers = vec![
        Server::inside("raw-rust", raw_server::serve),
        Server::inside("axum", axum_server::serve),
        Server::inside("io_uring", uring::serve),
        python("raw-python", "raw"),
        python("asyncio", "asyncio"),
        python("http.server", "http"),
        start_node("node", "server.js"),
        start_nginx("nginx", folder, "", upstream),
    ];
    assert_eq!(servers.len(), shapes::ALL.len());
    servers
}

fn start_node(name: &'static str, program: &str) -> Server {
    Server::outside(name, |port| {
        let mut command = script("node", program);
        command.arg(port.to_string());
        command
    })
}

fn start_nginx(name: &'static str, folder: &Path, listen_as: &str, upstream: &Server) -> Server {
    Server::outside(name, |port| {
        nginx(&folder.join(name), port, listen_as, upstream.port)
    })
}

/// Ends the collector and holds its exchanges against the ledger.
fn assert_equal(collector: Collector, expected: Vec<Expected>, servers: &[Server]) -> String {
    let (exchanges, summary) = collector.finish();
    let ports = servers.iter().map(|server| (server.port, server.name));
    let matrix = Matrix::compare(expected, &exchanges, &ports.collect());
    let table = matrix.table();
    assert!(
        matrix.is_equal() && summary["lost"] == 0,
        "found/expected, ! marks a difference:\n{table}\n\n{}\nsummary: {summary}",
        matrix.problems()
    );
    table
}

#[test]
fn http_1_is_captured_in_every_shape() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    allow_many_files();
    let folder = tempfile::tempdir().unwrap();
    let upstream = Server::inside("upstream", raw_server::serve);
    let servers = start_servers(folder.path(), &upstream);
    let targets: Vec<(&Older, Target)> = OLDER
        .iter()
        .flat_map(|row| {
            let suited =
                both_families(&servers).filter(|(server, _)| row.servers.contains(&server.name));
            suited.map(move |(server, v6)| (row, target(row.name, server, v6)))
        })
        .collect();
    let older: Vec<_> = targets
        .iter()
        .map(|(row, target)| (row.after, target, (row.before)(target)))
        .collect();
    let collector = Collector::start(folder.path(), &servers);
    let mut expected: Vec<Expected> = older
        .into_iter()
        .flat_map(|(goes_on, target, connection)| goes_on(connection, target))
        .collect();
    expected.extend(run_shapes(SHAPES, &servers));
    println!("{}", assert_equal(collector, expected, &servers));
}

#[test]
fn http_2_in_clear_text_is_captured_in_every_shape() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let upstream = Server::inside("upstream", raw_server::serve);
    let servers = [
        start_node("node-h2", "h2_server.js"),
        start_nginx("nginx-h2", folder.path(), "http2", &upstream),
        Server::inside("axum-h2", axum_server::serve),
        Server::inside("h2c-upgrade", http2::serve_upgrade),
    ];
    let collector = Collector::start(folder.path(), &servers);
    let expected = run_shapes(HTTP2_SHAPES, &servers);
    println!("{}", assert_equal(collector, expected, &servers));
}
