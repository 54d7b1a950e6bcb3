//! What no compiler checks: imports run with the water, files say what they own, none outgrows its room.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::shell::{output_of, root, say};

/// Which rooms a crate may import from. Leaving a crate out here is an error, so that a new one is placed.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("weir-settings", &[]),
    ("bench-peers", &["event-store", "funnel-engine"]),
    ("weir-abi", &[]),
    ("ebpf-probes", &["weir-abi"]),
    ("event-store", &[]),
    ("weir-testing", &["event-store"]),
    ("collector", &["ebpf-probes", "weir-abi", "event-store"]),
    ("funnel-engine", &["event-store"]),
    ("funnel-frames", &["funnel-engine"]),
    ("funnel-publish", &["event-store", "funnel-engine"]),
    ("funnel-report", &["funnel-engine", "funnel-frames"]),
    (
        "funnel",
        &[
            "event-store",
            "funnel-engine",
            "funnel-frames",
            "funnel-report",
        ],
    ),
    ("dashboards", &[]),
    (
        "report-api",
        &[
            "event-store",
            "funnel-engine",
            "funnel-publish",
            "funnel-report",
            "dashboards",
        ],
    ),
    ("commerce-core", &[]),
    ("shoppers", &[]),
    ("xtask", &[]),
];

/// A leaf without business words; every command reads its settings with it.
const FOR_ALL: &str = "weir-settings";

const LINES_WARN: usize = 500;
const LINES_MAX: usize = 800;

pub(crate) fn run() -> anyhow::Result<()> {
    let mut complaints = import_complaints()?;
    for file in rust_files(&root())? {
        complaints.extend(file_complaints(&file)?);
    }
    if complaints.is_empty() {
        return Ok(());
    }
    for complaint in &complaints {
        say(complaint);
    }
    bail!("{} untidy places", complaints.len())
}

fn import_complaints() -> anyhow::Result<Vec<String>> {
    let text = output_of(
        "cargo",
        &["metadata", "--format-version=1", "--no-deps", "--locked"],
    )
    .context("cargo metadata failed; is Cargo.lock up to date?")?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    let empty = Vec::new();
    let packages = metadata
        .get("packages")
        .and_then(|list| list.as_array())
        .unwrap_or(&empty);
    let imports: BTreeMap<String, Vec<String>> = packages
        .iter()
        .map(|package| {
            let name = text_of(package, "name").unwrap_or_default().to_owned();
            let dependencies = package.get("dependencies").and_then(|list| list.as_array()).unwrap_or(&empty);
            let inside = dependencies
                .iter()
                // A test may stand anywhere on the bank; only what is shipped must run with the water.
                .filter(|dependency| text_of(dependency, "path").is_some() && text_of(dependency, "kind").is_none())
                .filter_map(|dependency| text_of(dependency, "name").map(str::to_owned))
                .collect();
            (name, inside)
        })
        .collect();
    Ok(check_imports(&imports))
}

fn text_of<'a>(value: &'a serde_json::Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(serde_json::Value::as_str)
}

fn check_imports(imports: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, inside) in imports {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(room, _)| room == name) else {
            complaints.push(format!(
                "crate {name} has no place in xtask/src/tidy.rs; add it with what it may import"
            ));
            continue;
        };
        for import in inside
            .iter()
            .filter(|import| !allowed.contains(&import.as_str()) && *import != FOR_ALL)
        {
            complaints.push(format!(
                "{name} imports {import}, against the direction of the data"
            ));
        }
    }
    complaints
}

fn file_complaints(file: &Path) -> anyhow::Result<Vec<String>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("while reading {}", file.display()))?;
    let shown = file
        .strip_prefix(root())
        .unwrap_or(file)
        .display()
        .to_string();
    let mut complaints = Vec::new();
    let is_test = shown.contains("/tests/");
    if !text.starts_with("//!") {
        complaints.push(format!(
            "{shown} does not open by saying what it owns (a //! comment)"
        ));
    }
    let shipped = text
        .find("#[cfg(test)]")
        .map_or(text.as_str(), |at| text.get(..at).unwrap_or(&text));
    let lines = shipped.lines().count();
    if lines > LINES_MAX && !is_test {
        complaints.push(format!("{shown} has {lines} lines; split it"));
    } else if lines > LINES_WARN {
        say(&format!("note: {shown} has {lines} lines"));
    }
    Ok(complaints)
}

fn rust_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("while listing {}", folder.display()))?
    {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            if !name.starts_with('.') && !matches!(name, "target" | "out" | "node_modules") {
                files.extend(rust_files(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(name: &str, inside: &[&str]) -> BTreeMap<String, Vec<String>> {
        BTreeMap::from([(
            name.to_owned(),
            inside.iter().map(|import| (*import).to_owned()).collect(),
        )])
    }

    #[test]
    fn imports_run_with_the_water() {
        assert!(check_imports(&imports("collector", &["event-store"])).is_empty());
        assert_eq!(
            check_imports(&imports("event-store", &["collector"])).len(),
            1
        );
        assert_eq!(check_imports(&imports("newcomer", &[])).len(), 1);
    }
}
