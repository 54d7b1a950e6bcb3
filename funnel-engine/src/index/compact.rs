//! Which segments to merge, so that a query meets few of them and every event is rewritten few times.
//!
//! Segments of a tenant and a partition stand in the order of their days. A group of neighbours may be merged if the
//! result is at least one and a half times as large as its largest member: then an event's segment grows by half
//! whenever it is rewritten, and what is left at the end is a handful of segments, each larger than twice the smaller
//! ones together. Of all groups the one that costs the fewest
//! rewritten events for each segment that goes away is merged first, which takes small ones first.
//!
//! A merged segment spans at most 32 days, so that a question about a week does not read a year, unless it is so small
//! that reading it costs nothing.

use super::{manifest::SegmentEntry, writer::SEGMENT_EVENTS_MAX};

/// Most segments of one merge; each holds a decoded block.
const GROUP_MAX: usize = 64;
/// Most days that a merged segment spans.
const DAYS_MAX: i64 = 32;
/// Smaller segments may span any number of days.
const SMALL_EVENTS: u64 = 1 << 20;
/// Segments of more events are not made by merging: some 1.3 GiB.
pub(super) const MERGED_EVENTS_MAX: u64 = SEGMENT_EVENTS_MAX / 8;

/// When a merge is worth its price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thrift {
    /// While events arrive: when what is left aside will be few segments, and every event is rewritten few times.
    Amortised,
    /// When nothing is expected to arrive soon: always. A partition becomes one segment, if bounds allow.
    Whole,
}

/// Neighbours that may be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// File numbers.
    pub(super) files: Vec<u64>,
    pub(super) events: u64,
}

impl Group {
    /// Events rewritten for each segment that goes away.
    fn price(&self) -> u64 {
        let gone = self.files.len().saturating_sub(1) as u64;
        self.events / gone.max(1)
    }
}

/// All groups of a tenant's segments that may be merged, best first.
pub(super) fn groups(segments: &[SegmentEntry], thrift: Thrift) -> Vec<Group> {
    let mut ordered: Vec<&SegmentEntry> = segments.iter().collect();
    ordered.sort_unstable_by(|left, right| {
        let key = |entry: &SegmentEntry| (entry.first_day, entry.last_day, entry.file);
        (&left.partition, key(left)).cmp(&(&right.partition, key(right)))
    });
    let mut groups = Vec::new();
    for start in 0..ordered.len() {
        let rest = ordered.get(start..).unwrap_or_default();
        groups.extend(best_from(rest, thrift));
    }
    // Of groups whose prices are alike the earliest: groups that begin anywhere leave single segments between them.
    groups.sort_by_key(|group| group.price().checked_ilog2());
    groups
}

