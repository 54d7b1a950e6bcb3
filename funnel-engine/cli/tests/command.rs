//! The `funnel` command as people type it: the same answer from every kind of file, and mistakes explained.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

const DEFINITION: &str = r#"{"name":"checkout","window":"1h","steps":[{"name":"Login","event":"login"},{"name":"Pay","event":"pay"}]}"#;
const CSV: &str = "user,ts,event\nu1,2026-01-01T00:00:00Z,login\nu1,2026-01-01T00:10:00Z,pay\nu2,1767225600000,login\n,1767225600000,login\n";

fn funnel(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_funnel"));
    command.args(args).output().unwrap()
}

fn write(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn a_funnel_over_csv_and_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let (definition, events) = (
        write(folder.path(), "d.json", DEFINITION),
        write(folder.path(), "e.csv", CSV),
    );
    let json = funnel(&[
        "run",
        "--definition",
        &definition,
        "--events",
        &events,
        "--format",
        "json",
    ]);
    assert!(json.status.success(), "{json:?}");
    let result: Value = serde_json::from_slice(&json.stdout).unwrap();
    let count = |step: usize| result.pointer(&format!("/steps/{step}/count")).cloned();
    assert_eq!((count(0), count(1)), (Some(2.into()), Some(1.into())));
    let table = funnel(&["run", "--definition", &definition, "--events", &events]);
    assert!(String::from_utf8(table.stdout).unwrap().contains("50.0%"));
    let answer = write(
        folder.path(),
        "funnel.json",
        &String::from_utf8(json.stdout).unwrap(),
    );
    let out = folder.path().join("out");
    let report = funnel(&[
        "report",
        "--funnel",
        &answer,
        "--out",
        &out.to_string_lossy(),
    ]);
    assert!(report.status.success(), "{report:?}");
    for extension in ["pdf", "xlsx", "html", "csv", "parquet"] {
        assert!(
            fs::metadata(out.join(format!("report.{extension}")))
                .unwrap()
                .len()
                > 100
        );
    }
}

#[test]
fn the_report_keeps_the_last_digit_of_the_result() {
    let folder = tempfile::tempdir().unwrap();
    let digits = ["0.21700757169999998", "15.243988549999997"];
    let [p90, p95] = digits;
    let result = format!(
        r#"{{"steps":[{{"step":1,"name":"A","count":3,"conversion_from_previous":1.0,"conversion_from_start":1.0,"drop_off":0,
            "time_from_previous_s":{{"mean":1.0,"median":1.0,"p90":{p90}}},"latency_ms":{{"mean":1.0,"p95":{p95}}},"errors":0}}],
            "time_to_convert_s":null,"events_scanned":3,"backend":"reference","elapsed_ms":1}}"#
    );
    let answer = write(folder.path(), "funnel.json", &result);
    let out = folder.path().to_string_lossy().into_owned();
    assert!(
        funnel(&["report", "--funnel", &answer, "--out", &out])
            .status
            .success()
    );
    let csv = fs::read_to_string(folder.path().join("report.csv")).unwrap();
    for number in digits {
        assert!(csv.contains(number), "{number} in {csv}");
    }
}

#[test]
fn a_tenant_sees_its_own_events_only() {
    let folder = tempfile::tempdir().unwrap();
    let definition = write(folder.path(), "d.json", DEFINITION);
    let lines = r#"{"user":"u","ts":1,"event":"login","tenant":"t1"}
{"user":"u","ts":1,"event":"login","tenant":"t2"}
{"user":"v","ts":1,"event":"login","tenant":"t2"}"#;
    let events = write(folder.path(), "e.ndjson", lines);
    for (tenant, expected) in [("t1", 1), ("t2", 2), ("t3", 0)] {
        let args = [
            "run",
            "--definition",
            &definition,
            "--events",
            &events,
            "--tenant",
            tenant,
            "--format",
            "json",
        ];
        let result: Value = serde_json::from_slice(&funnel(&args).stdout).unwrap();
        assert_eq!(
            result.pointer("/steps/0/count"),
            Some(&expected.into()),
            "{tenant}"
        );
    }
}

#[test]
fn mistakes_say_what_to_do_and_end_with_the_code_of_bad_usage() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| write(folder.path(), name, content);
    let (good, events) = (write("d.json", DEFINITION), write("e.csv", CSV));
    let modes = write(
        "modes.json",
        &DEFINITION.replace("\"1h\"", "\"1h\",\"modes\":[\"strict_order\"]"),
    );
    let misspelt = write("misspelt.json", &DEFINITION.replace("window", "windw"));
    let broken = write(
        "broken.ndjson",
        "{\"user\":\"u\",\"ts\":\"soon\",\"event\":\"a\"}\n",
    );
    let cut = write("cut.parquet", "PAR1 and no more");
    for (definition, events, code, expected) in [
        (&modes, Some(&events), 2, "modes"),
        (&misspelt, Some(&events), 2, "windw"),
        (&good, None, 2, "give --events FILE"),
        (
            &good,
            Some(&good),
            2,
            "must end in .ndjson, .csv or .parquet",
        ),
        (&good, Some(&broken), 1, "line 1: `ts`"),
        (&good, Some(&cut), 1, "no readable Parquet"),
    ] {
        let mut args = vec!["run", "--log-format", "json", "--definition", definition];
        args.extend(
            events
                .iter()
                .flat_map(|events| ["--events", events.as_str()]),
        );
        let output = funnel(&args);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let line: Value = serde_json::from_slice(&output.stderr).unwrap();
        let message = line
            .pointer("/fields/message")
            .and_then(Value::as_str)
            .unwrap();
        assert!(
            message.contains(expected),
            "{message} should say {expected}"
        );
    }
}

#[test]
fn settings_come_from_a_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let (definition, events) = (
        write(folder.path(), "d.json", DEFINITION),
        write(folder.path(), "e.csv", CSV),
    );
    let settings = write(
        folder.path(),
        "weir.toml",
        &format!(
            "[run]\ndefinition = \"{definition}\"\nevents = \"{events}\"\nformat = \"json\"\n"
        ),
    );
    let output = funnel(&["run", "--config", &settings]);
    assert!(output.stdout.starts_with(b"{"), "{output:?}");
    let printed = funnel(&[
        "run",
        "--config",
        &settings,
        "--format",
        "table",
        "--print-config",
    ]);
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(
        printed.contains("format = \"table\"  # flag") && printed.contains("# file"),
        "{printed}"
    );
}
