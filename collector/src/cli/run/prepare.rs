//! Everything that needs privileges or may be refused, before any thread is started: files, the kernel side, the first
//! look around, and what an earlier collector left.

use std::{
    collections::BTreeMap,
    fs::File,
    io::BufWriter,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use anyhow::Context as _;

use crate::{
    attribution::{directory::Directory, discovery::Discovery},
    cli::{RunArgs, TlsReading},
    clock::ClockAnchor,
    config::{ConfigError, FileConfig, Watch},
    exchange::Exchange,
    health::{HealthBook, HealthMetrics},
    journal::Journal,
    ledger::Ledger,
    metrics::Shown,
    pipeline::{Listeners, Pipeline, PipelineConfig},
    privacy::PseudonymKey,
    run::{KernelCounters, Scout, Stop, take_up},
    service_times::ServiceTimes,
    sink::{AnySink, ClickHouseSink, Delivered, NdjsonSink, SpoolOptions},
    source::{AttachOptions, KernelSource, RecordDrain, SourceError, recording::Recorder},
};

/// A collector that is ready to go.
pub(super) struct Prepared {
    pub(super) ledger: Arc<Ledger>,
    pub(super) sink: AnySink,
    pub(super) scout: Scout,
    pub(super) drain: RecordDrain,
    pub(super) pipeline: Pipeline,
    pub(super) health: HealthMetrics,
    pub(super) counters: KernelCounters,
    /// Records of the time before this process that were read by another.
    pub(super) kernel_before: u64,
    pub(super) journal: Option<Journal>,
    pub(super) left_over: Vec<Exchange>,
    pub(super) recorder: Option<Recorder<BufWriter<File>>>,
    pub(super) summary: Option<(PathBuf, File)>,
    pub(super) ports: Vec<u16>,
    pub(super) directory: Directory,
    pub(super) stop: Stop,
}

impl Prepared {
    /// What `/metrics` shows.
    pub(super) fn shown<'a>(&'a self, times: &'a ServiceTimes) -> Shown<'a> {
        Shown {
            ledger: Arc::clone(&self.ledger),
            kernel: Arc::clone(&self.counters),
            kernel_before: self.kernel_before,
            host: Arc::clone(&self.scout.host),
            times,
            health: &self.health,
            map: self.pipeline.service_map(),
        }
    }
}

pub(super) fn prepare(args: &RunArgs, file: &FileConfig) -> anyhow::Result<Prepared> {
    let watch = Watch {
        ports: args.ports.clone(),
        process: args.process.clone(),
        cgroup: args.cgroup.clone(),
        side: args.side,
    };
    let wanted = watch.wanted(file)?;
    let (ports, names) = (wanted.ports.clone(), wanted.processes.clone());
    let (ledger, stop) = (Arc::new(Ledger::default()), Stop::default());
    let (sink, delivered) = open_sink(args, &ledger)?;
    let config = file.pipeline(PseudonymKey::load_or_create(&args.pseudonym_key)?)?;
    let anchor = ClockAnchor::now();
    let recorder = open_recorder(args, &anchor)?;
    let summary = create(args.summary.as_ref())?;
    let (source, mut drain) = attach(args, &watch, &ports)?;
    let directory = Directory::new(file.names());
    let discovery = Discovery::new(wanted);
    let by_number = ports.iter().copied().collect();
    let mut scout = Scout::new(
        source,
        discovery,
        directory.clone(),
        by_number,
        stop.clone(),
    );
    scout.look()?;
    if scout.source.is_resumed() {
        scout.tidy_ports()?;
    }
    demand_a_listener(names.first(), &ports, &scout)?;
    announce(&ports, &directory, &scout);
    let health = HealthMetrics::default();
    let listeners = Box::new(directory.clone());
    let mut pipeline = new_pipeline(args, config, listeners, (&ledger, anchor));
    let (journal, left_over) = match &args.keep {
        Some(name) => {
            let folder = args.state.join(name);
            let (journal, past) = Journal::open(&folder, &scout.source.capture_id(), delivered)
                .with_context(|| format!("while opening the journal in {}", folder.display()))?;
            let mut left_over = Vec::new();
            if scout.source.is_resumed() {
                left_over = take_up(&past, &mut pipeline, &mut drain, delivered, &ledger);
                pipeline.set_anchor(ClockAnchor::now());
            }
            (Some(journal), left_over)
        }
        None => (None, Vec::new()),
    };
    let kernel_before = records_read_by_others(&scout.source, &drain)?;
    // Only now: what an earlier collector has counted is not counted again.
    let pipeline = pipeline.with_figures(HealthBook::new(health.clone()));
    Ok(Prepared {
        ledger,
        sink,
        counters: Arc::clone(&scout.counters),
        scout,
        drain,
        pipeline,
        health,
        kernel_before,
        journal,
        left_over,
        recorder,
        summary,
        ports,
        directory,
        stop,
    })
}

fn attach(
    args: &RunArgs,
    watch: &Watch,
    ports: &[u16],
) -> Result<(KernelSource, RecordDrain), SourceError> {
    KernelSource::attach(&AttachOptions {
        cgroup: watch.cgroup.as_deref(),
        ports,
        side: watch.side,
        tls: args.tls == TlsReading::Auto,
        keep: args.keep.as_deref(),
        ring_bytes: args.ring_mib.bytes(),
    })
}

/// A name that nobody has is most likely misspelt.
fn demand_a_listener(
    name: Option<&String>,
    ports: &[u16],
    scout: &Scout,
) -> Result<(), ConfigError> {
    match name {
        Some(name) if ports.is_empty() && !scout.has_found_any() => {
            Err(ConfigError::Value(format!(
                "no process named `{name}` listens on a TCP port; see `ss -ltnp`, or name the port with --port"
            )))
        }
        Some(_) | None => Ok(()),
    }
}

fn new_pipeline(
    args: &RunArgs,
    config: PipelineConfig,
    listeners: Box<dyn Listeners>,
    (ledger, anchor): (&Arc<Ledger>, ClockAnchor),
) -> Pipeline {
    let pipeline = Pipeline::new(config, listeners, Arc::clone(ledger), anchor);
    if args.keep.is_some() {
        // What is held back for its cause would be decided anew in the next collector, with what is known then.
        pipeline.without_stitching()
    } else {
        pipeline
    }
}

/// Of a capture that was kept: the records that an earlier collector has read.
fn records_read_by_others(source: &KernelSource, drain: &RecordDrain) -> anyhow::Result<u64> {
    if !source.is_resumed() {
        return Ok(0);
    }
    let waiting = drain.waiting_records();
    let sent = source.counters()?.get("records_sent").copied();
    Ok(sent.unwrap_or(0).saturating_sub(waiting))
}

fn open_recorder(
    args: &RunArgs,
    anchor: &ClockAnchor,
) -> anyhow::Result<Option<Recorder<BufWriter<File>>>> {
    let Some((_, file)) = create(args.record.as_ref())? else {
        return Ok(None);
    };
    let recorder = Recorder::new(BufWriter::new(file), anchor);
    Ok(Some(
        recorder.context("while writing the recording's header")?,
    ))
}

/// Creates a file now that is written later, with fewer privileges.
fn create(path: Option<&PathBuf>) -> anyhow::Result<Option<(PathBuf, File)>> {
    path.map(|path| {
        // A recording holds raw traffic, and the summary says little less of who is watched.
        let file = File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("while creating {}", path.display()))?;
        Ok((path.clone(), file))
    })
    .transpose()
}

