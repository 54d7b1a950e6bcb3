//! The scan itself: stretches of users, handed to threads one after the other.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{
    ColumnarError, Judged, TenantEvents,
    gather::{Entry, Gatherer},
    plain,
    rules::{Rules, wanted_properties},
    values::{EMPTY, Values},
};
use crate::{
    definition::{Attribution, FunnelDefinition, Order},
    index::Segment,
    matching::{Matcher, Wants},
    shape::{Attempt, Mark, Shape, Verdict},
    tally::{Sums, wants_attempts},
};

/// Blocks of one stretch of users: enough to make claiming one cheap, few enough for their events to stay in the cache.
const BLOCKS: usize = 4;

/// What a thread does with the subjects it finds.
pub(super) trait Collect: Send {
    /// A subject that is in the funnel.
    fn subject(&mut self, judged: Judged<'_>);
    /// An attempt under a value of the breakdown.
    fn value(&mut self, _values: &mut Values, _value: u32, _attempt: &Attempt) {}
    /// Whether values are wanted.
    fn wants_values(&self) -> bool {
        false
    }
    /// A subject that reached the first step and no other, when [`Self::wants_times`] is false.
    fn entered(&mut self) {}
    /// Whether it matters who entered and when, and not only how many.
    fn wants_times(&self) -> bool {
        true
    }
    /// Events read, and the values met, when a thread is done.
    fn done(&mut self, scanned: u64, values: Values);
}

/// Adds up.
pub(super) struct Adding {
    sums: Sums,
}

impl Adding {
    pub(super) fn new(definition: &FunnelDefinition) -> Self {
        Self {
            sums: Sums::of(definition),
        }
    }

    pub(super) fn into_sums(self) -> Sums {
        self.sums
    }
}

impl Collect for Adding {
    fn subject(&mut self, judged: Judged<'_>) {
        self.sums.add(judged.verdict);
    }

    fn value(&mut self, values: &mut Values, value: u32, attempt: &Attempt) {
        values.add(value, &self.sums.steps, attempt);
    }

    fn wants_values(&self) -> bool {
        true
    }

    fn entered(&mut self) {
        self.sums.whole.add_entered();
    }

    fn wants_times(&self) -> bool {
        false
    }

    fn done(&mut self, scanned: u64, values: Values) {
        self.sums.scanned += scanned;
        for (value, tally) in values.into_tallies() {
            self.sums.breakdown.insert(value, tally);
        }
    }
}

/// Hands subjects to a visitor.
pub(super) struct Visiting<V>(pub(super) V);

impl<V: FnMut(Judged<'_>) + Send> Collect for Visiting<V> {
    fn subject(&mut self, judged: Judged<'_>) {
        (self.0)(judged);
    }

    fn done(&mut self, _: u64, _: Values) {}
}

/// What one tenant's plain scan finds.
struct OfTenant<'a, C> {
    tenant: usize,
    collect: &'a mut C,
}

impl<C: Collect> plain::Found for OfTenant<'_, C> {
    #[inline]
    fn subject(&mut self, user: u32, verdict: &Verdict) {
        self.collect.subject(Judged {
            tenant: self.tenant,
            user,
            session: "",
            verdict,
        });
    }

    #[inline]
    fn entered(&mut self) {
        self.collect.entered();
    }

    fn wants_times(&self) -> bool {
        self.collect.wants_times()
    }
}

