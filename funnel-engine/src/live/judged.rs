//! Funnels that one number per level cannot describe: what a subject's open marks come to is judged anew.
//!
//! Owns: which marks have to be looked at again when one comes in, and how a window or an entry is cut out of them so
//! that the judge's answer is the batch answer for it. Refuses: judging.

use super::{
    Judge,
    plain::{Step, change},
    state::{Counted, Known},
    window::{Tumbling, Windows},
};
use crate::{
    definition::{Count, Order},
    shape::{Attempt, Kind, Mark, Shape, Verdict},
};

/// A judge, with what it needs around it.
pub(super) struct Bench {
    shape: Shape,
    tumbling: Tumbling,
    judge: Box<dyn Judge + Send>,
    /// Kept to be used again.
    verdict: Verdict,
    /// Kept to be used again.
    cut: Vec<Mark>,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl Bench {
    pub(super) fn new(shape: Shape, tumbling: Tumbling, judge: Box<dyn Judge + Send>) -> Self {
        Self {
            shape,
            tumbling,
            judge,
            verdict: Verdict::default(),
            cut: Vec::new(),
        }
    }

    pub(super) const fn shape(&self) -> &Shape {
        &self.shape
    }

    fn is_totals(&self) -> bool {
        self.shape.count == Count::Totals
    }

    /// What counts among marks (sorted, and all there are from `from` on): in the windows that begin in
    /// `from..=last_window`; for totals, every entry.
    fn count(&mut self, marks: &[Mark], from: i64, last_window: i64) -> Counted {
        if self.is_totals() {
            return self.entries(between(marks, from, i64::MAX));
        }
        let end = self.tumbling.end(last_window).saturating_sub(1);
        let marks = between(marks, from, end.saturating_add(self.shape.window_ns));
        if self.shape.exclusions.is_empty() || self.shape.order == Order::Unordered {
            return self.windows_at_once(marks, end);
        }
        self.windows_one_by_one(marks, end)
    }

    fn hear(&mut self, marks: &[Mark]) {
        self.verdict.counted.clear();
        self.verdict.attempts.clear();
        self.judge.judge(marks, &mut self.verdict);
    }

    fn entries(&mut self, marks: &[Mark]) -> Counted {
        self.hear(marks);
        let entries = self.verdict.counted.iter();
        entries
            .filter_map(|entry| Some((entry.time(0)?, self.bits(entry))))
            .collect()
    }

    /// Without tainted attempts, what a window comes to is the best of the attempts that start in it.
    fn windows_at_once(&mut self, marks: &[Mark], end: i64) -> Counted {
        self.hear(marks);
        let mut best: Vec<(i64, &Attempt)> = Vec::new();
        for attempt in &self.verdict.attempts {
            let Some(start) = attempt.time(0).filter(|start| *start <= end) else {
                continue;
            };
            let window = self.tumbling.start(start);
            match best.last_mut() {
                Some((last, other)) if *last == window => {
                    if rank(attempt) >= rank(other) {
                        *other = attempt;
                    }
                }
                _ => best.push((window, attempt)),
            }
        }
        best.iter()
            .map(|(window, attempt)| (*window, self.bits(attempt)))
            .collect()
    }

    /// With exclusions, tainted attempts that start in a window may take the subject out of it, so that each window
    /// is judged alone.
    fn windows_one_by_one(&mut self, marks: &[Mark], end: i64) -> Counted {
        let mut counted = Counted::new();
        let mut done = i64::MIN;
        for mark in marks
            .iter()
            .filter(|mark| mark.kind.fills & 1 == 1 && mark.at_ns <= end)
        {
            if mark.at_ns < done {
                continue;
            }
            let window = self.tumbling.start(mark.at_ns);
            done = self.tumbling.end(window);
            let last = done.saturating_sub(1).saturating_add(self.shape.window_ns);
            let mut cut = std::mem::take(&mut self.cut);
            with_starts_before(
                between(marks, window, last),
                done,
                self.shape.order == Order::Strict,
                &mut cut,
            );
            self.hear(&cut);
            self.cut = cut;
            if let Some(attempt) = self.verdict.counted.first() {
                counted.push((window, self.bits(attempt)));
            }
        }
        counted
    }

    /// The steps for which an attempt counts.
    fn bits(&self, attempt: &Attempt) -> u64 {
        let steps = 0..attempt.level.min(self.shape.steps);
        let counts =
            steps.filter(|step| !self.shape.is_optional(*step) || attempt.time(*step).is_some());
        counts.map(|step| 1 << step).sum()
    }
}

/// Orders attempts as the choice between them does: furthest, then earliest there. Of equals, the one that started
/// last is chosen, which is the last in the order of their starts.
fn rank(attempt: &Attempt) -> (usize, std::cmp::Reverse<Option<i64>>) {
    let there = attempt
        .level
        .checked_sub(1)
        .and_then(|last| attempt.time(last));
    (attempt.level, std::cmp::Reverse(there))
}

/// The marks of `from..=to`; `marks` are sorted.
fn between(marks: &[Mark], from: i64, to: i64) -> &[Mark] {
    let first = marks.partition_point(|mark| mark.at_ns < from);
    let end = marks.partition_point(|mark| mark.at_ns <= to);
    marks.get(first..end).unwrap_or_default()
}

/// Copies marks so that no attempt can start at `end` or later, and nothing else changes: an instant that is mixed
/// (neither strictness nor exclusions apply to it) stays without effect, also when what made it mixed was a start.
fn with_starts_before(marks: &[Mark], end: i64, is_strict: bool, into: &mut Vec<Mark>) {
    into.clear();
    for instant in marks.chunk_by(|one, other| one.at_ns == other.at_ns) {
        let alike = instant
            .windows(2)
            .all(|pair| matches!(pair, [one, other] if one.kind == other.kind));
        let is_mixed = !alike && instant.iter().any(|mark| mark.kind.fills != 0);
        if instant.first().is_some_and(|mark| mark.at_ns < end) {
            into.extend_from_slice(instant);
            continue;
        }
        let before = into.len();
        for mark in instant {
            let fills = mark.kind.fills & !1;
            let excludes = if is_mixed { 0 } else { mark.kind.excludes };
            let kind = Kind { fills, excludes };
            if kind != Kind::default() || (is_strict && !is_mixed) {
                into.push(Mark {
                    at_ns: mark.at_ns,
                    kind,
                });
            }
        }
        // An event that can do nothing keeps the instant mixed, so that it ends no attempt.
        if is_strict && is_mixed && into.len() > before {
            into.extend(instant.first().map(|mark| Mark {
                at_ns: mark.at_ns,
                kind: Kind::default(),
            }));
        }
    }
}

/// What is known of one subject.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    /// Sorted; all there are since what is kept begins.
    marks: Vec<Mark>,
    counted: Counted,
    newest_ns: i64,
    known: Known,
}

