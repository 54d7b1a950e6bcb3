//! What is kept between runs: results for reports, and indexes.

use std::{fs, path::Path};

use serde_json::Value;
use weir_testing::{TestStore, exchange};

use super::{Ended, Files, definition, funnel};

#[test]
fn a_report_is_made_of_a_result_and_of_nothing_else() {
    let files = Files::new();
    let out = files.path("out");
    for (content, says) in [
        (definition(&[]), "is no funnel result"),
        ("{\"steps\":".to_owned(), "is no funnel result"),
    ] {
        let path = files.write("funnel.json", content);
        let ended = funnel(&["report", "--funnel", &path, "--out", &out.to_string_lossy()]);
        assert_eq!(ended.code, Some(1));
        assert!(
            ended.said.contains(says) && ended.said.contains("funnel run --format json"),
            "{}",
            ended.said
        );
        assert!(!out.exists(), "nothing is half written");
    }
}

/// Changes a byte of the first file with an ending.
fn damage(folder: &Path, ending: &str, at: impl Fn(usize) -> usize) {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let file = entries
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with(ending))
        .unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_old_or_damaged_is_built_anew_and_says_so() {
    let running = TestStore::start().await;
    let rows: Vec<_> = (0..50)
        .map(|number| exchange(1_767_225_600_000_000_000 + number, "ann", "login"))
        .collect();
    running
        .store
        .insert_exchanges(&rows, "first")
        .await
        .unwrap();
    let files = Files::new();
    let folder = files.path("index");
    let path = folder.to_string_lossy().into_owned();
    let url = running.store.url().to_owned();
    let index = |more: &[&str]| {
        let args = [&["index", "--clickhouse", &url, "--path", &path][..], more].concat();
        funnel(&args)
    };
    let held = |ended: &Ended| -> Value {
        assert_eq!(ended.code, Some(0), "{}", ended.said);
        let figures: Value = serde_json::from_str(&ended.out).unwrap();
        figures["events"].clone()
    };
    assert_eq!(held(&index(&[])), 50);
    let anew = "the index cannot be trusted and is built anew from the store";
    // The version of the format is the ninth byte of each file.
    damage(&folder, "MANIFEST", |_| 8);
    let definition = files.write("d.json", definition(&[]));
    let ended = index(&[]);
    assert!(ended.said.contains(anew), "{}", ended.said);
    assert!(
        ended.said.contains("MANIFEST: format version"),
        "{}",
        ended.said
    );
    assert_eq!(held(&ended), 50);
    damage(&folder, ".segment", |bytes| bytes / 2);
    let ended = index(&["--verify"]);
    let says = format!("delete {path} and run `funnel index` again");
    assert!(
        ended.code == Some(1) && ended.said.contains(&says) || ended.said.contains(anew),
        "{}",
        ended.said
    );
    damage(&folder, "MANIFEST", |bytes| bytes - 1);
    let ended = funnel(&[
        "run",
        "--definition",
        &definition,
        "--clickhouse",
        &url,
        "--index",
        &path,
    ]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
    assert!(
        ended.said.contains("run `funnel index` to build it anew"),
        "{}",
        ended.said
    );
    assert_eq!(held(&index(&[])), 50);
}
