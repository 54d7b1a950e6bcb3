//! The spool: a bounded, checksummed, append-only log of batches on disk, which is also the sink's write-ahead log.
//!
//! Every batch is appended first (one write into the page cache, which outlives the process), then delivered, then
//! marked as delivered. A batch is found again after a kill with the rows and the token it was appended with, so the
//! store, which drops a repeated insert of one token, holds it once. Owns: the order, the bound and the recovery.
//! Refuses: delivering, retrying, deciding when to sync. It survives a kill at any point; what a power failure leaves
//! is what [`Spool::sync`] has covered.
//!
//! The folder holds `lock`, `id` (of this spool, part of every token), `delivered` (how far batches were delivered) and
//! segments of frames, `%020d.seg`. A segment is deleted when all of it has been delivered and a newer one is needed;
//! until then its delivered frames count towards the limit. Segments that do not read back stay as `*.seg.corrupt`,
//! two at most, outside the limit.

mod frame;
mod segment;

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use event_store::ExchangeRow;

use self::{
    frame::{Header, Place},
    segment::{Frame, MarkFile, Segment, naming},
};

const SEGMENT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Of the limit one segment takes at most, so that deliveries free room step by step.
const SEGMENTS_PER_LIMIT: u64 = 8;

/// Where the spool is and how large it may grow.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Its folder.
    pub folder: PathBuf,
    /// Bytes of all segments at most.
    pub bytes_limit: u64,
}

/// What opening found of earlier runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Sound batches that have not been marked as delivered.
    pub batches_waiting: u64,
    /// Their rows.
    pub rows_waiting: u64,
    /// Bytes of a batch that was being appended when the process was killed; they were cut off.
    pub torn_bytes: u64,
    /// Damaged frames. [`Spool::oldest`] reports each when it comes to it; count the loss there.
    pub corrupt_frames: u64,
    /// Their rows as far as readable headers tell; the rows of an unreadable end of a segment are not known.
    pub corrupt_rows_estimate: u64,
    /// The position given with the newest batch, delivered or not.
    pub last_position: Option<u64>,
}

/// Names a batch within its spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchId {
    place: Place,
    bytes: u64,
    rows: u32,
    position: u64,
    crc: u32,
}

/// Rows with the token under which they are inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// For [`Spool::delivered`].
    pub id: BatchId,
    /// Same token, same rows.
    pub token: String,
    /// The rows.
    pub rows: Vec<ExchangeRow>,
}

/// What became of an appended batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is in the log.
    Yes(BatchId),
    /// The limit does not allow it; it is not in the log.
    Full,
    /// The disk or the quota is full; it is not in the log, and the log is as before.
    DiskFull,
}

/// The next batch to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Oldest {
    /// A sound batch.
    Batch(Batch),
    /// Something that does not read back. It has been stepped over and will not be reported again.
    Corrupt {
        /// Rows lost, when known.
        rows: Option<u32>,
    },
    /// Nothing waits.
    Empty,
}

/// What waits for delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Batches; damaged frames count until they are stepped over.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A log of batches in a folder that no other process uses.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    bytes_limit: u64,
    segment_bytes: u64,
    id: String,
    /// Oldest first. Two neighbours hold more than `segment_bytes` together, so the limit bounds their number.
    segments: VecDeque<Segment>,
    next_number: u64,
    /// The first frame that has not been passed; in the first segment when there is one.
    next: Place,
    /// Sums over the segments.
    on_disk: Waiting,
    mark: MarkFile,
    unsynced: bool,
    _lock: File,
}

impl Spool {
    /// Opens or creates a spool and verifies what waits in it.
    ///
    /// # Errors
    /// When another process holds the folder, or the disk fails.
    pub fn open(options: &SpoolOptions) -> io::Result<(Self, Recovery)> {
        let folder = &options.folder;
        fs::create_dir_all(folder).map_err(naming(folder))?;
        let lock = segment::lock(folder)?;
        warn_of_old_files(folder)?;
        let mark = MarkFile::open(folder)?;
        let mut spool = Self {
            folder: folder.clone(),
            bytes_limit: options.bytes_limit,
            segment_bytes: SEGMENT_BYTES_MAX.min(options.bytes_limit / SEGMENTS_PER_LIMIT),
            id: segment::identity(folder)?,
            segments: VecDeque::new(),
            next_number: mark.mark().place.segment.saturating_add(1),
            next: mark.mark().place,
            on_disk: Waiting::default(),
            mark,
            unsynced: true,
            _lock: lock,
        };
        let recovery = spool.recover()?;
        Ok((spool, recovery))
    }

