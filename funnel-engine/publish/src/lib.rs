//! Where the results of live funnels go.
//!
//! Owns: the sinks (ClickHouse, Prometheus, Redis, webhooks, a hub for pages that follow), and the fan-out to them, in
//! which a slow or dead sink never holds up another. Refuses: computing any figure. Every sink is told snapshots of
//! result windows; of one window, the highest revision holds.

mod backoff;
mod clickhouse;
mod names;
mod prometheus;
mod publisher;
mod queue;
mod redis;
mod stream;
mod wanted;
mod webhook;

pub use backoff::Retry;
pub use clickhouse::{ClickhouseSink, FunnelWindowRow, next_revision, published_windows};
pub use prometheus::{PrometheusSettings, PrometheusSink};
pub use publisher::{Publisher, SinkCounts, SinkSettings};
pub use redis::RedisSink;
pub use stream::{Hub, HubSettings, Subscription};
pub use wanted::Wanted;
pub use webhook::{Secret, WebhookError, WebhookSink, signature};

use std::{sync::Arc, time::Duration};

pub use funnel_engine::live::{Snapshot, StepSnapshot};
use uuid::Uuid;

/// Snapshots on their way to one sink. The same id on every attempt.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Unique.
    pub id: Uuid,
    /// Counted from 1.
    pub attempt: u32,
    /// Time of the attempt, seconds since 1970 UTC.
    pub unix_s: u64,
    /// At most one of each window; not empty.
    pub snapshots: Vec<Arc<Snapshot>>,
}

/// A delivery that did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Worth another attempt.
    #[error("{message}")]
    Away {
        /// What happened; without secrets.
        message: String,
        /// How long the other side asked to be left alone.
        wait: Option<Duration>,
    },
    /// The other side will say the same again.
    #[error("{message}")]
    Refused {
        /// What happened and what to do; without secrets.
        message: String,
    },
}

impl SinkError {
    fn away(message: impl Into<String>) -> Self {
        Self::Away {
            message: message.into(),
            wait: None,
        }
    }
}

/// Takes deliveries, one after another.
pub trait Sink: Send {
    /// Hands a delivery over. A repeated one must do no harm. The future may be dropped when it takes too long.
    ///
    /// # Errors
    /// When it did not arrive.
    fn publish(
        &mut self,
        delivery: &Delivery,
    ) -> impl Future<Output = Result<(), SinkError>> + Send;
}
