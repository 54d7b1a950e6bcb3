//! The index of a real store: it answers what the reference answers over the same events, whatever becomes of the
//! process that builds it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, SystemTime},
};

use event_store::{ExchangeRow, Store};
use funnel_engine::{Event, FunnelDefinition, run_reference};
use serde_json::Value;
use weir_testing::{Ended, TestStore, exchange};

/// Funnels that need names only, properties, every event, and attempts of all kinds.
const DEFINITIONS: [&str; 6] = [
    r#"{"name":"plain","window":"40s","steps":[{"name":"A","event":"a"},{"name":"B","event":"b"},{"name":"C","event":"c"}]}"#,
    r#"{"name":"strict","order":"strict","window":"1h","steps":[{"name":"A","event":"a"},{"name":"B","event":"b"}]}"#,
    r#"{"name":"any order","order":"unordered","window":"20s","steps":[{"name":"A","event":"a"},{"name":"B","event":"b"},{"name":"C","event":"c"}],
        "exclusions":[{"event":"d","from_step":1,"to_step":3}]}"#,
    r#"{"name":"by device","window":"1h","steps":[{"name":"A","event":"a"},{"name":"B","event":"b","where":[{"property":"device","op":"ne","value":"pc"}]}],
        "breakdown":{"properties":["device"],"attribution":"last_touch"}}"#,
    r#"{"name":"sessions","count":"sessions","window":"1h","steps":[{"name":"A","event":"a"},{"name":"B","event":"b","optional":true},{"name":"C","event":"c"}],
        "trend":{"interval":"hour"}}"#,
    r#"{"name":"totals","count":"totals","window":"30s","steps":[{"name":"A","event":"a"},{"name":"B","event":"b","within":"10s"}],
        "exclusions":[{"event":"c","where":[{"property":"status_code","op":"gte","value":500}],"from_step":1,"to_step":2}]}"#,
];

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn drawn(numbers: &mut Numbers, start_ns: i64, count: u64) -> Vec<ExchangeRow> {
    let name = |numbers: &mut Numbers| {
        ["a", "b", "c", "d"]
            .get(usize::try_from(numbers.below(4)).unwrap())
            .copied()
            .unwrap()
    };
    let row = |_| {
        let at_ns = start_ns + i64::try_from(numbers.below(120)).unwrap() * 1_000_000_000;
        let user = format!("u{}", numbers.below(60));
        let event = name(numbers);
        let device = ["pc", "phone"].get(usize::try_from(numbers.below(3)).unwrap());
        ExchangeRow {
            status_code: Some(if numbers.below(4) == 0 { 503 } else { 200 }),
            session_id: (numbers.below(3) > 0).then(|| format!("s-{user}-{}", numbers.below(2))),
            tenant_id: Some(format!("t{}", numbers.below(2))),
            attributes: device
                .map(|device| ("device".to_owned(), (*device).to_owned()))
                .into_iter()
                .collect(),
            ..exchange(at_ns, &user, event)
        }
    };
    (0..count).map(row).collect()
}

fn event(row: &ExchangeRow) -> Event {
    let mut properties: BTreeMap<String, Value> = BTreeMap::new();
    for (name, value) in &row.attributes {
        properties.insert(name.clone(), value.as_str().into());
    }
    properties.insert("tenant".to_owned(), row.tenant_id.clone().unwrap().into());
    properties.insert("status_code".to_owned(), row.status_code.unwrap().into());
    if let Some(session) = &row.session_id {
        properties.insert("session".to_owned(), session.as_str().into());
    }
    Event {
        user: row.user_id.clone(),
        at_ns: row.timestamp,
        name: row.event.clone().unwrap(),
        properties,
    }
}

fn funnel(args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_funnel"))
        .args(args)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    output
}

