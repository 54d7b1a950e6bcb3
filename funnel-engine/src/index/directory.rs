//! The directory of a segment: one entry per block, from which the place of everything in the block follows.
//!
//! A block lies in one piece: deltas between its users, run lengths, name codes, times, slack. All but the counts and
//! widths below is computed, so an entry cannot contradict itself.

use super::{
    bits::{SLACK, is_width, packed_bytes},
    error::SegmentError,
    meta::SegmentMeta,
    wire::{Input, Sheet},
};

const ENTRY_BYTES: usize = 64;

/// Which names occur: bit `code % 256`. Exact for tenants of up to 256 names, else it may name too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameSet([u64; 4]);

impl NameSet {
    /// Adds a name code.
    pub fn insert(&mut self, name: u16) {
        if let Some(word) = self.0.get_mut(usize::from(name % 256 / 64)) {
            *word |= 1 << (name % 64);
        }
    }

    /// Whether the two have a bit in common.
    pub fn meets(&self, other: &Self) -> bool {
        self.0
            .iter()
            .zip(&other.0)
            .any(|(left, right)| left & right != 0)
    }
}

impl FromIterator<u16> for NameSet {
    fn from_iter<I: IntoIterator<Item = u16>>(names: I) -> Self {
        let mut set = Self::default();
        for name in names {
            set.insert(name);
        }
        set
    }
}

/// One block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BlockHead {
    pub(super) runs: u32,
    pub(super) events: u32,
    pub(super) first_user: u32,
    pub(super) last_user: u32,
    /// Units from the segment's `min_ns` to the first event of the block.
    pub(super) base: u64,
    pub(super) user_width: u8,
    pub(super) length_width: u8,
    pub(super) time_width: u8,
    pub(super) crc: u32,
    pub(super) names: NameSet,
    /// Not stored: events in the blocks before.
    pub(super) first_event: u64,
    /// Not stored: where the block begins among the blocks, and its bytes.
    pub(super) at: usize,
    pub(super) bytes: usize,
}

/// Bytes of the parts of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) users: usize,
    pub(super) lengths: usize,
    pub(super) codes: usize,
    pub(super) times: usize,
}

impl Parts {
    pub(super) fn total(&self) -> usize {
        self.users + self.lengths + self.codes + self.times + SLACK
    }
}

impl BlockHead {
    /// Bytes of the block's parts; none where they pass what memory can address.
    pub(super) fn parts(&self, wide_codes: bool) -> Option<Parts> {
        let (runs, events) = (u64::from(self.runs), u64::from(self.events));
        let bytes = |count, width| usize::try_from(packed_bytes(count, width)?).ok();
        Some(Parts {
            users: bytes(runs.saturating_sub(1), self.user_width)?,
            lengths: bytes(runs, self.length_width)?,
            codes: bytes(events, if wide_codes { 16 } else { 8 })?,
            times: bytes(events, self.time_width)?,
        })
    }