    fn recover(&mut self) -> io::Result<Recovery> {
        let mark = self.mark.mark();
        let mut recovery = Recovery {
            last_position: mark.position,
            ..Recovery::default()
        };
        let numbers = segment::numbers(&self.folder)?;
        for number in &numbers {
            if *number < mark.place.segment {
                segment::delete(&self.folder, *number)?;
                continue;
            }
            let marked = *number == mark.place.segment;
            let from = if marked { mark.place.offset } else { 0 };
            let newest = numbers.last() == Some(number);
            let (segment, scan) = Segment::recover(&self.folder, *number, from, newest)?;
            recovery.batches_waiting += scan.sound;
            recovery.rows_waiting += scan.sound_rows;
            recovery.torn_bytes += scan.torn_bytes;
            recovery.corrupt_frames += scan.corrupt;
            recovery.corrupt_rows_estimate += scan.corrupt_rows;
            recovery.last_position = scan.position.or(recovery.last_position);
            self.next_number = self.next_number.max(number.saturating_add(1));
            self.on_disk.batches += segment.batches;
            self.on_disk.rows += segment.rows;
            self.on_disk.bytes += segment.bytes;
            self.segments.push_back(segment);
        }
        self.enter_front();
        self.retire()?;
        Ok(recovery)
    }

    /// Appends a batch. The position is the caller's own: how far its input is safe once this batch is. Give only
    /// whole steps of the input in one batch, otherwise a restart repeats the part that was already appended.
    ///
    /// # Errors
    /// When the disk fails for another reason than being full; the batch is then not in the log.
    pub fn append(&mut self, rows: &[ExchangeRow], position: u64) -> io::Result<Kept> {
        let (header, frame) = frame::encode(rows, position)?;
        if self.on_disk.bytes - self.spent() + header.frame_bytes() > self.bytes_limit {
            return Ok(Kept::Full);
        }
        let written = match self.write(&frame, &header, false) {
            // What is delivered anyway makes room on the disk.
            Err(error) if is_disk_full(&error) && self.spent() > 0 => {
                self.write(&frame, &header, true)
            }
            written => written,
        };
        match written {
            Ok(id) => Ok(Kept::Yes(id)),
            Err(error) if is_disk_full(&error) => Ok(Kept::DiskFull),
            Err(error) => Err(error),
        }
    }

