//! The Grafana dashboards: their structure, and every statement on the real engine.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use event_store::{HealthRow, Store};
use serde_json::Value;
use weir_testing::{TestStore, exchange};

const DASHBOARDS: [&str; 3] = ["funnel", "service-health", "connection-health"];
const PANEL_TYPES: [&str; 8] = [
    "nodeGraph",
    "stat",
    "bargauge",
    "table",
    "timeseries",
    "barchart",
    "heatmap",
    "text",
];
const SECOND: i64 = 1_000_000_000;

fn dashboard(name: &str) -> Value {
    let file = format!("grafana/dashboards/{name}.json");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

#[test]
fn dashboards_have_the_shape_that_grafana_loads_and_people_read() {
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        assert_eq!(text(&dashboard, "/uid"), format!("weir-{name}"));
        assert!(
            (39..=42).contains(&dashboard["schemaVersion"].as_u64().unwrap()),
            "{name}"
        );
        assert_eq!(
            (&dashboard["editable"], &dashboard["id"]),
            (&Value::Bool(false), &Value::Null)
        );
        let variables: Vec<&str> = list(&dashboard, "/templating/list")
            .map(|variable| text(variable, "/name"))
            .collect();
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&dashboard, "/panels") {
            let title = text(panel, "/title");
            assert!(
                !title.is_empty() && ids.insert(panel["id"].as_u64().unwrap()),
                "{name}: {title}"
            );
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            for (x, y) in (at("x")..at("x") + at("w"))
                .flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
            {
                assert!(
                    x < 24 && cells.insert((x, y)),
                    "{name}: {title} overlaps at {x},{y}"
                );
            }
            if text(panel, "/type") == "row" {
                continue;
            }
            assert!(
                PANEL_TYPES.contains(&text(panel, "/type")),
                "{title}: {}",
                text(panel, "/type")
            );
            assert!(
                !text(panel, "/description").is_empty(),
                "{title} has no description"
            );
            let has_unit = panel.pointer("/fieldConfig/defaults/unit").is_some()
                || list(panel, "/fieldConfig/overrides")
                    .any(|field| field["properties"].to_string().contains("\"unit\""));
            assert!(has_unit, "{title} has no unit");
            for target in list(panel, "/targets") {
                let uid = text(target, "/datasource/uid");
                let variable = uid.trim_start_matches("${").trim_end_matches('}');
                assert!(
                    uid.starts_with("${") && variables.contains(&variable),
                    "{title}: {uid}"
                );
            }
        }
        assert!(ids.len() > 10, "{name} shows something");
    }
}

/// Replaces `$__NAME(ARGUMENT)` by what `with` makes of the argument; arguments may hold parentheses.
fn expand(sql: &str, name: &str, with: impl Fn(&str) -> String) -> String {
    let macro_name = format!("$__{name}(");
    let mut text = sql.to_owned();
    while let Some(start) = text.rfind(&macro_name) {
        let inside = start + macro_name.len();
        let mut depth = 1;
        let end = text[inside..]
            .char_indices()
            .find(|(_, letter)| {
                depth += i32::from(*letter == '(') - i32::from(*letter == ')');
                depth == 0
            })
            .unwrap()
            .0;
        let replaced = with(&text[inside..inside + end]);
        text.replace_range(start..=inside + end, &replaced);
    }
    text
}

/// A statement as Grafana would send it: for all tenants and services (`chosen` empty) or for some.
fn as_sent(sql: &str, chosen: &[&str], (from, to): (i64, i64)) -> String {
    let quoted: Vec<String> = chosen
        .iter()
        .map(|name| format!("'{}'", name.replace('\'', "''")))
        .collect();
    let sql = expand(sql, "conditionalAll", |arguments| {
        let condition = arguments.rsplit_once(", $").unwrap().0;
        if chosen.is_empty() {
            "1=1".to_owned()
        } else {
            condition.to_owned()
        }
    });
    let sql = sql
        .replace("${tenant:sqlstring}", &quoted.join(","))
        .replace("${service:sqlstring}", &quoted.join(","));
    let sql = expand(&sql, "timeFilter", |column| {
        format!("{column} >= toDateTime({from}) AND {column} <= toDateTime({to})")
    });
    let sql = expand(&sql, "timeInterval", |column| {
        format!("toStartOfInterval(toDateTime({column}), INTERVAL 60 second)")
    });
    let sql = sql
        .replace("$__interval_s", "60")
        .replace("$__fromTime", &format!("toDateTime({from})"))
        .replace("$__toTime", &format!("toDateTime({to})"));
    assert!(
        !sql.contains('$'),
        "a macro that this test does not know: {sql}"
    );
    sql
}

