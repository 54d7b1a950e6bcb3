//! `clickhouse` order: the level that ClickHouse's `windowFunnel` gives, in all of its modes.
//!
//! Owns: the scan of (time, condition) entries with its peculiarities: one row may fill several steps, later chains
//! overwrite earlier ones, the strict modes stop the scan for good. Refuses: times of steps, which `windowFunnel` does not
//! tell.
//!
//! Cost: O(conditions met). With `strict_once` ClickHouse keeps every chain; since all that matters of a chain from
//! earlier instants is its start, and of those the newest, one chain per level is enough here.
//!
//! Rows of one instant are taken in the order of the conditions they meet. That matters only to `strict_once` together
//! with `strict_deduplication`, where ClickHouse itself goes by the order of the rows it happens to read.

use crate::definition::Mode;
use crate::matching::bits::{PerStep, first, has, highest, members, only};
use crate::matching::ties::{Group, Matching, group, instants};
use crate::shape::{Mark, Shape};

/// The modes that are on.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "ClickHouse has a switch for each"
)]
struct Modes {
    deduplication: bool,
    order: bool,
    increase: bool,
    once: bool,
    reentry: bool,
}

/// The machine of one funnel.
#[derive(Debug)]
pub(super) struct WindowFunnel {
    steps: usize,
    window: i64,
    modes: Modes,
    /// Levels for which a chain exists.
    set: u64,
    /// For each of them the start and the last time of its chain.
    chains: PerStep<(i64, i64)>,
    rows: Vec<u64>,
    scratch: Vec<u64>,
    groups: Vec<Group>,
    matching: Matching,
}

/// Whether the scan goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scan {
    Goes,
    Stops,
}

impl WindowFunnel {
    /// For a shape of `clickhouse` order.
    pub(super) fn new(shape: &Shape) -> Self {
        let mut modes = Modes::default();
        for mode in &shape.modes {
            match mode {
                Mode::StrictDeduplication => modes.deduplication = true,
                Mode::StrictOrder => modes.order = true,
                Mode::StrictIncrease => modes.increase = true,
                Mode::StrictOnce => modes.once = true,
                Mode::AllowReentry => modes.reentry = true,
            }
        }
        Self {
            steps: shape.steps.clamp(1, 64),
            window: shape.window_ns,
            modes,
            set: 0,
            chains: PerStep::of((0, 0)),
            rows: Vec::new(),
            scratch: Vec::new(),
            groups: Vec::new(),
            matching: Matching::default(),
        }
    }

    /// The level of a subject, 0 if it has none.
    pub(super) fn level(&mut self, marks: &[Mark]) -> usize {
        self.set = 0;
        for marks in instants(marks) {
            let Some(at) = marks.first().map(|mark| mark.at_ns) else {
                continue;
            };
            let all = first(self.steps);
            self.rows.clear();
            self.rows
                .extend(marks.iter().map(|mark| mark.kind.fills & all));
            // A row that meets no condition comes before the others of its instant.
            let foreign = self.modes.order && self.rows.contains(&0);
            if foreign && self.set != 0 {
                break;
            }
            let scan = if self.modes.once {
                self.instant_once(at)
            } else {
                self.instant(at)
            };
            if scan == Scan::Stops || has(self.set, self.steps - 1) {
                break;
            }
        }
        highest(self.set).map_or(0, |step| step + 1)
    }

    // What the strict modes say to an entry before anything else; `None` if it may extend a chain.
    fn refused(&self, step: usize) -> Option<Scan> {
        if step == 0 {
            return None;
        }
        if self.modes.deduplication && has(self.set, step) {
            return Some(Scan::Stops);
        }
        if self.modes.order && self.set != 0 && !has(self.set, step - 1) {
            return Some(if self.modes.reentry {
                Scan::Goes
            } else {
                Scan::Stops
            });
        }
        (!has(self.set, step - 1)).then_some(Scan::Goes)
    }

    fn extend(&mut self, step: usize, start: i64, at: i64) {
        self.set |= only(step);
        self.chains.set(step, (start, at));
    }

    fn is_open(&self, start: i64, at: i64) -> bool {
        at.saturating_sub(start) <= self.window
    }

