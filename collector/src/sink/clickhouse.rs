//! Exchanges and their spans into the store: batched, repeated with the same token, spooled when it is away.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use event_store::{ExchangeRow, Store};

use super::{
    Sink, rows,
    spool::{Batch, Kept, Oldest, Spool},
};
use crate::{
    clock::UnixNanos,
    exchange::Exchange,
    ledger::{Ledger, Line},
    limits::INSERT_ROWS_MAX,
};

const FLUSH_AFTER: Duration = Duration::from_millis(200);
const INSERT_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_secs(1);
const BATCHES_PER_TICK: usize = 8;
const DRAIN_AT_END: Duration = Duration::from_secs(5);

/// Writes into a ClickHouse.
#[derive(Debug)]
pub struct ClickHouseSink {
    store: Store,
    spool: Spool,
    ledger: Arc<Ledger>,
    pending: Vec<ExchangeRow>,
    pending_since: Instant,
    run_id: String,
    sequence: u64,
    away_until: Option<Instant>,
}

/// Where the spool is and how large it may grow.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Its folder.
    pub folder: PathBuf,
    /// Bytes on disk at most.
    pub bytes_limit: u64,
}

impl ClickHouseSink {
    /// Opens the spool; the store itself may be away.
    ///
    /// # Errors
    /// When the spool's folder cannot be used.
    pub fn open(store: Store, spool: &SpoolOptions, ledger: Arc<Ledger>) -> anyhow::Result<Self> {
        let spool_folder = &spool.folder;
        let spool = Spool::open(spool_folder, spool.bytes_limit)
            .with_context(|| format!("while opening the spool in {}", spool_folder.display()))?;
        Ok(Self {
            store,
            spool,
            ledger,
            pending: Vec::new(),
            pending_since: Instant::now(),
            run_id: format!("{:x}-{:x}", UnixNanos::now().0, std::process::id()),
            sequence: 0,
            away_until: None,
        })
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        while !self.pending.is_empty() {
            let rest = self
                .pending
                .split_off(self.pending.len().min(INSERT_ROWS_MAX));
            let rows = std::mem::replace(&mut self.pending, rest);
            self.sequence += 1;
            let batch = Batch {
                token: format!("{}-{}", self.run_id, self.sequence),
                rows,
            };
            // Order is kept: as long as older batches wait on disk, newer ones queue behind them.
            if self.away_until.is_none() && self.spool.is_empty()? {
                match self.deliver(&batch).await {
                    Ok(()) => continue,
                    Err(error) => self.note_away(&error),
                }
            }
            self.keep(&batch)?;
        }
        Ok(())
    }

    fn keep(&mut self, batch: &Batch) -> anyhow::Result<()> {
        let rows = batch.rows.len() as u64;
        match self.spool.push(batch).context("while writing the spool")? {
            Kept::Yes => self.ledger.add(Line::ExchangesSpooled, rows),
            Kept::Full => {
                self.ledger.add(Line::ExchangesDroppedSpoolFull, rows);
                tracing::error!(
                    rows,
                    "the spool is full, exchanges are dropped; bring the store back or raise --spool-bytes"
                );
            }
        }
        Ok(())
    }

    /// Delivers what waits on disk, oldest first, as far as the store takes it.
    async fn drain(&mut self) -> anyhow::Result<()> {
        if self.away_until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        for _ in 0..BATCHES_PER_TICK {
            match self.spool.oldest().context("while reading the spool")? {
                Oldest::Empty => {
                    self.away_until = None;
                    return Ok(());
                }
                Oldest::Corrupt(path) => {
                    self.ledger.add(Line::ExchangesDroppedCorrupt, 1);
                    tracing::error!(path = %path.display(), "a spooled batch does not read back and was set aside");
                }
                Oldest::Batch(path, batch) => match self.deliver(&batch).await {
                    Ok(()) => {
                        self.spool
                            .remove(&path)
                            .context("while removing a delivered batch")?;
                        if self.away_until.take().is_some() {
                            tracing::info!("the store is back");
                        }
                    }
                    Err(error) => {
                        self.note_away(&error);
                        return Ok(());
                    }
                },
            }
        }
        Ok(())
    }

    async fn deliver(&mut self, batch: &Batch) -> anyhow::Result<()> {
        let work = async {
            self.store.migrate_once().await?;
            self.store
                .insert_exchanges(&batch.rows, &batch.token)
                .await?;
            let spans: Vec<_> = batch.rows.iter().filter_map(rows::span_of).collect();
            self.store
                .insert_spans(&spans, &format!("{}-spans", batch.token))
                .await?;
            anyhow::Ok(spans.len())
        };
        let spans = tokio::time::timeout(INSERT_TIMEOUT, work)
            .await
            .context("the store does not answer")??;
        self.ledger
            .add(Line::ExchangesStored, batch.rows.len() as u64);
        self.ledger.add(Line::SpansStored, spans as u64);
        Ok(())
    }

    fn note_away(&mut self, error: &anyhow::Error) {
        if self.away_until.is_none() {
            tracing::warn!("the store does not take exchanges, they go to the spool: {error:#}");
        } else {
            self.ledger.add(Line::InsertsRetried, 1);
        }
        self.away_until = Some(Instant::now() + RETRY_AFTER);
    }
}

impl Sink for ClickHouseSink {
    async fn write(&mut self, batch: Vec<Exchange>) -> anyhow::Result<()> {
        if self.pending.is_empty() {
            self.pending_since = Instant::now();
        }
        self.pending.extend(batch.into_iter().map(rows::row_of));
        if self.pending.len() >= INSERT_ROWS_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    async fn tick(&mut self) -> anyhow::Result<()> {
        if self.pending_since.elapsed() >= FLUSH_AFTER {
            self.flush().await?;
        }
        self.drain().await
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        self.flush().await?;
        let deadline = Instant::now() + DRAIN_AT_END;
        while !self.spool.is_empty()? && Instant::now() < deadline {
            self.drain().await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let left = self.spool.len()?;
        if left > 0 {
            tracing::warn!(
                batches = left,
                "batches stay in the spool; the next start delivers them"
            );
        }
        Ok(())
    }
}
