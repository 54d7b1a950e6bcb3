//! One line of JSON per exchange, on standard output or appended to a file.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    sync::Arc,
};

use anyhow::Context as _;

use super::Sink;
use crate::{
    config::Output,
    exchange::Exchange,
    ledger::{Ledger, Line},
};

/// Writes NDJSON. A batch is flushed before the next is taken, so a reader sees whole lines.
pub struct NdjsonSink {
    out: BufWriter<Box<dyn Write + Send>>,
    ledger: Arc<Ledger>,
}

impl std::fmt::Debug for NdjsonSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NdjsonSink").finish_non_exhaustive()
    }
}

impl NdjsonSink {
    /// Opens the output.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn open(output: &Output, ledger: Arc<Ledger>) -> anyhow::Result<Self> {
        let out: Box<dyn Write + Send> = match output {
            Output::Stdout => Box::new(io::stdout()),
            Output::File(path) => Box::new(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)
                    .with_context(|| format!("while opening {} for appending", path.display()))?,
            ),
        };
        Ok(Self {
            out: BufWriter::with_capacity(256 * 1024, out),
            ledger,
        })
    }

    fn write_all(&mut self, batch: &[Exchange]) -> io::Result<()> {
        for exchange in batch {
            serde_json::to_writer(&mut self.out, exchange)?;
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }
}

impl Sink for NdjsonSink {
    async fn write(&mut self, batch: Vec<Exchange>) -> anyhow::Result<()> {
        let rows = batch.len() as u64;
        match self.write_all(&batch) {
            Ok(()) => {
                self.ledger.add(Line::ExchangesStored, rows);
                Ok(())
            }
            Err(error) => {
                self.ledger.add(Line::ExchangesDroppedOutput, rows);
                Err(error).context("while writing NDJSON")
            }
        }
    }

    async fn tick(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        self.out.flush().context("while writing NDJSON")
    }
}