/// The best group that begins with the first of these.
fn best_from(ordered: &[&SegmentEntry], thrift: Thrift) -> Option<Group> {
    let first = ordered.first()?;
    let mut files = Vec::new();
    let (mut events, mut largest) = (0_u64, 0);
    let (mut first_day, mut last_day) = (first.first_day, first.last_day);
    let mut best: Option<Group> = None;
    for entry in ordered.iter().take(GROUP_MAX) {
        files.push(entry.file);
        events += entry.events;
        largest = largest.max(entry.events);
        first_day = first_day.min(entry.first_day);
        last_day = last_day.max(entry.last_day);
        let days = i64::from(last_day) - i64::from(first_day) + 1;
        let fits = entry.partition == first.partition
            && events <= MERGED_EVENTS_MAX
            && (days <= DAYS_MAX || events <= SMALL_EVENTS);
        if !fits {
            break;
        }
        let is_worth_it = match thrift {
            Thrift::Amortised => events / 3 >= largest / 2,
            Thrift::Whole => true,
        };
        if files.len() > 1 && is_worth_it {
            let group = Group {
                files: files.clone(),
                events,
            };
            if best
                .as_ref()
                .is_none_or(|best| group.price() < best.price())
            {
                best = Some(group);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(file: u64, day: i32, events: u64) -> SegmentEntry {
        SegmentEntry {
            file,
            bytes: 0,
            seal: 0,
            events,
            partition: "p".to_owned(),
            first_day: day,
            last_day: day,
            properties: Vec::new(),
        }
    }

    /// Merges on paper until nothing is left to do; returns the segments and how many events were rewritten.
    fn settle(mut segments: Vec<SegmentEntry>) -> (Vec<SegmentEntry>, u64) {
        let (mut rewritten, mut file) = (0, 1_000_000);
        while let Some(group) = groups(&segments, Thrift::Amortised).into_iter().next() {
            let (merged, rest): (Vec<_>, Vec<_>) = segments
                .into_iter()
                .partition(|segment| group.files.contains(&segment.file));
            file += 1;
            rewritten += group.events;
            segments = rest;
            segments.push(SegmentEntry {
                first_day: merged
                    .iter()
                    .map(|segment| segment.first_day)
                    .min()
                    .unwrap(),
                last_day: merged.iter().map(|segment| segment.last_day).max().unwrap(),
                ..segment(file, 0, group.events)
            });
        }
        (segments, rewritten)
    }

    #[test]
    fn a_first_build_of_a_month_becomes_one_segment_and_is_rewritten_twice() {
        let build: Vec<SegmentEntry> = (0..20)
            .flat_map(|batch| (0..30).map(move |day| (batch, day)))
            .map(|(batch, day)| segment(u64::try_from(batch * 30 + day).unwrap(), day, 33_000))
            .collect();
        let events: u64 = build.iter().map(|segment| segment.events).sum();
        let (settled, rewritten) = settle(build);
        assert_eq!(settled.len(), 1);
        assert!(rewritten <= events * 3, "{rewritten} of {events}");
    }

    #[test]
    fn a_year_of_small_batches_leaves_few_segments_and_few_rewrites() {
        let mut segments = Vec::new();
        let (mut rewritten, mut all) = (0, 0);
        for batch in 0..4_000_u64 {
            let day = i32::try_from(batch / 11).unwrap();
            segments.push(segment(batch, day, 5_000 + batch * 37 % 3_000));
            all += segments.last().unwrap().events;
            let (settled, cost) = settle(segments);
            segments = settled;
            rewritten += cost;
        }
        assert!(segments.len() < 40, "{} segments", segments.len());
        assert!(rewritten / all <= 10, "{} times", rewritten / all);
        assert!(segments.iter().all(|segment| {
            segment.last_day - segment.first_day < 32 || segment.events <= SMALL_EVENTS
        }));
    }

    #[test]
    fn partitions_and_far_days_are_kept_apart() {
        let mut other = segment(2, 0, 10);
        other.partition = "q".to_owned();
        assert_eq!(groups(&[segment(1, 0, 10), other], Thrift::Amortised), []);
        let far = [segment(1, 0, SMALL_EVENTS), segment(2, 40, SMALL_EVENTS)];
        assert_eq!(groups(&far, Thrift::Amortised), []);
        let small = [segment(1, 0, 10), segment(2, 40, 10)];
        assert_eq!(groups(&small, Thrift::Amortised).len(), 1);
    }

    #[test]
    fn a_large_segment_waits_until_its_neighbours_weigh_as_much() {
        let waits = [segment(1, 0, 1_000), segment(2, 1, 250), segment(3, 2, 240)];
        assert!(
            groups(&waits, Thrift::Amortised)
                .iter()
                .all(|group| !group.files.contains(&1))
        );
        let whole = groups(&waits, Thrift::Whole);
        assert!(whole.iter().any(|group| group.files.contains(&1)));
        let ready = [segment(1, 0, 1_000), segment(2, 1, 900), segment(3, 2, 100)];
        assert_eq!(groups(&ready, Thrift::Amortised)[0].files, [1, 2, 3]);
    }
}
