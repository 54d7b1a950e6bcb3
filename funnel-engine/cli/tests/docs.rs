//! Every worked example of docs/funnels.md, run as a reader would run it, on every backend that accepts it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::{fs, path::Path, process::Command};

use event_store::{EventRow, ExchangeRow, Store};
use funnel_engine::{FunnelDefinition, read_csv, statement_kind};
use serde_json::Value;
use weir_testing::{TestStore, exchange};

/// An example: a definition, events, and a part of the result.
#[derive(Debug, Default)]
struct Example {
    line: usize,
    definition: String,
    events: String,
    result: String,
}

fn examples(page: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut example = Example::default();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let part = match line {
            "```json definition" => {
                example.line = number + 1;
                &mut example.definition
            }
            "```csv events" => &mut example.events,
            "```json result" => &mut example.result,
            _ => continue,
        };
        let is_result = line.ends_with("result");
        for (_, line) in lines.by_ref().take_while(|(_, line)| *line != "```") {
            part.push_str(line);
            part.push('\n');
        }
        if is_result {
            examples.push(std::mem::take(&mut example));
        }
    }
    examples
}

/// Everything in `expected` stands in `found`; lists are as long as expected.
fn assert_holds(expected: &Value, found: &Value, place: &str) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, value) in expected {
                assert_holds(value, &found[key], &format!("{place}.{key}"));
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            assert_eq!(expected.len(), found.len(), "{place}");
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                assert_holds(expected, found, &format!("{place}[{index}]"));
            }
        }
        _ => assert_eq!(expected, found, "{place}"),
    }
}

fn run(folder: &Path, args: &[&str]) -> Value {
    let run = Command::new(env!("CARGO_BIN_EXE_funnel"))
        .args(["run", "--definition", "definition.json", "--format", "json"])
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{args:?}: {text}");
    serde_json::from_slice(&run.stdout).unwrap()
}

/// Puts an example's events into the store: as exchanges where they are such, else as what the store makes of them.
async fn store_events(store: &Store, tenant: &str, events: &str) {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let mut insert = store.database().insert::<EventRow>("events").await.unwrap();
    let mut exchanges = Vec::new();
    for event in read_csv(events.as_bytes()).unwrap() {
        let columns = ["session", "status_code", "duration_ms"];
        let get = |name: &str| event.properties.get(name).map(text);
        let others = event.properties.iter();
        let others = others.filter(|(name, _)| !columns.contains(&name.as_str()));
        let status_code = get("status_code").map(|code| code.parse().unwrap());
        if event.name == "http" {
            exchanges.push(ExchangeRow {
                tenant_id: Some(tenant.to_owned()),
                route: get("route"),
                method: get("method"),
                status_code,
                event: None,
                ..exchange(event.at_ns, event.user.as_deref().unwrap(), "http")
            });
            continue;
        }
        let row = EventRow {
            tenant_id: tenant.to_owned(),
            user_id: event.user.clone().unwrap_or_default(),
            timestamp: event.at_ns,
            event: event.name.clone(),
            session_id: get("session"),
            trace_id: None,
            status_code,
            duration_ns: 0,
            properties: others
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
        };
        insert.write(&row).await.unwrap();
    }
    insert.end().await.unwrap();
    store.insert_exchanges(&exchanges, tenant).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_worked_example_gives_what_it_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/funnels.md");
    let examples = examples(&fs::read_to_string(page).unwrap());
    assert!(
        examples.len() >= 20,
        "{} examples were found",
        examples.len()
    );
    let running = TestStore::start().await;
    // The examples are older than what the store keeps of exchanges.
    let keep = running.store.database();
    let keep = keep.query("ALTER TABLE http_exchanges REMOVE TTL");
    keep.execute().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut pushed = 0;
    for example in examples {
        fs::write(folder.path().join("definition.json"), &example.definition).unwrap();
        fs::write(folder.path().join("events.csv"), &example.events).unwrap();
        let expected: Value = serde_json::from_str(&example.result).unwrap();
        let file = ["--events", "events.csv", "--backend"];
        let tenant = format!("t{}", example.line);
        store_events(&running.store, &tenant, &example.events).await;
        let store = [
            "--clickhouse",
            running.store.url(),
            "--tenant",
            &tenant,
            "--backend",
        ];
        let mut ways = vec![
            (file.as_slice(), "reference"),
            (&file, "columnar"),
            (&store, "columnar"),
        ];
        if statement_kind(&FunnelDefinition::parse(&example.definition).unwrap()).is_ok() {
            ways.push((&store, "clickhouse"));
            pushed += 1;
        }
        for (args, backend) in ways {
            let found = run(folder.path(), &[args, &[backend]].concat());
            assert_eq!(found["backend"], backend);
            let place = format!("docs/funnels.md:{}, {backend}: result", example.line);
            assert_holds(&expected, &found, &place);
        }
    }
    assert!(pushed >= 18, "only {pushed} were asked of the store");
}
