//! What is known of a segment without reading its events: counts, times, and which rows of the store it holds.

use super::{
    error::SegmentError,
    wire::{Input, Sheet},
};

/// Nanoseconds of a UTC day.
pub const DAY_NS: i64 = 86_400_000_000_000;

/// The UTC day of an instant, counted from 1970-01-01.
pub fn day_of(at_ns: i64) -> i32 {
    // All days of an i64 of nanoseconds lie within ±106,752.
    i32::try_from(at_ns.div_euclid(DAY_NS)).unwrap_or(i32::MAX)
}

/// Rows of the store that a segment holds: *all* rows of its tenant that lie in these blocks of the partition and on
/// these UTC days are in the segment. The segment's sources together name its rows and no others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Partition of the store.
    pub partition: String,
    /// First UTC day, counted from 1970-01-01; `i32::MIN` is no bound.
    pub first_day: i32,
    /// Last UTC day, inclusive; `i32::MAX` is no bound.
    pub last_day: i32,
    /// First block.
    pub first_block: u64,
    /// Last block, inclusive.
    pub last_block: u64,
}

/// Joins sources that continue each other, in blocks or in days.
pub(super) fn coalesce(mut sources: Vec<Source>) -> Vec<Source> {
    loop {
        let before = sources.len();
        sources.sort_unstable();
        sources = join(sources, |left, right| {
            let same_days = (left.first_day, left.last_day) == (right.first_day, right.last_day);
            let next = left.last_block.checked_add(1) == Some(right.first_block);
            (same_days && next).then(|| left.last_block = right.last_block)
        });
        sources.sort_unstable_by(|left, right| {
            let key = |source: &Source| (source.first_block, source.last_block, source.first_day);
            (&left.partition, key(left)).cmp(&(&right.partition, key(right)))
        });
        sources = join(sources, |left, right| {
            let same_blocks =
                (left.first_block, left.last_block) == (right.first_block, right.last_block);
            let next = left.last_day.checked_add(1) == Some(right.first_day);
            (same_blocks && next).then(|| left.last_day = right.last_day)
        });
        if sources.len() == before {
            sources.sort_unstable();
            return sources;
        }
    }
}

fn join(sources: Vec<Source>, grow: impl Fn(&mut Source, &Source) -> Option<()>) -> Vec<Source> {
    let mut joined: Vec<Source> = Vec::with_capacity(sources.len());
    for source in sources {
        let grown = match joined.last_mut() {
            Some(last) if last.partition == source.partition => grow(last, &source),
            Some(_) | None => None,
        };
        if grown.is_none() {
            joined.push(source);
        }
    }
    joined
}

/// Facts of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    /// Events in it.
    pub events: u64,
    /// Runs in it, one per user.
    pub runs: u64,
    /// Time of the first event, nanoseconds since 1970 UTC.
    pub min_ns: i64,
    /// Time of the last event, nanoseconds since 1970 UTC.
    pub max_ns: i64,
    /// Every time is `min_ns` plus a multiple of this: 1, 1,000, 1,000,000 or 1,000,000,000 ns.
    pub unit_ns: u64,
    /// Whether name codes take two bytes.
    pub wide_codes: bool,
    /// How many events each name code has, by code; names without events are not listed.
    pub name_counts: Vec<(u16, u64)>,
    /// Which rows of the store it holds.
    pub sources: Vec<Source>,
}

impl SegmentMeta {
    /// UTC day of the first event, counted from 1970-01-01.
    pub fn first_day(&self) -> i32 {
        day_of(self.min_ns)
    }

    /// UTC day of the last event, counted from 1970-01-01.
    pub fn last_day(&self) -> i32 {
        day_of(self.max_ns)
    }