    /// The oldest batch that has not been marked as delivered, read back from disk and verified.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn oldest(&mut self) -> io::Result<Oldest> {
        self.retire()?;
        let Some(front) = self.segments.front() else {
            return Ok(Oldest::Empty);
        };
        if self.next.offset >= front.bytes {
            return Ok(Oldest::Empty);
        }
        let rest = Waiting {
            batches: front.batches,
            rows: front.rows,
            bytes: front.bytes - self.next.offset,
        };
        match front.read(self.next.offset)? {
            Frame::Sound(header, rows) => {
                let id = BatchId::of(self.next, &header);
                let token = self.token(id);
                Ok(Oldest::Batch(Batch { id, token, rows }))
            }
            Frame::Damaged(header) => {
                let id = BatchId::of(self.next, &header);
                self.give_up(id.weight(), Some(id.position))?;
                Ok(Oldest::Corrupt {
                    rows: Some(header.rows),
                })
            }
            Frame::Unreadable => {
                self.give_up(rest, None)?;
                Ok(Oldest::Corrupt {
                    rows: u32::try_from(rest.rows).ok().filter(|rows| *rows > 0),
                })
            }
        }
    }

    /// Notes that the store has taken the oldest batch. After a kill a batch is at worst delivered once more under
    /// the same token. Repeating a call is harmless.
    ///
    /// # Errors
    /// When the disk fails, or an older batch has not been delivered.
    pub fn delivered(&mut self, id: BatchId) -> io::Result<()> {
        if id.place > self.next {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "batches leave the spool in the order in which they came",
            ));
        }
        if id.place == self.next {
            self.pass(id.weight(), Some(id.position))?;
        }
        self.retire()
    }

    /// The token under which a batch is inserted: the same for every delivery, and never that of another batch.
    pub fn token(&self, id: BatchId) -> String {
        // The checksum keeps tokens apart when a place is used twice, after a power failure or a restored backup.
        format!(
            "{}-{:x}-{:x}-{:08x}",
            self.id, id.place.segment, id.place.offset, id.crc
        )
    }

    /// What waits for delivery.
    pub fn waiting(&self) -> Waiting {
        Waiting {
            bytes: self.on_disk.bytes.saturating_sub(self.next.offset),
            ..self.on_disk
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.on_disk.batches == 0
    }

    /// Bytes of all segments, which the limit bounds.
    pub fn bytes_on_disk(&self) -> u64 {
        self.on_disk.bytes
    }

    /// Makes everything appended and marked so far survive a power failure; does nothing when nothing is new.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.unsynced {
            if let Some(newest) = self.segments.back() {
                newest.sync()?;
            }
            self.mark.sync()?;
            segment::sync_folder(&self.folder)?;
            self.unsynced = false;
        }
        Ok(())
    }

    fn write(&mut self, frame: &[u8], header: &Header, fresh: bool) -> io::Result<BatchId> {
        let bytes = header.frame_bytes();
        let newest = self.segments.back();
        let takes = newest.is_some_and(|newest| newest.takes(bytes, self.segment_bytes));
        if fresh || !takes || self.on_disk.bytes + bytes > self.bytes_limit {
            self.roll()?;
        }
        let newest = self.segments.back_mut().ok_or(io::ErrorKind::NotFound)?;
        let place = Place {
            segment: newest.number,
            offset: newest.append(frame, header)?,
        };
        let id = BatchId::of(place, header);
        self.on_disk.batches += 1;
        self.on_disk.rows += u64::from(header.rows);
        self.on_disk.bytes += bytes;
        self.unsynced = true;
        Ok(id)
    }

    /// Closes the newest segment and begins another.
    fn roll(&mut self) -> io::Result<()> {
        if let Some(newest) = self.segments.back_mut() {
            newest.seal()?;
        }
        self.retire()?;
        let segment = Segment::create(&self.folder, self.next_number)?;
        self.next_number = self.next_number.saturating_add(1);
        self.segments.push_back(segment);
        self.unsynced = true;
        self.enter_front();
        Ok(())
    }

    /// Bytes that a roll would free: all, when nothing waits.
    fn spent(&self) -> u64 {
        if self.is_empty() {
            self.on_disk.bytes
        } else {
            0
        }
    }

    /// Steps over what does not read back. Its segment takes no further frames, so that it can be set aside.
    fn give_up(&mut self, what: Waiting, position: Option<u64>) -> io::Result<()> {
        if let Some(front) = self.segments.front_mut() {
            front.damaged = true;
            front.seal()?;
        }
        self.pass(what, position)
    }

    /// Moves behind a part of the first segment: on disk first.
    fn pass(&mut self, what: Waiting, position: Option<u64>) -> io::Result<()> {
        let place = Place {
            offset: self.next.offset + what.bytes,
            ..self.next
        };
        self.mark.advance(place, position)?;
        self.unsynced = true;
        self.next = place;
        self.on_disk.batches = self.on_disk.batches.saturating_sub(what.batches);
        self.on_disk.rows = self.on_disk.rows.saturating_sub(what.rows);
        if let Some(front) = self.segments.front_mut() {
            front.batches = front.batches.saturating_sub(what.batches);
            front.rows = front.rows.saturating_sub(what.rows);
        }
        Ok(())
    }

    /// Removes segments that have been passed, except the one that still takes frames.
    fn retire(&mut self) -> io::Result<()> {
        while let Some(front) = self.segments.front() {
            if front.is_open() || self.next.offset < front.bytes {
                break;
            }
            front.remove()?;
            self.on_disk.bytes -= front.bytes;
            self.segments.pop_front();
            self.enter_front();
        }
        Ok(())
    }

    fn enter_front(&mut self) {
        if let Some(front) = self.segments.front()
            && front.number != self.next.segment
        {
            self.next = Place {
                segment: front.number,
                offset: 0,
            };
        }
    }
}

impl BatchId {
    fn of(place: Place, header: &Header) -> Self {
        Self {
            place,
            bytes: header.frame_bytes(),
            rows: header.rows,
            position: header.position,
            crc: header.crc,
        }
    }

    fn weight(&self) -> Waiting {
        Waiting {
            batches: 1,
            rows: u64::from(self.rows),
            bytes: self.bytes,
        }
    }
}

fn is_disk_full(error: &io::Error) -> bool {
    [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind())
}

/// The version before this one kept a file per batch; those are left alone.
fn warn_of_old_files(folder: &Path) -> io::Result<()> {
    let mut files = 0_u64;
    let mut first = None;
    for entry in fs::read_dir(folder).map_err(naming(folder))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "spool")
        {
            files += 1;
            first = first.or(Some(path));
        }
    }
    if let Some(first) = first {
        tracing::warn!(
            files,
            first = %first.display(),
            "batches in the format of an earlier version stay in the spool's folder and are not delivered; \
             let that version deliver them, or delete them"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
