//! The slow truth for `unordered` and `clickhouse` order.
//!
//! Owns: growing a matched set event by event, and every chain of `windowFunnel`. Refuses: being clever.

use super::oracle::Subject;
use crate::definition::Mode;
use crate::shape::Attempt;

impl Subject<'_> {
    pub(super) fn voids(&self, at: i64) -> bool {
        !self.mixed(at) && self.instants[&at].iter().any(|kind| kind.excludes != 0)
    }

    pub(super) fn unordered(&self, start: i64) -> Option<Attempt> {
        let steps = self.shape.steps;
        if self.voids(start) || self.instants[&start].iter().all(|kind| kind.fills == 0) {
            return None;
        }
        let mut taken: Vec<u64> = Vec::new();
        let mut times_ns = Vec::new();
        for (at, kinds) in self.instants.range(start..) {
            if at - start > self.shape.window_ns || times_ns.len() == steps {
                break;
            }
            if self.voids(*at) {
                return None;
            }
            for kind in kinds {
                taken.push(kind.fills);
                if matchable(&taken, 0, steps) {
                    times_ns.push(Some(*at));
                } else {
                    taken.pop();
                }
            }
        }
        let level = times_ns.len();
        times_ns.resize(steps, None);
        Some(Attempt { level, times_ns })
    }

    pub(super) fn unordered_totals(&self) -> Vec<Attempt> {
        let mut entries = Vec::new();
        let mut next = i64::MIN;
        let starts = |next: i64| {
            let mut later = self.instants.range(next..).map(|(at, _)| *at);
            later
                .find(|at| !self.voids(*at) && self.instants[at].iter().any(|kind| kind.fills != 0))
        };
        while let Some(start) = starts(next) {
            let end = start + self.shape.window_ns;
            let whole = self.unordered(start);
            next = match &whole {
                Some(entry) if entry.level == self.shape.steps => {
                    entry.times_ns[entry.level - 1].unwrap() + 1
                }
                Some(_) => end + 1,
                None => {
                    *self
                        .instants
                        .range(start + 1..=end)
                        .find(|(at, _)| self.voids(**at))
                        .unwrap()
                        .0
                }
            };
            entries.extend(whole);
        }
        entries
    }

    pub(super) fn window_funnel(&self) -> usize {
        let has = |mode| self.shape.modes.contains(&mode);
        // (time, condition or 0, row)
        let mut entries: Vec<(i64, usize, usize)> = Vec::new();
        let mut rows = self.marks.clone();
        rows.sort();
        for (row, mark) in rows.iter().enumerate() {
            let met = (1..=self.shape.steps).filter(|step| mark.kind.fills >> (step - 1) & 1 == 1);
            entries.extend(met.map(|step| (mark.at_ns, step, row)));
            if has(Mode::StrictOrder) && mark.kind.fills == 0 {
                entries.push((mark.at_ns, 0, row));
            }
        }
        entries.sort_unstable();
        // For each level all chains: times and rows. Without strict_once only the last chain is kept.
        let mut chains: Vec<Vec<Vec<(i64, usize)>>> = vec![vec![]; self.shape.steps + 1];
        for (at, step, row) in entries {
            let begun = !chains[1].is_empty();
            if step == 0 {
                if begun {
                    break;
                }
                continue;
            }
            if step == 1 {
                if !has(Mode::StrictOnce) {
                    chains[1].clear();
                }
                chains[1].push(vec![(at, row)]);
                continue;
            }
            if has(Mode::StrictDeduplication) && !chains[step].is_empty() {
                break;
            }
            if has(Mode::StrictOrder) && begun && chains[step - 1].is_empty() {
                if has(Mode::AllowReentry) {
                    continue;
                }
                break;
            }
            let mut longer: Vec<Vec<(i64, usize)>> = Vec::new();
            for chain in &chains[step - 1] {
                let used = has(Mode::StrictOnce) && chain.iter().any(|entry| entry.1 == row);
                let early = has(Mode::StrictIncrease) && chain.last().unwrap().0 >= at;
                if at - chain[0].0 <= self.shape.window_ns && !used && !early {
                    let mut chain = chain.clone();
                    chain.push((at, row));
                    longer.push(chain);
                }
            }
            if !longer.is_empty() && !has(Mode::StrictOnce) {
                chains[step].clear();
            }
            chains[step].extend(longer);
            if step == self.shape.steps && !chains[step].is_empty() {
                break;
            }
        }
        (0..=self.shape.steps)
            .rfind(|step| !chains[*step].is_empty())
            .unwrap_or(0)
    }
}

fn matchable(events: &[u64], used: u64, steps: usize) -> bool {
    let Some((event, rest)) = events.split_first() else {
        return true;
    };
    (0..steps).any(|step| {
        event >> step & 1 == 1 && used >> step & 1 == 0 && matchable(rest, used | 1 << step, steps)
    })
}
