//! `collector run`: attach, let go of privileges, capture, write, and end in order.

mod prepare;

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
};

use anyhow::Context as _;
use prepare::{Prepared, latest, prepare};
use tokio::sync::mpsc;

use super::{RunArgs, TlsReading};
use crate::{
    balance,
    config::FileConfig,
    ledger::{Ledger, Line},
    limits::{EXCHANGE_BATCHES_MAX, HEALTH_MINUTES_MAX},
    metrics, otlp, privileges,
    run::{
        CaptureOptions, SideDoors, pump, reason_for_silence, spawn_capture, spawn_scout,
        watch_for_silence,
    },
    service_times::ServiceTimes,
};

pub(super) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let file = FileConfig::load(args.config.as_deref())?;
    let prepared = prepare(args, &file)?;
    // Before any other thread exists: privileges belong to threads, and new ones inherit what is left.
    privileges::go_first();
    privileges::let_go(args.tls == TlsReading::Auto);
    let mut times = ServiceTimes::default();
    file.names().values().for_each(|name| times.announce(name));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("while starting the runtime")?;
    runtime.block_on(capture(args, prepared, times))
}

async fn capture(args: &RunArgs, ready: Prepared, times: ServiceTimes) -> anyhow::Result<()> {
    let shown = metrics::router(&ready.shown(&times));
    let Prepared {
        ledger,
        mut sink,
        scout,
        counters,
        kernel_before,
        directory,
        ports,
        stop,
        ..
    } = ready;
    let asked = weir_settings::asked_to_end().context("while listening for signals")?;
    tracing::info!(cgroup = %scout.source.cgroup().display(), ?ports, "watching");
    // Attached already: that `/metrics` answers means that traffic is being captured.
    let side_doors = open_side_doors(args, &ledger, shown).await?;
    let (sender, receiver) = mpsc::channel(EXCHANGE_BATCHES_MAX);
    let (minutes, minutes_receiver) = mpsc::channel(HEALTH_MINUTES_MAX);
    let delivered = Arc::new(AtomicU64::new(0));
    let scout = spawn_scout(scout).context("while starting the scout thread")?;
    let capture = spawn_capture(CaptureOptions {
        drain: ready.drain,
        pipeline: ready.pipeline,
        recorder: ready.recorder,
        journal: ready.journal,
        left_over: ready.left_over,
        delivered: Arc::clone(&delivered),
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
    let (watchdog, stopper) = (tokio::spawn(silence), stop.clone());
    let asked = tokio::spawn(async move {
        asked.await;
        stopper.request();
    });
    let result = pump(receiver, minutes_receiver, &mut sink, times, &delivered).await;
    stop.request();
    asked.abort();
    watchdog.abort();
    side_doors.close().await;
    // The programs stay attached until the ring is drained.
    let (drained, source) = (capture.join(), scout.join());
    drained
        .and(source)
        .ok()
        .context("a thread of the capture panicked; this is a bug")?;
    let books = Books {
        ledger: &ledger,
        kernel: latest(&counters),
        kernel_before,
    };
    let lost = books.tell_the_end();
    if let Some(reason) = reason_for_silence(&ledger, &ports, &directory) {
        tracing::warn!(?ports, "nothing was captured: {reason}");
    }
    books.write(lost, ready.summary)?;
    result
}

/// What is told at the end.
struct Books<'a> {
    ledger: &'a Ledger,
    kernel: BTreeMap<&'static str, u64>,
    kernel_before: u64,
}

impl Books<'_> {
    /// Logs the totals; returns everything lost, over all stages.
    fn tell_the_end(&self) -> u64 {
        let refused: u64 = self
            .kernel
            .iter()
            .filter(|(name, _)| name.starts_with("refused_"))
            .map(|(_, count)| count)
            .sum();
        let lost = self.ledger.lost() + refused;
        tracing::info!(
            packets = self.kernel.get("packets_seen").copied().unwrap_or(0),
            records = self.ledger.get(Line::RecordsRead),
            exchanges = self.ledger.get(Line::Exchanges),
            stored = self.ledger.get(Line::ExchangesStored),
            lost,
            "ended"
        );
        lost
    }

    fn write(&self, lost: u64, file: Option<(PathBuf, File)>) -> anyhow::Result<()> {
        let Some((path, mut file)) = file else {
            return Ok(());
        };
        let lines: BTreeMap<&str, u64> = self
            .ledger
            .entries()
            .map(|(label, _, _, value)| (label, value))
            .collect();
        let stages = balance::stages(self.ledger, &self.kernel, self.kernel_before);
        let summary = serde_json::json!({
            "lost": lost, "kernel": self.kernel, "ledger": lines, "stages": stages,
        });
        file.write_all(summary.to_string().as_bytes())
            .with_context(|| format!("while writing {}", path.display()))
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
