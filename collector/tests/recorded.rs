//! A recorded capture with its expected result, replayed without privileges: nginx over HTTP/1.1, HTTP/2 and TLS, both
//! ends watched, with a handshake that the client broke off. What was asked is written down beside it.
//! `WEIR_BLESS=1 cargo nextest run -p collector --test recorded` writes the expected result anew.

use std::{fs, path::PathBuf, process::Command};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/recordings")
        .join(name)
}

#[test]
fn a_recording_gives_the_exchanges_that_were_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, "07".repeat(32)).unwrap();
    let chmod = Command::new("chmod").arg("600").arg(&key).status().unwrap();
    assert!(chmod.success());
    let output = Command::new(env!("CARGO_BIN_EXE_collector"))
        .arg("replay")
        .arg(data("nginx.rec"))
        .arg("--config")
        .arg(data("nginx.toml"))
        .arg("--pseudonym-key")
        .arg(&key)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let found = String::from_utf8(output.stdout).unwrap();
    if std::env::var_os("WEIR_BLESS").is_some() {
        fs::write(data("nginx.ndjson"), &found).unwrap();
    }
    let expected = fs::read_to_string(data("nginx.ndjson")).unwrap();
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
    // The truth apart from ourselves: five requests in plain text, two over TLS, two over HTTP/2, each at both ends.
    for (path, times) in [
        ("\"path\":\"/\"", 8),
        ("\"path\":\"/missing\"", 2),
        ("\"path\":\"/big.bin\"", 4),
        ("\"path\":\"/post\"", 2),
        ("\"path\":\"/orders/12345\"", 2),
    ] {
        assert_eq!(found.matches(path).count(), times, "{path}");
    }
    assert_eq!(found.lines().count(), 18);
    assert_eq!(found.matches("\"tls\":true").count(), 8);
    assert_eq!(found.matches("\"protocol\":\"h2\"").count(), 4);
    assert_eq!(found.matches("\"outcome\":\"ok\"").count(), 18);
    assert!(
        !found.contains("4111"),
        "the card number in the query is not told"
    );
}
