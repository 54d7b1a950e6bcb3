//! The scan where names alone tell what an event can do and one segment holds everything: no event is looked at twice,
//! nothing is built per event.

use std::ops::Range;

use super::TenantEvents;
use crate::{
    definition::{Count, FunnelDefinition, Order},
    index::{Block, BlockScratch, Codes, NameSet, SegmentError},
    matching::newest::Levels,
    shape::{Attempt, Kind, Shape, Verdict},
};

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

/// What one thread needs for it.
pub(super) struct Plain {
    levels: Levels,
    scratch: BlockScratch,
    verdict: Verdict,
    steps: usize,
}

/// What a scan looks for.
pub(super) struct Wanted {
    /// Steps that events of each name fill, by name code; of codes above 255 in `wide`.
    narrow: [u64; 256],
    wide: Vec<u64>,
    /// Names of the first step: where none of them is, nobody enters.
    first: NameSet,
    time_range: (i64, i64),
}

impl Wanted {
    pub(super) fn new(kinds: &[Kind], time_range: (i64, i64)) -> Self {
        let mut wanted = Self {
            narrow: [0; 256],
            wide: kinds.iter().map(|kind| kind.fills).collect(),
            first: NameSet::default(),
            time_range,
        };
        for (slot, kind) in wanted.narrow.iter_mut().zip(kinds) {
            *slot = kind.fills;
        }
        for (code, kind) in (0_u16..).zip(kinds) {
            if kind.fills & 1 == 1 {
                wanted.first.insert(code);
            }
        }
        wanted
    }

    /// The run without what lies before its first event of the first step: most runs of most funnels have none, and
    /// then this is all that happens to them.
    fn entered(&self, block: &Block<'_>, run: Range<usize>) -> Option<Range<usize>> {
        let Codes::U8(bytes) = block.codes else {
            return Some(run);
        };
        let codes = bytes.get(run.clone())?;
        let is_first = |code: &u8| {
            self.narrow
                .get(usize::from(*code))
                .is_some_and(|fills| fills & 1 == 1)
        };
        let mut start = run.start + codes.iter().position(is_first)?;
        // What shares the instant may be taken after it.
        let at_ns = block.times.get(start);
        while start > run.start && block.times.get(start - 1) == at_ns {
            start -= 1;
        }
        Some(start..run.end)
    }

    fn covers(&self, at_ns: i64) -> bool {
        self.time_range.0 <= at_ns && at_ns < self.time_range.1
    }

    fn fills(&self, codes: &Codes<'_>, index: usize) -> u64 {
        match codes {
            Codes::U8(bytes) => bytes
                .get(index)
                .and_then(|code| self.narrow.get(usize::from(*code)))
                .copied()
                .unwrap_or(0),
            Codes::U16(_) => {
                let code = usize::from(codes.get(index));
                self.wide.get(code).copied().unwrap_or(0)
            }
        }
    }
}

impl Plain {
    pub(super) fn new(shape: &Shape) -> Self {
        Self {
            levels: Levels::new(shape.steps, shape.window_ns),
            scratch: BlockScratch::default(),
            verdict: Verdict::default(),
            steps: shape.steps,
        }
    }

    /// Hands out who entered among users in `[from, to)`; returns how many events were there.
    pub(super) fn scan(
        &mut self,
        events: &TenantEvents<'_>,
        wanted: &Wanted,
        (from, to): (u32, u32),
        found: &mut dyn FnMut(u32, &Verdict),
    ) -> Result<u64, SegmentError> {
        let Some(segment) = events.segments.first().map(|segment| segment.segment) else {
            return Ok(0);
        };
        let meta = segment.meta();
        // Most often the range covers the segment, and no event needs to be held against it.
        let is_cut = meta.min_ns < wanted.time_range.0 || meta.max_ns >= wanted.time_range.1;
        let mut scanned = 0;
        let mut scratch = std::mem::take(&mut self.scratch);
        for number in events.blocks_of(0, from) {
            if segment.first_user(number) >= to {
                break;
            }
            let block = segment.block(number, &mut scratch)?;
            let within = segment.first_user(number) >= from && segment.last_user(number) < to;
            if within && !segment.may_contain(number, &wanted.first) {
                scanned += block.ends.last().map_or(0, |end| u64::from(*end));
                continue;
            }
            let mut end = 0_usize;
            for (user, next) in block.users.iter().zip(block.ends) {
                let run = end..*next as usize;
                end = run.end;
                if *user < from || Some(*user) == events.nobody {
                    continue;
                }
                if *user >= to {
                    break;
                }
                scanned += run.len() as u64;
                let Some(run) = wanted.entered(&block, run) else {
                    continue;
                };
                let fills = |event: usize| {
                    let fills = wanted.fills(&block.codes, event);
                    // The time is only looked up where it matters.
                    let at_ns = if fills == 0 {
                        0
                    } else {
                        block.times.get(event)
                    };
                    let counts = fills != 0 && (!is_cut || wanted.covers(at_ns));
                    counts.then_some((at_ns, fills))
                };
                self.levels.begin();
                for (at_ns, fills) in run.clone().filter_map(fills) {
                    self.levels.push(at_ns, fills);
                }
                let level = self.levels.finish();
                if level > 0 {
                    self.tell(level, run.filter_map(fills));
                    found(*user, &self.verdict);
                }
            }
        }
        self.scratch = scratch;
        Ok(scanned)
    }

    /// Writes the attempt that counts into the verdict.
    fn tell(&mut self, level: usize, events: impl Iterator<Item = (i64, u64)>) {
        if self.verdict.counted.len() != 1 {
            self.verdict.counted = vec![Attempt::default()];
        }
        let Some(attempt) = self.verdict.counted.first_mut() else {
            return;
        };
        attempt.level = level;
        attempt.times_ns.clear();
        attempt.times_ns.resize(self.steps, None);
        if level > 2 {
            self.levels.times(events, &mut attempt.times_ns);
            return;
        }
        // The first two steps are known without looking again.
        let known = [self.levels.start_ns(), self.levels.reached_ns()];
        for (time, known) in attempt.times_ns.iter_mut().zip(known).take(level) {
            *time = Some(known);
        }
    }
}
