//! `funnel explain`: which backend would answer, and how.

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use funnel_engine::{Backend, Events, explain_clickhouse, plan};

use crate::run::definition;

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Funnel definition (JSON).
    #[arg(long, value_name = "FILE")]
    definition: PathBuf,
    /// For events in a file instead of the store.
    #[arg(long)]
    file: bool,
    /// For a store whose index is at hand, as `funnel index` keeps it.
    #[arg(long, conflicts_with = "file")]
    index: bool,
}

pub(crate) fn explain(args: &ExplainArgs) -> anyhow::Result<()> {
    let definition = definition(&args.definition)?;
    let events = match (args.file, args.index) {
        (true, _) => Events::File,
        (false, true) => Events::Index,
        (false, false) => Events::Store,
    };
    let plan = plan(&definition, events);
    let mut text = plan.to_string();
    if plan.backend == Backend::Clickhouse {
        text += "\n";
        text += &explain_clickhouse(&definition)?;
    }
    write!(std::io::stdout(), "{text}").context("cannot write the plan")
}
