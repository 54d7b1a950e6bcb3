//! Where exchanges go.

mod clickhouse;
mod ndjson;
mod rows;
pub mod spool;

pub use clickhouse::ClickHouseSink;
pub use ndjson::{Delivered, NdjsonSink};
pub use spool::SpoolOptions;

use crate::{exchange::ExchangeBatch, health::Minute};

/// A destination of exchanges. It owns its retries; an error means that the output is lost for good.
pub trait Sink: Send {
    /// Takes a batch; returns once it is written or safely queued.
    fn write(&mut self, batch: ExchangeBatch) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Takes a minute of connection health. Outputs without a place for it pass it over.
    fn health(&mut self, minute: Minute) -> impl Future<Output = anyhow::Result<()>> + Send {
        drop(minute);
        std::future::ready(Ok(()))
    }

    /// Called now and then without a batch, so that time-based flushing works.
    fn tick(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Writes out everything; called once, at the end.
    fn finish(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// The sink chosen on the command line.
#[derive(Debug)]
pub enum AnySink {
    /// Lines of JSON.
    Ndjson(NdjsonSink),
    /// The store.
    ClickHouse(Box<ClickHouseSink>),
}

impl Sink for AnySink {
    async fn write(&mut self, batch: ExchangeBatch) -> anyhow::Result<()> {
        match self {
            Self::Ndjson(sink) => sink.write(batch).await,
            Self::ClickHouse(sink) => sink.write(batch).await,
        }
    }

    async fn health(&mut self, minute: Minute) -> anyhow::Result<()> {
        match self {
            Self::Ndjson(sink) => sink.health(minute).await,
            Self::ClickHouse(sink) => sink.health(minute).await,
        }
    }

    async fn tick(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Ndjson(sink) => sink.tick().await,
            Self::ClickHouse(sink) => sink.tick().await,
        }
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Ndjson(sink) => sink.finish().await,
            Self::ClickHouse(sink) => sink.finish().await,
        }
    }
}
