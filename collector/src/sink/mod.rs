//! Where exchanges go.

mod ndjson;

pub use ndjson::NdjsonSink;

use crate::exchange::Exchange;

/// A destination of exchanges. It owns its retries; an error means that the output is lost for good.
pub trait Sink: Send {
    /// Takes a batch; returns once it is written or safely queued.
    fn write(&mut self, batch: Vec<Exchange>) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Called now and then without a batch, so that time-based flushing works.
    fn tick(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Writes out everything; called once, at the end.
    fn finish(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}
