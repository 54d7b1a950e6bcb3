//! A recording of raw records: what `collector run --record FILE` writes and `collector replay` reads.
//!
//! Layout, little-endian: 8 bytes magic, u64 wall time and u64 monotonic time of one instant (ns), then
//! per record a u32 length and its bytes. The layout of the records themselves is versioned inside them.

use std::io::{self, Read, Write};

use ebpf_probes::abi::{RECORD_HEADER_BYTES, RecordHeader};

use crate::clock::{ClockAnchor, MonotonicNs, UnixNanos};

const MAGIC: &[u8; 8] = b"WEIRREC2";
/// Longer than any record can be.
const RECORD_BYTES_MAX: u32 = 1024 * 1024;

/// A recording that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// Wrong magic.
    #[error("this is no recording of the collector (it does not start with WEIRREC2)")]
    Foreign,
    /// A length that no record has.
    #[error("the recording is corrupt after {records} records: a record of {bytes} bytes")]
    Corrupt {
        /// Sound records before.
        records: u64,
        /// The impossible length.
        bytes: u32,
    },
    /// Reading failed.
    #[error("cannot read the recording")]
    Io(#[from] io::Error),
}

/// Writes a recording.
#[derive(Debug)]
pub struct Recorder<W: Write> {
    out: W,
}

impl<W: Write> Recorder<W> {
    /// Starts a recording.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn new(mut out: W, anchor: &ClockAnchor) -> io::Result<Self> {
        let (unix, monotonic) = anchor.pair();
        out.write_all(MAGIC)?;
        out.write_all(&unix.0.to_le_bytes())?;
        out.write_all(&monotonic.0.to_le_bytes())?;
        Ok(Self { out })
    }

    /// Appends one record as it came from the ring; slack behind the captured bytes is left out.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let record = used_part(record);
        self.out.write_all(
            &u32::try_from(record.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        )?;
        self.out.write_all(record)
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A record without the slack behind its captured bytes.
pub fn used_part(record: &[u8]) -> &[u8] {
    let used = RecordHeader::parse(record).map_or(record.len(), |(_, captured)| {
        RECORD_HEADER_BYTES + captured.len()
    });
    record.get(..used).unwrap_or(record)
}

/// Reads a recording record by record.
#[derive(Debug)]
pub struct Recording<R: Read> {
    input: R,
    anchor: ClockAnchor,
    records: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Recording<R> {
    /// Opens a recording.
    ///
    /// # Errors
    /// When it is something else or cannot be read.
    pub fn open(mut input: R) -> Result<Self, RecordingError> {
        let mut magic = [0_u8; 8];
        match input.read_exact(&mut magic) {
            Ok(()) if &magic == MAGIC => {}
            Ok(()) => return Err(RecordingError::Foreign),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(RecordingError::Foreign);
            }
            Err(error) => return Err(error.into()),
        }
        let (mut unix, mut monotonic) = ([0_u8; 8], [0_u8; 8]);
        input.read_exact(&mut unix)?;
        input.read_exact(&mut monotonic)?;
        let anchor = ClockAnchor::fixed(
            UnixNanos(u64::from_le_bytes(unix)),
            MonotonicNs(u64::from_le_bytes(monotonic)),
        );
        Ok(Self {
            input,
            anchor,
            records: 0,
            buffer: Vec::new(),
        })
    }

    /// The clocks at the start of the recording.
    pub const fn anchor(&self) -> ClockAnchor {
        self.anchor
    }

    /// The next record; `None` at the end. A record cut off at the very end counts as the end.
    ///
    /// # Errors
    /// When the recording is corrupt or unreadable.
    pub fn next_record(&mut self) -> Result<Option<&[u8]>, RecordingError> {
        let mut length = [0_u8; 4];
        match self.input.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let bytes = u32::from_le_bytes(length);
        if bytes > RECORD_BYTES_MAX {
            return Err(RecordingError::Corrupt {
                records: self.records,
                bytes,
            });
        }
        self.buffer.resize(bytes as usize, 0);
        match self.input.read_exact(&mut self.buffer) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        self.records += 1;
        Ok(Some(&self.buffer))
    }
}
