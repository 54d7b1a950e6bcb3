//! The slow truth for `ordered` and `strict`: tries every way, word by word as the rules say.
//!
//! Owns: exponential search over a handful of events. Refuses: being clever.

use std::collections::BTreeMap;

use crate::definition::{Count, Order};
use crate::shape::{Attempt, Kind, Mark, Shape, Verdict};

/// A list of filled steps (from 1), times and events.
type Way = Vec<(usize, i64, usize)>;

pub(super) struct Subject<'a> {
    pub(super) shape: &'a Shape,
    pub(super) marks: Vec<Mark>,
    pub(super) instants: BTreeMap<i64, Vec<Kind>>,
}

pub(super) fn judge(shape: &Shape, marks: &[Mark]) -> Verdict {
    let marks: Vec<Mark> = marks
        .iter()
        .copied()
        .filter(|mark| shape.wants(mark.kind))
        .collect();
    let mut instants: BTreeMap<i64, Vec<Kind>> = BTreeMap::new();
    for mark in &marks {
        instants.entry(mark.at_ns).or_default().push(mark.kind);
    }
    let subject = Subject {
        shape,
        marks,
        instants,
    };
    match (shape.order, shape.count) {
        (Order::Clickhouse, _) => {
            let level = subject.window_funnel();
            let attempt = Attempt {
                level,
                times_ns: vec![None; shape.steps],
            };
            Verdict {
                counted: if level > 0 { vec![attempt] } else { vec![] },
                attempts: vec![],
            }
        }
        (Order::Unordered, Count::Totals) => all(subject.unordered_totals()),
        (Order::Unordered, _) => {
            let attempts: Vec<Attempt> = subject
                .instants
                .keys()
                .filter_map(|at| subject.unordered(*at))
                .collect();
            let level = attempts
                .iter()
                .map(|attempt| attempt.level)
                .max()
                .unwrap_or(0);
            best(&attempts, level)
        }
        (_, Count::Totals) => all(subject.totals()),
        _ => subject.users(),
    }
}

fn all(entries: Vec<Attempt>) -> Verdict {
    Verdict {
        attempts: entries.clone(),
        counted: entries,
    }
}

fn best(attempts: &[Attempt], level: usize) -> Verdict {
    let key = |attempt: &Attempt| {
        (
            attempt.times_ns[level - 1],
            std::cmp::Reverse(attempt.times_ns.iter().flatten().next().copied()),
        )
    };
    let chosen = attempts
        .iter()
        .filter(|attempt| level > 0 && attempt.level == level)
        .min_by_key(|attempt| key(attempt));
    match chosen {
        None => Verdict::default(),
        Some(chosen) => Verdict {
            counted: vec![chosen.clone()],
            attempts: attempts.to_vec(),
        },
    }
}

fn times(way: &Way, steps: usize) -> Vec<Option<i64>> {
    (1..=steps)
        .map(|step| {
            way.iter()
                .find(|filled| filled.0 == step)
                .map(|filled| filled.1)
        })
        .collect()
}

/// Earliest at its last step, then lexicographically smallest with unfilled as infinity.
fn pick(ways: &[&Way], steps: usize) -> Attempt {
    let way = ways
        .iter()
        .min_by_key(|way| {
            let list: Vec<i64> = times(way, steps)
                .iter()
                .map(|time| time.unwrap_or(i64::MAX))
                .collect();
            (way.last().unwrap().1, list)
        })
        .unwrap();
    Attempt {
        level: way.last().unwrap().0,
        times_ns: times(way, steps),
    }
}

