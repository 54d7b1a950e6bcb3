//! `collector run`: attach, capture, write, and end in order.

use std::{collections::BTreeMap, fs::File, io::BufWriter, path::Path, sync::Arc};

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::{RunArgs, TlsReading};
use crate::{
    attribution::{
        directory::Directory,
        discovery::{Discovery, Wanted},
    },
    clock::ClockAnchor,
    config::{ConfigError, FileConfig, Watch},
    health::{HealthBook, HealthMetrics},
    ledger::{Ledger, Line},
    limits::{EXCHANGE_BATCHES_MAX, HEALTH_MINUTES_MAX},
    metrics, otlp,
    pipeline::{Listeners as _, Pipeline},
    privacy::PseudonymKey,
    run::{
        CaptureOptions, HadDelivered, KernelCounters, Scout, SideDoors, Stop, open_journal, pump,
        reason_for_silence, spawn_capture, spawn_scout, take_up, watch_for_silence,
    },
    service_times::ServiceTimes,
    sink::{AnySink, ClickHouseSink, Delivered, NdjsonSink, SpoolOptions},
    source::{AttachOptions, KernelSource, recording::Recorder},
};

pub(super) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let file = FileConfig::load(args.config.as_deref())?;
    let watch = Watch {
        ports: args.ports.clone(),
        process: args.process.clone(),
        cgroup: args.cgroup.clone(),
        side: args.side,
    };
    let wanted = watch.wanted(&file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("while starting the runtime")?;
    runtime.block_on(capture(args, &file, &watch, wanted))
}

async fn capture(
    args: &RunArgs,
    file: &FileConfig,
    watch: &Watch,
    wanted: Wanted,
) -> anyhow::Result<()> {
    let ledger = Arc::new(Ledger::default());
    let mut times = ServiceTimes::default();
    file.names().values().for_each(|name| times.announce(name));
    let stop = Stop::default();
    let (mut sink, delivered) = open_sink(args, &ledger)?;
    let config = file.pipeline(PseudonymKey::load_or_create(&args.pseudonym_key)?)?;
    let (source, mut drain) = KernelSource::attach(&AttachOptions {
        cgroup: watch.cgroup.as_deref(),
        ports: &wanted.ports,
        side: watch.side,
        tls: args.tls == TlsReading::Auto,
        keep: args.keep.as_deref(),
        ..AttachOptions::default()
    })?;
    let ports = wanted.ports.clone();
    let wanted_processes = wanted.processes.first().cloned();
    let directory = Directory::new(file.names());
    let cgroup = source.cgroup().to_owned();
    let mut scout = Scout::new(
        source,
        Discovery::new(wanted),
        directory.clone(),
        stop.clone(),
    );
    let missing = wanted_processes.filter(|_| ports.is_empty());
    scout.look()?;
    if let (Some(name), false) = (missing, scout.has_found_any()) {
        return Err(ConfigError::Value(format!(
            "no process named `{name}` listens on a TCP port; see `ss -ltnp`, or name the port with --port"
        ))
        .into());
    }
    announce(&cgroup, &ports, &directory, &scout);
    let (counters, health) = (Arc::clone(&scout.counters), HealthMetrics::default());
    let (sender, receiver) = mpsc::channel(EXCHANGE_BATCHES_MAX);
    let (minutes, minutes_receiver) = mpsc::channel(HEALTH_MINUTES_MAX);
    let anchor = ClockAnchor::now();
    let recorder = args.record.as_ref().map(|path| {
        let file =
            File::create(path).with_context(|| format!("while creating {}", path.display()))?;
        Recorder::new(BufWriter::new(file), &anchor).context("while writing the recording's header")
    });
    let listeners = Box::new(directory.clone());
    let mut pipeline = Pipeline::new(config, listeners, Arc::clone(&ledger), anchor)
        .with_health(HealthBook::new(health.clone()));
    // After attaching: that `/metrics` answers means that traffic is being captured.
    let shown = metrics::Shown {
        ledger: Arc::clone(&ledger),
        kernel: Arc::clone(&counters),
        tls: Arc::clone(&scout.tls),
        times: &times,
        health: &health,
        map: pipeline.service_map(),
    };
    let side_doors = open_side_doors(args, &ledger, metrics::router(&shown)).await?;
    let mut left_over = Vec::new();
    let mut journal = None;
    if let Some(name) = &args.keep {
        let resumed = scout.source.is_resumed();
        let (opened, past) = open_journal(&args.state.join(name), resumed, &delivered)?;
        if resumed {
            left_over = take_up(&past, &mut pipeline, &mut drain, &delivered, &ledger);
            pipeline.set_anchor(ClockAnchor::now());
        }
        journal = Some(opened);
    }
    let scout = spawn_scout(scout).context("while starting the scout thread")?;
    let capture = spawn_capture(CaptureOptions {
        drain,
        pipeline,
        recorder: recorder.transpose()?,
        journal,
        left_over,
        exchanges: sender,
        minutes,
        ledger: Arc::clone(&ledger),
        stop: stop.clone(),
    })
    .context("while starting the capture thread")?;
    let silence = watch_for_silence(
        Arc::clone(&ledger),
        ports.clone(),
        directory.clone(),
        stop.clone(),
    );
    let watchdog = tokio::spawn(silence);
    let stopper = stop.clone();
    let asked = weir_settings::asked_to_end().context("while listening for signals")?;
    let asked = tokio::spawn(async move {
        asked.await;
        stopper.request();
    });
    let result = pump(receiver, minutes_receiver, &mut sink, times).await;
    stop.request();
    asked.abort();
    watchdog.abort();
    side_doors.close().await;
    let panicked = "a thread of the capture panicked; this is a bug";
    capture.join().ok().context(panicked)?;
    drop(scout.join().ok().context(panicked)?);
    summarise(args, &ledger, &counters, &ports, &directory)?;
    result
}

