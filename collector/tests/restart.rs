//! Killed and started again: a kept capture loses nothing and tells nothing twice. The independent truth is the
//! client's own list of requests that were answered.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use axum::{Router, extract::Path as AxumPath, routing::get};
use serde_json::Value;
use weir_testing::{Ended, free_port, wait_until};

const REQUESTS_PER_SECOND: u64 = 5_000;
const CONNECTIONS: u64 = 20;

/// A service in this process.
fn serve(port: u16) {
    thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
                .await
                .unwrap();
            let slow = get(|| async {
                tokio::time::sleep(Duration::from_secs(6)).await;
                "slow"
            });
            let answer = get(|AxumPath(n): AxumPath<String>| async move { n });
            let app = Router::new().route("/n/{n}", answer).route("/slow", slow);
            axum::serve(listener, app).await.unwrap();
        });
    });
    wait_until("the service listening", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
}

/// Keep-alive clients that together ask [`REQUESTS_PER_SECOND`] numbered questions until told to stop.
struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<u64>>,
}

impl Clients {
    fn start(port: u16) -> Self {
        let (stop, answered) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let threads = (0..CONNECTIONS)
            .map(|client| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                thread::spawn(move || ask(port, client, &stop, &answered))
            })
            .collect();
        Self {
            stop,
            answered,
            threads,
        }
    }

    /// How many requests each client got an answer to.
    fn finish(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    }
}

fn ask(port: u16, client: u64, stop: &AtomicBool, answered: &AtomicU64) -> u64 {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    let every = Duration::from_secs(1) * u32::try_from(CONNECTIONS).unwrap()
        / u32::try_from(REQUESTS_PER_SECOND).unwrap();
    let started = Instant::now();
    let (mut asked, mut answer) = (0_u64, [0_u8; 4_096]);
    while !stop.load(Ordering::Relaxed) {
        let due = every * u32::try_from(asked).unwrap();
        if let Some(early) = due.checked_sub(started.elapsed()) {
            thread::sleep(early);
        }
        let request = format!("GET /n/{client}-{asked} HTTP/1.1\r\nHost: shop\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        // The answer is small: it comes in one piece on the loopback.
        assert!(stream.read(&mut answer).unwrap() > 0);
        asked += 1;
        answered.fetch_add(1, Ordering::Relaxed);
    }
    asked
}

struct Collector {
    process: Ended,
    log: PathBuf,
}

impl Collector {
    fn start(folder: &Path, name: &str, port: u16, run: u32) -> Self {
        let log = folder.join(format!("collector-{run}.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_collector"))
            .args([
                "run",
                "--port",
                &port.to_string(),
                "--keep",
                name,
                "--tls",
                "off",
            ])
            .args(["--state", &folder.join("state").to_string_lossy()])
            .args([
                "--output",
                &format!("ndjson:{}", folder.join("out.ndjson").display()),
            ])
            .args(["--summary", &folder.join("summary.json").to_string_lossy()])
            .args(["--pseudonym-key", &folder.join("key").to_string_lossy()])
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let collector = Self {
            process: Ended(child),
            log,
        };
        collector.wait_for("watching");
        collector
    }

    fn wait_for(&self, words: &str) {
        wait_until(&format!("the collector saying `{words}`"), || {
            let log = fs::read_to_string(&self.log).unwrap();
            assert!(!log.contains("ERROR"), "{log}");
            log.contains(words)
        });
    }

    fn kill(mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    fn end(mut self) {
        assert!(self.process.terminate());
    }
}

/// Nothing stays behind in the kernel, however the test ends.
struct Detached(String);

impl Drop for Detached {
    fn drop(&mut self) {
        let mut detach = Command::new(env!("CARGO_BIN_EXE_collector"));
        drop(detach.args(["detach", &self.0]).output());
    }
}

fn times_told(folder: &Path) -> HashMap<String, u64> {
    let mut told = HashMap::new();
    for line in fs::read_to_string(folder.join("out.ndjson"))
        .unwrap()
        .lines()
    {
        let exchange: Value = serde_json::from_str(line).unwrap();
        assert_eq!(exchange["outcome"], "ok", "{exchange}");
        let path = exchange["path"].as_str().unwrap().to_owned();
        *told.entry(path).or_default() += 1;
    }
    told
}

#[test]
fn killed_twice_under_load_nothing_is_lost_and_nothing_told_twice() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let name = format!("test-{}", std::process::id());
    let _detached = Detached(name.clone());
    let port = free_port();
    serve(port);
    let collector = Collector::start(folder, &name, port, 1);
    let clients = Clients::start(port);
    // In flight over both kills: the request is in the journal, the answer comes to the third collector.
    let slow = thread::spawn(move || {
        let url = format!("http://127.0.0.1:{port}/slow");
        Command::new("curl")
            .args(["-s", &url])
            .output()
            .unwrap()
            .status
            .success()
    });
    thread::sleep(Duration::from_secs(1));
    collector.kill();
    thread::sleep(Duration::from_secs(2));
    let collector = Collector::start(folder, &name, port, 2);
    collector.wait_for("took up where the last collector was");
    thread::sleep(Duration::from_millis(500));
    collector.kill();
    thread::sleep(Duration::from_millis(300));
    let collector = Collector::start(folder, &name, port, 3);
    assert!(slow.join().unwrap());
    let rate = clients.answered.load(Ordering::Relaxed);
    let asked = clients.finish();
    assert!(
        rate > 4 * REQUESTS_PER_SECOND,
        "too slow to prove anything: {rate}"
    );
    collector.end();
    let mut told = times_told(folder);
    assert_eq!(told.remove("/slow"), Some(1), "the slow one");
    for (client, asked) in asked.iter().enumerate() {
        for n in 0..*asked {
            let path = format!("/n/{client}-{n}");
            assert_eq!(told.remove(&path), Some(1), "{path}");
        }
    }
    assert!(told.is_empty(), "told, but never asked: {told:?}");
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["lost"], 0, "{summary}");
}
