//! What was read from the ring, kept until it is not needed any more: a collector that is killed finds its state again
//! by reading it.
//!
//! Owns: segment files `FIRST.journal` in a folder (best in memory: they need to outlive the process, not the host).
//! Each is a row of batches: magic, CRC-32 of all that follows, u32 bytes, u32 records, u64 position in the ring behind
//! the batch, the clocks, u64 index of its first record, then each record as u32 length and bytes. A batch is written before its room in the ring is
//! given back; a torn one is cut off, because its records are then still in the ring. A segment goes when a newer one holds
//! all that is not delivered, and at the latest when there are [`SEGMENTS_MAX`]. The file `capture` names the capture the
//! journal belongs to: indices and ring positions of another mean nothing.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::clock::{ClockAnchor, MonotonicNs, UnixNanos};

const MAGIC: &[u8; 4] = b"WJB2";
const HEADER_BYTES: usize = 48;
const EXTENSION: &str = "journal";

/// Bytes after which a new segment begins.
pub const SEGMENT_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Segments kept for an output that is behind; two are always kept, for requests that take long.
pub const SEGMENTS_MAX: usize = 16;

/// The journal, open for writing.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    file: File,
    segment_bytes: u64,
    /// Number of records written since the capture began.
    index: u64,
    batch: Vec<u8>,
    batch_records: u32,
}

/// What an earlier collector left.
#[derive(Debug, Default)]
pub struct Past {
    /// Sound batches, oldest first.
    batches: Vec<PastBatch>,
    /// How far the ring is safe.
    pub ring_position: Option<u64>,
}

#[derive(Debug)]
struct PastBatch {
    first_index: u64,
    anchor: ClockAnchor,
    records: Vec<u8>,
}

impl Past {
    /// Passes on every record with its index, counted from 1, and the clocks of its time.
    pub fn replay(&self, mut pass: impl FnMut(u64, ClockAnchor, &[u8])) {
        for batch in &self.batches {
            let mut index = batch.first_index.saturating_sub(1);
            let mut rest = batch.records.as_slice();
            while let Some((length, behind)) = rest.split_first_chunk::<4>() {
                let length = u32::from_le_bytes(*length) as usize;
                let Some((record, behind)) = behind.split_at_checked(length) else {
                    break;
                };
                index += 1;
                pass(index, batch.anchor, record);
                rest = behind;
            }
        }
    }

    /// Whether there is nothing.
    pub const fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

impl Journal {
    /// Opens the folder and reads what is there of this capture. What is there of another is deleted; records are then
    /// counted on from `after`, so that indices never repeat.
    ///
    /// # Errors
    /// When the folder cannot be created, read or written.
    pub fn open(folder: &Path, capture: &str, after: u64) -> io::Result<(Self, Past)> {
        // Raw traffic is nobody else's business.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let mut segments = segments(folder)?;
        let name = folder.join("capture");
        let is_ours = fs::read_to_string(&name).is_ok_and(|text| text == capture);
        if !is_ours {
            for (_, path) in segments.drain(..) {
                fs::remove_file(path)?;
            }
            fs::write(&name, capture)?;
        }
        let mut past = Past::default();
        let mut index = after;
        for (first, path) in &segments {
            index = index.max(*first);
            let bytes = fs::read(path)?;
            let sound = read_segment(&bytes, &mut past, &mut index);
            if sound < bytes.len() {
                OpenOptions::new()
                    .write(true)
                    .open(path)?
                    .set_len(sound as u64)?;
            }
        }
        let path = match segments.last() {
            Some((_, path)) => path.clone(),
            None => segment_path(folder, index),
        };
        let file = open_segment(&path)?;
        let segment_bytes = file.metadata()?.len();
        let journal = Self {
            folder: folder.to_owned(),
            file,
            segment_bytes,
            index,
            batch: Vec::new(),
            batch_records: 0,
        };
        Ok((journal, past))
    }

