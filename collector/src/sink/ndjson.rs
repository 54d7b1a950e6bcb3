//! One line of JSON per exchange, on standard output or appended to a file.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;

use super::Sink;
use crate::{
    config::Output,
    exchange::{Exchange, ExchangeBatch},
    ledger::{Ledger, Line},
};

/// How far an output has been written, in a file of sixteen bytes that outlives the process: index of the last record
/// whose exchanges are in it, and its length then. What stands behind that length was not noted any more: it is cut off,
/// and told again.
#[derive(Debug)]
pub struct Delivered {
    file: File,
    position: u64,
    length: u64,
}

impl Delivered {
    /// Opens the file, and cuts the output to what was noted.
    ///
    /// # Errors
    /// When either cannot be read or written.
    pub fn open(path: &Path, output: &Output) -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("while opening {}", path.display()))?;
        let mut bytes = [0_u8; 16];
        let known = file.read_exact_at(&mut bytes, 0).is_ok();
        let word = |at: usize| bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
        let (position, length) = (
            word(0).map(u64::from_le_bytes),
            word(8).map(u64::from_le_bytes),
        );
        let mut delivered = Self {
            file,
            position: position.filter(|_| known).unwrap_or(0),
            length: length.filter(|_| known).unwrap_or(0),
        };
        if let Output::File(path) = output {
            delivered
                .fit(path, known)
                .with_context(|| format!("while cutting {} to what was noted", path.display()))?;
        }
        Ok(delivered)
    }

    fn fit(&mut self, path: &Path, known: bool) -> io::Result<()> {
        let output = match OpenOptions::new().write(true).open(path) {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.length = 0;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let length = output.metadata()?.len();
        // A file that is shorter has been rotated away: nothing of ours is behind its end.
        if known && length > self.length {
            output.set_len(self.length)
        } else {
            self.length = length;
            Ok(())
        }
    }

    /// Index of the last record whose exchanges are known to be written.
    pub const fn position(&self) -> u64 {
        self.position
    }

    fn note(&mut self, position: u64, written: u64) -> io::Result<()> {
        self.position = position;
        self.length += written;
        let mut bytes = [0_u8; 16];
        let (first, second) = bytes.split_at_mut(8);
        first.copy_from_slice(&self.position.to_le_bytes());
        second.copy_from_slice(&self.length.to_le_bytes());
        self.file.write_all_at(&bytes, 0)
    }
}

/// Writes NDJSON. A batch is flushed before the next is taken, so a reader sees whole lines.
pub struct NdjsonSink {
    out: Box<dyn Write + Send>,
    lines: Vec<u8>,
    ledger: Arc<Ledger>,
    delivered: Option<Delivered>,
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
    pub fn open(
        output: &Output,
        ledger: Arc<Ledger>,
        delivered: Option<Delivered>,
    ) -> anyhow::Result<Self> {
        let out: Box<dyn Write + Send> = match output {
            Output::None => Box::new(io::sink()),
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
            out,
            lines: Vec::new(),
            ledger,
            delivered,
        })
    }

    /// Writes and returns the number of bytes.
    fn write_all(&mut self, batch: &[Exchange]) -> io::Result<u64> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        for exchange in batch {
            serde_json::to_writer(&mut lines, exchange)?;
            lines.push(b'\n');
        }
        self.out.write_all(&lines)?;
        self.out.flush()?;
        let bytes = lines.len() as u64;
        self.lines = lines;
        Ok(bytes)
    }
}

impl Sink for NdjsonSink {
    async fn write(&mut self, batch: ExchangeBatch) -> anyhow::Result<()> {
        let rows = batch.exchanges.len() as u64;
        let written = self.write_all(&batch.exchanges).and_then(|bytes| {
            self.delivered
                .as_mut()
                .map_or(Ok(()), |delivered| delivered.note(batch.position, bytes))
        });
        match written {
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
