//! `report-api serve --index`: the same answers as the store's, from the index, while events arrive and over a kill.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use event_store::{ExchangeRow, Scope, Store};
use funnel_engine::{FunnelDefinition, run_on_clickhouse};
use report_api::NewToken;
use reqwest::Client;
use serde_json::Value;
use weir_testing::{Ended, TestStore, exchange, free_port, wait_until};

const FUNNEL: &str = r#"{"name":"Checkout","window":"1h","breakdown":{"properties":["device"]},
    "steps":[{"name":"Login","event":"login"},{"name":"Pay","event":"pay"}]}"#;
const PATIENCE: Duration = Duration::from_mins(1);

struct Server {
    process: Ended,
    url: String,
    token: String,
    client: Client,
}

fn command(folder: &Path, store: &str, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_report-api"));
    command
        .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
        .args(["--clickhouse", store, "--funnels"])
        .arg(folder.join("funnels"))
        .arg("--tokens")
        .arg(folder.join("tokens.toml"))
        .arg("--index")
        .arg(folder.join("index"));
    command
}

impl Server {
    fn start(folder: &Path, store: &str) -> Self {
        let token = NewToken::make(&Scope::Operator);
        std::fs::write(folder.join("tokens.toml"), token.entry).unwrap();
        let port = free_port();
        let process = Ended::start(command(folder, store, port).stderr(Stdio::null()));
        wait_until("the server listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
            token: token.token,
            client: Client::new(),
        }
    }

    async fn get(&self, path: &str) -> String {
        let request = self.client.get(format!("{}{path}", self.url));
        let response = request.bearer_auth(&self.token).send().await.unwrap();
        response.text().await.unwrap()
    }

    async fn answer(&self) -> Value {
        serde_json::from_str(&self.get("/api/v1/funnels/checkout").await).unwrap()
    }

    /// Waits for the index to count what the store counts.
    async fn agrees_with(&self, store: &Store) {
        let definition = FunnelDefinition::parse(FUNNEL).unwrap();
        let theirs = run_on_clickhouse(store, &Scope::Operator, &definition);
        let theirs = counts(&serde_json::to_value(theirs.await.unwrap()).unwrap());
        let mut last = Value::Null;
        let waiting = async {
            while last["backend"] != "columnar" || counts(&last) != theirs {
                last = self.answer().await;
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "not {theirs:?} by the index: {last}");
    }
}

/// Of the funnel and of each value.
fn counts(result: &Value) -> Vec<(String, Vec<u64>)> {
    let of = |steps: &Value| {
        let steps = steps.as_array().into_iter().flatten();
        steps.map(|step| step["count"].as_u64().unwrap()).collect()
    };
    let whole = std::iter::once((String::new(), of(&result["steps"])));
    let values = result["breakdown"].as_array().into_iter().flatten();
    let values = values.map(|row| (row["value"].to_string(), of(&row["steps"])));
    whole.chain(values).collect()
}

async fn insert(store: &Store, users: std::ops::Range<i64>, start_ns: i64) {
    let row = |user: i64, event: &str| ExchangeRow {
        attributes: vec![(
            "device".to_owned(),
            ["phone", "pc"][usize::from(user % 3 == 0)].to_owned(),
        )],
        ..exchange(
            start_ns + user * 1_000_000 + i64::from(event == "pay"),
            &format!("u{user}"),
            event,
        )
    };
    let logins = users.clone().map(|user| row(user, "login"));
    let pays = users
        .clone()
        .filter(|user| user % 5 == 0)
        .map(|user| row(user, "pay"));
    let rows: Vec<ExchangeRow> = logins.chain(pays).collect();
    store
        .insert_exchanges(&rows, &format!("{users:?}"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_answers_what_the_store_would() {
    let running = TestStore::start().await;
    let store = &running.store;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("funnels")).unwrap();
    std::fs::write(folder.path().join("funnels/checkout.json"), FUNNEL).unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    let start_ns = i64::try_from(now - 3_600).unwrap() * 1_000_000_000;
    insert(store, 0..200, start_ns).await;

    let server = Server::start(folder.path(), store.url());
    server.agrees_with(store).await;
    insert(store, 200..300, start_ns).await;
    server.agrees_with(store).await;
    let metrics = server.get("/metrics").await;
    let figure = |name: &str| {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert_eq!(figure("weir_index_rows_seen_total"), 360);
    assert_eq!(figure("weir_index_rows_passed_total"), 360);
    assert_eq!(figure("weir_index_lag_rows"), 0);

    // The folder is taken, and it is said how.
    let second = command(folder.path(), store.url(), free_port())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("index"), "{said}");

    // What was only in memory is read again.
    drop(server.process);
    insert(store, 300..320, start_ns).await;
    Server::start(folder.path(), store.url())
        .agrees_with(store)
        .await;
}
