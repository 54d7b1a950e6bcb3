//! Every attempt of the plain case, for trends.
//!
//! Owns: all starts of a subject at once. An older start never stands behind a newer one, so those at the same step are
//! neighbours, and a step moves them together. Refuses: optional steps, gap limits, exclusions, `strict`.
//!
//! Cost: O(1) per event and step it can fill, plus one write per step of every attempt, which the answer needs anyway.
//! Bounds: one attempt per instant that can start one, each with a time for every step.

use crate::matching::bits::{PerStep, has};
use crate::matching::instants::Rules;
use crate::matching::out::Out;
use crate::matching::ties::{Group, Matching, climb, group, instants};
use crate::shape::{Attempt, Mark};

/// The starts of one subject.
#[derive(Debug)]
pub(super) struct Starts {
    /// For each step: all attempts before this one have filled it, or their window is over.
    past: PerStep<usize>,
    scratch: Vec<u64>,
    groups: Vec<Group>,
    matching: Matching,
}

impl Default for Starts {
    fn default() -> Self {
        Self {
            past: PerStep::of(0),
            scratch: Vec::new(),
            groups: Vec::new(),
            matching: Matching::default(),
        }
    }
}

impl Starts {
    /// Finds every attempt and the one that counts.
    pub(super) fn judge(&mut self, rules: &Rules, marks: &[Mark], out: &mut Out<'_>) {
        self.past = PerStep::of(0);
        // All attempts before this one are out of their window.
        let mut over = 0;
        for marks in instants(marks) {
            let Some(at) = marks.first().map(|mark| mark.at_ns) else {
                continue;
            };
            let fills = marks.iter().fold(0, |all, mark| all | mark.kind.fills) & rules.all;
            if fills == 0 {
                continue;
            }
            if has(fills, 0) {
                // It has filled nothing yet; the instant moves it like the others.
                let begun = |times: &mut [Option<i64>]| {
                    times.iter_mut().take(1).for_each(|time| *time = Some(at));
                };
                out.attempt(0, rules.steps, begun);
            }
            let attempts = out.attempts();
            let expired = |attempt: &Attempt| {
                attempt
                    .time(0)
                    .is_some_and(|start| at.saturating_sub(start) > rules.window)
            };
            while attempts.get(over).is_some_and(expired) {
                over += 1;
            }
            self.go_on(rules, marks, fills, at, over, attempts);
        }
        let furthest = out.attempts().iter().map(|attempt| attempt.level).max();
        out.choose(furthest.unwrap_or(0));
    }

    fn go_on(
        &mut self,
        rules: &Rules,
        marks: &[Mark],
        fills: u64,
        at: i64,
        over: usize,
        attempts: &mut [Attempt],
    ) {
        let crowd = marks.len() > 1;
        if crowd {
            self.groups.clear();
            group(
                marks.iter().map(|mark| mark.kind.fills & rules.all),
                &mut self.scratch,
                &mut self.groups,
            );
        }
        // Attempts that have filled `level` steps, from the furthest down so that none moves twice.
        for level in (0..rules.steps).rev().filter(|level| has(fills, *level)) {
            let begin = self.past.get(level).max(over);
            let end = if level == 0 {
                attempts.len()
            } else {
                self.past.get(level - 1)
            };
            if begin >= end {
                continue;
            }
            let next = if crowd {
                climb(&mut self.matching, &self.groups, level, rules.steps)
            } else {
                level + 1
            };
            for attempt in attempts.get_mut(begin..end).into_iter().flatten() {
                attempt.level = next;
                for time in attempt.times_ns.iter_mut().take(next).skip(level) {
                    *time = Some(at);
                }
            }
            for step in level..next {
                self.past.set(step, end);
            }
        }
    }
}
