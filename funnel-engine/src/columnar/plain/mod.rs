//! The scan where names alone tell what an event can do: nothing is built of events that do not matter, and little of
//! those that do.
//!
//! Where one segment holds all events of a stretch of users, runs are judged one by one as they stand. Where several do,
//! the events of each user are brought together first (`stretch`).

mod stretch;
mod wanted;

use std::ops::Range;

use stretch::{Hit, Stretch};
use wanted::Marks;

use super::TenantEvents;
use crate::{
    definition::{Count, FunnelDefinition, Order},
    index::{Block, BlockScratch, Codes, Segment, SegmentError, Times},
    matching::newest::Levels,
    shape::{Attempt, Shape, Verdict},
};

pub(in crate::columnar) use wanted::Wanted;

/// Whether a definition is plain enough, but for what its conditions say.
pub(super) fn suits(definition: &FunnelDefinition) -> bool {
    let mut steps = definition.steps.iter();
    definition.order == Order::Ordered
        && definition.count == Count::Users
        && definition.exclusions.is_empty()
        && definition.trend.is_none()
        && definition.breakdown.is_none()
        && steps.all(|step| !step.optional && step.within.is_none() && step.not_before.is_none())
}

/// Takes what the scan finds.
pub(super) trait Found {
    /// A user who entered.
    fn subject(&mut self, user: u32, verdict: &Verdict);
    /// One who did nothing more, when nobody asks who and when.
    fn entered(&mut self);
    /// Whether it matters who entered and when, and not only how many.
    fn wants_times(&self) -> bool;
}

/// What one thread needs for it.
pub(super) struct Plain {
    stretch: Stretch,
    runs: BlockScratch,
    marks: Marks,
    judge: Judge,
}

impl Plain {
    pub(super) fn new(shape: &Shape) -> Self {
        Self {
            stretch: Stretch::default(),
            runs: BlockScratch::default(),
            marks: Marks::default(),
            judge: Judge {
                levels: Levels::new(shape.steps, shape.window_ns),
                verdict: Verdict::default(),
                steps: shape.steps,
            },
        }
    }

    /// Hands out who entered among users in `[from, to)`; returns how many events were there.
    pub(super) fn scan(
        &mut self,
        events: &TenantEvents<'_>,
        wanted: &Wanted,
        (from, to): (u32, u32),
        collect: &mut impl Found,
    ) -> Result<u64, SegmentError> {
        let holds_some = |index: &usize| {
            let mut blocks = events.blocks_of(*index, from);
            let segment = events.segments.get(*index).map(|segment| segment.segment);
            segment
                .zip(blocks.next())
                .is_some_and(|(segment, block)| segment.first_user(block) < to)
        };
        let mut holding = (0..events.segments.len()).filter(holds_some);
        let (Some(first), second) = (holding.next(), holding.next()) else {
            return Ok(0);
        };
        if second.is_none() {
            return self.scan_one(events, wanted, first, (from, to), collect);
        }
        let scanned = self.stretch.read(events, wanted, (from, to))?;
        let judge = &mut self.judge;
        self.stretch.each(|user, hits| {
            if let Some(verdict) = judge.judge(hits.iter().copied()) {
                collect.subject(user, verdict);
            }
        });
        Ok(scanned)
    }

    fn scan_one(
        &mut self,
        events: &TenantEvents<'_>,
        wanted: &Wanted,
        index: usize,
        (from, to): (u32, u32),
        collect: &mut impl Found,
    ) -> Result<u64, SegmentError> {
        let Some(segment) = events.segments.get(index).map(|segment| segment.segment) else {
            return Ok(0);
        };
        let is_cut = is_cut(segment, wanted);
        let may_count = !is_cut && !collect.wants_times();
        let mut scanned = 0;
        for number in events.blocks_of(index, from) {
            if segment.first_user(number) >= to {
                break;
            }
            if is_whole(segment, number, (from, to), events.nobody)
                && !segment.may_contain(number, wanted.first())
            {
                scanned += segment.events(number)?.events as u64;
                continue;
            }
            let block = segment.block(number, &mut self.runs)?;
            wanted.mark(&block.codes, &mut self.marks);
            for (user, run) in self.runs.runs() {
                if user < from || user >= to || Some(user) == events.nobody {
                    continue;
                }
                scanned += run.len() as u64;
                let Some(first) = self.marks.find(&run) else {
                    continue;
                };
                if may_count && goes_nowhere(wanted, &block, &run, first) {
                    collect.entered();
                    continue;
                }
                let run = entered(&block, &run, first);
                let verdict = match &block.codes {
                    Codes::U8(codes) if !is_cut => {
                        let fills = |event| wanted.fills_of_byte(codes, event);
                        self.judge.judge(hits(run, fills, |_| true, &block.times))
                    }
                    codes @ (Codes::U8(_) | Codes::U16(_)) => {
                        let fills = |event| wanted.fills(codes, event);
                        let covers = |at_ns| wanted.covers(at_ns);
                        self.judge.judge(hits(run, fills, covers, &block.times))
                    }
                };
                if let Some(verdict) = verdict {
                    collect.subject(user, verdict);
                }
            }
        }
        Ok(scanned)
    }
}