async fn ask(store: &Store, sql: &str) -> Value {
    let request = reqwest::Client::new()
        .post(store.url())
        .body(format!("{sql} FORMAT JSONCompact"));
    let response = request.send().await.unwrap();
    let status = response.status();
    let body = response.text().await.unwrap();
    assert!(status.is_success(), "{body}\n{sql}");
    serde_json::from_str(&body).unwrap()
}

/// Ten buyers over two shops, some of whom drop, some of whose payments fail.
async fn fill(store: &Store, now: i64) {
    let mut rows = Vec::new();
    for buyer in 0..10_i64 {
        let (user, start) = (format!("u{buyer}"), (now - 1_800 + buyer * 60) * SECOND);
        let reached = 1 + buyer % 3;
        for (step, event) in (0..reached).zip(["login", "cart", "pay"]) {
            rows.push(exchange(start + step * SECOND, &user, event));
        }
        let mut failed = exchange(start + 5 * SECOND, &user, "pay.failed");
        failed.status_code = Some(502);
        failed.outcome = "error".into();
        failed.trace_id = Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned());
        rows.push(failed);
    }
    for (row, shop) in rows.iter_mut().zip(["t1", "o'neil"].into_iter().cycle()) {
        row.tenant_id = Some(shop.to_owned());
        row.attributes = vec![
            ("device".to_owned(), "phone".to_owned()),
            ("channel".to_owned(), "search".to_owned()),
        ];
    }
    store.insert_exchanges(&rows, "rows").await.unwrap();
    let health = HealthRow {
        minute: u32::try_from(now - 600).unwrap(),
        service: "gateway".to_owned(),
        connections: 10,
        connect_ns_sum: 1_000_000,
        connect_ns_max: 400_000,
        rtt_us_sum: 900,
        rtt_count: 10,
        retransmits: 1,
        resets_client: 1,
        resets_server: 2,
        syn_unanswered: 1,
        tls_handshakes: 4,
        tls_handshake_ns_sum: 8_000_000,
        tls_handshake_ns_max: 3_000_000,
        tls_failures: vec![("unknown_ca".to_owned(), 2)],
    };
    store.insert_health(&[health], "health").await.unwrap();
}

fn assert_time_series(title: &str, answer: &Value) {
    let types: Vec<&str> = list(answer, "/meta")
        .map(|column| text(column, "/type"))
        .collect();
    assert!(types[0].starts_with("DateTime"), "{title}: {types:?}");
    let is_number = |kind: &&str| ["Int", "Float"].iter().any(|number| kind.contains(number));
    assert!(types[1..].iter().any(is_number), "{title}: {types:?}");
    let times: Vec<&str> = list(answer, "/data")
        .map(|row| row[0].as_str().unwrap())
        .collect();
    assert!(times.is_sorted(), "{title} is not in order of time");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_runs_on_the_engine_and_answers_in_the_shape_of_its_panel() {
    let running = TestStore::start().await;
    let now = i64::try_from(
        std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap()
            .as_secs(),
    )
    .unwrap();
    fill(&running.store, now).await;
    let (range, empty) = ((now - 3_600, now + 60), (1_000, 2_000));
    let mut asked = 0;
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        for variable in list(&dashboard, "/templating/list") {
            let sql = text(variable, "/query/rawSql");
            if !sql.is_empty() {
                ask(&running.store, &as_sent(sql, &[], range)).await;
            }
        }
        for panel in list(&dashboard, "/panels") {
            for target in list(panel, "/targets").filter(|target| target.get("rawSql").is_some()) {
                let (title, sql) = (text(panel, "/title"), text(target, "/rawSql"));
                for (chosen, range) in [
                    (&[][..], range),
                    (&["t1", "o'neil", "gateway"], range),
                    (&["nobody"], range),
                    (&[], empty),
                ] {
                    let answer = ask(&running.store, &as_sent(sql, chosen, range)).await;
                    if target["format"] == 0 {
                        assert_time_series(title, &answer);
                    }
                    let has_rows = list(&answer, "/data").next().is_some();
                    assert!(
                        has_rows || range == empty || chosen == ["nobody"],
                        "{title} is empty\n{sql}"
                    );
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 100, "{asked}");
}
