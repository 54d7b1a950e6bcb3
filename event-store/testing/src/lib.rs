//! What tests of several rooms need: a real store on a free port, rows to put in, processes that end with the test,
//! waiting for a condition.
//!
//! Only ever a dev-dependency; it panics where a test should fail.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "helpers of tests fail the test"
)]

use std::{
    net::TcpListener as StdListener,
    path::PathBuf,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use event_store::{
    ExchangeRow, SpanRow, Store,
    serve::{Credentials, Engine, serve},
};
use rustix::process::{Pid, Signal};
use tokio::{net::TcpListener, task::JoinHandle};

/// Where `cargo xtask setup` puts the engine.
pub fn engine_path() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/weir/engine-26.7.3/libchdb.so")
}

/// An embedded store with Weir's schema, in this process. A process can have one engine.
#[derive(Debug)]
pub struct TestStore {
    /// A client of it.
    pub store: Store,
    serving: JoinHandle<std::io::Result<()>>,
    _folder: tempfile::TempDir,
}

impl TestStore {
    /// Starts it on a free port, empty and migrated.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(&engine_path(), folder.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = Store::at(&format!("http://{}", listener.local_addr().unwrap()));
        let credentials = Credentials {
            user: "default".to_owned(),
            password: String::new(),
        };
        let serving = tokio::spawn(serve(engine, listener, credentials, std::future::pending()));
        store.migrate().await.unwrap();
        Self {
            store,
            serving,
            _folder: folder,
        }
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A whole exchange of the gateway: `POST /EVENT`, 200, one millisecond, of a user of shop `t1`.
pub fn exchange(at_ns: i64, user: &str, event: &str) -> ExchangeRow {
    let text = |text: &str| Some(text.to_owned());
    ExchangeRow {
        timestamp: at_ns,
        duration_ns: 1_000_000,
        ttfb_ns: Some(900_000),
        role: "server".to_owned(),
        service: text("gateway"),
        pid: Some(7),
        process: text("shop"),
        method: text("POST"),
        path: text(&format!("/{event}")),
        route: text(&format!("/{event}")),
        host: None,
        status_code: Some(200),
        protocol: "http/1.1".to_owned(),
        tls: false,
        request_bytes: 100,
        response_bytes: 200,
        client_address: "127.0.0.1".to_owned(),
        client_port: 50_000,
        server_address: "127.0.0.1".to_owned(),
        server_port: 80,
        tenant_id: text("t1"),
        user_id: text(user),
        session_id: text(&format!("s-{user}")),
        trace_id: None,
        span_id: None,
        parent_span_id: None,
        event: text(event),
        outcome: "ok".to_owned(),
        attributes: Vec::new(),
    }
}

/// A span of a service, one millisecond long.
pub fn span(trace_id: &str, id: &str, parent: &str, at_ns: i64) -> SpanRow {
    SpanRow {
        timestamp: at_ns,
        trace_id: trace_id.to_owned(),
        span_id: id.to_owned(),
        parent_span_id: parent.to_owned(),
        span_name: "POST /pay".to_owned(),
        span_kind: "Server".to_owned(),
        service_name: "gateway".to_owned(),
        scope_name: "shop".to_owned(),
        duration: 1_000_000,
        status_code: "Unset".to_owned(),
        ..SpanRow::default()
    }
}

/// A process that is ended with the test: asked, not killed, because a killed nginx leaves its workers behind.
#[derive(Debug)]
pub struct Ended(pub Child);

impl Ended {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        match command.spawn() {
            Ok(child) => Self(child),
            Err(error) => panic!("{command:?} is needed ({error}): cargo xtask setup"),
        }
    }

    /// Asks it to end; true when it then exits with 0.
    pub fn terminate(&mut self) -> bool {
        rustix::process::kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        self.0.wait().unwrap().success()
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.terminate();
        }
    }
}

/// A port that was free just now.
pub fn free_port() -> u16 {
    let probe = StdListener::bind("127.0.0.1:0").unwrap();
    probe.local_addr().unwrap().port()
}

/// Waits until something holds, at most 20 s.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "{what} did not happen within 20 s"
        );
        thread::sleep(Duration::from_millis(20));
    }
}
