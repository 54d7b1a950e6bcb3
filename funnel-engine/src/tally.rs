//! Attempts added up: counts, gaps, the trend. Sums are integers, so neither order nor threads change a digit.

use std::collections::BTreeMap;

use crate::{
    calendar::Calendar,
    definition::{DefinitionError, FunnelDefinition, Order, TimeRange},
    shape::{Attempt, Verdict},
};

/// What one row of an answer is computed from: the whole funnel, or one value of a breakdown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Per step.
    pub(crate) counts: Vec<u64>,
    /// Per step, for each subject: since the previous required step, nanoseconds.
    pub(crate) gaps_ns: Vec<Vec<i64>>,
    /// From the first to the last required step, for each subject that got there, nanoseconds.
    pub(crate) whole_ns: Vec<i64>,
}

/// Which steps may be skipped, and what follows from it.
#[derive(Clone, Debug)]
pub(crate) struct Steps {
    /// Per step: its predecessor among the required ones, by index; `None` for the first.
    pub(crate) previous: Vec<Option<usize>>,
    /// Per step.
    pub(crate) optional: Vec<bool>,
}

impl Steps {
    pub(crate) fn of(definition: &FunnelDefinition) -> Self {
        let optional: Vec<bool> = definition.steps.iter().map(|step| step.optional).collect();
        let mut last = None;
        let mut previous = Vec::new();
        for (index, is_optional) in optional.iter().enumerate() {
            previous.push(last);
            if !is_optional {
                last = Some(index);
            }
        }
        Self { previous, optional }
    }

    /// The next required step after one, by index.
    pub(crate) fn next(&self, index: usize) -> Option<usize> {
        let later = self.optional.iter().enumerate().skip(index + 1);
        later
            .filter(|(_, optional)| !**optional)
            .map(|(next, _)| next)
            .next()
    }

    /// The last required step, by index.
    pub(crate) fn last(&self) -> usize {
        let last = self.optional.iter().rposition(|optional| !optional);
        last.unwrap_or(0)
    }
}

impl Tally {
    pub(crate) fn new(steps: usize) -> Self {
        Self {
            counts: vec![0; steps],
            gaps_ns: vec![Vec::new(); steps],
            whole_ns: Vec::new(),
        }
    }

    /// Adds what one subject counts for.
    pub(crate) fn add(&mut self, steps: &Steps, attempt: &Attempt) {
        let optional = |index: usize| steps.optional.get(index).copied().unwrap_or(false);
        // Few get far: what lies behind an attempt's level costs nothing.
        for (index, count) in self.counts.iter_mut().enumerate().take(attempt.level) {
            *count += u64::from(!optional(index) || attempt.time(index).is_some());
        }
        for (index, gaps) in self.gaps_ns.iter_mut().enumerate().take(attempt.level) {
            if optional(index) {
                continue;
            }
            let before = steps.previous.get(index).copied().flatten();
            let gap = before.and_then(|before| Some(attempt.time(index)? - attempt.time(before)?));
            gaps.extend(gap);
        }
        let last = steps.last();
        if last < attempt.level {
            let whole = attempt.time(last).zip(attempt.time(0));
            self.whole_ns.extend(whole.map(|(to, from)| to - from));
        }
    }

    /// Adds a subject that reached the first step and no other.
    pub(crate) fn add_entered(&mut self) {
        if let Some(count) = self.counts.first_mut() {
            *count += 1;
        }
    }

    /// Adds another thread's share.
    pub(crate) fn merge(&mut self, other: Self) {
        let counts = self.counts.iter_mut().zip(other.counts);
        counts.for_each(|(count, more)| *count += more);
        let gaps = self.gaps_ns.iter_mut().zip(other.gaps_ns);
        gaps.for_each(|(gaps, more)| append(gaps, more));
        append(&mut self.whole_ns, other.whole_ns);
    }
}

/// Joins lists whose order does not matter: the shorter one moves.
fn append(list: &mut Vec<i64>, mut other: Vec<i64>) {
    if list.len() < other.len() {
        std::mem::swap(list, &mut other);
    }
    list.extend(other);
}

/// Who entered and who converted, per bucket.
#[derive(Clone, Debug)]
pub(crate) struct TrendTally {
    calendar: Calendar,
    from: usize,
    to: usize,
    per_entry: bool,
    /// Entered and converted, by the bucket's start.
    buckets: BTreeMap<i64, (u64, u64)>,
    /// Of one subject; kept to be used again.
    scratch: BTreeMap<i64, bool>,
}

