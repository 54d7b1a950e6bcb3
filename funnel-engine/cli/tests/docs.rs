//! Every worked example of docs/funnels.md, run as a reader would run it, on every backend that accepts it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::{fs, path::Path, process::Command};

use serde_json::Value;

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

fn run(folder: &Path, backend: &str) -> Value {
    let run = Command::new(env!("CARGO_BIN_EXE_funnel"))
        .args([
            "run",
            "--definition",
            "definition.json",
            "--events",
            "events.csv",
        ])
        .args(["--backend", backend, "--format", "json"])
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{backend}: {text}");
    serde_json::from_slice(&run.stdout).unwrap()
}

#[test]
fn every_worked_example_gives_what_it_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/funnels.md");
    let examples = examples(&fs::read_to_string(page).unwrap());
    assert!(
        examples.len() >= 20,
        "{} examples were found",
        examples.len()
    );
    let folder = tempfile::tempdir().unwrap();
    for example in examples {
        fs::write(folder.path().join("definition.json"), &example.definition).unwrap();
        fs::write(folder.path().join("events.csv"), &example.events).unwrap();
        let expected: Value = serde_json::from_str(&example.result).unwrap();
        for backend in ["reference", "columnar"] {
            let found = run(folder.path(), backend);
            assert_eq!(found["backend"], backend);
            let place = format!("docs/funnels.md:{}, {backend}: result", example.line);
            assert_holds(&expected, &found, &place);
        }
    }
}