/// Scans all tenants; returns what each thread collected.
pub(super) fn scan<C: Collect>(
    definition: &FunnelDefinition,
    tenants: &[TenantEvents<'_>],
    threads: usize,
    collector: impl Fn() -> C + Sync,
) -> Result<Vec<C>, ColumnarError> {
    let wanted = wanted_properties(definition);
    let rules: Vec<Rules> = tenants
        .iter()
        .map(|events| Rules::new(definition, events.names, &wanted))
        .collect();
    let stretches = Stretches::new(tenants);
    let work = || -> Result<C, ColumnarError> {
        let mut worker = Worker::new(definition, &wanted, collector());
        for (index, (events, rules)) in tenants.iter().zip(&rules).enumerate() {
            worker.tenant(index, events, rules, &stretches)?;
        }
        Ok(worker.finish())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut collected = vec![work()?];
        for other in others {
            match other.join() {
                Ok(part) => collected.push(part?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(collected)
    })
}

/// Which users nobody has looked at yet, per tenant.
struct Stretches(Vec<(AtomicUsize, Vec<u32>)>);

impl Stretches {
    fn new(tenants: &[TenantEvents<'_>]) -> Self {
        let edges = |events: &TenantEvents<'_>| {
            // Along the blocks of the largest segment, so that few blocks are read twice.
            let largest = events.segments.iter().map(|segment| segment.segment);
            let largest = largest.max_by_key(|segment| segment.meta().events);
            let blocks = largest.map_or(0, Segment::blocks);
            let inner = (BLOCKS..blocks).step_by(BLOCKS);
            let inner = inner.filter_map(|block| Some(largest?.first_user(block)));
            let edges: Vec<u32> = std::iter::once(0)
                .chain(inner)
                .chain([events.users])
                .collect();
            (AtomicUsize::new(0), edges)
        };
        Self(tenants.iter().map(edges).collect())
    }

    fn claim(&self, tenant: usize) -> Option<(u32, u32)> {
        let (next, edges) = self.0.get(tenant)?;
        let index = next.fetch_add(1, Ordering::Relaxed);
        Some((*edges.get(index)?, *edges.get(index + 1)?))
    }
}

/// One thread.
struct Worker<'a, C> {
    definition: &'a FunnelDefinition,
    wanted: &'a [String],
    shape: Shape,
    matcher: Matcher,
    plain: plain::Plain,
    values: Values,
    sessions: Values,
    collect: C,
    marks: Vec<Mark>,
    verdict: Verdict,
    scanned: u64,
}

impl<'a, C: Collect> Worker<'a, C> {
    fn new(definition: &'a FunnelDefinition, wanted: &'a [String], collect: C) -> Self {
        let shape = Shape::of(definition);
        let column = |name: &String| wanted.iter().position(|column| column == name);
        let columns = definition
            .breakdown
            .iter()
            .flat_map(|breakdown| &breakdown.properties);
        let columns = if collect.wants_values() {
            columns.filter_map(column).collect()
        } else {
            Vec::new()
        };
        let session = wanted.iter().position(|name| name == "session");
        let wants = Wants {
            attempts: wants_attempts(definition),
        };
        Self {
            matcher: Matcher::new(&shape, wants),
            plain: plain::Plain::new(&shape),
            shape,
            definition,
            wanted,
            values: Values::new(columns, 0),
            sessions: Values::new(session.into_iter().collect(), 0),
            collect,
            marks: Vec::new(),
            verdict: Verdict::default(),
            scanned: 0,
        }
    }

    fn tenant(
        &mut self,
        tenant: usize,
        events: &TenantEvents<'_>,
        rules: &Rules,
        stretches: &Stretches,
    ) -> Result<(), ColumnarError> {
        self.values.turn_to(events.segments.len());
        self.sessions.turn_to(events.segments.len());
        let is_plain = plain::suits(self.definition) && rules.are_plain();
        let wanted = plain::Wanted::new(&rules.kinds(), self.definition.time_range_ns());
        let mut gatherer = Gatherer::new(self.definition, &self.shape, events, rules, self.wanted);
        while let Some(users) = stretches.claim(tenant) {
            if is_plain {
                let collect = &mut self.collect;
                let mut found = OfTenant { tenant, collect };
                self.scanned += self.plain.scan(events, &wanted, users, &mut found)?;
                continue;
            }
            gatherer.gather(users, &mut self.values, &mut self.sessions)?;
            let entries = std::mem::take(&mut gatherer.entries);
            for subject in entries
                .chunk_by(|one, other| (one.user, one.session) == (other.user, other.session))
            {
                self.judge(tenant, subject);
            }
            gatherer.entries = entries;
        }
        self.scanned += gatherer.scanned;
        Ok(())
    }

    fn judge(&mut self, tenant: usize, subject: &[Entry]) {
        let Some(first) = subject.first() else {
            return;
        };
        self.marks.clear();
        self.marks.extend(subject.iter().map(mark));
        self.matcher.judge(&self.marks, &mut self.verdict);
        if !self.verdict.counted.is_empty() {
            self.collect.subject(Judged {
                tenant,
                user: first.user,
                session: self.sessions.text(first.session),
                verdict: &self.verdict,
            });
        }
        if !self.collect.wants_values() {
            return;
        }
        match self
            .definition
            .breakdown
            .as_ref()
            .map(|breakdown| breakdown.attribution)
        {
            None => {}
            Some(Attribution::AllSteps) => self.judge_per_value(subject),
            Some(attribution) => self.attribute(subject, attribution),
        }
    }

    fn attribute(&mut self, subject: &[Entry], attribution: Attribution) {
        let verdict = std::mem::take(&mut self.verdict);
        for attempt in &verdict.counted {
            let value = match attribution {
                Attribution::FirstTouch => Some(self.touched(subject.iter())),
                Attribution::LastTouch => Some(self.touched(subject.iter().rev())),
                Attribution::Step(step) => attempt
                    .time(step - 1)
                    .and_then(|at_ns| self.value_at(subject, at_ns, step - 1)),
                Attribution::AllSteps => None,
            };
            if let Some(value) = value {
                self.collect.value(&mut self.values, value, attempt);
            }
        }
        self.verdict = verdict;
    }

    /// The value of the first event with one that fills a step; of several at its instant, the smallest.
    fn touched<'e, I: Iterator<Item = &'e Entry>>(&self, events: I) -> u32 {
        let mut found: Option<(i64, u32)> = None;
        for entry in events.filter(|entry| entry.kind.fills != 0 && entry.value != EMPTY) {
            match found {
                Some((at_ns, _)) if at_ns != entry.at_ns => break,
                Some((at_ns, value)) => {
                    found = Some((at_ns, self.values.smaller(value, entry.value)));
                }
                None => found = Some((entry.at_ns, entry.value)),
            }
        }
        found.map_or(EMPTY, |(_, value)| value)
    }

    fn value_at(&self, subject: &[Entry], at_ns: i64, step: usize) -> Option<u32> {
        let any = self.definition.order == Order::Unordered;
        let start = subject.partition_point(|entry| entry.at_ns < at_ns);
        let instant = subject
            .iter()
            .skip(start)
            .take_while(|entry| entry.at_ns == at_ns);
        let fills = instant.filter(|entry| {
            if any {
                entry.kind.fills != 0
            } else {
                entry.kind.fills >> step & 1 == 1
            }
        });
        fills
            .map(|entry| entry.value)
            .reduce(|one, other| self.values.smaller(one, other))
    }

    fn judge_per_value(&mut self, subject: &[Entry]) {
        let filling = subject.iter().filter(|entry| entry.kind.fills != 0);
        let mut values: Vec<u32> = filling.map(|entry| entry.value).collect();
        values.sort_unstable();
        values.dedup();
        let mut verdict = Verdict::default();
        for value in values {
            self.marks.clear();
            let of_value = subject.iter().filter(|entry| entry.value == value);
            self.marks.extend(of_value.map(mark));
            self.matcher.judge(&self.marks, &mut verdict);
            for attempt in &verdict.counted {
                self.collect.value(&mut self.values, value, attempt);
            }
        }
    }

    fn finish(mut self) -> C {
        self.collect.done(self.scanned, self.values);
        self.collect
    }
}

const fn mark(entry: &Entry) -> Mark {
    Mark {
        at_ns: entry.at_ns,
        kind: entry.kind,
    }
}
