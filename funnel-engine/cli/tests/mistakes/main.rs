//! Bad input through the command: what is wrong is said, where, and what to do; what is limited says its limit; and
//! nothing wrong is shown as right.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

mod definitions;
mod events;
mod kept;

use std::{fs, path::PathBuf, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

const EVENTS: &str = "user,ts,event,device\nann,2026-01-01T00:00:00Z,login,phone\nann,2026-01-01T00:10:00Z,pay,phone\nbob,2026-01-01T00:00:00Z,login,pc\n";

/// How a command ended.
struct Ended {
    code: Option<i32>,
    out: String,
    /// What it said, without times.
    said: String,
}

fn funnel(args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_funnel"));
    let output = command
        .args(args)
        .args(["--log-format", "json"])
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stderr).unwrap();
    let message = |line: &str| -> String {
        let line: Value = serde_json::from_str(line).unwrap();
        line["fields"]["message"].as_str().unwrap().to_owned()
    };
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        said: lines.lines().map(message).collect::<Vec<_>>().join("\n"),
    }
}

/// Login, then pay, with changes.
fn definition(changes: &[(&str, Value)]) -> String {
    let mut json = json!({"name": "checkout", "window": "1h",
        "steps": [{"name": "Login", "event": "login"}, {"name": "Pay", "event": "pay"}]});
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = json.pointer_mut(parent).unwrap();
        parent
            .as_object_mut()
            .unwrap()
            .insert(key.to_owned(), value.clone());
    }
    json.to_string()
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path.to_string_lossy().into_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, definition: &str, name: &str, events: impl AsRef<[u8]>) -> Ended {
        let definition = self.write("d.json", definition);
        let events = self.write(name, events);
        let args = [
            "run",
            "--definition",
            &definition,
            "--events",
            &events,
            "--format",
            "json",
        ];
        funnel(&args)
    }

    /// The counts of the steps, of a run that succeeds, and what it said.
    fn counts(&self, definition: &str, name: &str, events: impl AsRef<[u8]>) -> (Vec<u64>, String) {
        let ended = self.run(definition, name, events);
        assert_eq!(ended.code, Some(0), "{}", ended.said);
        let result: Value = serde_json::from_str(&ended.out).unwrap();
        let steps = result["steps"].as_array().unwrap().iter();
        let counts = steps.map(|step| step["count"].as_u64().unwrap());
        (counts.collect(), ended.said)
    }

    /// A run that fails without an answer.
    fn refused(&self, name: &str, events: impl AsRef<[u8]>, says: &[&str]) {
        let ended = self.run(&definition(&[]), name, events);
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{says:?}");
        for says in says.iter().chain(&[name]) {
            assert!(
                ended.said.contains(says),
                "{} should say {says}",
                ended.said
            );
        }
    }
}
