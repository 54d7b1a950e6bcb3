//! Writing a segment: events in order of user, time and name code become blocks, one after another.
//!
//! The builder keeps one block in memory; what it has finished goes to an [`Output`]. The bytes depend on the events
//! and the sources alone, so that merging segments gives the same file as building one from all rows.

use super::{
    bits::{SLACK, pack, width_of},
    directory::{self, BlockHead},
    error::SegmentError,
    format::{Kind, Section, encode_header, header_bytes},
    meta::{SegmentMeta, Source, UNITS, common_unit},
    segment::{BLOCKS, DIRECTORY, FACTS},
};

/// A block ends with the run that reaches either. 1,024 runs decode into 8 KiB of scratch; the second bound keeps
/// blocks of users with thousands of events at some 150 KiB.
pub(super) const BLOCK_RUNS: usize = 1_024;
const BLOCK_EVENTS: usize = 32_768;
/// Most events of one segment; a block's events are counted in u32.
pub(super) const SEGMENT_EVENTS_MAX: u64 = 1 << 31;

/// Largest name code; `u16::MAX` stands for no code.
pub(super) const NAME_CODE_MAX: u16 = u16::MAX - 1;

/// An event in codes, ordered by user, time and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventRow(u128);

const SIGN: u64 = 1 << 63;

impl EventRow {
    /// An event of a user, by the codes of the tenant's dictionaries; time in nanoseconds since 1970 UTC.
    #[inline]
    pub fn new(user: u32, at_ns: i64, name: u16) -> Self {
        // One wide number compares without branches, which sorting feels.
        let at = at_ns.cast_unsigned() ^ SIGN;
        Self(u128::from(user) << 96 | u128::from(at) << 32 | u128::from(name))
    }

    /// User code.
    #[inline]
    pub fn user(self) -> u32 {
        (self.0 >> 96) as u32
    }

    /// Nanoseconds since 1970 UTC.
    #[inline]
    pub fn at_ns(self) -> i64 {
        let at = ((self.0 >> 32) & 0xffff_ffff_ffff_ffff) as u64;
        (at ^ SIGN).cast_signed()
    }

