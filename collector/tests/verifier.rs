//! All programs pass the verifier, and how far it had to walk is kept: a program that grows shows here first.
//! `WEIR_BLESS=1 cargo nextest run -p collector --test verifier` writes the counts anew.

use std::{collections::BTreeMap, fs, path::PathBuf};

use collector::source::{AttachOptions, KernelSource};

fn kept() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ebpf-probes/verified-instructions.txt")
}

#[test]
fn every_program_passes_and_none_has_grown_by_more_than_a_tenth() {
    let options = AttachOptions {
        tls: true,
        ..AttachOptions::default()
    };
    let attached = KernelSource::attach(&options);
    let (source, _drain) = attached.expect("the programs load; this test needs root and BPF");
    let counts = source.verified_instructions().unwrap();
    let lines: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let text = lines.join("\n");
    if std::env::var_os("WEIR_BLESS").is_some() {
        fs::write(kept(), &text).unwrap();
    }
    let kept: BTreeMap<String, u32> = fs::read_to_string(kept())
        .unwrap()
        .lines()
        .map(|line| {
            let (name, count) = line.split_once(' ').unwrap();
            (name.to_owned(), count.parse().unwrap())
        })
        .collect();
    assert!(
        counts.keys().eq(kept.keys()),
        "other programs than kept:\n{text}"
    );
    for (name, count) in &counts {
        let limit = kept[name] + kept[name] / 10;
        assert!(
            *count > 0 && *count <= limit,
            "{name}: {count} instructions, {} are kept; bless it if that is meant:\n{text}",
            kept[name]
        );
    }
}