impl Judged {
    pub(super) const fn new(known: Known) -> Self {
        Self {
            marks: Vec::new(),
            counted: Vec::new(),
            newest_ns: i64::MIN,
            known,
        }
    }

    /// From the subject's marks, sorted; with what counts.
    pub(super) fn rebuilt(bench: &mut Bench, known: Known, marks: Vec<Mark>) -> (Self, Counted) {
        let newest_ns = marks.last().map_or(i64::MIN, |mark| mark.at_ns);
        let counted = bench.count(&marks, known.kept_from, bench.tumbling.start(newest_ns));
        let judged = Self {
            marks,
            counted: counted.clone(),
            newest_ns,
            known,
        };
        (judged, counted)
    }

    pub(super) const fn newest_ns(&self) -> i64 {
        self.newest_ns
    }

    pub(super) fn held(&self) -> usize {
        self.marks.len()
    }

    /// Takes an event in; what counts changes in `windows`.
    pub(super) fn apply(
        &mut self,
        bench: &mut Bench,
        mark: Mark,
        bound: usize,
        windows: &mut Windows,
    ) -> Step {
        if mark.at_ns < self.known.exact_from {
            return Step::Unreachable;
        }
        if self.marks.len() >= bound {
            return Step::Full;
        }
        let place = self
            .marks
            .partition_point(|other| other.at_ns <= mark.at_ns);
        let is_behind = place < self.marks.len();
        self.marks.insert(place, mark);
        self.newest_ns = self.newest_ns.max(mark.at_ns);
        let (from, last) = if bench.is_totals() {
            (self.known.kept_from, i64::MAX)
        } else {
            let first = mark.at_ns.saturating_sub(bench.shape.window_ns);
            let first = bench.tumbling.start(first).max(self.known.kept_from);
            (first, bench.tumbling.start(mark.at_ns))
        };
        let new = bench.count(&self.marks, from, last);
        let first = self.counted.partition_point(|(start, _)| *start < from);
        let end = self.counted.partition_point(|(start, _)| *start <= last);
        let old: Counted = self
            .counted
            .splice(first..end.max(first), new.iter().copied())
            .collect();
        recount(bench, &old, &new, windows);
        if is_behind {
            Step::Replayed
        } else {
            Step::Done
        }
    }

