//! `funnel report`: a result as documents.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use funnel_engine::FunnelResult;
use funnel_report::{Report, ReportFormat};

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
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

pub(crate) fn report(args: &ReportArgs) -> anyhow::Result<()> {
    let text = fs::read_to_string(&args.funnel)
        .with_context(|| format!("cannot read {}", args.funnel.display()))?;
    let result: FunnelResult = serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is no funnel result: give what `funnel run --format json` prints",
            args.funnel.display()
        )
    })?;
    let report = Report::new(&args.title, &args.period, &result);
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot create {}", args.out.display()))?;
    for format in ReportFormat::ALL {
        let path = args.out.join(format!("report.{}", format.extension()));
        fs::write(&path, format.render(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
