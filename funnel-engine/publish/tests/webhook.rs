//! Webhooks against a receiver that has bad days.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

use std::{sync::Arc, time::Duration};

use funnel_publish::{Publisher, Retry, Secret, SinkCounts, SinkSettings, Snapshot, WebhookSink};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};

const SECRET: &str = "a secret of some length";

/// A request as it came over the wire.
#[derive(Clone, Debug)]
struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    async fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        let split = loop {
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8(bytes[..split].to_vec()).unwrap();
        let mut request = Self {
            head,
            body: bytes[split..].to_vec(),
        };
        let length: usize = request.header("content-length").parse().unwrap();
        while request.body.len() < length {
            assert!(stream.read_buf(&mut request.body).await.unwrap() > 0);
        }
        request
    }

    fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().unwrap().1
    }

    /// Recomputes the signature from the raw bytes.
    fn is_signed(&self) -> bool {
        let (time, hex) = self.header("weir-signature").split_once(",v1=").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("{}.", time.strip_prefix("t=").unwrap()).as_bytes());
        mac.update(&self.body);
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        mac.verify_slice(&bytes).is_ok()
    }
}

/// A receiver that gives these answers, the last one for ever.
async fn receiver(answers: Vec<String>) -> (String, Arc<Mutex<Vec<Request>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/in?token=query-secret",
        listener.local_addr().unwrap()
    );
    let seen = Arc::new(Mutex::new(Vec::new()));
    tokio::spawn({
        let seen = Arc::clone(&seen);
        async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = Request::read(&mut stream).await;
                let mut seen = seen.lock().await;
                let answer = &answers[seen.len().min(answers.len() - 1)];
                seen.push(request);
                // An empty answer closes the connection without one.
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (url, seen)
}

fn answer(status: &str, headers: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n")
}

fn snapshot(revision: u64) -> Snapshot {
    Snapshot {
        funnel: "checkout".to_owned(),
        tenant: "t1".to_owned(),
        from_ns: 1_767_225_600_000_000_000,
        to_ns: 1_767_229_200_000_000_000,
        revision,
        is_final: true,
        steps: Vec::new(),
    }
}

async fn deliver(url: &str) -> SinkCounts {
    let sink = WebhookSink::new(url, Secret::new(SECRET).unwrap(), "weir/0.1").unwrap();
    assert!(!format!("{sink:?}").contains(SECRET));
    let settings = SinkSettings {
        retry: Retry {
            attempts: 4,
            first_wait: Duration::from_millis(10),
            longest_wait: Duration::from_millis(50),
        },
        timeout: Duration::from_secs(2),
        ..SinkSettings::default()
    };
    let mut publisher = Publisher::new();
    publisher.add("bi", sink, settings);
    publisher.publish([snapshot(7)]);
    publisher.close(Duration::from_secs(10)).await;
    publisher.counts().next().unwrap().1
}

#[tokio::test]
async fn a_delivery_is_repeated_with_its_id_and_a_valid_signature_until_it_is_taken() {
    let answers = vec![answer("500 No", ""), String::new(), answer("204 Yes", "")];
    let (url, seen) = receiver(answers).await;
    let counts = deliver(&url).await;
    assert_eq!((counts.published, counts.retried, counts.failed), (1, 2, 0));
    let seen = seen.lock().await;
    assert_eq!(seen.len(), 3);
    for request in seen.iter() {
        assert!(
            request
                .head
                .starts_with("POST /in?token=query-secret HTTP/1.1")
        );
        assert!(request.is_signed());
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(
            request.header("weir-delivery"),
            seen[0].header("weir-delivery")
        );
        assert_eq!(request.body, seen[0].body);
    }
    let body: serde_json::Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!(body["delivery"], seen[0].header("weir-delivery"));
    assert_eq!(body["windows"][0]["from"], "2026-01-01T00:00:00Z");
    assert_eq!(body["windows"][0]["revision"], 7);
    let mut changed = seen[0].clone();
    changed.body[0] = b'[';
    assert!(!changed.is_signed(), "the check can fail");
}

#[tokio::test]
async fn it_is_given_up_in_the_end() {
    let (url, seen) = receiver(vec![answer("503 No", "Retry-After: 9999\r\n")]).await;
    let counts = deliver(&url).await;
    assert_eq!((counts.published, counts.retried, counts.failed), (0, 3, 1));
    assert_eq!(seen.lock().await.len(), 4);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (other, seen_there) = receiver(vec![answer("200 Yes", "")]).await;
    let elsewhere = answer("307 There", &format!("Location: {other}\r\n"));
    let (url, seen) = receiver(vec![elsewhere]).await;
    let counts = deliver(&url).await;
    assert_eq!((counts.published, counts.failed), (0, 1));
    assert_eq!(
        seen.lock().await.len(),
        1,
        "the same answer would come again"
    );
    assert!(seen_there.lock().await.is_empty());
}

#[tokio::test]
async fn nobody_there_is_worth_another_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let counts = deliver(&url).await;
    assert_eq!((counts.retried, counts.failed), (3, 1));
}