impl Subject<'_> {
    pub(super) fn mixed(&self, at: i64) -> bool {
        let kinds = &self.instants[&at];
        kinds.iter().any(|kind| *kind != kinds[0]) && kinds.iter().any(|kind| kind.fills != 0)
    }

    fn excludes(&self, at: i64, step: usize) -> bool {
        let kinds = &self.instants[&at];
        let mut ranges = self.shape.exclusions.iter().enumerate();
        ranges.any(|(number, range)| {
            kinds.iter().any(|kind| kind.excludes >> number & 1 == 1)
                && range.from_step <= step
                && step < range.to_step
        })
    }

    fn starts(&self) -> Vec<i64> {
        let starts = self
            .instants
            .iter()
            .filter(|(_, kinds)| kinds.iter().any(|kind| kind.fills & 1 == 1));
        starts.map(|(at, _)| *at).collect()
    }

    fn ways(&self, start: i64) -> Vec<Way> {
        let mut ways = Vec::new();
        for (event, mark) in self.marks.iter().enumerate() {
            if mark.at_ns == start && mark.kind.fills & 1 == 1 {
                self.grow(vec![(1, start, event)], &mut ways);
            }
        }
        ways
    }

    fn grow(&self, way: Way, ways: &mut Vec<Way>) {
        let (last, time, _) = *way.last().unwrap();
        for step in last + 1..=self.shape.steps {
            for (event, mark) in self.marks.iter().enumerate() {
                let gap = mark.at_ns.saturating_sub(time);
                let ended = self.shape.order == Order::Strict
                    && self
                        .instants
                        .keys()
                        .any(|at| time < *at && *at < mark.at_ns && !self.mixed(*at));
                if mark.kind.fills >> (step - 1) & 1 == 1
                    && mark.at_ns >= time
                    && way.iter().all(|filled| filled.2 != event)
                    && mark.at_ns - way[0].1 <= self.shape.window_ns
                    && gap >= self.shape.not_before_ns[step - 1]
                    && gap <= self.shape.within_ns[step - 1]
                    && !ended
                {
                    let mut longer = way.clone();
                    longer.push((step, mark.at_ns, event));
                    self.grow(longer, ways);
                }
            }
            if self.shape.optional >> (step - 1) & 1 == 0 {
                break;
            }
        }
        ways.push(way);
    }

    /// Tainted by an instant before `before`.
    fn tainted(&self, way: &Way, before: i64) -> bool {
        let start = way[0].1;
        self.instants.keys().any(|at| {
            let inside = start < *at && at - start <= self.shape.window_ns && *at < before;
            let own = way.iter().any(|filled| filled.1 == *at);
            let stands = way.iter().rfind(|filled| filled.1 < *at);
            inside && !own && !self.mixed(*at) && self.excludes(*at, stands.unwrap().0)
        })
    }

    fn users(&self) -> Verdict {
        let mut attempts = Vec::new();
        let mut furthest = 0;
        for start in self.starts() {
            let ways = self.ways(start);
            let level = ways.iter().map(|way| way.last().unwrap().0).max().unwrap();
            furthest = furthest.max(level);
            let clean: Vec<&Way> = ways
                .iter()
                .filter(|way| way.last().unwrap().0 == level && !self.tainted(way, i64::MAX))
                .collect();
            if !clean.is_empty() {
                attempts.push(pick(&clean, self.shape.steps));
            }
        }
        best(&attempts, furthest)
    }

    fn totals(&self) -> Vec<Attempt> {
        let mut entries = Vec::new();
        let mut next = i64::MIN;
        while let Some(start) = self.starts().into_iter().find(|start| *start >= next) {
            let ways = self.ways(start);
            let (entry, from) = self.entry(start, &ways);
            entries.extend(entry);
            next = from;
        }
        entries
    }

    fn entry(&self, start: i64, ways: &[Way]) -> (Option<Attempt>, i64) {
        let steps = self.shape.steps;
        let level = |way: &Way| way.last().unwrap().0;
        let time = |way: &Way| way.last().unwrap().1;
        let inside = self
            .instants
            .keys()
            .copied()
            .filter(|at| *at >= start && at - start <= self.shape.window_ns);
        for at in inside {
            let complete: Vec<&Way> = ways
                .iter()
                .filter(|way| {
                    level(way) == steps && time(way) == at && !self.tainted(way, i64::MAX)
                })
                .collect();
            if !complete.is_empty() {
                return (Some(pick(&complete, steps)), at + 1);
            }
            if at == start {
                continue;
            }
            // Untainted before this instant.
            let pure: Vec<&Way> = ways.iter().filter(|way| !self.tainted(way, at)).collect();
            let furthest = pure
                .iter()
                .filter(|way| time(way) < at)
                .map(|way| level(way))
                .max()
                .unwrap();
            let further = pure
                .iter()
                .any(|way| time(way) == at && level(way) > furthest);
            if !self.mixed(at) && self.excludes(at, furthest) && !further {
                return (None, at);
            }
            let going = |way: &&&Way| {
                !self
                    .instants
                    .keys()
                    .any(|other| time(way) < *other && *other <= at && !self.mixed(*other))
            };
            let clean: Vec<&Way> = ways
                .iter()
                .filter(|way| time(way) <= at && !self.tainted(way, at + 1))
                .collect();
            if self.shape.order == Order::Strict && clean.iter().filter(going).count() == 0 {
                let furthest = clean.iter().map(|way| level(way)).max().unwrap();
                let list: Vec<&Way> = clean
                    .into_iter()
                    .filter(|way| level(way) == furthest)
                    .collect();
                return (Some(pick(&list, steps)), at);
            }
        }
        let furthest = ways.iter().map(level).max().unwrap();
        let clean: Vec<&Way> = ways
            .iter()
            .filter(|way| level(way) == furthest && !self.tainted(way, i64::MAX))
            .collect();
        let entry = (!clean.is_empty()).then(|| pick(&clean, steps));
        (entry, start + self.shape.window_ns + 1)
    }
}
