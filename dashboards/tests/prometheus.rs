//! The Prometheus files: promtool's opinion, and a real Prometheus that scrapes Weir and evaluates the rules.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use axum::Router;
use collector::{
    clock::UnixNanos,
    health::{HealthBook, Sign},
    ledger::Ledger,
    metrics,
    pipeline::SharedServiceMap,
    run::SharedHostReport,
    service_times::ServiceTimes,
    tls::{
        handshake::{HandshakeFailure, HandshakeOutcome},
        hello::TlsVersion,
    },
};
use event_store::{Scope, Store};
use report_api::{Access, NewToken, Settings, load_funnels, serve};
use serde_json::Value;
use tokio::net::TcpListener;
use weir_testing::free_port;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn promtool(args: &[&str]) -> Output {
    let run = Command::new("promtool")
        .args(args)
        .current_dir(folder())
        .output();
    run.unwrap_or_else(|error| {
        panic!("promtool is needed ({error}): cargo xtask setup installs it")
    })
}

#[test]
fn promtool_accepts_the_configuration_and_the_rules_and_their_tests_pass() {
    for args in [
        ["check", "config", "prometheus/prometheus.yml"],
        ["check", "rules", "prometheus/rules/weir.yaml"],
        ["check", "rules", "prometheus/rules/connections.yaml"],
        ["test", "rules", "prometheus/tests/weir.yaml"],
        ["test", "rules", "prometheus/tests/connections.yaml"],
    ] {
        let output = promtool(&args);
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
}

/// `/metrics` of a collector that has seen nothing, served on a free port.
async fn serve_collector() -> String {
    let kernel = weir_abi::Counter::ALL.map(|(_, name)| (name, 0));
    let kernel = Arc::new(Mutex::new(kernel.into_iter().collect()));
    let mut times = ServiceTimes::default();
    times.announce("gateway");
    let mut book = HealthBook::default();
    book.announce("gateway");
    for outcome in [
        HandshakeOutcome::Completed {
            duration_ns: 1,
            version: TlsVersion::Tls13,
            resumed: false,
        },
        HandshakeOutcome::Failed {
            duration_ns: 1,
            reason: HandshakeFailure::NotTls,
        },
    ] {
        book.sign(Some("gateway"), UnixNanos(0), Sign::Handshake(outcome));
    }
    let router: Router = metrics::router(&metrics::Shown {
        ledger: Arc::new(Ledger::default()),
        kernel,
        kernel_before: 0,
        host: SharedHostReport::default(),
        times: &times,
        health: book.metrics(),
        map: SharedServiceMap::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn serve_report_api(folder: &std::path::Path) -> String {
    let definition =
        r#"{"name":"x","window":"1d","steps":[{"name":"A","event":"a"},{"name":"B","event":"b"}]}"#;
    fs::write(folder.join("checkout.json"), definition).unwrap();
    fs::write(
        folder.join("tokens.toml"),
        NewToken::make(&Scope::Operator).entry,
    )
    .unwrap();
    let settings = Settings {
        index: None,
        store: Store::at("http://127.0.0.1:1"),
        funnels: load_funnels(folder).unwrap(),
        access: Access::load(&folder.join("tokens.toml")).unwrap(),
        live: None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(serve(settings, listener, std::future::pending()));
    address
}

async fn get(url: &str) -> String {
    let response = reqwest::get(url).await.unwrap();
    response.text().await.unwrap()
}

/// A Prometheus that is ended with the test.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

fn start_prometheus(data: &std::path::Path, targets: [&str; 2]) -> (Prometheus, String) {
    let config = fs::read_to_string(folder().join("prometheus/prometheus.yml")).unwrap();
    let config = config
        .replace("127.0.0.1:9464", targets[0])
        .replace("127.0.0.1:8080", targets[1])
        .replace("scrape_timeout: 10s", "scrape_timeout: 500ms")
        .replace("15s", "500ms")
        .replace(
            "rules/*.yaml",
            &folder().join("prometheus/rules/*.yaml").to_string_lossy(),
        );
    fs::write(data.join("prometheus.yml"), config).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let child = Command::new("prometheus")
        .arg(format!(
            "--config.file={}",
            data.join("prometheus.yml").display()
        ))
        .arg(format!(
            "--storage.tsdb.path={}",
            data.join("tsdb").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("prometheus is needed ({error}): cargo xtask setup installs it")
        });
    (Prometheus(child), format!("http://{address}"))
}

/// The values of an instant query, or nothing while Prometheus is not up.
async fn query(prometheus: &str, expression: &str) -> Vec<String> {
    let request = reqwest::Client::new()
        .post(format!("{prometheus}/api/v1/query"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("query={expression}"));
    let Ok(response) = request.send().await else {
        return Vec::new();
    };
    let answer: Value =
        serde_json::from_str(&response.text().await.unwrap_or_default()).unwrap_or_default();
    let results = answer
        .pointer("/data/result")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let value = |result: &Value| {
        result
            .pointer("/value/1")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    results.iter().filter_map(value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_weir_and_evaluates_the_rules() {
    let data = tempfile::tempdir().unwrap();
    let (collector, api) = (serve_collector().await, serve_report_api(data.path()).await);
    let (_running, prometheus) = start_prometheus(data.path(), [&collector, &api]);
    for (expression, expected) in [
        ("up", vec!["1", "1"]),
        ("weir_collector_records_read_total", vec!["0"]),
        ("count(weir_report_api_live_pages)", vec!["1"]),
        (
            "count(ALERTS{alertname=\"WeirCollectorDown\"}) or vector(0)",
            vec!["0"],
        ),
    ] {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while query(&prometheus, expression).await != expected {
            assert!(
                std::time::Instant::now() < deadline,
                "{expression}: {:?}",
                query(&prometheus, expression).await
            );
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    let rules = get(&format!("{prometheus}/api/v1/rules")).await;
    assert!(
        rules.contains("WeirLosesRecords") && !rules.contains("\"health\":\"err\""),
        "{rules}"
    );
}

/// Names that begin with `weir_` in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':');
    let words = text.split(|letter| !is_part(letter));
    words
        .filter(|word| word.starts_with("weir_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_is_asked_for_is_exported() {
    let data = tempfile::tempdir().unwrap();
    let (collector, api) = (serve_collector().await, serve_report_api(data.path()).await);
    let mut exported = String::new();
    for address in [collector, api] {
        exported += &get(&format!("http://{address}/metrics")).await;
    }
    let mut known = names(&exported);
    for name in known.clone() {
        // Described families show no sample before the first request; their samples have these names.
        known.extend(
            ["_total", "_bucket", "_count", "_sum"].map(|suffix| format!("{name}{suffix}")),
        );
    }
    let mut asked =
        names(&fs::read_to_string(folder().join("prometheus/rules/weir.yaml")).unwrap());
    asked.extend(names(
        &fs::read_to_string(folder().join("prometheus/rules/connections.yaml")).unwrap(),
    ));
    for name in ["funnel", "service-health", "connection-health"] {
        let text =
            fs::read_to_string(folder().join(format!("grafana/dashboards/{name}.json"))).unwrap();
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        let panels = dashboard["panels"].as_array().unwrap().iter();
        let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
        asked.extend(
            targets
                .filter_map(|target| target["expr"].as_str())
                .flat_map(names),
        );
    }
    assert!(asked.len() > 20, "{asked:?}");
    let missing: Vec<&String> = asked.difference(&known).collect();
    assert!(
        missing.is_empty(),
        "asked for, but not exported: {missing:?}"
    );
}
