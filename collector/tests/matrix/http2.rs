//! Shapes of HTTP/2 in clear text, and the one server that takes the upgrade from HTTP/1.1.

use std::{
    io::{self, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use crate::{
    clients::{curl, told_by},
    harness::script,
    ledger::{Expected, Target},
    wire::Head,
};

const PRIOR: &str = "--http2-prior-knowledge";

/// One transfer: Debian's curl 7.88 fails when it takes up such a connection again.
fn curl_h2(target: &Target, args: &[&str], url: &str) -> Vec<Expected> {
    let lines = curl(target, args, url);
    let spoken = lines.iter().all(|line| line.protocol == "h2");
    assert!(spoken, "{:?}: curl did not speak HTTP/2", target.cell);
    lines
}

pub(crate) fn curl_prior_knowledge(target: &Target) -> Vec<Expected> {
    let body = "u".repeat(100_000);
    let transfers: [(&[&str], &str); 4] = [
        (&[PRIOR], "plain/0"),
        (&[PRIOR, "-I"], "plain/1"),
        (&[PRIOR], "missing/2"),
        // nginx resets the stream of a body that it did not wait for; this one it passes on.
        (&[PRIOR, "--data-binary", &body], "medium/3"),
    ];
    let lines = transfers
        .iter()
        .flat_map(|(args, url)| curl_h2(target, args, url));
    lines.collect()
}

pub(crate) fn curl_upgrade(target: &Target) -> Vec<Expected> {
    let first = curl_h2(target, &["--http2"], "plain/0");
    [first, curl_h2(target, &["--http2"], "plain/[1-4]")].concat()
}

fn node(target: &Target, kind: &str) -> Vec<Expected> {
    let mut command = script("node", "h2_client.js");
    command.arg(kind);
    let mut lines = told_by(command, target);
    for line in &mut lines {
        line.protocol = "h2";
    }
    lines
}

pub(crate) fn node_mixed(target: &Target) -> Vec<Expected> {
    node(target, "mixed")
}

pub(crate) fn node_bodies(target: &Target) -> Vec<Expected> {
    node(target, "bodies")
}

pub(crate) fn node_parallel(target: &Target) -> Vec<Expected> {
    node(target, "parallel")
}

pub(crate) fn node_overtaken(target: &Target) -> Vec<Expected> {
    node(target, "overtaken")
}

pub(crate) fn node_trailers(target: &Target) -> Vec<Expected> {
    node(target, "trailers")
}

pub(crate) fn node_interim(target: &Target) -> Vec<Expected> {
    node(target, "interim")
}

pub(crate) fn node_client_leaves(target: &Target) -> Vec<Expected> {
    node(target, "client_leaves")
}

pub(crate) fn node_server_leaves(target: &Target) -> Vec<Expected> {
    node(target, "server_leaves")
}

pub(crate) fn node_server_refuses(target: &Target) -> Vec<Expected> {
    node(target, "server_refuses")
}

pub(crate) fn node_connection_ends(target: &Target) -> Vec<Expected> {
    node(target, "connection_ends")
}

/// Takes the upgrade and answers every request with 200, until the process ends. Neither nginx nor Node nor hyper
/// takes it, so this one writes its few frames by hand.
pub(crate) fn serve_upgrade(listeners: Vec<TcpListener>) {
    for listener in listeners {
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                // A client that leaves ends its conversation.
                thread::spawn(move || drop(converse(&stream)));
            }
        });
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn converse(stream: &TcpStream) -> io::Result<()> {
    let mut from = BufReader::new(stream);
    let head = Head::read(&mut from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    assert_eq!(head.field("upgrade"), Some("h2c"));
    let mut to = stream;
    to.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    )?;
    send_frame(stream, SETTINGS, 0, 0, &[])?;
    send_answer(stream, 1)?;
    let mut preface = [0; 24];
    from.read_exact(&mut preface)?;
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    loop {
        let mut header = [0; 9];
        from.read_exact(&mut header)?;
        let [a, b, c, kind, flags, id @ ..] = header;
        let length = u32::from_be_bytes([0, a, b, c]);
        let mut payload = vec![0; length as usize];
        from.read_exact(&mut payload)?;
        match kind {
            HEADERS => send_answer(stream, u32::from_be_bytes(id))?,
            SETTINGS | PING if flags & ACK == 0 => {
                let echo: &[u8] = if kind == PING { &payload } else { &[] };
                send_frame(stream, kind, ACK, 0, echo)?;
            }
            _ => {}
        }
    }
}

fn send_frame(mut to: &TcpStream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let header = [&[a, b, c, kind, flags], &id.to_be_bytes()[..]].concat();
    to.write_all(&[&header, payload].concat())
}

fn send_answer(to: &TcpStream, id: u32) -> io::Result<()> {
    /// `:status: 200` is entry 8 of HPACK's static table.
    const STATUS_200: &[u8] = &[0x88];
    send_frame(to, HEADERS, END_HEADERS, id, STATUS_200)?;
    send_frame(to, DATA, END_STREAM, id, b"ok\n")
}
