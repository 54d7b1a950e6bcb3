//! Replays the corpus of the fuzz targets on an ordinary toolchain; see `collector/fuzz/README.md`.

use std::{
    collections::BTreeSet,
    fs, io,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

#[path = "../fuzz/targets.rs"]
mod targets;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names_in(folder: &Path) -> io::Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder)?;
    let name =
        |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    entries.map(name).collect()
}

#[test]
fn every_input_of_the_corpus_is_survived() -> io::Result<()> {
    let mut failed = Vec::new();
    for (target, _) in targets::TARGETS {
        let folder = fuzz_folder().join("corpus").join(target);
        let files = names_in(&folder)?;
        assert!(files.len() >= 10, "{target} has {} inputs", files.len());
        for file in files {
            let data = fs::read(folder.join(&file))?;
            if catch_unwind(|| targets::run(target, &data)).is_err() {
                failed.push(format!("{target}/{file}"));
            }
        }
    }
    assert!(
        failed.is_empty(),
        "what the target asserts does not hold for {failed:?}"
    );
    Ok(())
}

#[test]
fn every_target_has_a_body_a_fuzzer_and_a_corpus() -> io::Result<()> {
    let bodies: BTreeSet<String> = targets::TARGETS
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(bodies, names_in(&fuzz_folder().join("corpus"))?);
    let sources: BTreeSet<String> = bodies.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(sources, names_in(&fuzz_folder().join("fuzz_targets"))?);
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml"))?;
    for source in sources {
        let line = format!("path = \"fuzz_targets/{source}\"");
        assert!(
            manifest.contains(&line),
            "Cargo.toml does not name {source}"
        );
    }
    Ok(())
}