    // One instant, where a row may fill several steps.
    fn instant(&mut self, at: i64) -> Scan {
        let (mut once, mut twice) = (0, 0);
        for row in &self.rows {
            twice |= once & row;
            once |= row;
        }
        for step in members(once) {
            // A second entry for the same step changes nothing, except that it may be refused.
            let entries = 1 + usize::from(has(twice, step));
            for _ in 0..entries {
                match self.refused(step) {
                    None => self.entry(step, at),
                    Some(Scan::Goes) => {}
                    Some(Scan::Stops) => return Scan::Stops,
                }
            }
            if has(self.set, self.steps - 1) {
                return Scan::Stops;
            }
        }
        Scan::Goes
    }

    fn entry(&mut self, step: usize, at: i64) {
        if step == 0 {
            self.extend(0, at, at);
            return;
        }
        let (start, last) = self.chains.get(step - 1);
        if self.is_open(start, at) && (!self.modes.increase || last < at) {
            self.extend(step, start, at);
        }
    }

    // One instant under `strict_once`: the rows that a chain takes here are all different.
    fn instant_once(&mut self, at: i64) -> Scan {
        if self.modes.deduplication {
            return self.instant_once_deduplicated(at);
        }
        self.groups.clear();
        group(
            self.rows.iter().copied(),
            &mut self.scratch,
            &mut self.groups,
        );
        let union = self.rows.iter().fold(0, |all, row| all | row);
        // As they were before this instant.
        let (before, chains) = (self.set << 1 | 1, self.chains.clone());
        // The lowest level from which the steps up to the present one can all be filled here: its start is the newest.
        let mut lowest = 0;
        self.matching.clear(&self.groups);
        for step in 0..self.steps {
            while lowest <= step && !self.matching.add(&self.groups, step) {
                self.matching.remove(lowest);
                lowest += 1;
            }
            if !has(union, step) {
                continue;
            }
            match self.refused(step) {
                None => {}
                Some(Scan::Goes) => continue,
                Some(Scan::Stops) => return Scan::Stops,
            }
            let from = if self.modes.increase { step } else { lowest };
            let start = if from == 0 {
                at
            } else {
                chains.get(from - 1).0
            };
            if has(before, from) && self.is_open(start, at) {
                self.extend(step, start, at);
            }
        }
        Scan::Goes
    }

    // With `strict_deduplication` a step above the first is set by one row only, and the next entry for it stops the
    // scan. So the chains that reach a step at this instant share their rows here, except the row of the first step.
    fn instant_once_deduplicated(&mut self, at: i64) -> Scan {
        self.rows.sort_unstable();
        let rows = std::mem::take(&mut self.rows);
        let mut here = Here {
            before: self.set,
            start: has(self.set, 0).then(|| self.chains.get(0).0),
            openers: rows.iter().filter(|row| has(**row, 0)).count(),
            ..Here::default()
        };
        let mut scan = Scan::Goes;
        'steps: for step in members(rows.iter().fold(0, |all, row| all | row)) {
            for (index, row) in rows.iter().enumerate().filter(|(_, row)| has(**row, step)) {
                match self.refused(step) {
                    None => self.grow(&mut here, step, (index, *row), at),
                    Some(Scan::Goes) => {}
                    Some(Scan::Stops) => {
                        scan = Scan::Stops;
                        break 'steps;
                    }
                }
            }
        }
        self.rows = rows;
        scan
    }

    fn grow(&mut self, here: &mut Here, step: usize, (index, row): (usize, u64), at: i64) {
        if step == 0 {
            self.extend(0, at, at);
            return;
        }
        if step == 1 || has(here.before, step - 1) {
            // The chain before is a mere start, or of earlier instants: no row is used yet.
            here.used.clear();
            here.used_openers = 0;
            here.from_start = step == 1;
        } else if self.modes.increase || here.used.contains(&index) {
            return;
        }
        let opens = usize::from(has(row, 0));
        let start = if !here.from_start {
            Some(self.chains.get(step - 1).0)
        } else if here.openers > here.used_openers + opens && !self.modes.increase {
            Some(at)
        } else {
            here.start
        };
        if let Some(start) = start.filter(|start| self.is_open(*start, at)) {
            here.used.push(index);
            here.used_openers += opens;
            self.extend(step, start, at);
        }
    }
}

/// What the chains that grow at one instant have in common.
#[derive(Debug, Default)]
struct Here {
    /// The levels set before it.
    before: u64,
    /// The newest start before it.
    start: Option<i64>,
    /// Rows here that can be a start.
    openers: usize,
    /// Whether the chains begin with a start of their own choice.
    from_start: bool,
    /// The rows they use here, and how many of these could have been a start.
    used: Vec<usize>,
    used_openers: usize,
}
