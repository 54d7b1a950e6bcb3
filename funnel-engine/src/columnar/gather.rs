//! The events of a stretch of users, out of all segments, side by side per user and in time order.

use std::{collections::HashMap, ops::Range};

use foldhash::fast::RandomState;

use super::{
    TenantEvents,
    rules::{Rules, Tables},
    values::Values,
};
use crate::{
    definition::{Count, FunnelDefinition, Order},
    index::{Block, BlockScratch, SegmentError},
    shape::{Kind, Shape},
};

/// An event that takes part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) user: u32,
    /// Number of the session; 0 when users are counted.
    pub(crate) session: u32,
    pub(crate) at_ns: i64,
    pub(crate) kind: Kind,
    /// Number of the breakdown's value.
    pub(crate) value: u32,
}

/// Reads entries; one per thread.
pub(crate) struct Gatherer<'a> {
    source: &'a TenantEvents<'a>,
    rules: &'a Rules,
    tables: Vec<Tables>,
    wants_every: bool,
    wants_sessions: bool,
    /// Name codes of the first step, when a user whose every event is at hand and who has none of them can be passed over.
    first: Option<Vec<bool>>,
    /// Column of the session.
    session: usize,
    time_range: (i64, i64),
    scratch: BlockScratch,
    codes: Vec<u32>,
    /// Of events that say when something was first: user, session, time, and the steps whose name they have.
    firsts: Vec<(u32, u32, i64, u64)>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) scanned: u64,
}

impl<'a> Gatherer<'a> {
    pub(crate) fn new(
        definition: &FunnelDefinition,
        shape: &Shape,
        source: &'a TenantEvents<'a>,
        rules: &'a Rules,
        wanted: &[String],
    ) -> Self {
        let tables = source
            .segments
            .iter()
            .map(|segment| rules.tables(&segment.columns));
        let session = wanted.iter().position(|name| name == "session");
        Self {
            source,
            rules,
            tables: tables.collect(),
            first: (source.segments.len() == 1 && definition.order != Order::Unordered)
                .then(|| rules.names_of_first_step()),
            wants_every: shape.wants_every_event(),
            wants_sessions: definition.count == Count::Sessions,
            session: session.unwrap_or(usize::MAX),
            time_range: definition.time_range_ns(),
            scratch: BlockScratch::default(),
            codes: vec![0; wanted.len()],
            firsts: Vec::new(),
            entries: Vec::new(),
            scanned: 0,
        }
    }

    /// Fills `entries` with those of users in `[from, to)`, ordered by user, session and time.
    pub(crate) fn gather(
        &mut self,
        (from, to): (u32, u32),
        values: &mut Values,
        sessions: &mut Values,
    ) -> Result<(), SegmentError> {
        self.entries.clear();
        self.firsts.clear();
        for segment in 0..self.source.segments.len() {
            self.read(segment, (from, to), values, sessions)?;
        }
        if self.rules.first_ever | self.rules.first_matching != 0 {
            self.keep_firsts();
        }
        // Each segment's share is sorted already, and the sort knows how to merge.
        let is_sorted = self.source.segments.len() <= 1 && !self.wants_sessions;
        if !is_sorted {
            self.entries
                .sort_by_key(|entry| (entry.user, entry.session, entry.at_ns));
        }
        Ok(())
    }

    fn read(
        &mut self,
        index: usize,
        (from, to): (u32, u32),
        values: &mut Values,
        sessions: &mut Values,
    ) -> Result<(), SegmentError> {
        let Some(segment) = self.source.segments.get(index) else {
            return Ok(());
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        for number in self.source.blocks_of(index, from) {
            if segment.segment.first_user(number) >= to {
                break;
            }
            let block = segment.segment.block(number, &mut scratch)?;
            for (user, run) in scratch.runs() {
                if user < from || Some(user) == self.source.nobody && !self.wants_sessions {
                    continue;
                }
                if user >= to {
                    break;
                }
                self.scanned += run.len() as u64;
                if self.may_enter(&block, run.clone()) {
                    self.run(index, &block, (user, run), (values, sessions));
                }
            }
        }
        self.scratch = scratch;
        Ok(())
    }

    /// Whether a user may have an event of the first step in a run, or elsewhere.
    fn may_enter(&self, block: &Block<'_>, mut run: Range<usize>) -> bool {
        self.first.as_ref().is_none_or(|first| {
            run.any(|event| {
                let code = usize::from(block.codes.get(event));
                first.get(code).copied().unwrap_or(false)
            })
        })
    }

    /// Takes in one user's events of one segment.
    fn run(
        &mut self,
        index: usize,
        block: &Block<'_>,
        (user, run): (u32, Range<usize>),
        (values, sessions): (&mut Values, &mut Values),
    ) {
        let (Some(segment), Some(tables)) =
            (self.source.segments.get(index), self.tables.get(index))
        else {
            return;
        };
        for event in run {
            let position = block.first_event + event as u64;
            let at_ns = block.times.get(event);
            for (code, column) in self.codes.iter_mut().zip(&segment.columns) {
                *code = column.map_or(0, |column| column.code(position));
            }
            let name = block.codes.get(event);
            let (kind, named) = self.rules.judge(name, &self.codes, tables);
            let in_range = self.time_range.0 <= at_ns && at_ns < self.time_range.1;
            let kind = kind.filter(|_| in_range);
            let session = if self.wants_sessions {
                sessions.number(index, &self.codes, &segment.columns)
            } else {
                0
            };
            let matching = kind.map_or(0, |kind| kind.fills & self.rules.first_matching);
            let first = named & self.rules.first_ever | matching;
            if first != 0 {
                self.firsts.push((user, session, at_ns, first));
            }
            let has_session = self.codes.get(self.session).is_some_and(|code| *code != 0);
            let Some(kind) = kind.filter(|kind| self.wants_every || *kind != Kind::default())
            else {
                continue;
            };
            if self.wants_sessions && !has_session {
                continue;
            }
            self.entries.push(Entry {
                user,
                session,
                at_ns,
                kind,
                value: values.number(index, &self.codes, &segment.columns),
            });
        }
    }

    /// Takes from events the steps that want a user's first one only.
    fn keep_firsts(&mut self) {
        let nobody = self.source.nobody;
        // Without a user, the session is whose first it is.
        let owner =
            |user: u32, session: u32| (user, if Some(user) == nobody { session } else { 0 });
        let mut earliest: HashMap<(u32, u32, u32), i64, RandomState> = HashMap::default();
        let mut note = |(user, session): (u32, u32), steps: u64, at_ns: i64| {
            for step in bits(steps) {
                let first = earliest.entry((user, session, step)).or_insert(at_ns);
                *first = at_ns.min(*first);
            }
        };
        for (user, session, at_ns, steps) in &self.firsts {
            note(owner(*user, *session), *steps, *at_ns);
        }
        let limited = self.rules.first_ever | self.rules.first_matching;
        for entry in &mut self.entries {
            let (user, session) = owner(entry.user, entry.session);
            for step in bits(entry.kind.fills & limited) {
                if earliest.get(&(user, session, step)) != Some(&entry.at_ns) {
                    entry.kind.fills &= !(1 << step);
                }
            }
        }
        let wants_every = self.wants_every;
        self.entries
            .retain(|entry| wants_every || entry.kind != Kind::default());
    }
}

/// The numbers of the bits that are set.
fn bits(mut set: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (set != 0).then(|| set.trailing_zeros())?;
        set &= set - 1;
        Some(bit)
    })
}
