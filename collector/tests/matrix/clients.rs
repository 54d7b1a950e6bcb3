//! Shapes made by other people's clients, which tell themselves what they did.

use std::{path::PathBuf, process::Command};

use serde_json::Value;

use crate::{
    harness::script,
    ledger::{Expected, Target},
};

/// What a command prints.
fn output_of(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} is needed: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A client of this folder, which prints one JSON object for each exchange.
pub(crate) fn told_by(mut command: Command, target: &Target) -> Vec<Expected> {
    command.args([
        target.address.ip().to_string(),
        target.address.port().to_string(),
        target.cell.shape.clone(),
    ]);
    let lines = output_of(&mut command);
    let told = lines.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        let number = |key: &str| line[key].as_u64();
        let status = number("status").map(|status| u16::try_from(status).unwrap());
        let mut expected = Expected::new(&target.cell, &text("method"), &text("path"), status);
        expected.client_port = number("client_port").map(|port| u16::try_from(port).unwrap());
        expected.trace_id = line["trace_id"].as_str().map(str::to_owned);
        if let Some(outcome) = line["outcome"].as_str() {
            assert_eq!(
                outcome, "aborted",
                "the only one that a status does not tell"
            );
            expected.outcome = "aborted";
        }
        expected
    });
    told.collect()
}

pub(crate) fn python_client(target: &Target) -> Vec<Expected> {
    told_by(script("python3", "client.py"), target)
}

pub(crate) fn node_client(target: &Target) -> Vec<Expected> {
    told_by(script("node", "client.js"), target)
}

/// curl with these arguments, told about by itself. `url` is what follows the shape, globs allowed.
pub(crate) fn curl(target: &Target, args: &[&str], url: &str) -> Vec<Expected> {
    const TOLD: &str = "%{method} %{url} %{response_code} %{local_port} %{size_request} %{size_header} \
        %{size_download} %{size_upload} %{http_version}\n";
    let url = format!("http://{}/{}/{url}", target.address, target.cell.shape);
    let mut command = Command::new("curl");
    // A URL with brackets that are no glob: those of an address of IPv6. Globs come after the address.
    command.args(["-sS", "-o", "/dev/null", "-w", TOLD]);
    command.args(args).arg(url);
    let lines = output_of(&mut command);
    let told = lines.lines().map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| fields[at].parse::<u64>().unwrap();
        let path = fields[1].splitn(4, '/').nth(3).unwrap();
        let status = u16::try_from(number(2)).unwrap();
        let path = format!("/{path}");
        let mut expected = Expected::new(&target.cell, fields[0], &path, Some(status));
        expected.client_port = Some(fields[3].parse().unwrap());
        if fields[8] == "2" {
            expected.protocol = "h2";
        } else {
            expected.response_bytes = Some(number(5) + number(6));
            // With a body, what curl counts as the request depends on what it sent together.
            expected.request_bytes = (number(7) == 0).then(|| number(4));
        }
        expected
    });
    told.collect()
}

pub(crate) fn curl_keep_alive(target: &Target) -> Vec<Expected> {
    let gets = curl(target, &[], "plain/[0-9]");
    let heads = curl(target, &["-I"], "plain/[10-12]");
    // One connection each: curl takes it up again although the server is about to close it.
    let mut old = curl(target, &["-0"], "plain/13");
    old.extend(curl(target, &["-0"], "plain/14"));
    for line in &mut old {
        line.protocol = "http/1.0";
    }
    [gets, heads, old].concat()
}

/// A file of this many bytes to send.
fn upload(folder: &tempfile::TempDir, bytes: usize) -> String {
    let path: PathBuf = folder.path().join("upload");
    std::fs::write(&path, vec![b'u'; bytes]).unwrap();
    format!("@{}", path.display())
}

pub(crate) fn curl_upload(target: &Target) -> Vec<Expected> {
    let folder = tempfile::tempdir().unwrap();
    let file = upload(&folder, 300_000);
    curl(target, &["--data-binary", &file], "plain/[0-2]")
}

pub(crate) fn curl_expect_continue(target: &Target) -> Vec<Expected> {
    let folder = tempfile::tempdir().unwrap();
    let file = upload(&folder, 300_000);
    let args = ["-H", "Expect: 100-continue", "--data-binary", &file];
    curl(target, &args, "plain/[0-1]")
}