    /// Takes a record into the batch. Slack behind its captured bytes is left out.
    pub fn add(&mut self, record: &[u8]) {
        if self.batch.is_empty() {
            self.batch.resize(HEADER_BYTES, 0);
        }
        let record = super::source::recording::used_part(record);
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        self.batch.extend_from_slice(&length.to_le_bytes());
        self.batch.extend_from_slice(record);
        self.batch_records += 1;
    }

    /// Writes the batch. Once this returns, its room in the ring may be given back.
    ///
    /// # Errors
    /// When it cannot be written; the batch is then dropped from the journal, and would be missing after a restart.
    ///
    /// `delivered`: index of the last record whose exchanges the output holds; segments before it may go.
    pub fn commit(
        &mut self,
        ring_position: u64,
        anchor: &ClockAnchor,
        delivered: u64,
    ) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.batch);
        let records = std::mem::take(&mut self.batch_records);
        seal(&mut batch, records, ring_position, anchor, self.index + 1);
        self.index += u64::from(records);
        if let Err(error) = self.file.write_all(&batch) {
            // A torn batch in the middle would hide all behind it, and a new segment begins with none.
            self.begin_segment(delivered)?;
            return Err(error);
        }
        self.segment_bytes += batch.len() as u64;
        batch.clear();
        self.batch = batch;
        if self.segment_bytes >= SEGMENT_BYTES_MAX {
            self.begin_segment(delivered)?;
        }
        Ok(())
    }

    /// Index of the last record taken, counted from 1 since the capture began.
    pub const fn index(&self) -> u64 {
        self.index + self.batch_records as u64
    }

    fn begin_segment(&mut self, delivered: u64) -> io::Result<()> {
        self.file = open_segment(&segment_path(&self.folder, self.index))?;
        self.segment_bytes = 0;
        let segments = segments(&self.folder)?;
        let kept = segments.len().saturating_sub(2);
        let too_many = segments.len().saturating_sub(SEGMENTS_MAX);
        let old = segments.iter().zip(segments.iter().skip(1)).take(kept);
        for (nth, ((_, path), (next, _))) in old.enumerate() {
            if *next <= delivered || nth < too_many {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn open_segment(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

fn segment_path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.{EXTENSION}"))
}

/// The segments, oldest first, with the number of records before each.
fn segments(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_ours = path
            .extension()
            .is_some_and(|extension| extension == EXTENSION);
        let first = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse().ok());
        if let (true, Some(first)) = (is_ours, first) {
            found.push((first, path));
        }
    }
    found.sort();
    Ok(found)
}

fn seal(
    batch: &mut [u8],
    records: u32,
    ring_position: u64,
    anchor: &ClockAnchor,
    first_index: u64,
) {
    let (unix, monotonic) = anchor.pair();
    let bytes = u32::try_from(batch.len() - HEADER_BYTES).unwrap_or(u32::MAX);
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&bytes.to_le_bytes());
    header.extend_from_slice(&records.to_le_bytes());
    header.extend_from_slice(&ring_position.to_le_bytes());
    header.extend_from_slice(&unix.0.to_le_bytes());
    header.extend_from_slice(&monotonic.0.to_le_bytes());
    header.extend_from_slice(&first_index.to_le_bytes());
    if let Some(place) = batch.get_mut(..HEADER_BYTES) {
        place.copy_from_slice(&header);
    }
    let sum = crc32fast::hash(batch.get(8..).unwrap_or_default());
    if let Some(place) = batch.get_mut(4..8) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}

/// Reads batches as long as they are sound; returns how many bytes that is.
fn read_segment(bytes: &[u8], past: &mut Past, index: &mut u64) -> usize {
    let mut at = 0;
    while let Some(batch) = bytes.get(at..) {
        let Some((ring_position, records, parsed)) = parse(batch) else {
            break;
        };
        at += HEADER_BYTES + parsed.records.len();
        *index = parsed.first_index.saturating_sub(1) + u64::from(records);
        past.ring_position = Some(ring_position);
        past.batches.push(parsed);
    }
    at
}