/// The output, and the index of the last record whose exchanges an earlier collector had delivered to it.
fn open_sink(args: &RunArgs, ledger: &Arc<Ledger>) -> anyhow::Result<(AnySink, u64)> {
    let ledger = Arc::clone(ledger);
    match (&args.output, &args.clickhouse) {
        (Some(output), _) => {
            let delivered = match &args.keep {
                Some(name) => {
                    let folder = args.state.join(name);
                    std::fs::create_dir_all(&folder)
                        .with_context(|| format!("while creating {}", folder.display()))?;
                    Some(Delivered::open(&folder.join("delivered"), output)?)
                }
                None => None,
            };
            let had = delivered.as_ref().map_or(0, Delivered::position);
            let sink = NdjsonSink::open(output, ledger, delivered)?;
            Ok((AnySink::Ndjson(sink), had))
        }
        (None, Some(url)) => {
            // Positions in a spool are those of one capture: each that is kept has a spool of its own.
            let folder = match &args.keep {
                Some(name) => args.spool.join(name),
                None => args.spool.clone(),
            };
            let spool = SpoolOptions {
                folder,
                bytes_limit: args.spool_bytes,
            };
            let (sink, recovery) = ClickHouseSink::open(args.login.store(url), &spool, ledger)?;
            let had = recovery.last_position.unwrap_or_default();
            Ok((AnySink::ClickHouse(Box::new(sink)), had))
        }
        (None, None) => Err(ConfigError::Value(
            "no output: give --output ndjson:FILE, --output ndjson:- or --clickhouse URL"
                .to_owned(),
        )
        .into()),
    }
}

fn announce(ports: &[u16], directory: &Directory, scout: &Scout) {
    let source = &scout.source;
    if source.is_resumed() {
        tracing::info!("a capture that was kept is taken over");
    }
    if !source.switches().tasks {
        tracing::warn!(
            "this kernel does not tell who sends (6.16 and later do): no TLS is read, and callers stay unknown"
        );
    }
    let missing = scout.discovery.detail().to_string();
    if !missing.is_empty() {
        tracing::info!("{missing}");
    }
    for port in ports {
        if directory.clone().of_port(*port).pid.is_none() {
            tracing::warn!(port, "no process of this host listens here yet");
        }
    }
}

/// The latest reading of the kernel's counters.
pub(super) fn latest(counters: &KernelCounters) -> BTreeMap<&'static str, u64> {
    counters
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}
