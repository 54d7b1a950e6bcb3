//! What a subject did in each result window, found by trying every way: slow, and straight from docs/funnels.md.

use std::collections::BTreeMap;

use crate::{
    definition::Order,
    live::Tumbling,
    shape::{Mark, Shape},
};

/// A way: steps (from 1) with the times at which they were filled.
type Way = Vec<(usize, i64)>;

/// Everything that is said of one subject, by trying.
pub(super) struct Trying<'a> {
    pub(super) shape: &'a Shape,
    pub(super) marks: &'a [Mark],
}

impl Trying<'_> {
    fn is_mixed(&self, at_ns: i64) -> bool {
        let there = || self.marks.iter().filter(|mark| mark.at_ns == at_ns);
        let alike = there().all(|mark| Some(mark.kind) == there().next().map(|first| first.kind));
        !alike && there().any(|mark| mark.kind.fills != 0)
    }

    fn ways(&self, start: i64) -> Vec<Way> {
        let mut ways = Vec::new();
        for (index, mark) in self.marks.iter().enumerate() {
            if mark.at_ns == start && mark.kind.fills & 1 == 1 {
                self.extend(&mut vec![(1, start)], &mut vec![index], &mut ways);
            }
        }
        ways
    }

    fn extend(&self, way: &mut Way, used: &mut Vec<usize>, ways: &mut Vec<Way>) {
        ways.push(way.clone());
        let (last, last_at) = way[way.len() - 1];
        for step in last + 1..=self.shape.steps {
            let skipped = (last + 1..step).all(|between| self.shape.is_optional(between - 1));
            if !skipped {
                break;
            }
            for (index, mark) in self.marks.iter().enumerate() {
                let gap = mark.at_ns - last_at;
                let fits = mark.kind.fills >> (step - 1) & 1 == 1
                    && !used.contains(&index)
                    && gap >= self.shape.not_before_ns[step - 1].max(0)
                    && gap <= self.shape.within_ns[step - 1]
                    && mark.at_ns - way[0].1 <= self.shape.window_ns
                    && !self.is_broken(last_at, mark.at_ns);
                if fits {
                    way.push((step, mark.at_ns));
                    used.push(index);
                    self.extend(way, used, ways);
                    way.pop();
                    used.pop();
                }
            }
        }
    }

    fn is_broken(&self, from: i64, to: i64) -> bool {
        let mut between = self
            .marks
            .iter()
            .filter(|mark| from < mark.at_ns && mark.at_ns < to);
        self.shape.order == Order::Strict && between.any(|mark| !self.is_mixed(mark.at_ns))
    }

    fn is_tainted(&self, way: &Way) -> bool {
        self.marks.iter().any(|mark| {
            let at = mark.at_ns;
            let stands = way.iter().rfind(|(_, filled)| *filled < at);
            let Some((step, _)) = stands else {
                return false;
            };
            let takes_one = way.iter().any(|(_, filled)| *filled == at);
            let hit = self
                .shape
                .exclusions
                .iter()
                .enumerate()
                .any(|(index, range)| {
                    mark.kind.excludes >> index & 1 == 1
                        && (range.from_step..range.to_step).contains(step)
                });
            hit && !takes_one && !self.is_mixed(at) && at <= way[0].1 + self.shape.window_ns
        })
    }

    /// Level and, if clean, when each step was filled.
    fn attempt(&self, start: i64) -> (usize, Option<Vec<i64>>) {
        let ways = self.ways(start);
        let level = ways.iter().map(|way| way[way.len() - 1].0).max().unwrap();
        let clean = ways
            .iter()
            .filter(|way| way[way.len() - 1].0 == level && !self.is_tainted(way));
        let times = clean.map(|way| {
            let time = |step| {
                way.iter()
                    .find(|(filled, _)| *filled == step)
                    .map_or(i64::MAX, |(_, at)| *at)
            };
            let times: Vec<i64> = (1..=level).map(time).collect();
            (times[level - 1], times)
        });
        (level, times.min().map(|(_, times)| times))
    }

    /// The steps that count in each window.
    pub(super) fn windows(&self, tumbling: Tumbling) -> BTreeMap<i64, u64> {
        let mut starts: Vec<i64> = self
            .marks
            .iter()
            .filter(|mark| mark.kind.fills & 1 == 1)
            .map(|mark| mark.at_ns)
            .collect();
        starts.dedup();
        let mut windows = BTreeMap::new();
        for window in starts.chunk_by(|one, other| tumbling.start(*one) == tumbling.start(*other)) {
            let attempts = window.iter().map(|start| (*start, self.attempt(*start)));
            let attempts: Vec<_> = attempts.collect();
            let furthest = attempts.iter().map(|(_, (level, _))| *level).max().unwrap();
            let best = attempts
                .iter()
                .filter(|(_, (level, _))| *level == furthest)
                .filter_map(|(start, (_, times))| {
                    Some((times.as_ref()?[furthest - 1], -start, times.as_ref()?))
                })
                .min();
            if let Some((_, _, times)) = best {
                let counts =
                    |step: &usize| !self.shape.is_optional(*step) || times[*step] != i64::MAX;
                let bits = (0..furthest).filter(counts).map(|step| 1_u64 << step).sum();
                windows.insert(tumbling.start(window[0]), bits);
            }
        }
        windows
    }
}