/// The output, and how far an earlier collector had got with it.
fn open_sink(args: &RunArgs, ledger: &Arc<Ledger>) -> anyhow::Result<(AnySink, HadDelivered)> {
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
            let had = delivered
                .as_ref()
                .map(|delivered| HadDelivered {
                    position: delivered.position(),
                    last_span_id: delivered.last_span_id().map(str::to_owned),
                })
                .unwrap_or_default();
            let sink = NdjsonSink::open(output, ledger, delivered)?;
            Ok((AnySink::Ndjson(sink), had))
        }
        (None, Some(url)) => {
            let spool = SpoolOptions {
                folder: args.spool.clone(),
                bytes_limit: args.spool_bytes,
            };
            let (sink, recovery) = ClickHouseSink::open(args.login.store(url), &spool, ledger)?;
            let had = HadDelivered {
                position: recovery.last_position.unwrap_or_default(),
                last_span_id: None,
            };
            Ok((AnySink::ClickHouse(Box::new(sink)), had))
        }
        (None, None) => Err(ConfigError::Value(
            "no output: give --output ndjson:FILE, --output ndjson:- or --clickhouse URL"
                .to_owned(),
        )
        .into()),
    }
}

/// The listeners beside the capture: metrics, and the spans that services send themselves.
async fn open_side_doors(
    args: &RunArgs,
    ledger: &Arc<Ledger>,
    metrics: axum::Router,
) -> anyhow::Result<SideDoors> {
    let mut doors = SideDoors::default();
    if let Some(address) = args.metrics {
        doors.open(address, metrics).await?;
    }
    if let Some(url) = args
        .clickhouse
        .as_ref()
        .filter(|_| args.otlp_grpc.is_some() || args.otlp_http.is_some())
    {
        let (intake, writer) = otlp::intake(
            args.login.store(url),
            args.otlp_forward.clone(),
            Arc::clone(ledger),
        );
        doors.writer(writer);
        if let Some(address) = args.otlp_grpc {
            doors
                .open(address, otlp::grpc_router(intake.clone()))
                .await?;
        }
        if let Some(address) = args.otlp_http {
            doors.open(address, otlp::http_router(intake)).await?;
        }
    }
    Ok(doors)
}

fn announce(cgroup: &Path, ports: &[u16], directory: &Directory, scout: &Scout) {
    if scout.source.is_resumed() {
        tracing::info!("a capture that was kept is taken over");
    }
    if !scout.source.switches().tasks {
        tracing::warn!(
            "this kernel does not tell who sends (6.16 and later do): no TLS is read, and callers stay unknown"
        );
    }
    let missing = scout.discovery.detail().to_string();
    if !missing.is_empty() {
        tracing::warn!("{missing}");
    }
    for port in ports {
        if directory.clone().of_port(*port).pid.is_none() {
            tracing::warn!(port, "no process of this host listens here yet");
        }
    }
    tracing::info!(cgroup = %cgroup.display(), ?ports, "watching");
}

fn summarise(
    args: &RunArgs,
    ledger: &Ledger,
    counters: &KernelCounters,
    ports: &[u16],
    directory: &Directory,
) -> anyhow::Result<()> {
    let kernel = counters
        .lock()
        .map(|counters| counters.clone())
        .unwrap_or_default();
    let refused: u64 = kernel
        .iter()
        .filter(|(name, _)| name.starts_with("refused_"))
        .map(|(_, count)| count)
        .sum();
    let lost = ledger.lost() + refused;
    tracing::info!(
        packets = kernel.get("packets_seen").copied().unwrap_or(0),
        records = ledger.get(Line::RecordsRead),
        exchanges = ledger.get(Line::Exchanges),
        stored = ledger.get(Line::ExchangesStored),
        lost,
        "ended"
    );
    if let Some(reason) = reason_for_silence(ledger, ports, directory) {
        tracing::warn!(?ports, "nothing was captured: {reason}");
    }
    let Some(path) = &args.summary else {
        return Ok(());
    };
    let lines: BTreeMap<&str, u64> = ledger
        .entries()
        .map(|(label, _, _, value)| (label, value))
        .collect();
    let summary = serde_json::json!({ "lost": lost, "kernel": kernel, "ledger": lines });
    std::fs::write(path, summary.to_string())
        .with_context(|| format!("while writing {}", path.display()))
}
