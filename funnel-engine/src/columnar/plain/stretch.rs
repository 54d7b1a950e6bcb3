//! The events of a stretch of users that can fill a step, side by side per user, out of several segments.
//!
//! Two passes over the blocks of the stretch. The first counts, per user, and finds out who has no event of the first
//! step anywhere. The second puts the events of the others where they belong. No lists are merged, so that the number of
//! segments costs nothing but their blocks.

use super::{
    hits, is_cut,
    wanted::{Marks, Wanted},
};
use crate::{
    columnar::TenantEvents,
    index::{BlockScratch, Segment, SegmentError},
};

/// An event that can fill a step: when, and which ones.
pub(super) type Hit = (i64, u64);

/// What is known of one user.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Where its hits begin.
    start: usize,
    /// How many there may be, and then how many there are.
    hits: u32,
    /// Runs that they come from.
    runs: u16,
    enters: bool,
}

/// A block whose runs are known.
#[derive(Debug, Default)]
struct Known {
    segment: usize,
    block: usize,
    runs: BlockScratch,
}

/// One stretch after another; its memory is used again.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    from: u32,
    slots: Vec<Slot>,
    known: Vec<Known>,
    /// How many of them are of this stretch.
    blocks: usize,
    marks: Marks,
    hits: Vec<Hit>,
}

impl Stretch {
    /// Reads the users of `[from, to)`; returns how many events they have.
    pub(super) fn read(
        &mut self,
        events: &TenantEvents<'_>,
        wanted: &Wanted,
        (from, to): (u32, u32),
    ) -> Result<u64, SegmentError> {
        self.from = from;
        self.blocks = 0;
        self.slots.clear();
        let users = to.saturating_sub(from) as usize;
        self.slots.resize(users, Slot::default());
        let mut scanned = 0;
        for (index, segment) in events.segments.iter().enumerate() {
            for block in events.blocks_of(index, from) {
                if segment.segment.first_user(block) >= to {
                    break;
                }
                scanned += self.count(wanted, (index, segment.segment, block), events.nobody)?;
            }
        }
        self.lay_out();
        for index in 0..self.blocks {
            self.fill(events, wanted, index)?;
        }
        Ok(scanned)
    }

    /// Counts the events of a block per user; returns how many there are in all.
    fn count(
        &mut self,
        wanted: &Wanted,
        (index, segment, block): (usize, &Segment, usize),
        nobody: Option<u32>,
    ) -> Result<u64, SegmentError> {
        if self.known.len() == self.blocks {
            self.known.push(Known::default());
        }
        let Some(known) = self.known.get_mut(self.blocks) else {
            return Ok(0);
        };
        self.blocks += 1;
        (known.segment, known.block) = (index, block);
        let events = segment.block(block, &mut known.runs)?;
        let may_enter = segment.may_contain(block, wanted.first());
        if may_enter {
            wanted.mark(&events.codes, &mut self.marks);
        }
        let mut scanned = 0;
        for (user, run) in known.runs.runs() {
            let slot = user.checked_sub(self.from);
            let slot = slot.and_then(|index| self.slots.get_mut(index as usize));
            let Some(slot) = slot.filter(|_| Some(user) != nobody) else {
                continue;
            };
            scanned += run.len() as u64;
            slot.hits += u32::try_from(run.len()).unwrap_or(u32::MAX);
            slot.runs = slot.runs.saturating_add(1);
            slot.enters |= may_enter && self.marks.find(&run).is_some();
        }
        Ok(scanned)
    }

    /// Gives each user who may enter a place.
    fn lay_out(&mut self) {
        let mut end = 0;
        for slot in &mut self.slots {
            let hits = if slot.enters { slot.hits as usize } else { 0 };
            (slot.start, slot.hits) = (end, 0);
            end += hits;
        }
        if self.hits.len() < end {
            self.hits.resize(end, (0, 0));
        }
    }

    /// Puts the events of a block where they belong.
    fn fill(
        &mut self,
        events: &TenantEvents<'_>,
        wanted: &Wanted,
        index: usize,
    ) -> Result<(), SegmentError> {
        let Some((known, segment)) = self
            .known
            .get(index)
            .and_then(|known| Some((known, events.segments.get(known.segment)?.segment)))
        else {
            return Ok(());
        };
        let is_cut = is_cut(segment, wanted);
        let block = segment.events(known.block)?;
        for (user, run) in known.runs.runs() {
            let slot = user.checked_sub(self.from);
            let slot = slot.and_then(|index| self.slots.get_mut(index as usize));
            let Some(slot) = slot.filter(|slot| slot.enters) else {
                continue;
            };
            let places = self.hits.get_mut(slot.start + slot.hits as usize..);
            let mut places = places.unwrap_or_default().iter_mut();
            let fills = |event| wanted.fills(&block.codes, event);
            let covers = |at_ns| !is_cut || wanted.covers(at_ns);
            for hit in hits(run, fills, covers, &block.times) {
                if let Some(place) = places.next() {
                    *place = hit;
                    slot.hits += 1;
                }
            }
        }
        Ok(())
    }

    /// Everybody who may enter, with events in the order of time.
    #[inline]
    pub(super) fn each(&mut self, mut take: impl FnMut(u32, &[Hit])) {
        for (user, slot) in (self.from..).zip(&self.slots) {
            if slot.hits == 0 {
                continue;
            }
            let Some(hits) = self
                .hits
                .get_mut(slot.start..slot.start + slot.hits as usize)
            else {
                continue;
            };
            // Runs of different segments: most often one after the other in time, too.
            if slot.runs > 1 && !hits.is_sorted_by_key(|(at_ns, _)| *at_ns) {
                hits.sort_unstable_by_key(|(at_ns, _)| *at_ns);
            }
            take(user, hits);
        }
    }
}