impl TrendTally {
    pub(crate) fn of(definition: &FunnelDefinition) -> Option<Self> {
        let trend = definition.trend.as_ref()?;
        Some(Self {
            calendar: Calendar::new(trend),
            from: trend.from_step - 1,
            to: trend.to_step - 1,
            per_entry: definition.count == crate::definition::Count::Totals,
            buckets: BTreeMap::new(),
            scratch: BTreeMap::new(),
        })
    }

    /// Adds a subject: once per bucket, or every entry of it when entries are counted.
    pub(crate) fn add(&mut self, verdict: &Verdict) {
        let attempts = if self.per_entry {
            &verdict.counted
        } else {
            &verdict.attempts
        };
        for attempt in attempts {
            let Some(entered) = attempt
                .time(self.from)
                .filter(|_| attempt.level > self.from)
            else {
                continue;
            };
            let bucket = self.calendar.bucket(entered);
            let converted = attempt.level > self.to;
            if self.per_entry {
                let sums = self.buckets.entry(bucket).or_default();
                *sums = (sums.0 + 1, sums.1 + u64::from(converted));
            } else {
                *self.scratch.entry(bucket).or_default() |= converted;
            }
        }
        while let Some((bucket, converted)) = self.scratch.pop_first() {
            let sums = self.buckets.entry(bucket).or_default();
            *sums = (sums.0 + 1, sums.1 + u64::from(converted));
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (bucket, (entered, converted)) in other.buckets {
            let sums = self.buckets.entry(bucket).or_default();
            *sums = (sums.0 + entered, sums.1 + converted);
        }
    }

    /// Bucket label, entered, converted; in order, without gaps.
    pub(crate) fn points(
        mut self,
        range: Option<&TimeRange>,
    ) -> Result<Vec<(String, u64, u64)>, DefinitionError> {
        let ns = |at: jiff::Timestamp| i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX);
        let seen = self.buckets.keys().next().copied();
        let edges = match range {
            Some(range) => Some((ns(range.from), ns(range.to) - 1)),
            None => seen.zip(self.buckets.keys().next_back().copied()),
        };
        let Some((first, last)) = edges else {
            return Ok(Vec::new());
        };
        let buckets = self.calendar.buckets(first, last)?;
        let point = |start: &i64| {
            let (entered, converted) = self.buckets.get(start).copied().unwrap_or_default();
            (self.calendar.label(*start), entered, converted)
        };
        Ok(buckets.iter().map(point).collect())
    }
}

/// Everything that is added up for an answer.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    pub(crate) steps: Steps,
    pub(crate) whole: Tally,
    /// By value.
    pub(crate) breakdown: BTreeMap<String, Tally>,
    pub(crate) trend: Option<TrendTally>,
    pub(crate) scanned: u64,
}

impl Sums {
    pub(crate) fn of(definition: &FunnelDefinition) -> Self {
        Self {
            steps: Steps::of(definition),
            whole: Tally::new(definition.steps.len()),
            breakdown: BTreeMap::new(),
            trend: TrendTally::of(definition),
            scanned: 0,
        }
    }

    /// Adds a subject to the funnel as a whole.
    pub(crate) fn add(&mut self, verdict: &Verdict) {
        for attempt in &verdict.counted {
            self.whole.add(&self.steps, attempt);
        }
        if let Some(trend) = &mut self.trend {
            trend.add(verdict);
        }
    }

    /// Adds an attempt to a value of the breakdown.
    pub(crate) fn add_to_value(&mut self, value: &str, attempt: &Attempt) {
        if !self.breakdown.contains_key(value) {
            let tally = Tally::new(self.whole.counts.len());
            self.breakdown.insert(value.to_owned(), tally);
        }
        if let Some(tally) = self.breakdown.get_mut(value) {
            tally.add(&self.steps, attempt);
        }
    }

    /// Adds another thread's share.
    pub(crate) fn merge(&mut self, other: Self) {
        self.whole.merge(other.whole);
        self.scanned += other.scanned;
        for (value, tally) in other.breakdown {
            match self.breakdown.get_mut(&value) {
                Some(mine) => mine.merge(tally),
                None => {
                    self.breakdown.insert(value, tally);
                }
            }
        }
        if let (Some(mine), Some(theirs)) = (&mut self.trend, other.trend) {
            mine.merge(theirs);
        }
    }
}

/// Whether every attempt is needed, or only the one that counts.
pub(crate) fn wants_attempts(definition: &FunnelDefinition) -> bool {
    definition.trend.is_some() && definition.order != Order::Clickhouse
}