    /// Lets go of marks that no event from the watermark on can have to do with.
    pub(super) fn settle(&mut self, bench: &Bench, watermark_ns: i64) {
        let (before, exact_from) = if bench.is_totals() {
            // What comes before an entry that counts has nothing to do with what comes after its start; only an event
            // at that very instant or earlier has.
            let older = self
                .counted
                .partition_point(|(start, _)| *start < watermark_ns);
            let Some((start, _)) = older.checked_sub(1).and_then(|last| self.counted.get(last))
            else {
                return;
            };
            (*start, start.saturating_add(1))
        } else {
            let window_ns = bench.shape.window_ns;
            let before = bench.tumbling.start(watermark_ns.saturating_sub(window_ns));
            (before, before.saturating_add(window_ns))
        };
        if before <= self.known.kept_from {
            return;
        }
        let marks = self.marks.partition_point(|mark| mark.at_ns < before);
        self.marks.drain(..marks);
        let counted = self.counted.partition_point(|(start, _)| *start < before);
        self.counted.drain(..counted);
        self.known.kept_from = before;
        self.known.exact_from = self.known.exact_from.max(exact_from);
    }

    /// Keeps nothing but that the subject is known: every event has to be looked up.
    pub(super) fn spill(&mut self) {
        self.marks = Vec::new();
        self.counted = Vec::new();
        self.known.exact_from = i64::MAX;
    }
}

/// Counts what changed. Entries of totals are compared by their start and counted in the window of it.
pub(super) fn recount(bench: &Bench, old: &Counted, new: &Counted, windows: &mut Windows) {
    change(
        old.iter().copied(),
        new.iter().copied(),
        |start, was, is| {
            windows.swap(bench.tumbling.start(start), was, is);
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(at_ns: i64, fills: u64, excludes: u64) -> Mark {
        Mark {
            at_ns,
            kind: Kind { fills, excludes },
        }
    }

    #[test]
    fn later_starts_go_and_nothing_else_changes() {
        let mut cut = Vec::new();
        let marks = [
            mark(1, 1, 0),
            mark(5, 1, 0),
            mark(6, 3, 0),
            mark(7, 1, 0),
            mark(7, 0, 1),
        ];
        with_starts_before(&marks, 5, false, &mut cut);
        assert_eq!(
            cut,
            [mark(1, 1, 0), mark(6, 2, 0)],
            "the mixed instant at 7 still taints nothing"
        );
        with_starts_before(&marks, 5, true, &mut cut);
        assert_eq!(
            cut,
            [mark(1, 1, 0), mark(5, 0, 0), mark(6, 2, 0)],
            "a start ends a strict attempt"
        );
        let marks = [mark(7, 1, 0), mark(7, 2, 0), mark(8, 0, 1)];
        with_starts_before(&marks, 5, true, &mut cut);
        assert_eq!(
            cut,
            [mark(7, 2, 0), mark(7, 0, 0), mark(8, 0, 1)],
            "still mixed"
        );
    }

    #[test]
    fn the_best_attempt_got_furthest_and_was_there_first() {
        let attempt = |times: &[i64]| Attempt {
            level: times.len(),
            times_ns: times.iter().copied().map(Some).collect(),
        };
        assert!(rank(&attempt(&[1, 2])) > rank(&attempt(&[1])));
        assert!(rank(&attempt(&[1, 2])) > rank(&attempt(&[1, 3])));
        assert_eq!(rank(&attempt(&[1, 3])), rank(&attempt(&[2, 3])));
    }
}
