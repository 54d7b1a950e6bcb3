//! `event-store serve` as others see it: foreign clients, errors, deduplication, users, and a restart.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use event_store::{ExchangeRow, Scope, Store, TenantId};

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(folder: &Path, extra: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = Command::new(env!("CARGO_BIN_EXE_event-store"))
            .args([
                "serve",
                "--path",
                &folder.to_string_lossy(),
                "--listen",
                &format!("127.0.0.1:{port}"),
            ])
            .args(extra)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                matches!(server.child.try_wait(), Ok(None)),
                "the server ended; is the engine there? cargo xtask setup"
            );
            assert!(Instant::now() < deadline, "the server does not come up");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn stop(&mut self) -> bool {
        Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

fn row(user: &str, event: Option<&str>) -> ExchangeRow {
    let text = |text: &str| Some(text.to_owned());
    ExchangeRow {
        // Recent: older exchanges are past their time to live and vanish with the next merge.
        timestamp: i64::try_from(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_nanos(),
        )
        .unwrap(),
        duration_ns: 5,
        ttfb_ns: Some(3),
        role: "server".to_owned(),
        service: text("gateway"),
        pid: None,
        process: None,
        method: text("POST"),
        path: text("/pay"),
        route: text("/pay"),
        host: None,
        status_code: Some(201),
        protocol: "http/1.1".to_owned(),
        tls: false,
        request_bytes: 1,
        response_bytes: 2,
        client_address: "127.0.0.1".to_owned(),
        client_port: 1,
        server_address: "127.0.0.1".to_owned(),
        server_port: 2,
        tenant_id: text("t1"),
        user_id: text(user),
        session_id: None,
        trace_id: None,
        span_id: None,
        parent_span_id: None,
        event: event.map(str::to_owned),
        outcome: "ok".to_owned(),
        attributes: vec![("device".to_owned(), "phone".to_owned())],
    }
}

#[tokio::test]
async fn a_token_stores_once_events_follow_and_scopes_hold_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &[]);
    let store = Store::at(&server.url());
    store.migrate().await.unwrap();
    store.migrate().await.unwrap();
    let rows = [row("u1", Some("pay")), row("u2", None)];
    for _ in 0..3 {
        store.insert_exchanges(&rows, "token-1").await.unwrap();
    }
    store.insert_exchanges(&rows, "token-2").await.unwrap();
    assert!(server.stop(), "SIGTERM exits 0");
    let server = Server::start(folder.path(), &[]);
    let store = Store::at(&server.url());
    let count: u64 = store
        .database()
        .query("SELECT count() FROM http_exchanges")
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(count, 4, "three inserts with one token are one");
    let tenant = |name: &str| Scope::Tenant(TenantId::new(name).unwrap());
    assert_eq!(
        store
            .events(&tenant("t1"), 0, i64::MAX)
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        store
            .events(&tenant("t2"), 0, i64::MAX)
            .await
            .unwrap()
            .len(),
        0
    );
    assert_eq!(
        store
            .events(&Scope::Operator, 0, i64::MAX)
            .await
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn errors_are_clickhouses_own_and_users_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--user", "weir", "--password", "s3cret"]);
    let stranger = Store::at(&server.url())
        .database()
        .query("SELECT 1")
        .execute()
        .await
        .unwrap_err();
    assert!(stranger.to_string().contains("Code: 516"), "{stranger}");
    let known = Store::at(&server.url()).with_user("weir", "s3cret");
    known.migrate().await.unwrap();
    let error = known
        .database()
        .query("SELECT * FROM nosuch")
        .execute()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("UNKNOWN_TABLE"), "{error}");
    let two: u64 = known
        .database()
        .query("SELECT sum(n) FROM (SELECT toUInt64(?) AS n)")
        .bind(2)
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(two, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_queries_run_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let store = Store::at(&server.url());
    let started = Instant::now();
    let sleeping: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.wait_for_sleep().await })
        })
        .collect();
    for task in sleeping {
        task.await.unwrap();
    }
    assert!(
        started.elapsed() < Duration::from_millis(3_500),
        "four queries of a second each took {:?}",
        started.elapsed()
    );
}

