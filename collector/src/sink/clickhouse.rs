//! Exchanges and their spans into the store: logged in the spool first, then delivered, repeated with the same token.
//!
//! A batch is appended to the spool, delivered from memory when nothing older waits, and marked. What the store does
//! not take stays in the spool and is delivered oldest first. After a kill the next start delivers what was not marked,
//! with the same tokens, and tells the capture from which position on to read again: each exchange is stored once.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use event_store::{ExchangeRow, HealthRow, Store};

use super::{
    Sink, rows,
    spool::{BatchId, Kept, Oldest, Recovery, Spool, SpoolOptions},
};
use crate::{
    clock::UnixNanos,
    exchange::ExchangeBatch,
    health::Minute,
    ledger::{Ledger, Line},
    limits::{HEALTH_MINUTES_MAX, INSERT_ROWS_MAX},
};

const FLUSH_AFTER: Duration = Duration::from_millis(200);
const INSERT_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// What a power failure may cost.
const SYNC_EVERY: Duration = Duration::from_secs(1);
const BATCHES_PER_TICK: usize = 8;
const DRAIN_AT_END: Duration = Duration::from_secs(5);

/// Writes into a ClickHouse.
#[derive(Debug)]
pub struct ClickHouseSink {
    store: Store,
    spool: Spool,
    ledger: Arc<Ledger>,
    run_id: String,
    /// Batches that went past the spool.
    bypassed: u64,
    pending: Vec<ExchangeRow>,
    pending_since: Instant,
    /// Of the newest batch in `pending`.
    position: u64,
    away_until: Option<Instant>,
    synced_at: Instant,
    /// Minutes of connection health that the store has not taken yet, with their tokens.
    minutes: VecDeque<(String, Vec<HealthRow>)>,
}

impl ClickHouseSink {
    /// Opens the spool; the store itself may be away. The recovery tells from where the input is to be read again.
    ///
    /// # Errors
    /// When the spool's folder cannot be used, or another collector uses it.
    pub fn open(
        store: Store,
        options: &SpoolOptions,
        ledger: Arc<Ledger>,
    ) -> anyhow::Result<(Self, Recovery)> {
        let (spool, recovery) = Spool::open(options)
            .with_context(|| format!("while opening the spool in {}", options.folder.display()))?;
        if recovery.batches_waiting > 0 || recovery.torn_bytes > 0 {
            tracing::info!(
                batches = recovery.batches_waiting,
                rows = recovery.rows_waiting,
                torn_bytes = recovery.torn_bytes,
                "the spool of an earlier run is taken over"
            );
        }
        let taken_over = recovery.rows_waiting + recovery.corrupt_rows_estimate;
        ledger.add(Line::ExchangesTakenOver, taken_over);
        if recovery.corrupt_frames > 0 {
            tracing::error!(
                batches = recovery.corrupt_frames,
                rows_known = recovery.corrupt_rows_estimate,
                "spooled batches do not read back; check the disk"
            );
        }
        let sink = Self {
            store,
            spool,
            ledger,
            run_id: format!("{:x}-{:x}", UnixNanos::now().0, std::process::id()),
            bypassed: 0,
            pending: Vec::new(),
            pending_since: Instant::now(),
            position: recovery.last_position.unwrap_or_default(),
            away_until: None,
            synced_at: Instant::now(),
            minutes: VecDeque::new(),
        };
        Ok((sink, recovery))
    }

    /// Logs what is pending as one batch and delivers it, if nothing older waits.
    async fn flush(&mut self) -> anyhow::Result<()> {
        let rows = std::mem::take(&mut self.pending);
        let count = rows.len() as u64;
        if rows.is_empty() {
            return Ok(());
        }
        let Some(id) = self.log(&rows).await? else {
            return self.bypass(rows).await;
        };
        // Order is kept: as long as older batches wait, newer ones queue behind them.
        if !self.is_away() && self.spool.waiting().batches == 1 {
            let token = self.spool.token(id);
            match self.deliver(&rows, &token).await {
                Ok(()) => return self.mark(id),
                Err(error) => self.note_away(&error),
            }
        }
        self.ledger.add(Line::ExchangesSpooled, count);
        Ok(())
    }

    /// The spool does not take a batch: it goes to the store at once, if that is there, and is dropped otherwise.
    async fn bypass(&mut self, rows: Vec<ExchangeRow>) -> anyhow::Result<()> {
        let count = rows.len() as u64;
        self.bypassed += 1;
        let token = format!("{}-{}", self.run_id, self.bypassed);
        if !self.is_away() {
            match self.deliver(&rows, &token).await {
                Ok(()) => return Ok(()),
                Err(error) => self.note_away(&error),
            }
        }
        self.ledger.add(Line::ExchangesDroppedSpoolFull, count);
        tracing::error!(
            rows = count,
            "exchanges are dropped: neither spool nor store takes them"
        );
        Ok(())
    }

    /// Appends to the spool; when that is full, once more after a round of deliveries. None when it stays full.
    async fn log(&mut self, rows: &[ExchangeRow]) -> anyhow::Result<Option<BatchId>> {
        let mut kept = self.append(rows)?;
        if !matches!(kept, Kept::Yes(_)) {
            self.drain().await?;
            kept = self.append(rows)?;
        }
        match kept {
            Kept::Yes(id) => return Ok(Some(id)),
            Kept::Full => {
                tracing::error!("the spool is full; bring the store back or raise --spool-bytes");
            }
            Kept::DiskFull => {
                tracing::error!("the spool's disk is full; make room or bring the store back");
            }
        }
        Ok(None)
    }