    fn encode(&self, sheet: &mut Sheet) {
        sheet.u32(self.runs);
        sheet.u32(self.events);
        sheet.u32(self.first_user);
        sheet.u32(self.last_user);
        sheet.u64(self.base);
        sheet.u8(self.user_width);
        sheet.u8(self.length_width);
        sheet.u8(self.time_width);
        sheet.u8(0);
        sheet.u32(self.crc);
        for word in self.names.0 {
            sheet.u64(word);
        }
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, SegmentError> {
        let (runs, events) = (input.u32()?, input.u32()?);
        let (first_user, last_user) = (input.u32()?, input.u32()?);
        let base = input.u64()?;
        let (user_width, length_width, time_width) = (input.u8()?, input.u8()?, input.u8()?);
        let zero = input.u8()?;
        let crc = input.u32()?;
        let names = NameSet([input.u64()?, input.u64()?, input.u64()?, input.u64()?]);
        let sound = zero == 0
            && (1..=events).contains(&runs)
            && last_user
                .checked_sub(first_user)
                .is_some_and(|span| span >= runs - 1)
            && [user_width, length_width, time_width]
                .into_iter()
                .all(is_width);
        if !sound {
            return Err(SegmentError::corrupt("entry of the block directory"));
        }
        Ok(Self {
            runs,
            events,
            first_user,
            last_user,
            base,
            user_width,
            length_width,
            time_width,
            crc,
            names,
            ..Self::default()
        })
    }
}

pub(super) fn encode(blocks: &[BlockHead]) -> Vec<u8> {
    let mut sheet = Sheet::default();
    for block in blocks {
        block.encode(&mut sheet);
    }
    sheet.0
}

/// Reads the directory of a segment whose blocks take `data_bytes`.
pub(super) fn decode(
    bytes: &[u8],
    meta: &SegmentMeta,
    data_bytes: usize,
) -> Result<Vec<BlockHead>, SegmentError> {
    let mut input = Input::new(bytes, "block directory");
    let mut blocks: Vec<BlockHead> = Vec::with_capacity(bytes.len() / ENTRY_BYTES);
    let (mut at, mut events, mut runs) = (0_usize, 0_u64, 0_u64);
    while !input.is_empty() {
        let mut block = BlockHead::decode(&mut input)?;
        let rising = blocks
            .last()
            .is_none_or(|before| before.last_user < block.first_user);
        let parts = block.parts(meta.wide_codes).filter(|_| rising);
        let parts = parts.ok_or_else(|| SegmentError::corrupt("order of blocks"))?;
        block.at = at;
        block.bytes = parts.total();
        block.first_event = events;
        at = at
            .checked_add(block.bytes)
            .filter(|end| *end <= data_bytes)
            .ok_or_else(|| SegmentError::corrupt("blocks pass the end of the file"))?;
        events += u64::from(block.events);
        runs += u64::from(block.runs);
        blocks.push(block);
    }
    if (events, runs, at) != (meta.events, meta.runs, data_bytes) {
        return Err(SegmentError::corrupt("blocks do not add up"));
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Source;

    fn meta(events: u64, runs: u64) -> SegmentMeta {
        SegmentMeta {
            events,
            runs,
            min_ns: 0,
            max_ns: 0,
            unit_ns: 1,
            wide_codes: false,
            name_counts: vec![(0, events)],
            sources: Vec::<Source>::new(),
        }
    }

    fn block(first_user: u32, last_user: u32) -> BlockHead {
        BlockHead {
            runs: 2,
            events: 5,
            first_user,
            last_user,
            length_width: 2,
            ..BlockHead::default()
        }
    }

    /// Of two such blocks.
    const BYTES: usize = 2 * (1 + 5 + SLACK);

    #[test]
    fn places_follow_from_counts() {
        let bytes = encode(&[block(3, 4), block(5, 9)]);
        let blocks = decode(&bytes, &meta(10, 4), BYTES).unwrap();
        let places: Vec<(u64, usize)> = blocks
            .iter()
            .map(|block| (block.first_event, block.at))
            .collect();
        assert_eq!(places, [(0, 0), (5, BYTES / 2)]);
    }

    #[test]
    fn blocks_that_contradict_each_other_are_refused() {
        let refused = |blocks: &[BlockHead], meta: &SegmentMeta, bytes| {
            decode(&encode(blocks), meta, bytes).is_err()
        };
        let sound = [block(3, 4), block(5, 9)];
        assert!(
            refused(&[block(3, 5), block(5, 9)], &meta(10, 4), BYTES),
            "users twice"
        );
        assert!(
            refused(&[sound[1], sound[0]], &meta(10, 4), BYTES),
            "users fall"
        );
        assert!(
            refused(&[block(3, 3), sound[1]], &meta(10, 4), BYTES),
            "two runs of one user"
        );
        assert!(refused(&sound, &meta(11, 4), BYTES), "events");
        assert!(refused(&sound, &meta(10, 5), BYTES), "runs");
        assert!(refused(&sound, &meta(10, 4), BYTES + 1), "room is left");
        assert!(refused(&sound, &meta(10, 4), BYTES - 1), "room is short");
        let mut odd = block(3, 4);
        odd.time_width = 58;
        assert!(
            refused(&[odd, sound[1]], &meta(10, 4), BYTES + 74),
            "a width that no load reads"
        );
    }

    #[test]
    fn names_share_bits_only_beyond_256() {
        let set: NameSet = [0, 63, 64, 255].into_iter().collect();
        for name in 0..256 {
            let one: NameSet = [name].into_iter().collect();
            assert_eq!(set.meets(&one), [0, 63, 64, 255].contains(&name));
        }
        assert!(set.meets(&[256].into_iter().collect()), "it may be there");
        assert!(!set.meets(&NameSet::default()));
    }
}
