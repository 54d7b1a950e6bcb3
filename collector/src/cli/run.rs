//! `collector run`: attach, capture, write, and end in order.

use std::{collections::BTreeMap, fs::File, io::BufWriter, sync::Arc};

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::RunArgs;
use crate::{
    clock::ClockAnchor,
    config::{ConfigError, FileConfig, Watch},
    ledger::{Ledger, Line},
    limits::EXCHANGE_BATCHES_MAX,
    metrics, otlp,
    pipeline::Pipeline,
    run::SideDoors,
    run::{
        CaptureOptions, KernelCounters, Stop, pump, reason_for_silence, spawn_capture,
        watch_for_silence,
    },
    service_times::ServiceTimes,
    sink::{AnySink, ClickHouseSink, NdjsonSink, SpoolOptions},
    source::{
        AttachOptions, KernelSource,
        listeners::{ProcListeners, find_listener},
        recording::Recorder,
    },
};

pub(super) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let file = FileConfig::load(args.config.as_deref())?;
    let watch = Watch {
        ports: args.ports.clone(),
        process: args.process.clone(),
        cgroup: args.cgroup.clone(),
        side: args.side,
    };
    let ports = watch.resolve(&file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("while starting the runtime")?;
    runtime.block_on(capture(args, &file, &watch, ports))
}

async fn capture(
    args: &RunArgs,
    file: &FileConfig,
    watch: &Watch,
    ports: Vec<u16>,
) -> anyhow::Result<()> {
    let ledger = Arc::new(Ledger::default());
    let counters = KernelCounters::default();
    let mut times = ServiceTimes::default();
    file.names().values().for_each(|name| times.announce(name));
    let stop = Stop::default();
    let mut sink = open_sink(args, &ledger)?;
    let source = KernelSource::attach(&AttachOptions {
        cgroup: watch.cgroup.as_deref(),
        ports: &ports,
        side: watch.side,
        ..AttachOptions::default()
    })?;
    announce(&source, &ports);
    // After attaching: that `/metrics` answers means that traffic is being captured.
    let metrics = metrics::router(Arc::clone(&ledger), Arc::clone(&counters), &times);
    let side_doors = open_side_doors(args, &ledger, metrics).await?;
    let (sender, receiver) = mpsc::channel(EXCHANGE_BATCHES_MAX);
    let anchor = ClockAnchor::now();
    let recorder = args.record.as_ref().map(|path| {
        let file =
            File::create(path).with_context(|| format!("while creating {}", path.display()))?;
        Recorder::new(BufWriter::new(file), &anchor).context("while writing the recording's header")
    });
    let listeners = Box::new(ProcListeners::new(file.names()));
    let capture = spawn_capture(CaptureOptions {
        source,
        pipeline: Pipeline::new(file.pipeline(), listeners, Arc::clone(&ledger), anchor),
        recorder: recorder.transpose()?,
        exchanges: sender,
        counters: Arc::clone(&counters),
        stop: stop.clone(),
    })
    .context("while starting the capture thread")?;
    let watchdog = tokio::spawn(watch_for_silence(
        Arc::clone(&ledger),
        ports.clone(),
        stop.clone(),
    ));
    let stopper = stop.clone();
    let asked = weir_settings::asked_to_end().context("while listening for signals")?;
    let asked = tokio::spawn(async move {
        asked.await;
        stopper.request();
    });
    let result = pump(receiver, &mut sink, times).await;
    stop.request();
    asked.abort();
    watchdog.abort();
    side_doors.close().await;
    capture
        .join()
        .ok()
        .context("the capture thread panicked; this is a bug")?;
    summarise(args, &ledger, &counters, &ports)?;
    result
}

fn open_sink(args: &RunArgs, ledger: &Arc<Ledger>) -> anyhow::Result<AnySink> {
    match (&args.output, &args.clickhouse) {
        (Some(output), _) => Ok(AnySink::Ndjson(NdjsonSink::open(
            output,
            Arc::clone(ledger),
        )?)),
        (None, Some(url)) => {
            let spool = SpoolOptions {
                folder: args.spool.clone(),
                bytes_limit: args.spool_bytes,
            };
            let sink = ClickHouseSink::open(args.login.store(url), &spool, Arc::clone(ledger))?;
            Ok(AnySink::ClickHouse(Box::new(sink)))
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

fn announce(source: &KernelSource, ports: &[u16]) {
    tracing::info!(cgroup = %source.cgroup().display(), ?ports, "watching");
    for port in ports {
        if let Some((pid, process)) = find_listener(*port) {
            tracing::info!(port, pid, process, "listener found");
        } else {
            tracing::warn!(port, "no process of this host listens here yet");
        }
    }
}

fn summarise(
    args: &RunArgs,
    ledger: &Ledger,
    counters: &KernelCounters,
    ports: &[u16],
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
    if let Some(reason) = reason_for_silence(ledger, ports) {
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
