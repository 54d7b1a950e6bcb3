//! The `funnel` command: a funnel over an event file or over the store, and the report of its result.

use std::{
    fs::{self, File},
    io::{BufReader, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use event_store::{Scope, StoreLogin, TenantId};
use funnel_engine::{
    DefinitionError, Event, FunnelDefinition, FunnelResult, read_csv, read_ndjson,
    run_on_clickhouse, run_reference,
};
use funnel_frames::read_parquet;
use funnel_report::{Report, ReportFormat};
use weir_settings::BadUsage;

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
    Run(RunArgs),
    /// Write a funnel's result as documents: report.pdf, .xlsx, .html, .csv and .parquet.
    Report(ReportArgs),
}

#[derive(Debug, Args)]
struct ReportArgs {
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

#[derive(Debug, Args)]
struct RunArgs {
    /// Funnel definition (JSON).
    #[arg(long, value_name = "FILE")]
    definition: PathBuf,
    /// Events, as NDJSON, CSV or Parquet; for the reference backend.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Which engine answers.
    #[arg(long, value_enum, default_value_t = Backend::Reference)]
    backend: Backend,
    /// The store, for the clickhouse backend.
    #[arg(long, value_name = "URL", env = "WEIR_CLICKHOUSE")]
    clickhouse: Option<String>,
    #[command(flatten)]
    login: StoreLogin,
    /// Only this tenant's events; without it, all of them.
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// How the answer looks.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Backend {
    /// In memory, slow and obviously right.
    Reference,
    /// Inside the store.
    Clickhouse,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// The result contract.
    Json,
}

fn main() -> ExitCode {
    let result = match weir_settings::start::<Cli>().map(|cli| cli.command) {
        Ok(Command::Run(args)) => run(&args),
        Ok(Command::Report(args)) => report(&args),
        Err(code) => return code,
    };
    weir_settings::end(result, <dyn std::error::Error>::is::<DefinitionError>)
}

fn run(args: &RunArgs) -> anyhow::Result<()> {
    let json = fs::read_to_string(&args.definition)
        .with_context(|| format!("cannot read {}", args.definition.display()))?;
    let definition = FunnelDefinition::parse(&json)?;
    let started = Instant::now();
    let result = match args.backend {
        Backend::Reference => {
            let mut events = load(args)?;
            if let Some(tenant) = tenant(args)? {
                events.retain(|event| event.tenant() == tenant.as_str());
            }
            run_reference(&definition, &events)?
        }
        Backend::Clickhouse => on_clickhouse(args, &definition)?,
    };
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let result = result.with_elapsed_ms(elapsed_ms);
    let text = match args.format {
        Format::Table => result.to_table(),
        Format::Json => serde_json::to_string_pretty(&result)? + "\n",
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write the answer")
}

fn tenant(args: &RunArgs) -> Result<Option<TenantId>, BadUsage> {
    let empty = || BadUsage("--tenant must not be empty".to_owned());
    let tenant = args.tenant.as_ref();
    tenant
        .map(|text| TenantId::new(text).ok_or_else(empty))
        .transpose()
}

fn load(args: &RunArgs) -> anyhow::Result<Vec<Event>> {
    let path = args.events.as_ref().ok_or_else(|| {
        BadUsage("the reference backend reads a file: give --events FILE".to_owned())
    })?;
    let file = || {
        let opened = File::open(path).with_context(|| format!("cannot open {}", path.display()));
        opened.map(BufReader::new)
    };
    let within = || format!("in {}", path.display());
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ndjson" | "jsonl") => read_ndjson(file()?).with_context(within),
        Some("csv") => read_csv(file()?).with_context(within),
        Some("parquet") => read_parquet(path).with_context(within),
        _ => bail!(BadUsage(format!(
            "{}: the name must end in .ndjson, .csv or .parquet",
            path.display()
        ))),
    }
}

fn on_clickhouse(args: &RunArgs, definition: &FunnelDefinition) -> anyhow::Result<FunnelResult> {
    let url = args.clickhouse.as_ref().ok_or_else(|| {
        BadUsage("the clickhouse backend reads the store: give --clickhouse URL".to_owned())
    })?;
    let scope = tenant(args)?.map_or(Scope::Operator, Scope::Tenant);
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    Ok(runtime.block_on(run_on_clickhouse(
        &args.login.store(url),
        &scope,
        definition,
    ))?)
}

fn report(args: &ReportArgs) -> anyhow::Result<()> {
    let text = fs::read_to_string(&args.funnel)
        .with_context(|| format!("cannot read {}", args.funnel.display()))?;
    let result: FunnelResult = serde_json::from_str(&text)
        .with_context(|| format!("{} is no funnel result", args.funnel.display()))?;
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
