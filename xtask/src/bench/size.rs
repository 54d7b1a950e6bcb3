//! How large each binary is, and how many crates stand behind it.

use std::{collections::BTreeSet, fs};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{binary, build};
use crate::shell::{output_of, say};

/// Packages and their binaries.
const BINARIES: [(&str, &str); 6] = [
    ("collector", "collector"),
    ("event-store", "event-store"),
    ("funnel", "funnel"),
    ("report-api", "report-api"),
    ("commerce-core", "shop"),
    ("shoppers", "shoppers"),
];

pub(super) fn run() -> anyhow::Result<Value> {
    build(&BINARIES.map(|(package, _)| package))?;
    let mut figures = serde_json::Map::new();
    for (package, name) in BINARIES {
        let bytes = fs::metadata(binary(name)?)
            .context("while looking at a binary")?
            .len();
        let crates = crates_behind(package)?;
        #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let megabytes = bytes as f64 / 1e6;
        say(&format!(
            "{name:<12} {megabytes:>6.1} MB  {crates:>4} crates"
        ));
        figures.insert(
            name.to_owned(),
            json!({ "megabytes": megabytes, "crates": crates }),
        );
    }
    Ok(figures.into())
}

fn crates_behind(package: &str) -> anyhow::Result<usize> {
    let args = [
        "tree",
        "--locked",
        "--package",
        package,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let tree = output_of("cargo", &args).context("cargo tree failed")?;
    let names = tree.lines().map(|line| line.trim_end_matches(" (*)"));
    Ok(names.collect::<BTreeSet<_>>().len())
}
