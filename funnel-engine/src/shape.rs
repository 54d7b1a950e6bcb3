//! A definition as the matchers see it: numbers and bit sets, no names.
//!
//! Owns: the types between "which events are there" (`population`, `columnar`) and "what did they lead to"
//! (`reference`, `matching`). Refuses: deciding anything.

use crate::definition::{Count, FunnelDefinition, Mode, Order};

/// What an event can do in a funnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// Steps that it can fill: bit k for step k + 1.
    pub fills: u64,
    /// Exclusions that it matches: bit x for exclusion number x.
    pub excludes: u64,
}

/// An event that takes part, of one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// What it can do.
    pub kind: Kind,
}

/// The steps between which an exclusion holds, counted from 1: from the first of them is filled until the second is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// From this step.
    pub from_step: usize,
    /// Until that one.
    pub to_step: usize,
}

/// The rules of a funnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many steps: 2 to 64.
    pub steps: usize,
    /// How strictly they follow one another.
    pub order: Order,
    /// What is counted.
    pub count: Count,
    /// Of `clickhouse` order.
    pub modes: Vec<Mode>,
    /// Conversion window, inclusive.
    pub window_ns: i64,
    /// Steps that may be skipped: bit k for step k + 1.
    pub optional: u64,
    /// Largest gap from the previous filled step, per step; `i64::MAX` for none.
    pub within_ns: Vec<i64>,
    /// Smallest gap from the previous filled step, per step; 0 for none.
    pub not_before_ns: Vec<i64>,
    /// By number.
    pub exclusions: Vec<Range>,
}

impl Shape {
    /// The rules of a definition.
    pub fn of(definition: &FunnelDefinition) -> Self {
        let steps = &definition.steps;
        let bit =
            |(index, step): (usize, &crate::definition::Step)| u64::from(step.optional) << index;
        let exclusions = definition.exclusions.iter().map(|exclusion| Range {
            from_step: exclusion.from_step,
            to_step: exclusion.to_step,
        });
        Self {
            steps: steps.len(),
            order: definition.order,
            count: definition.count,
            modes: definition.modes.clone(),
            window_ns: definition.window.nanoseconds(),
            optional: steps.iter().enumerate().map(bit).sum(),
            within_ns: steps
                .iter()
                .map(|step| {
                    step.within
                        .map_or(i64::MAX, crate::duration::Span::nanoseconds)
                })
                .collect(),
            not_before_ns: steps
                .iter()
                .map(|step| {
                    step.not_before
                        .map_or(0, crate::duration::Span::nanoseconds)
                })
                .collect(),
            exclusions: exclusions.collect(),
        }
    }

    /// Whether a step, by index, may be skipped.
    pub const fn is_optional(&self, index: usize) -> bool {
        self.optional >> index & 1 == 1
    }

    /// Whether events that fill no step and match no exclusion take part.
    pub fn wants_every_event(&self) -> bool {
        match self.order {
            Order::Strict => true,
            Order::Clickhouse => self.modes.contains(&Mode::StrictOrder),
            Order::Ordered | Order::Unordered => false,
        }
    }

    /// Whether an event of this kind takes part.
    pub fn wants(&self, kind: Kind) -> bool {
        kind != Kind::default() || self.wants_every_event()
    }
}

impl FunnelDefinition {
    /// The times looked at, nanoseconds since 1970 UTC: from the first on, before the second.
    pub(crate) fn time_range_ns(&self) -> (i64, i64) {
        // No event lies outside of what 64 bits of nanoseconds can say; a range may.
        let ns = |at: &jiff::Timestamp| {
            let ns = at.as_nanosecond().clamp(i64::MIN.into(), i64::MAX.into());
            i64::try_from(ns).unwrap_or(i64::MAX)
        };
        let range = self.time_range.as_ref();
        range.map_or((i64::MIN, i64::MAX), |range| {
            (ns(&range.from), ns(&range.to))
        })
    }
}

/// One way through the funnel.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    /// The highest filled step, counted from 1; in `unordered` funnels, how many were filled.
    pub level: usize,
    /// When each step was filled, nanoseconds since 1970 UTC, by step; in `unordered` funnels by position. `None`: not
    /// filled, or not known (`clickhouse` order).
    pub times_ns: Vec<Option<i64>>,
}

impl Attempt {
    /// When a step, by index, was filled.
    pub fn time(&self, index: usize) -> Option<i64> {
        self.times_ns.get(index).copied().flatten()
    }
}

/// What one subject did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What counts: none or one; for totals, every entry that counts, in time order.
    pub counted: Vec<Attempt>,
    /// Every clean attempt by its start, for trends; empty when the subject left the funnel.
    pub attempts: Vec<Attempt>,
}
