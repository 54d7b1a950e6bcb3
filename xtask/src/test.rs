//! `cargo xtask test`: what CI runs, and what a laptop runs.

use std::time::Instant;

use anyhow::Context as _;

use crate::{
    setup,
    shell::{cargo, say},
    tidy,
};

pub(crate) fn run() -> anyhow::Result<()> {
    let started = Instant::now();
    setup::make_ready(setup::Purpose::Tests)?;
    step("tidy", tidy::run)?;
    step("formatting", || cargo(&["fmt", "--all", "--check"]))?;
    step("lints", || {
        cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ])
    })?;
    step("build", || {
        cargo(&["build", "--workspace", "--locked", "--quiet"])
    })?;
    step("the river end to end", || {
        let out = out_folder();
        cargo(&[
            "xtask",
            "demo",
            "--once",
            "--shoppers",
            "150",
            "--seed",
            "7",
            "--out",
            &out,
        ])?;
        std::fs::remove_dir_all(&out).with_context(|| format!("while removing {out}"))
    })?;
    // Last, so that the runner's summary stands at the end.
    step("tests", || {
        cargo(&["nextest", "run", "--workspace", "--locked"])
    })?;
    say(&format!("all green in {} s", started.elapsed().as_secs()));
    Ok(())
}

fn step(name: &str, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let started = Instant::now();
    say(&format!("{name} ..."));
    work()?;
    say(&format!("{name} done in {} s", started.elapsed().as_secs()));
    Ok(())
}

fn out_folder() -> String {
    let name = format!("weir-test-{}", std::process::id());
    std::env::temp_dir()
        .join(name)
        .to_string_lossy()
        .into_owned()
}
