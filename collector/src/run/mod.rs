//! Puts the parts together: the capture thread, the sink, the watchdog, and an orderly end.

mod capture;
mod doors;
mod resume;
mod scout;
mod watchdog;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::mpsc;

pub use capture::{CaptureOptions, spawn_capture};
pub use doors::SideDoors;
pub use resume::take_up;
pub use scout::{HostReport, KernelCounters, Scout, SharedHostReport, spawn_scout};
pub use watchdog::{reason_for_silence, watch_for_silence};

use crate::{exchange::ExchangeBatch, health::Minute, service_times::ServiceTimes, sink::Sink};

/// Tells the capture thread to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends the capture; what is in the ring is still taken.
    pub fn request(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the end was requested.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Moves batches into the sink until the capture has ended and everything is written.
///
/// # Errors
/// When the sink fails for good.
pub async fn pump(
    mut batches: mpsc::Receiver<ExchangeBatch>,
    mut minutes: mpsc::Receiver<Minute>,
    sink: &mut impl Sink,
    mut times: ServiceTimes,
    delivered: &AtomicU64,
) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(100));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            batch = batches.recv() => match batch {
                Some(batch) => {
                    times.observe(&batch.exchanges);
                    let position = batch.position;
                    sink.write(batch).await?;
                    // What waits in memory for the spool is at most a fraction of a second, and a segment far more.
                    delivered.store(position, Ordering::Relaxed);
                }
                None => break,
            },
            Some(minute) = minutes.recv() => sink.health(minute).await?,
            _ = tick.tick() => sink.tick().await?,
        }
    }
    while let Some(minute) = minutes.recv().await {
        sink.health(minute).await?;
    }
    sink.finish().await
}