    /// Events with this name code.
    pub fn count_of(&self, name: u16) -> u64 {
        let found = self
            .name_counts
            .binary_search_by_key(&name, |(code, _)| *code);
        let entry = found.ok().and_then(|index| self.name_counts.get(index));
        entry.map_or(0, |(_, count)| *count)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut sheet = Sheet::default();
        sheet.u64(self.events);
        sheet.u64(self.runs);
        sheet.i64(self.min_ns);
        sheet.i64(self.max_ns);
        sheet.u64(self.unit_ns);
        sheet.u8(u8::from(self.wide_codes));
        sheet.count(self.name_counts.len());
        for (code, count) in &self.name_counts {
            sheet.u16(*code);
            sheet.u64(*count);
        }
        sheet.count(self.sources.len());
        for source in &self.sources {
            sheet.text(&source.partition);
            sheet.i32(source.first_day);
            sheet.i32(source.last_day);
            sheet.u64(source.first_block);
            sheet.u64(source.last_block);
        }
        sheet.0
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, SegmentError> {
        let mut input = Input::new(bytes, "facts");
        let (events, runs) = (input.u64()?, input.u64()?);
        let (min_ns, max_ns) = (input.i64()?, input.i64()?);
        let unit_ns = input.u64()?;
        let wide_codes = match input.u8()? {
            0 => false,
            1 => true,
            2.. => return Err(SegmentError::corrupt("width of name codes")),
        };
        let mut name_counts = Vec::new();
        for _ in 0..input.count(10)? {
            name_counts.push((input.u16()?, input.u64()?));
        }
        let mut sources = Vec::new();
        for _ in 0..input.count(32)? {
            sources.push(Source {
                partition: input.text()?,
                first_day: input.i32()?,
                last_day: input.i32()?,
                first_block: input.u64()?,
                last_block: input.u64()?,
            });
        }
        input.end()?;
        let meta = Self {
            events,
            runs,
            min_ns,
            max_ns,
            unit_ns,
            wide_codes,
            name_counts,
            sources,
        };
        meta.check()?;
        Ok(meta)
    }

    fn check(&self) -> Result<(), SegmentError> {
        let counted = self
            .name_counts
            .iter()
            .try_fold(0_u64, |sum, (_, count)| sum.checked_add(*count));
        let rising = self
            .name_counts
            .iter()
            .zip(self.name_counts.iter().skip(1))
            .all(|(left, right)| left.0 < right.0);
        let sound = counted == Some(self.events)
            && rising
            && self.runs <= self.events
            && (self.runs == 0) == (self.events == 0)
            && self.min_ns <= self.max_ns
            && UNITS.contains(&self.unit_ns);
        if sound {
            return Ok(());
        }
        Err(SegmentError::corrupt("facts contradict each other"))
    }
}

/// Units of times, coarsest first; each divides the one before.
pub(super) const UNITS: [u64; 4] = [1_000_000_000, 1_000_000, 1_000, 1];

/// The coarsest unit that divides every one of the distances.
pub(super) fn common_unit(distances: impl Iterator<Item = u64>) -> u64 {
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or(1);
    for distance in distances {
        while !distance.is_multiple_of(unit) {
            unit = units.next().unwrap_or(1);
        }
    }
    unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn source(blocks: (u64, u64), days: (i32, i32)) -> Source {
        Source {
            partition: "p".to_owned(),
            first_day: days.0,
            last_day: days.1,
            first_block: blocks.0,
            last_block: blocks.1,
        }
    }

    fn cells(sources: &[Source]) -> BTreeSet<(u64, i32)> {
        let of = |source: &Source| {
            let days = source.first_day..=source.last_day;
            let blocks = source.first_block..=source.last_block;
            blocks
                .flat_map(move |block| days.clone().map(move |day| (block, day)))
                .collect::<Vec<_>>()
        };
        sources.iter().flat_map(of).collect()
    }

    #[test]
    fn a_grid_of_batches_and_days_becomes_one_source() {
        let mut grid = Vec::new();
        for batch in 0..5_u64 {
            for day in 0..7 {
                grid.push(source((batch * 10, batch * 10 + 9), (day, day)));
            }
        }
        grid.reverse();
        assert_eq!(coalesce(grid), [source((0, 49), (0, 6))]);
    }

    #[test]
    fn a_gap_in_blocks_or_days_is_never_closed() {
        let gaps = vec![
            source((0, 4), (0, 0)),
            source((6, 9), (0, 0)),
            source((0, 4), (2, 2)),
        ];
        let joined = coalesce(gaps.clone());
        assert_eq!(cells(&joined), cells(&gaps));
        assert_eq!(joined.len(), 3);
    }

    #[test]
    fn partitions_are_never_joined() {
        let mut other = source((5, 9), (0, 0));
        other.partition = "q".to_owned();
        assert_eq!(coalesce(vec![source((0, 4), (0, 0)), other]).len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn joining_keeps_every_cell(
            picks in proptest::collection::vec((0..6_u64, 0..3_u64, 0..6_i32, 0..3_i32), 0..12)
        ) {
            // Sources of one tenant never overlap: keep those that are free.
            let mut taken = BTreeSet::new();
            let mut sources = Vec::new();
            for (block, blocks, day, days) in picks {
                let next = source((block, block + blocks), (day, day + days));
                let next_cells = cells(std::slice::from_ref(&next));
                if taken.is_disjoint(&next_cells) {
                    taken.extend(next_cells);
                    sources.push(next);
                }
            }
            let joined = coalesce(sources);
            proptest::prop_assert_eq!(cells(&joined), taken);
        }
    }

    #[test]
    fn the_unit_is_the_coarsest_that_divides_all() {
        assert_eq!(common_unit([].into_iter()), 1_000_000_000);
        assert_eq!(common_unit([0, 5_000_000_000].into_iter()), 1_000_000_000);
        assert_eq!(
            common_unit([5_000_000_000, 2_000_000].into_iter()),
            1_000_000
        );
        assert_eq!(common_unit([3_000, 2_000_000].into_iter()), 1_000);
        assert_eq!(common_unit([3_000, 7].into_iter()), 1);
    }

    #[test]
    fn days_before_1970_round_down() {
        assert_eq!(day_of(-1), -1);
        assert_eq!(day_of(0), 0);
        assert_eq!(day_of(DAY_NS), 1);
        assert_eq!(day_of(i64::MIN), -106_752);
    }

    #[test]
    fn facts_come_back_and_contradictions_are_refused() {
        let meta = SegmentMeta {
            events: 5,
            runs: 2,
            min_ns: -3,
            max_ns: 4,
            unit_ns: 1,
            wide_codes: true,
            name_counts: vec![(0, 2), (300, 3)],
            sources: vec![source((1, 2), (i32::MIN, i32::MAX))],
        };
        assert_eq!(SegmentMeta::decode(&meta.encode()), Ok(meta.clone()));
        assert_eq!((meta.count_of(300), meta.count_of(1)), (3, 0));
        let wrong = SegmentMeta { events: 6, ..meta };
        assert!(SegmentMeta::decode(&wrong.encode()).is_err());
    }
}
