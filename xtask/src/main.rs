//! The tool shed: everything a developer or CI does goes through `cargo xtask`.

mod bench;
mod demo;
mod ports;
mod process;
mod setup;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, test and show Weir.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what is missing on this machine: packages, the BPF linker, the engine library.
    Setup,
    /// Build the kernel programs.
    BuildEbpf,
    /// Run the whole river on this machine: store, shop, kernel probes, shoppers, funnel.
    Demo(demo::DemoArgs),
    /// Measure: what watching costs, how fast recordings are decoded, a minute of steady load, ingest, the first funnel, sizes.
    Bench(bench::BenchArgs),
    /// Formatting, lints and every test, against the real kernel and real servers.
    Test,
    /// Check what no compiler checks: the direction of imports, module docs, file sizes.
    Tidy,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup => setup::run_and_say(),
        Command::BuildEbpf => shell::cargo(&["build", "--package", "ebpf-probes"]),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Test => test::run(),
        Command::Tidy => tidy::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
