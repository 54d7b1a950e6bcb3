//! `funnel explain`: which backend would answer, and how.

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use funnel_engine::{Events, plan};

use crate::run::definition;

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Funnel definition (JSON).
    #[arg(long, value_name = "FILE")]
    definition: PathBuf,
    /// For events in a file instead of the store.
    #[arg(long)]
    file: bool,
}

pub(crate) fn explain(args: &ExplainArgs) -> anyhow::Result<()> {
    let definition = definition(&args.definition)?;
    let events = if args.file {
        Events::File
    } else {
        Events::Store
    };
    write!(std::io::stdout(), "{}", plan(&definition, events)).context("cannot write the plan")
}
