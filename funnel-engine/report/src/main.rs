//! The `funnel-report` command: a funnel's result as documents.

use std::{fs, io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use funnel_engine::FunnelResult;
use funnel_report::{Report, to_csv, to_html, to_xlsx};

/// Writes report.html, report.xlsx and report.csv from a funnel's result.
#[derive(Debug, Parser)]
#[command(name = "funnel-report", version)]
struct Cli {
    /// The result, as `funnel run --format json` prints it.
    #[arg(long, value_name = "FILE")]
    funnel: PathBuf,
    /// Headline.
    #[arg(long, default_value = "Conversion report")]
    title: String,
    /// The period, as readers should see it.
    #[arg(long, default_value = "")]
    period: String,
    /// Folder for the files.
    #[arg(long, default_value = ".", value_name = "DIR")]
    out: PathBuf,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a terminal there is nobody to tell.
            writeln!(std::io::stderr(), "funnel-report: {error:#}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let text = fs::read_to_string(&cli.funnel)
        .with_context(|| format!("cannot read {}", cli.funnel.display()))?;
    let result: FunnelResult = serde_json::from_str(&text)
        .with_context(|| format!("{} is no funnel result", cli.funnel.display()))?;
    let report = Report::new(&cli.title, &cli.period, &result);
    let files = [
        ("report.html", to_html(&report)?.into_bytes()),
        ("report.xlsx", to_xlsx(&report)?),
        ("report.csv", to_csv(&report)?),
    ];
    for (name, bytes) in files {
        let path = cli.out.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