    fn append(&mut self, rows: &[ExchangeRow]) -> anyhow::Result<Kept> {
        let kept = self.spool.append(rows, self.position);
        if kept.is_err() {
            self.ledger
                .add(Line::ExchangesDroppedOutput, rows.len() as u64);
        }
        kept.context("while writing the spool")
    }

    /// Delivers what waits in the spool, oldest first, as far as the store takes it.
    async fn drain(&mut self) -> anyhow::Result<()> {
        if self.is_away() {
            return Ok(());
        }
        for _ in 0..BATCHES_PER_TICK {
            match self.spool.oldest().context("while reading the spool")? {
                Oldest::Empty => return Ok(()),
                Oldest::Corrupt { rows } => {
                    // At least one: a batch has rows.
                    let lost = u64::from(rows.unwrap_or(1));
                    self.ledger.add(Line::ExchangesDroppedCorrupt, lost);
                    tracing::error!(?rows, "a spooled batch does not read back and is lost");
                }
                Oldest::Batch(batch) => match self.deliver(&batch.rows, &batch.token).await {
                    Ok(()) => self.mark(batch.id)?,
                    Err(error) => {
                        self.note_away(&error);
                        return Ok(());
                    }
                },
            }
        }
        Ok(())
    }

    async fn deliver(&mut self, rows: &[ExchangeRow], token: &str) -> anyhow::Result<()> {
        let work = async {
            self.store.migrate_once().await?;
            self.store.insert_exchanges(rows, token).await?;
            let spans: Vec<_> = rows.iter().filter_map(rows::span_of).collect();
            self.store
                .insert_spans(&spans, &format!("{token}-spans"))
                .await?;
            anyhow::Ok(spans.len())
        };
        let spans = tokio::time::timeout(INSERT_TIMEOUT, work)
            .await
            .context("the store does not answer")??;
        self.ledger.add(Line::ExchangesStored, rows.len() as u64);
        self.ledger.add(Line::SpansStored, spans as u64);
        if self.away_until.take().is_some() {
            tracing::info!("the store is back");
        }
        Ok(())
    }

    fn mark(&mut self, id: BatchId) -> anyhow::Result<()> {
        self.spool
            .delivered(id)
            .context("while marking a batch in the spool as delivered")
    }

    fn is_away(&self) -> bool {
        self.away_until.is_some_and(|until| Instant::now() < until)
    }

    fn note_away(&mut self, error: &anyhow::Error) {
        if self.away_until.is_none() {
            tracing::warn!("the store does not take exchanges, they wait in the spool: {error:#}");
        } else {
            self.ledger.add(Line::InsertsRetried, 1);
        }
        self.away_until = Some(Instant::now() + RETRY_AFTER);
    }

    /// Stores minutes of connection health, oldest first. They wait in memory while the store is away: an hour of them.
    async fn store_health(&mut self) {
        while let Some((token, rows)) = self.minutes.front() {
            let work = async {
                self.store.migrate_once().await?;
                self.store.insert_health(rows, token).await
            };
            match tokio::time::timeout(INSERT_TIMEOUT, work).await {
                Ok(Ok(())) => drop(self.minutes.pop_front()),
                Ok(Err(error)) => return self.note_away(&error.into()),
                Err(elapsed) => return self.note_away(&elapsed.into()),
            }
        }
    }

    fn sync(&mut self) -> anyhow::Result<()> {
        self.synced_at = Instant::now();
        self.spool.sync().context("while syncing the spool")
    }
}

impl Sink for ClickHouseSink {
    async fn write(&mut self, batch: ExchangeBatch) -> anyhow::Result<()> {
        // One step of the input never lies in two batches of the spool: a kill between them would repeat it.
        if self.pending.len() + batch.exchanges.len() > INSERT_ROWS_MAX {
            self.flush().await?;
        }
        if self.pending.is_empty() {
            self.pending_since = Instant::now();
        }
        self.pending
            .extend(batch.exchanges.into_iter().map(rows::row_of));
        self.position = batch.position;
        if self.pending.len() >= INSERT_ROWS_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    async fn health(&mut self, minute: Minute) -> anyhow::Result<()> {
        if self.minutes.len() >= HEALTH_MINUTES_MAX {
            self.minutes.pop_front();
            self.ledger.add(Line::HealthMinutesDropped, 1);
        }
        let token = format!("{}-{}-health", self.run_id, minute.starts_at_s);
        self.minutes.push_back((token, rows::health_rows(&minute)));
        Ok(())
    }

    async fn tick(&mut self) -> anyhow::Result<()> {
        if self.pending_since.elapsed() >= FLUSH_AFTER {
            self.flush().await?;
        }
        self.drain().await?;
        if !self.is_away() {
            self.store_health().await;
        }
        if self.synced_at.elapsed() >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        self.flush().await?;
        self.store_health().await;
        let deadline = Instant::now() + DRAIN_AT_END;
        while !self.spool.is_empty() && Instant::now() < deadline {
            self.drain().await?;
            if self.is_away() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        self.sync()?;
        let left = self.spool.waiting();
        if left.batches > 0 {
            tracing::warn!(
                batches = left.batches,
                rows = left.rows,
                "batches stay in the spool; the next start delivers them"
            );
        }
        Ok(())
    }
}
