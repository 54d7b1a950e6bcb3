//! One block of a segment: which users, the lengths of their runs, and the name and time of every event.
//!
//! Users and lengths are decoded into a scratch; names and times are read in place.

use std::ops::Range;

use super::{bits::Packed, directory::BlockHead, error::SegmentError, meta::SegmentMeta};

/// Where blocks are decoded to; reused from block to block.
#[derive(Debug, Default)]
pub struct BlockScratch {
    pub(super) users: Vec<u32>,
    pub(super) ends: Vec<u32>,
}

impl BlockScratch {
    /// The runs of the block that was read last: user codes, rising, and the events of each, as indices into the block.
    pub fn runs(&self) -> impl Iterator<Item = (u32, Range<usize>)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let runs = self.users.iter().zip(starts).zip(&self.ends);
        runs.map(|((user, start), end)| (*user, start as usize..*end as usize))
    }
}

/// The events of up to 1,024 runs.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// How many.
    pub events: usize,
    /// Position of the block's first event in the segment.
    pub first_event: u64,
    /// Name codes of the block's events.
    pub codes: Codes<'a>,
    /// Times of the block's events.
    pub times: Times<'a>,
}

/// A block before its runs are decoded.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    pub(super) head: &'a BlockHead,
    pub(super) codes: Codes<'a>,
    pub(super) times: Times<'a>,
    users: Packed<'a>,
    lengths: Packed<'a>,
}

impl<'a> Columns<'a> {
    pub(super) fn new(
        head: &'a BlockHead,
        meta: &SegmentMeta,
        bytes: &'a [u8],
    ) -> Result<Self, SegmentError> {
        let short = || SegmentError::corrupt("a block is too short");
        let parts = head.parts(meta.wide_codes).ok_or_else(short)?;
        let (_, lengths) = bytes.split_at_checked(parts.users).ok_or_else(short)?;
        let (_, rest) = lengths.split_at_checked(parts.lengths).ok_or_else(short)?;
        let (codes, times) = rest.split_at_checked(parts.codes).ok_or_else(short)?;
        let base = head.base.wrapping_mul(meta.unit_ns);
        Ok(Self {
            head,
            codes: if meta.wide_codes {
                Codes::U16(codes)
            } else {
                Codes::U8(codes)
            },
            times: Times {
                offsets: Packed::new(times, head.time_width),
                base_ns: meta.min_ns.wrapping_add_unsigned(base),
                unit_ns: meta.unit_ns,
            },
            users: Packed::new(bytes, head.user_width),
            lengths: Packed::new(lengths, head.length_width),
        })
    }

    /// What is read in place.
    pub(super) fn block(&self) -> Block<'a> {
        Block {
            events: self.head.events as usize,
            first_event: self.head.first_event,
            codes: self.codes,
            times: self.times,
        }
    }

    /// Decodes users and run ends. Both are held against the directory, which makes every index into the block sound.
    pub(super) fn read_runs(&self, scratch: &mut BlockScratch) -> Result<(), SegmentError> {
        let runs = self.head.runs as usize;
        let mut user = u64::from(self.head.first_user);
        scratch.users.clear();
        scratch.users.resize(runs, self.head.first_user);
        let mut slots = scratch.users.iter_mut().skip(1);
        self.users.for_each(runs.saturating_sub(1), |distance| {
            user = user.wrapping_add(distance).wrapping_add(1);
            if let Some(slot) = slots.next() {
                *slot = (user & 0xffff_ffff) as u32;
            }
        });
        let mut end = 0_u64;
        scratch.ends.clear();
        scratch.ends.resize(runs, 0);
        let mut slots = scratch.ends.iter_mut();
        self.lengths.for_each(runs, |length| {
            end = end.wrapping_add(length).wrapping_add(1);
            if let Some(slot) = slots.next() {
                *slot = (end & 0xffff_ffff) as u32;
            }
        });
        if user != u64::from(self.head.last_user) || end != u64::from(self.head.events) {
            return Err(SegmentError::corrupt("runs of a block"));
        }
        Ok(())
    }
}

/// Name codes of a block's events.
#[derive(Clone, Copy, Debug)]
pub enum Codes<'a> {
    /// One byte each.
    U8(&'a [u8]),
    /// Two bytes each, little endian.
    U16(&'a [u8]),
}

impl Codes<'_> {
    /// The code at an index into the block's events; `u16::MAX`, which no name has, behind the last.
    #[inline]
    pub fn get(&self, index: usize) -> u16 {
        match self {
            Self::U8(bytes) => bytes.get(index).map_or(u16::MAX, |byte| u16::from(*byte)),
            Self::U16(bytes) => {
                let tail = bytes.get(index.wrapping_mul(2)..);
                let pair = tail.and_then(<[u8]>::first_chunk::<2>);
                pair.map_or(u16::MAX, |pair| u16::from_le_bytes(*pair))
            }
        }
    }
}

/// Times of a block's events.
#[derive(Clone, Copy, Debug)]
pub struct Times<'a> {
    offsets: Packed<'a>,
    base_ns: i64,
    unit_ns: u64,
}

impl Times<'_> {
    /// The time at an index into the block's events, nanoseconds since 1970 UTC; without meaning behind the last.
    #[inline]
    pub fn get(&self, index: usize) -> i64 {
        let offset = self.offsets.get(index).wrapping_mul(self.unit_ns);
        self.base_ns.wrapping_add_unsigned(offset)
    }
}