trait Sleep {
    async fn wait_for_sleep(&self);
}

impl Sleep for Store {
    async fn wait_for_sleep(&self) {
        let client = clickhouse::Client::default().with_url(self.url());
        client.query("SELECT sleep(1)").execute().await.unwrap();
    }
}

fn clients() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/weir/clients")
}

fn script_output(program: &Path, folder: &Path, name: &str, script: &str, url: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, script).unwrap();
    let output = Command::new(program)
        .arg(&path)
        .arg(url)
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{} is needed ({error}): cargo xtask setup",
                program.display()
            )
        });
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn clickhouse_connect_queries_inserts_and_sees_errors() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &[]);
    let script = "import sys, urllib.parse, clickhouse_connect\n\
        at = urllib.parse.urlparse(sys.argv[1])\n\
        c = clickhouse_connect.get_client(host=at.hostname, port=at.port)\n\
        c.command('CREATE TABLE t (id UInt32, name String) ENGINE = MergeTree ORDER BY id')\n\
        c.insert('t', [[1, 'a\\n\\n; DROP TABLE t'], [2, 'b\\'']], column_names=['id', 'name'])\n\
        print(c.query('SELECT id, name FROM t WHERE id >= {n:UInt32} ORDER BY id', parameters={'n': 1}).result_rows)\n\
        try:\n    c.query('SELECT * FROM nosuch')\n\
        except Exception as e:\n    print('UNKNOWN' if 'Code: 60' in str(e) else e)\n";
    let said = script_output(
        &clients().join("venv/bin/python"),
        folder.path(),
        "client.py",
        script,
        &server.url(),
    );
    assert_eq!(
        said,
        "[(1, 'a\\n\\n; DROP TABLE t'), (2, \"b'\")]\nUNKNOWN\n"
    );
}

#[test]
fn the_javascript_client_queries_inserts_and_sees_errors() {
    let folder = tempfile::tempdir_in(clients().join("node")).unwrap();
    let server = Server::start(&folder.path().join("data"), &[]);
    let script = "import { createClient, ClickHouseLogLevel } from '@clickhouse/client'\n\
        const c = createClient({ url: process.argv[2], compression: { request: true, response: true }, log: { level: ClickHouseLogLevel.OFF } })\n\
        await c.command({ query: 'CREATE TABLE t (id UInt32, name String) ENGINE = MergeTree ORDER BY id' })\n\
        await c.insert({ table: 't', values: [{ id: 1, name: 'x\\n\\n;' }], format: 'JSONEachRow' })\n\
        const r = await c.query({ query: 'SELECT * FROM t WHERE id = {n:UInt32}', query_params: { n: 1 }, format: 'JSONEachRow' })\n\
        console.log(JSON.stringify(await r.json()))\n\
        try { await c.query({ query: 'SELECT * FROM nosuch' }) } catch (e) { console.log(e.code, e.type) }\n\
        await c.close()\n";
    let said = script_output(
        Path::new("node"),
        folder.path(),
        "client.mjs",
        script,
        &server.url(),
    );
    assert_eq!(
        said,
        "[{\"id\":1,\"name\":\"x\\n\\n;\"}]\n60 UNKNOWN_TABLE\n"
    );
}

#[test]
fn a_missing_engine_and_an_open_door_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_string_lossy().into_owned();
    for (args, code, expected) in [
        (
            ["--engine", "/nonexistent.so"],
            1,
            "run `cargo xtask setup`, or name libchdb.so with --engine",
        ),
        (
            ["--listen", "0.0.0.0:0"],
            2,
            "without a password: give WEIR_STORE_PASSWORD",
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_event-store"));
        let output = command
            .args(["serve", "--path", &path])
            .args(args)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}
