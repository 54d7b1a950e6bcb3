//! An endpoint that webhooks post to: fails at first, checks signatures by a computation of its own, keeps the highest
//! revision of each window.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

pub(crate) const SECRET: &str = "webhook-secret-7f31";
/// Deliveries that are not taken.
const FAILURES: usize = 3;

/// What came in.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: usize,
    /// Ids of those that were not taken.
    pub(crate) failed: Vec<String>,
    /// Ids of those that were.
    pub(crate) taken: Vec<String>,
    /// By funnel, tenant and beginning: revision and counts.
    pub(crate) windows: BTreeMap<(String, String, String), (u64, Vec<u64>)>,
}

/// Listens on a free port until the test ends.
pub(crate) async fn start() -> (String, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/in?token=url-secret",
        listener.local_addr().unwrap()
    );
    let seen = Arc::new(Mutex::new(Seen::default()));
    tokio::spawn({
        let seen = Arc::clone(&seen);
        async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (head, body) = read(&mut stream).await;
                let answer = take(&mut seen.lock().unwrap(), &head, &body);
                let answer =
                    format!("HTTP/1.1 {answer}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                stream
                    .write_all(answer.as_bytes())
                    .await
                    .unwrap_or_default();
            }
        }
    });
    (url, seen)
}

async fn read(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        let split = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(split) = split {
            let head = String::from_utf8(bytes[..split].to_vec()).unwrap();
            let length: usize = header(&head, "content-length").parse().unwrap();
            if bytes.len() >= split + 4 + length {
                return (head, bytes[split + 4..].to_vec());
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            // The sender was killed half-way.
            return (String::new(), Vec::new());
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map_or("", |(_, value)| value)
}

fn take(seen: &mut Seen, head: &str, body: &[u8]) -> &'static str {
    if head.is_empty() {
        return "400 No";
    }
    let (time, hex) = header(head, "weir-signature").split_once(",v1=").unwrap();
    let mut signed = time.strip_prefix("t=").unwrap().as_bytes().to_vec();
    signed.push(b'.');
    signed.extend_from_slice(body);
    let digits = (0..hex.len()).step_by(2);
    let told: Vec<u8> = digits
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    assert_eq!(
        hmac_sha256(SECRET.as_bytes(), &signed),
        told,
        "the signature"
    );
    let id = header(head, "weir-delivery").to_owned();
    seen.requests += 1;
    if seen.requests <= FAILURES {
        seen.failed.push(id);
        return "503 Later";
    }
    let body: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(body["delivery"], id.as_str());
    for window in body["windows"].as_array().unwrap() {
        let text = |name: &str| window[name].as_str().unwrap().to_owned();
        let key = (text("funnel"), text("tenant"), text("from"));
        let steps = window["steps"].as_array().unwrap().iter();
        let counts = steps.map(|step| step["count"].as_u64().unwrap()).collect();
        let revision = window["revision"].as_u64().unwrap();
        let known = seen.windows.entry(key).or_default();
        if known.0 < revision {
            *known = (revision, counts);
        }
    }
    seen.taken.push(id);
    "204 Yes"
}

/// RFC 2104 by hand, to check the server by something else than its own library.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new()
        .chain_update(padded(0x36))
        .chain_update(message)
        .finalize();
    let outer = Sha256::new()
        .chain_update(padded(0x5c))
        .chain_update(inner)
        .finalize();
    outer.to_vec()
}