/// Whether some events of a segment may lie outside the time range. Most often it covers the segment, and none needs to
/// be held against it.
fn is_cut(segment: &Segment, wanted: &Wanted) -> bool {
    let meta = segment.meta();
    meta.min_ns < wanted.time_range.0 || meta.max_ns >= wanted.time_range.1
}

/// The events of a run that can fill a step. Times are only looked up where they matter.
#[inline]
fn hits(
    run: Range<usize>,
    fills: impl Fn(usize) -> u64 + Clone,
    covers: impl Fn(i64) -> bool + Clone,
    times: &Times<'_>,
) -> impl Iterator<Item = Hit> + Clone {
    run.filter_map(move |event| {
        let fills = fills(event);
        let at_ns = (fills != 0).then(|| times.get(event))?;
        covers(at_ns).then_some((at_ns, fills))
    })
}

/// Whether a block holds users of the stretch only, nobody's events aside.
fn is_whole(segment: &Segment, block: usize, (from, to): (u32, u32), nobody: Option<u32>) -> bool {
    let (first, last) = (segment.first_user(block), segment.last_user(block));
    from <= first && last < to && !nobody.is_some_and(|nobody| first <= nobody && nobody <= last)
}

/// Whether a user with an event of the first step got no further, whatever the times are. In most funnels most users are
/// such, and times are four fifths of what there is to read.
#[inline]
fn goes_nowhere(wanted: &Wanted, block: &Block<'_>, run: &Range<usize>, first: usize) -> bool {
    let Codes::U8(codes) = block.codes else {
        return false;
    };
    let (before, after) = (codes.get(run.start..first), codes.get(first..run.end));
    let Some((before, after)) = before.zip(after) else {
        return false;
    };
    if !after.iter().all(|code| wanted.is_first_or_none(*code)) {
        return false;
    }
    // An event before it counts only at its instant, and there codes do not fall.
    let first_code = after.first().copied().unwrap_or(0);
    let mut shares_instant = before.iter().rev().scan(first_code, |last, code| {
        let may_share = *code <= *last;
        *last = *code;
        may_share.then_some(*code)
    });
    shares_instant.all(|code| wanted.is_first_or_none(code))
        || block.times.get(first - 1) != block.times.get(first)
}

/// A run without what lies before its first event of the first step. What shares that instant stays: it may be taken
/// after it.
fn entered(block: &Block<'_>, run: &Range<usize>, first: usize) -> Range<usize> {
    let mut start = first;
    while start > run.start && block.times.get(start - 1) == block.times.get(first) {
        start -= 1;
    }
    start..run.end
}

/// Judges one user after the other.
struct Judge {
    levels: Levels,
    verdict: Verdict,
    steps: usize,
}

impl Judge {
    /// What a user's events come to; none who did not enter.
    #[inline]
    fn judge(&mut self, hits: impl Iterator<Item = Hit> + Clone) -> Option<&Verdict> {
        let level = self.levels.run(hits.clone());
        if level == 0 {
            return None;
        }
        if self.verdict.counted.len() != 1 {
            let times_ns = vec![None; self.steps];
            self.verdict.counted = vec![Attempt { level: 0, times_ns }];
        }
        let attempt = self.verdict.counted.first_mut()?;
        for time in attempt.times_ns.iter_mut().take(attempt.level) {
            *time = None;
        }
        attempt.level = level;
        if level > 2 {
            self.levels.times(hits, &mut attempt.times_ns);
        } else {
            // The first two steps are known without looking again.
            let known = [self.levels.start_ns(), self.levels.reached_ns()];
            for (time, known) in attempt.times_ns.iter_mut().zip(known).take(level) {
                *time = Some(known);
            }
        }
        Some(&self.verdict)
    }
}