fn figures(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The parts that an index answers.
fn comparable(answer: &Value) -> Value {
    let mut answer = answer.clone();
    let steps = answer
        .pointer_mut("/steps")
        .and_then(Value::as_array_mut)
        .unwrap();
    for step in steps {
        for key in ["latency_ms", "errors"] {
            step.as_object_mut().unwrap().remove(key);
        }
    }
    let answer = answer.as_object_mut().unwrap();
    for key in ["events_scanned", "backend", "elapsed_ms"] {
        answer.remove(key);
    }
    Value::Object(answer.clone())
}

fn answers(folder: &Path, index: &Path, url: &str) -> Vec<Value> {
    let answer = |(number, definition): (usize, &&str)| {
        let path = folder.join(format!("{number}.json"));
        std::fs::write(&path, definition).unwrap();
        let (path, index) = (path.to_string_lossy(), index.to_string_lossy());
        let output = funnel(&[
            "run",
            "--definition",
            &path,
            "--clickhouse",
            url,
            "--index",
            &index,
            "--format",
            "json",
        ]);
        let answer = figures(&output);
        assert_eq!(answer.get("backend"), Some(&"columnar".into()));
        comparable(&answer)
    };
    DEFINITIONS.iter().enumerate().map(answer).collect()
}

async fn insert(store: &Store, rows: &[ExchangeRow], token: &str) {
    store.insert_exchanges(rows, token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_follows_the_store_the_index_equals_a_rebuild_and_the_reference() {
    let running = TestStore::start().await;
    let url = running.store.url().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let (index, rebuilt) = (folder.path().join("index"), folder.path().join("rebuilt"));
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let start_ns = i64::try_from(now - 7_200).unwrap() * 1_000_000_000;
    let mut numbers = Numbers(7);
    let mut all = Vec::new();
    let path = index.to_string_lossy().into_owned();
    for round in 0..16 {
        // One that follows, or one that reads what is there and writes it at once; both are killed at some point.
        let mut command = Command::new(env!("CARGO_BIN_EXE_funnel"));
        command.args(["index", "--clickhouse", &url, "--path", &path]);
        if round % 2 == 0 {
            command.arg("--follow");
        }
        let mut follower = Ended::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        for part in 0..3 {
            // Late ones too: a day before.
            let late = if part == 2 { 86_400_000_000_000 } else { 0 };
            let rows = drawn(&mut numbers, start_ns - late, 40);
            insert(&running.store, &rows, &format!("{round}-{part}")).await;
            all.extend(rows);
            tokio::time::sleep(Duration::from_millis(numbers.below(180))).await;
        }
        // SIGKILL, whatever it is doing.
        follower.0.kill().unwrap_or_default();
        follower.0.wait().unwrap();
        if round % 4 == 3 {
            // An index that was handed over in between, so that later rounds go on from files.
            funnel(&["index", "--clickhouse", &url, "--path", &path]);
        }
    }
    let held = figures(&funnel(&["index", "--clickhouse", &url, "--path", &path]));
    let anew = figures(&funnel(&[
        "index",
        "--clickhouse",
        &url,
        "--path",
        &rebuilt.to_string_lossy(),
    ]));
    assert_eq!(held.get("events"), Some(&(all.len() as u64).into()));
    for key in ["events", "users", "tenants"] {
        assert_eq!(held.get(key), anew.get(key), "{key}");
    }
    funnel(&["index", "--clickhouse", &url, "--path", &path, "--verify"]);
    let events: Vec<Event> = all.iter().map(event).collect();
    let reference = DEFINITIONS.iter().map(|definition| {
        let definition = FunnelDefinition::parse(definition).unwrap();
        comparable(&serde_json::to_value(run_reference(&definition, &events).unwrap()).unwrap())
    });
    let reference: Vec<Value> = reference.collect();
    assert_eq!(answers(folder.path(), &index, &url), reference);
    assert_eq!(answers(folder.path(), &rebuilt, &url), reference);
    // A file that is not what was written is never an answer.
    let segment = std::fs::read_dir(&index)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let segment = segment
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "segment"))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).unwrap() ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let checked = Command::new(env!("CARGO_BIN_EXE_funnel"))
        .args(["index", "--clickhouse", &url, "--path", &path, "--verify"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(
        !checked.status.success() || said.contains("built anew"),
        "{said}"
    );
}
