//! `funnel run`: one definition, one answer.

use std::{fs, io::Write as _, num::NonZero, path::PathBuf, time::Instant};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use event_store::{Scope, StoreLogin, TenantId};
use funnel_engine::{
    Backend, Event, Events, FunnelDefinition, FunnelResult, HeapBuilder, StoreIndex, plan,
    run_from_store, run_on_clickhouse, run_on_index, run_reference,
};
use weir_settings::BadUsage;

use crate::{events, seen::Seen, table};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Funnel definition (JSON).
    #[arg(long, value_name = "FILE")]
    definition: PathBuf,
    /// Events, as NDJSON, CSV or Parquet; an NDJSON file may also hold the collector's exchanges.
    #[arg(long, value_name = "FILE", conflicts_with = "clickhouse")]
    events: Option<PathBuf>,
    /// Which engine answers; without it, the fastest that can.
    #[arg(long, value_enum)]
    backend: Option<Asked>,
    /// The store, instead of a file.
    #[arg(long, value_name = "URL", env = "WEIR_CLICKHOUSE")]
    clickhouse: Option<String>,
    #[command(flatten)]
    login: StoreLogin,
    /// The store's columnar index, as `funnel index` keeps it; properties that it lacks are read from the store.
    #[arg(long, value_name = "DIR", requires = "clickhouse")]
    index: Option<PathBuf>,
    /// Only this tenant's events; without it, all of them.
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Threads of the columnar backend; without it, one per core.
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// How the answer looks.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Asked {
    /// Ours, fast: every definition.
    Columnar,
    /// Inside the store.
    Clickhouse,
    /// In memory, slow and obviously right: every definition, over files.
    Reference,
}

impl From<Asked> for Backend {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Columnar => Self::Columnar,
            Asked::Clickhouse => Self::Clickhouse,
            Asked::Reference => Self::Reference,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// The result contract.
    Json,
}

pub(crate) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let definition = definition(&args.definition)?;
    let started = Instant::now();
    let events = match (&args.events, &args.clickhouse, &args.index) {
        (None, Some(_), Some(_)) => Events::Index,
        (None, Some(_), None) => Events::Store,
        (Some(_), _, _) | (None, None, _) => Events::File,
    };
    let (backend, from) = args.backend.map_or_else(
        || {
            let plan = plan(&definition, events);
            (plan.backend, plan.from)
        },
        |asked| (asked.into(), events),
    );
    let result = match (backend, from) {
        (Backend::Columnar, Events::Index) => on_index(args, &definition)?,
        (Backend::Columnar, Events::Store) => in_store(args, &definition, false)?,
        (Backend::Columnar, Events::File) => columnar(args, &definition)?,
        (Backend::Clickhouse, _) => in_store(args, &definition, true)?,
        (Backend::Reference, _) => reference(args, &definition)?,
    };
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let result = result.with_elapsed_ms(elapsed_ms);
    let text = match args.format {
        Format::Table => table::table(&result),
        Format::Json => serde_json::to_string_pretty(&result)? + "\n",
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write the answer")
}

/// Reads and checks a definition.
pub(crate) fn definition(path: &PathBuf) -> anyhow::Result<FunnelDefinition> {
    let json =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    FunnelDefinition::parse(&json).with_context(|| format!("in {}", path.display()))
}

fn tenant(args: &RunArgs) -> Result<Option<TenantId>, BadUsage> {
    let empty = || BadUsage("--tenant must not be empty".to_owned());
    let tenant = args.tenant.as_ref();
    tenant
        .map(|text| TenantId::new(text).ok_or_else(empty))
        .transpose()
}

/// Hands every event of the file to `take`, and says what the definition names and none of them has.
fn each_event(
    args: &RunArgs,
    definition: &FunnelDefinition,
    take: &mut dyn FnMut(Event) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let path = args.events.as_ref().ok_or_else(|| {
        BadUsage(
            "nothing to read: give --events FILE, or --clickhouse URL for the store".to_owned(),
        )
    })?;
    let mut seen = Seen::new(definition);
    events::read(path, tenant(args)?.as_ref(), &mut |event| {
        seen.look(&event);
        take(event)
    })?;
    for remark in seen.remarks() {
        tracing::warn!("{remark}");
    }
    Ok(())
}

fn columnar(args: &RunArgs, definition: &FunnelDefinition) -> anyhow::Result<FunnelResult> {
    let mut builder = HeapBuilder::new(definition);
    each_event(args, definition, &mut |event| Ok(builder.push(&event)?))?;
    Ok(builder.finish()?.answer(threads(args))?)
}

fn threads(args: &RunArgs) -> usize {
    let given = args
        .threads
        .or_else(|| std::thread::available_parallelism().ok());
    given.map_or(1, NonZero::get)
}

fn reference(args: &RunArgs, definition: &FunnelDefinition) -> anyhow::Result<FunnelResult> {
    let mut events = Vec::new();
    each_event(args, definition, &mut |event| {
        events.push(event);
        Ok(())
    })?;
    Ok(run_reference(definition, &events)?)
}

fn on_index(args: &RunArgs, definition: &FunnelDefinition) -> anyhow::Result<FunnelResult> {
    let (Some(folder), Some(url)) = (&args.index, &args.clickhouse) else {
        bail!(BadUsage("--index needs --clickhouse URL".to_owned()));
    };
    let scope = tenant(args)?.map_or(Scope::Operator, Scope::Tenant);
    let (mut index, rebuilt) = StoreIndex::open(folder)?;
    if let Some(reason) = rebuilt {
        bail!(
            "the index cannot be trusted and was emptied ({reason}); run `funnel index` to build it anew"
        );
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(index.load_columns(&args.login.store(url), &scope, definition))?;
    let snapshot = index
        .index()
        .snapshot(scope.tenant().map(TenantId::as_str))?;
    Ok(run_on_index(definition, &snapshot, threads(args))?)
}

fn in_store(
    args: &RunArgs,
    definition: &FunnelDefinition,
    pushed: bool,
) -> anyhow::Result<FunnelResult> {
    let url = args.clickhouse.as_ref().ok_or_else(|| {
        BadUsage("the clickhouse backend reads the store: give --clickhouse URL".to_owned())
    })?;
    let scope = tenant(args)?.map_or(Scope::Operator, Scope::Tenant);
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let store = args.login.store(url);
    if pushed {
        return Ok(runtime.block_on(run_on_clickhouse(&store, &scope, definition))?);
    }
    Ok(runtime.block_on(run_from_store(&store, &scope, definition, threads(args)))?)
}
