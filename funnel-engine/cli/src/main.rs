//! The `funnel` command: a funnel over an event file or over the store, and the report of its result.

mod events;
mod explain;
mod index;
mod report;
mod run;
mod seen;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use funnel_engine::DefinitionError;

/// Where buyers drop off: funnels over events.
#[derive(Debug, Parser)]
#[command(name = "funnel", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer a funnel definition.
    Run(run::RunArgs),
    /// Build or follow the columnar index of a store.
    Index(index::IndexArgs),
    /// Say which backend would answer a definition, why, what it reads, and the SQL.
    Explain(explain::ExplainArgs),
    /// Write a funnel's result as documents: report.pdf, .xlsx, .html, .csv and .parquet.
    Report(report::ReportArgs),
}

fn main() -> ExitCode {
    let result = match weir_settings::start::<Cli>().map(|cli| cli.command) {
        Ok(Command::Run(args)) => run::run(&args),
        Ok(Command::Index(args)) => index::index(&args),
        Ok(Command::Explain(args)) => explain::explain(&args),
        Ok(Command::Report(args)) => report::report(&args),
        Err(code) => return code,
    };
    weir_settings::end(result, <dyn std::error::Error>::is::<DefinitionError>)
}
