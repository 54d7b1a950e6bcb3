//! Going through the runs of a segment, one user after another: what merging and checking do.

use std::ops::Range;

use super::{
    block::{BlockScratch, Codes, Columns, Times},
    error::SegmentError,
    segment::Segment,
};

/// Stands at one run of a segment, or before the first, or behind the last.
pub struct Runs<'a> {
    segment: &'a Segment,
    scratch: BlockScratch,
    columns: Option<Columns<'a>>,
    next_block: usize,
    run: usize,
}

/// One user's events in one segment.
pub struct Run<'a> {
    /// Whose.
    pub user: u32,
    /// Which events of the block, as indexes for `codes` and `times`.
    pub events: Range<usize>,
    /// Position in the segment of the block's event 0.
    pub first_event: u64,
    /// Name codes.
    pub codes: Codes<'a>,
    /// Times.
    pub times: Times<'a>,
}

impl<'a> Runs<'a> {
    /// Stands before the first run.
    pub fn new(segment: &'a Segment) -> Self {
        Self {
            segment,
            scratch: BlockScratch::default(),
            columns: None,
            next_block: 0,
            run: 0,
        }
    }

    /// Goes to the next run; false behind the last.
    ///
    /// # Errors
    /// The next block is corrupt.
    pub fn advance(&mut self) -> Result<bool, SegmentError> {
        if self.columns.is_some() {
            self.run += 1;
            if self.run < self.scratch.users.len() {
                return Ok(true);
            }
        }
        self.columns = None;
        if self.next_block >= self.segment.blocks() {
            return Ok(false);
        }
        let columns = self.segment.columns(self.next_block)?;
        columns.read_runs(&mut self.scratch)?;
        self.columns = Some(columns);
        self.next_block += 1;
        self.run = 0;
        Ok(true)
    }

    /// The run it stands at.
    pub fn run(&self) -> Option<Run<'a>> {
        let columns = self.columns?;
        let end = *self.scratch.ends.get(self.run)? as usize;
        let before = self
            .run
            .checked_sub(1)
            .and_then(|run| self.scratch.ends.get(run));
        Some(Run {
            user: *self.scratch.users.get(self.run)?,
            events: before.map_or(0, |end| *end as usize)..end,
            first_event: columns.head.first_event,
            codes: columns.codes,
            times: columns.times,
        })
    }

    /// The user it stands at.
    pub(super) fn user(&self) -> Option<u32> {
        self.columns.and(self.scratch.users.get(self.run).copied())
    }
}
