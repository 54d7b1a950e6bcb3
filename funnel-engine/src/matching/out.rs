//! Handing over what a subject did, without an allocation per attempt.
//!
//! Owns: the lists of a verdict, the spare attempts that are used again, and the choice among attempts. Refuses: finding
//! attempts.
//!
//! Bounds: 1,024 spare attempts are kept.

use crate::shape::{Attempt, Verdict};

const SPARE: usize = 1024;

/// The verdict that is being written.
#[derive(Debug)]
pub(super) struct Out<'a> {
    verdict: &'a mut Verdict,
    spare: &'a mut Vec<Attempt>,
    attempts: bool,
}

impl<'a> Out<'a> {
    /// An empty verdict. `attempts`: every attempt is wanted, not only the one that counts.
    pub(super) fn new(
        verdict: &'a mut Verdict,
        spare: &'a mut Vec<Attempt>,
        attempts: bool,
    ) -> Self {
        let mut out = Self {
            verdict,
            spare,
            attempts,
        };
        out.clear();
        out
    }

    /// Whether every attempt is wanted.
    pub(super) const fn wants_attempts(&self) -> bool {
        self.attempts
    }

    /// Adds an attempt whose times are written by `write`: to the list of attempts if that is wanted, otherwise as one
    /// that counts.
    pub(super) fn attempt(
        &mut self,
        level: usize,
        steps: usize,
        write: impl FnOnce(&mut [Option<i64>]),
    ) {
        let mut attempt = self.spare.pop().unwrap_or_default();
        attempt.level = level;
        attempt.times_ns.clear();
        attempt.times_ns.resize(steps, None);
        write(&mut attempt.times_ns);
        if self.attempts {
            self.verdict.attempts.push(attempt);
        } else {
            self.verdict.counted.push(attempt);
        }
    }

    /// Adds one that counts and is no attempt: its times are not known.
    pub(super) fn count(&mut self, level: usize, steps: usize) {
        let mut counted = self.spare.pop().unwrap_or_default();
        counted.level = level;
        counted.times_ns.clear();
        counted.times_ns.resize(steps, None);
        self.verdict.counted.push(counted);
    }

    /// The attempts so far, for changes.
    pub(super) const fn attempts(&mut self) -> &mut Vec<Attempt> {
        &mut self.verdict.attempts
    }

    /// Of the attempts so far, in order of their starts, the one that counts: at the highest level, the earliest there,
    /// of those the latest start. If none got as far as `furthest`, the subject leaves the funnel.
    pub(super) fn choose(&mut self, furthest: usize) {
        let reached = |attempt: &Attempt| {
            attempt
                .level
                .checked_sub(1)
                .and_then(|last| attempt.time(last))
        };
        let candidates = self
            .verdict
            .attempts
            .iter()
            .filter(|attempt| attempt.level == furthest && furthest > 0);
        // `reduce` goes by start, so that of equals the last one stays.
        let chosen = candidates.reduce(|best, attempt| {
            if reached(attempt) > reached(best) {
                best
            } else {
                attempt
            }
        });
        if let Some(chosen) = chosen {
            let mut counted = self.spare.pop().unwrap_or_default();
            counted.level = chosen.level;
            counted.times_ns.clone_from(&chosen.times_ns);
            self.verdict.counted.push(counted);
        } else {
            self.clear();
        }
    }

    /// Every entry counts and is an attempt too.
    pub(super) fn count_all(&mut self) {
        if self.attempts {
            self.verdict.counted.clone_from(&self.verdict.attempts);
        }
    }

    fn clear(&mut self) {
        for list in [&mut self.verdict.counted, &mut self.verdict.attempts] {
            let room = SPARE.saturating_sub(self.spare.len());
            self.spare.extend(list.drain(..).take(room));
        }
    }
}
