//! One line of JSON per exchange, on standard output or appended to a file.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write},
    os::unix::fs::FileExt as _,
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

/// Longer than any line.
const TAIL_BYTES: u64 = 256 * 1024;

/// How far an output has been written, in a file of eight bytes: it outlives the process that is killed.
#[derive(Debug)]
pub struct Delivered {
    file: File,
    /// Of the last whole line in the output; what is replayed up to it has been written, whatever the file says.
    last_span_id: Option<String>,
    position: u64,
}

impl Delivered {
    /// Opens the file, and looks at the end of the output: half a line, left by a kill, is cut off.
    ///
    /// # Errors
    /// When either cannot be read or written.
    pub fn open(path: &Path, output: &Output) -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| format!("while opening {}", path.display()))?;
        let mut bytes = [0_u8; 8];
        let known = file.read_exact_at(&mut bytes, 0).is_ok();
        let last_span_id = match output {
            Output::File(path) => last_line_of(path)
                .with_context(|| format!("while reading the end of {}", path.display()))?,
            Output::Stdout | Output::None => None,
        };
        Ok(Self {
            file,
            last_span_id,
            position: if known { u64::from_le_bytes(bytes) } else { 0 },
        })
    }

    /// Index of the last record whose exchanges are known to be written.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Span id of the last exchange in the output.
    pub fn last_span_id(&self) -> Option<&str> {
        self.last_span_id.as_deref()
    }

    fn note(&mut self, position: u64) -> io::Result<()> {
        self.position = position;
        self.file.write_all_at(&position.to_le_bytes(), 0)
    }
}

/// The span id in the last whole line; what stands behind it is cut off.
fn last_line_of(path: &Path) -> io::Result<Option<String>> {
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    (&file).take(TAIL_BYTES).read_to_end(&mut tail)?;
    let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    file.set_len(from + end as u64 + 1)?;
    let whole = tail.get(..end).unwrap_or_default();
    let start = whole
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let line: Option<serde_json::Value> =
        serde_json::from_slice(whole.get(start..).unwrap_or_default()).ok();
    Ok(line.and_then(|line| Some(line.get("span_id")?.as_str()?.to_owned())))
}

/// Writes NDJSON. A batch is flushed before the next is taken, so a reader sees whole lines.
pub struct NdjsonSink {
    out: BufWriter<Box<dyn Write + Send>>,
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
            out: BufWriter::with_capacity(256 * 1024, out),
            ledger,
            delivered,
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
    async fn write(&mut self, batch: ExchangeBatch) -> anyhow::Result<()> {
        let rows = batch.exchanges.len() as u64;
        let written = self.write_all(&batch.exchanges).and_then(|()| {
            self.delivered
                .as_mut()
                .map_or(Ok(()), |delivered| delivered.note(batch.position))
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