    /// Name code.
    #[inline]
    pub fn name(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

/// Where the bytes of a segment go.
pub(super) trait Output {
    type Error: From<SegmentError>;
    fn append(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
    /// Replaces the first bytes, which were appended before.
    fn put_head(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

impl Output for Vec<u8> {
    type Error = SegmentError;

    fn append(&mut self, bytes: &[u8]) -> Result<(), SegmentError> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn put_head(&mut self, bytes: &[u8]) -> Result<(), SegmentError> {
        if let Some(head) = self.get_mut(..bytes.len()) {
            head.copy_from_slice(bytes);
        }
        Ok(())
    }
}

/// A segment of the rows, which are sorted by this.
///
/// # Errors
/// More than 2^31 rows, or a name code of `u16::MAX`.
pub fn build(rows: &mut [EventRow], sources: Vec<Source>) -> Result<Vec<u8>, SegmentError> {
    rows.sort_unstable();
    build_sorted(rows, sources, Vec::with_capacity(rows.len() * 6)).map(|(bytes, _)| bytes)
}

/// Writes sorted rows; returns the output and the seal.
pub(super) fn build_sorted<O: Output>(
    rows: &[EventRow],
    sources: Vec<Source>,
    output: O,
) -> Result<(O, u32), O::Error> {
    let times = || rows.iter().map(|row| row.at_ns());
    let frame = Frame {
        min_ns: times().min().unwrap_or(0),
        max_ns: times().max().unwrap_or(0),
        wide_codes: rows.iter().any(|row| row.name() > 255),
    };
    let unit = common_unit(times().map(|at| frame.distance(at)));
    let mut builder = Builder::new(frame, unit, sources, output)?;
    let mut user = None;
    for row in rows {
        if user.replace(row.user()) != Some(row.user()) {
            builder.begin_run(row.user())?;
        }
        builder.push(row.at_ns(), row.name());
    }
    builder.finish()
}

/// What must be known of all events before the first is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) min_ns: i64,
    pub(super) max_ns: i64,
    pub(super) wide_codes: bool,
}

impl Frame {
    /// Nanoseconds from the first event: also right where the difference passes an i64.
    pub(super) fn distance(&self, at_ns: i64) -> u64 {
        at_ns.wrapping_sub(self.min_ns).cast_unsigned()
    }
}

/// Takes events in order and writes blocks.
pub(super) struct Builder<O> {
    output: O,
    frame: Frame,
    unit: u64,
    sources: Vec<Source>,
    counts: Vec<u64>,
    blocks: Vec<BlockHead>,
    events: u64,
    runs: u64,
    data_bytes: u64,
    users: Vec<u32>,
    starts: Vec<u32>,
    codes: Vec<u8>,
    offsets: Vec<u64>,
    block_names: [bool; 256],
    bytes: Vec<u8>,
}

impl<O: Output> Builder<O> {
    pub(super) fn new(
        frame: Frame,
        unit: u64,
        sources: Vec<Source>,
        mut output: O,
    ) -> Result<Self, O::Error> {
        debug_assert!(UNITS.contains(&unit));
        output.append(&vec![0; header_bytes(3)])?;
        Ok(Self {
            output,
            frame,
            unit,
            sources,
            counts: vec![0; if frame.wide_codes { 1 << 16 } else { 256 }],
            blocks: Vec::new(),
            events: 0,
            runs: 0,
            data_bytes: 0,
            users: Vec::with_capacity(BLOCK_RUNS),
            starts: Vec::with_capacity(BLOCK_RUNS),
            codes: Vec::new(),
            offsets: Vec::with_capacity(BLOCK_EVENTS),
            block_names: [false; 256],
            bytes: Vec::new(),
        })
    }

    /// The events that follow are this user's; users rise.
    pub(super) fn begin_run(&mut self, user: u32) -> Result<(), O::Error> {
        if self.users.len() >= BLOCK_RUNS || self.offsets.len() >= BLOCK_EVENTS {
            self.flush()?;
        }
        let start = u32::try_from(self.offsets.len()).map_err(|error| {
            SegmentError::limit(format!("{SEGMENT_EVENTS_MAX} events ({error})"))
        })?;
        self.users.push(user);
        self.starts.push(start);
        Ok(())
    }

    /// The next event of the run; times rise, at one instant name codes do.
    pub(super) fn push(&mut self, at_ns: i64, name: u16) {
        self.offsets
            .push(in_units(self.frame.distance(at_ns), self.unit));
        if self.frame.wide_codes {
            self.codes.extend(name.to_le_bytes());
        } else {
            self.codes.push((name & 0xff) as u8);
        }
        if let Some(count) = self.counts.get_mut(usize::from(name)) {
            *count += 1;
        }
        if let Some(seen) = self.block_names.get_mut(usize::from(name & 0xff)) {
            *seen = true;
        }
    }

    fn flush(&mut self) -> Result<(), O::Error> {
        let (Some(first), Some(last)) = (self.users.first(), self.users.last()) else {
            return Ok(());
        };
        let events = self.offsets.len() as u64;
        if self.events + events > SEGMENT_EVENTS_MAX {
            return Err(SegmentError::limit(format!("{SEGMENT_EVENTS_MAX} events")).into());
        }
        let base = self.offsets.iter().copied().min().unwrap_or(0);
        let furthest = self.offsets.iter().copied().max().unwrap_or(0);
        let steps = || gaps(self.users.iter().map(|user| u64::from(*user)));
        let ends = self
            .starts
            .iter()
            .map(|start| u64::from(*start))
            .chain([events]);
        let lengths = || gaps(ends.clone());
        let mut head = BlockHead {
            runs: u32::try_from(self.users.len()).unwrap_or(u32::MAX),
            events: u32::try_from(events).unwrap_or(u32::MAX),
            first_user: *first,
            last_user: *last,
            base,
            user_width: width_of(steps().max().unwrap_or(0)),
            length_width: width_of(lengths().max().unwrap_or(0)),
            time_width: width_of(furthest - base),
            ..BlockHead::default()
        };
        for (name, seen) in (0..=255).zip(&mut self.block_names) {
            if std::mem::take(seen) {
                head.names.insert(name);
            }
        }
        self.bytes.clear();
        pack(&mut self.bytes, head.user_width, steps());
        pack(&mut self.bytes, head.length_width, lengths());
        self.bytes.extend(&self.codes);
        let offsets = self.offsets.iter().map(|offset| offset - base);
        pack(&mut self.bytes, head.time_width, offsets);
        self.bytes.extend([0; SLACK]);
        head.crc = crc32fast::hash(&self.bytes);
        self.output.append(&self.bytes)?;
        self.data_bytes += self.bytes.len() as u64;
        self.events += events;
        self.runs += self.users.len() as u64;
        self.blocks.push(head);
        self.users.clear();
        self.starts.clear();
        self.codes.clear();
        self.offsets.clear();
        Ok(())
    }

    /// Writes what is left; returns the output and the seal.
    pub(super) fn finish(mut self) -> Result<(O, u32), O::Error> {
        self.flush()?;
        let of_no_name = self.counts.get(usize::from(u16::MAX));
        if of_no_name.is_some_and(|count| *count > 0) {
            return Err(SegmentError::limit(format!("name codes up to {NAME_CODE_MAX}")).into());
        }
        let counts = (0..u16::MAX).zip(&self.counts);
        let meta = SegmentMeta {
            events: self.events,
            runs: self.runs,
            min_ns: self.frame.min_ns,
            max_ns: self.frame.max_ns,
            unit_ns: self.unit,
            wide_codes: self.frame.wide_codes,
            name_counts: counts
                .filter(|(_, count)| **count > 0)
                .map(|(code, count)| (code, *count))
                .collect(),
            sources: self.sources,
        };
        let (directory, facts) = (directory::encode(&self.blocks), meta.encode());
        self.output.append(&directory)?;
        self.output.append(&facts)?;
        let blocks = Section {
            id: BLOCKS,
            crc: 0,
            length: self.data_bytes,
        };
        let sections = [
            blocks,
            Section::new(DIRECTORY, &directory),
            Section::new(FACTS, &facts),
        ];
        let (head, seal) = encode_header(Kind::Segment, &sections);
        self.output.put_head(&head)?;
        Ok((self.output, seal))
    }
}

/// Constant divisors, because dividing by a variable is what packing a time would mostly cost.
#[inline]
fn in_units(distance: u64, unit: u64) -> u64 {
    match unit {
        1_000_000_000 => distance / 1_000_000_000,
        1_000_000 => distance / 1_000_000,
        1_000 => distance / 1_000,
        other => distance / other,
    }
}

/// Distances between neighbours less one: what rising values are stored as.
fn gaps(values: impl Iterator<Item = u64> + Clone) -> impl Iterator<Item = u64> {
    let next = values.clone().skip(1);
    values
        .zip(next)
        .map(|(value, next)| next.saturating_sub(value).saturating_sub(1))
}