fn parse(bytes: &[u8]) -> Option<(u64, u32, PastBatch)> {
    let header = bytes.get(..HEADER_BYTES)?;
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?))
    };
    let long = |at: usize| -> Option<u64> {
        Some(u64::from_le_bytes(header.get(at..at + 8)?.try_into().ok()?))
    };
    let length = word(8)? as usize;
    let all = bytes.get(8..HEADER_BYTES.checked_add(length)?)?;
    if header.get(..4)? != MAGIC || word(4)? != crc32fast::hash(all) {
        return None;
    }
    let batch = PastBatch {
        first_index: long(40)?,
        anchor: ClockAnchor::fixed(UnixNanos(long(24)?), MonotonicNs(long(32)?)),
        records: bytes.get(HEADER_BYTES..HEADER_BYTES + length)?.to_vec(),
    };
    Some((long(16)?, word(12)?, batch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(past: &Past) -> Vec<(u64, Vec<u8>)> {
        let mut told = Vec::new();
        past.replay(|index, _, record| told.push((index, record.to_vec())));
        told
    }

    #[test]
    fn segments_roll_over_and_indices_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path(), "a", 0).unwrap();
        let record = vec![7_u8; 1 << 20];
        for n in 1..=100_u64 {
            journal.add(&record);
            journal.commit(n, &ClockAnchor::now(), n).unwrap();
            assert_eq!(journal.index(), n);
        }
        let on_disk: u64 = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(
            on_disk <= 2 * (SEGMENT_BYTES_MAX + 2 * 1024 * 1024),
            "{on_disk}"
        );
        let (journal, past) = Journal::open(folder.path(), "a", 0).unwrap();
        assert_eq!(journal.index(), 100);
        assert_eq!(past.ring_position, Some(100));
        assert_eq!(told(&past).last().unwrap().0, 100);
        assert!(told(&past)[0].0 > 30, "the oldest are gone");
        for n in 101..=200 {
            // The output is behind: what it does not have is kept.
            let (mut journal, _) = Journal::open(folder.path(), "a", 0).unwrap();
            journal.add(&record);
            journal.commit(n, &ClockAnchor::now(), 100).unwrap();
        }
        let (_, past) = Journal::open(folder.path(), "a", 0).unwrap();
        assert!(told(&past)[0].0 <= 101, "kept for the output");
        let (journal, past) = Journal::open(folder.path(), "b", 500).unwrap();
        assert!(
            past.is_empty() && journal.index() == 500,
            "a new capture starts anew"
        );
    }

    proptest! {
        #[test]
        fn wherever_it_is_cut_the_whole_batches_before_come_back(
            batches in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..5), 1..8),
            cut in 0.0_f64..1.0,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let (mut journal, _) = Journal::open(folder.path(), "a", 0).unwrap();
            let mut ends = Vec::new();
            for (n, batch) in (1..).zip(&batches) {
                for record in batch {
                    journal.add(record);
                }
                journal.commit(n, &ClockAnchor::now(), 0).unwrap();
                ends.push(journal.segment_bytes);
            }
            drop(journal);
            let path = segment_path(folder.path(), 0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a random place")]
            let cut = (*ends.last().unwrap() as f64 * cut) as u64;
            OpenOptions::new().write(true).open(&path).unwrap().set_len(cut).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let expected: Vec<Vec<u8>> = batches[..whole].iter().flatten().cloned().collect();
            let (mut journal, past) = Journal::open(folder.path(), "a", 0).unwrap();
            let found: Vec<Vec<u8>> = told(&past).into_iter().map(|(_, record)| record).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(past.ring_position, (whole > 0).then_some(whole as u64));
            journal.add(b"next");
            journal.commit(99, &ClockAnchor::now(), 0).unwrap();
            let (_, past) = Journal::open(folder.path(), "a", 0).unwrap();
            let told = told(&past);
            prop_assert_eq!(told.last().unwrap().1.as_slice(), b"next");
        }
    }
}
