//! The machine of plain funnels (`ordered`, nothing optional, no gaps, no exclusions): O(steps) per event in order.
//!
//! Owns: per subject and result window, the latest start from which each level can be reached. A later start is never
//! worse for what is still to come, so one number per level is all that has to be known. A tie or a late event is
//! replayed from the state before a short history. Refuses: every rule beyond the plain ones (`judged` has those).

use super::{
    state::{Counted, Known},
    window::{Tumbling, Windows},
};

/// No way to this level yet.
const NONE: i64 = i64::MIN;

/// What the machine has to know of its funnel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) steps: usize,
    pub(super) window_ns: i64,
    pub(super) tumbling: Tumbling,
}

/// An event that fills a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filling {
    pub(super) at_ns: i64,
    pub(super) fills: u64,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Taken in.
    Done,
    /// Taken in behind others; what was counted before has been put right.
    Replayed,
    /// The windows it has to do with are gone; nothing changed.
    Gone,
    /// Lies where memory does not reach any more; nothing changed.
    Unreachable,
    /// No room; nothing changed.
    Full,
}

/// Per result window in which the subject has a start, in order: where the window begins, then per level the latest
/// start from which the level was reached. One flat list, because most subjects have one window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Runs(Vec<i64>);

impl Runs {
    /// Takes one event of an instant of its own, later than all before. `rise` hears of windows and steps that count
    /// for the first time.
    fn advance(
        &mut self,
        rules: &Rules,
        kept_from: i64,
        event: Filling,
        mut rise: impl FnMut(i64, usize),
    ) {
        let at = event.at_ns;
        for run in self.0.chunks_exact_mut(rules.steps + 1) {
            let Some((start_of_window, starts)) = run.split_first_mut() else {
                continue;
            };
            let mut bits = event.fills & !1;
            // From the highest step down, so that one event fills one step.
            while bits != 0 {
                let step = bits.ilog2() as usize;
                bits &= !(1 << step);
                let Some([before, here]) = starts.get_mut(step - 1..=step) else {
                    continue;
                };
                let can = *before != NONE && at.saturating_sub(*before) <= rules.window_ns;
                if can && *before > *here {
                    if *here == NONE {
                        rise(*start_of_window, step);
                    }
                    *here = *before;
                }
            }
        }
        let home = rules.tumbling.start(at);
        if event.fills & 1 == 1 && home >= kept_from {
            let is_new = self.open(rules, home);
            if is_new {
                rise(home, 0);
            }
            self.enter(rules, at);
        }
    }

    /// Makes the window of the newest instants the last one; true when it was not there.
    fn open(&mut self, rules: &Rules, home: i64) -> bool {
        let last = self.0.len().checked_sub(rules.steps + 1);
        let is_new = last.and_then(|last| self.0.get(last)) != Some(&home);
        if is_new {
            self.0.push(home);
            self.0.resize(self.0.len() + rules.steps, NONE);
        }
        is_new
    }

    fn enter(&mut self, rules: &Rules, at: i64) {
        let first = self.0.len() - rules.steps;
        if let Some(start) = self.0.get_mut(first) {
            *start = at;
        }
    }

    /// Takes all events of an instant, in whatever order serves best, each once.
    fn advance_together(&mut self, rules: &Rules, kept_from: i64, events: &[Filling]) {
        let Some(at) = events.first().map(|event| event.at_ns) else {
            return;
        };
        if let [event] = events {
            self.advance(rules, kept_from, *event, |_, _| {});
            return;
        }
        let home = rules.tumbling.start(at);
        if home >= kept_from && events.iter().any(|event| event.fills & 1 == 1) {
            self.open(rules, home);
        }
        let further: Vec<usize> = (0..rules.steps)
            .map(|from| in_a_row(events, from, rules.steps))
            .collect();
        for run in self.0.chunks_exact_mut(rules.steps + 1) {
            let Some((start_of_window, starts)) = run.split_first_mut() else {
                continue;
            };
            let mut before = vec![if *start_of_window == home { at } else { NONE }];
            before.extend_from_slice(starts);
            for (level, (start, further)) in before.iter().zip(&further).enumerate() {
                if *start == NONE || at.saturating_sub(*start) > rules.window_ns {
                    continue;
                }
                for reached in starts.iter_mut().skip(level).take(*further) {
                    *reached = (*reached).max(*start);
                }
            }
        }
    }

    /// Windows with the set of steps that count in each.
    fn counted(&self, rules: &Rules) -> impl Iterator<Item = (i64, u64)> {
        self.0.chunks_exact(rules.steps + 1).filter_map(|run| {
            let (window, starts) = run.split_first()?;
            let bits = starts
                .iter()
                .enumerate()
                .filter(|(_, start)| **start != NONE);
            Some((*window, bits.map(|(step, _)| 1 << step).sum()))
        })
    }

    /// Lets go of windows that begin before an instant; true when there were any.
    fn forget(&mut self, rules: &Rules, before: i64) -> bool {
        let old = self.0.chunks_exact(rules.steps + 1);
        let old = old.take_while(|run| run.first().is_some_and(|window| *window < before));
        let gone = old.count() * (rules.steps + 1);
        self.0.drain(..gone);
        gone > 0
    }
}

/// How many steps in a row, from one (by index) on, different events of one instant can fill.
fn in_a_row(events: &[Filling], from: usize, steps: usize) -> usize {
    let mut holds: Vec<Option<usize>> = vec![None; events.len()];
    let placed = (from..steps).take_while(|step| {
        let mut asked = vec![false; events.len()];
        place(*step, events, &mut holds, &mut asked)
    });
    placed.count()
}

/// Gives a step an event, moving others over where that is needed (an augmenting path); the depth is at most the steps.
fn place(step: usize, events: &[Filling], holds: &mut [Option<usize>], asked: &mut [bool]) -> bool {
    for (index, event) in events.iter().enumerate() {
        let (Some(was_asked), Some(held)) = (asked.get_mut(index), holds.get(index).copied())
        else {
            continue;
        };
        if event.fills >> step & 1 == 0 || *was_asked {
            continue;
        }
        *was_asked = true;
        if held.is_none_or(|other| place(other, events, holds, asked)) {
            if let Some(held) = holds.get_mut(index) {
                *held = Some(step);
            }
            return true;
        }
    }
    false
}

/// What is known of one subject.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    now: Runs,
    /// As it was before the first of `events`.
    base: Runs,
    /// The newest, in order of time; never empty once there was one.
    events: Vec<Filling>,
    /// The newest instant that is in `base`.
    folded_ns: i64,
    known: Known,
}

impl Plain {
    pub(super) const fn new(known: Known) -> Self {
        Self {
            now: Runs(Vec::new()),
            base: Runs(Vec::new()),
            events: Vec::new(),
            folded_ns: i64::MIN,
            known,
        }
    }

    /// From the subject's events, sorted by time; with what counts in each window.
    pub(super) fn rebuilt(rules: &Rules, known: Known, events: Vec<Filling>) -> (Self, Counted) {
        let mut plain = Self::new(known);
        plain.events = events;
        plain.now = plain.replayed(rules);
        let counted = plain.now.counted(rules).collect();
        (plain, counted)
    }

    pub(super) fn newest_ns(&self) -> i64 {
        self.events.last().map_or(i64::MIN, |event| event.at_ns)
    }

    pub(super) fn held(&self) -> usize {
        self.events.len()
    }

    /// Takes an event in; what counts changes in `windows`.
    pub(super) fn apply(
        &mut self,
        rules: &Rules,
        event: Filling,
        bound: usize,
        windows: &mut Windows,
    ) -> Step {
        if event.at_ns < self.known.exact_from {
            return Step::Unreachable;
        }
        if self.events.len() >= bound {
            return Step::Full;
        }
        if self.newest_ns() >= event.at_ns && !self.events.is_empty() {
            return self.replay(rules, event, windows);
        }
        let rise = |window, step: usize| windows.swap(window, 0, 1_u64 << step);
        self.now.advance(rules, self.known.kept_from, event, rise);
        self.events.push(event);
        Step::Done
    }

    fn replay(&mut self, rules: &Rules, event: Filling, windows: &mut Windows) -> Step {
        if event.at_ns <= self.folded_ns {
            return Step::Unreachable;
        }
        let place = self
            .events
            .partition_point(|other| other.at_ns <= event.at_ns);
        let alike = self.events.iter().filter(|other| **other == event).count();
        // More of the same kind at one instant than there are steps can fill nothing further.
        if alike >= rules.steps {
            return Step::Replayed;
        }
        self.events.insert(place, event);
        let now = self.replayed(rules);
        change(
            self.now.counted(rules),
            now.counted(rules),
            |window, was, is| windows.swap(window, was, is),
        );
        self.now = now;
        Step::Replayed
    }

    fn replayed(&self, rules: &Rules) -> Runs {
        let mut runs = self.base.clone();
        for instant in self.events.chunk_by(|one, other| one.at_ns == other.at_ns) {
            runs.advance_together(rules, self.known.kept_from, instant);
        }
        runs
    }

    /// Keeps fewer than `history` events before `fold_before` where ties allow it, and no window that ended, conversion
    /// window and all, by the watermark.
    pub(super) fn settle(
        &mut self,
        rules: &Rules,
        history: usize,
        fold_before: i64,
        watermark_ns: i64,
    ) {
        if self.events.len() < history {
            return;
        }
        while self.events.len() >= history && self.fold(rules, fold_before) {}
        let before = rules
            .tumbling
            .start(watermark_ns.saturating_sub(rules.window_ns));
        let from_base = self.base.forget(rules, before);
        let from_now = self.now.forget(rules, before);
        if from_base || from_now {
            self.known.kept_from = self.known.kept_from.max(before);
            self.known.exact_from = self
                .known
                .exact_from
                .max(before.saturating_add(rules.window_ns));
        }
    }

    /// Moves about half of the events into `base`, never the newest instant, never part of one and none from `before`
    /// on; false when there is nothing else.
    fn fold(&mut self, rules: &Rules, before: i64) -> bool {
        let half = self.events.len() / 2;
        let before = before.min(self.newest_ns());
        let instants = self.events.chunk_by(|one, other| one.at_ns == other.at_ns);
        let older = instants
            .take_while(|instant| instant.first().is_some_and(|event| event.at_ns < before));
        let ends: Vec<usize> = older
            .scan(0, |end, instant| {
                *end += instant.len();
                Some(*end)
            })
            .collect();
        let below = ends.iter().rfind(|end| **end <= half);
        let Some(cut) = below.or(ends.first()).copied() else {
            return false;
        };
        for instant in self
            .events
            .get(..cut)
            .unwrap_or_default()
            .chunk_by(|one, other| one.at_ns == other.at_ns)
        {
            self.folded_ns = instant.last().map_or(self.folded_ns, |event| event.at_ns);
            self.base
                .advance_together(rules, self.known.kept_from, instant);
        }
        self.events.drain(..cut);
        true
    }
}

/// Tells what changed, as a start with the steps that counted and that count now; both sides are in order of starts.
pub(super) fn change(
    old: impl Iterator<Item = (i64, u64)>,
    new: impl Iterator<Item = (i64, u64)>,
    mut swap: impl FnMut(i64, u64, u64),
) {
    let (mut old, mut new) = (old.peekable(), new.peekable());
    loop {
        let heads = [old.peek(), new.peek()];
        let Some(first) = heads.into_iter().flatten().map(|(start, _)| *start).min() else {
            return;
        };
        let was = old
            .next_if(|(start, _)| *start == first)
            .map_or(0, |(_, bits)| bits);
        let is = new
            .next_if(|(start, _)| *start == first)
            .map_or(0, |(_, bits)| bits);
        swap(first, was, is);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;
    const ALWAYS: Known = Known {
        kept_from: i64::MIN,
        exact_from: i64::MIN,
    };

    fn rules() -> Rules {
        Rules {
            steps: 3,
            window_ns: 2 * HOUR,
            tumbling: Tumbling::HOUR,
        }
    }

    /// Feeds events and tells the counts of each window.
    fn feed(history: usize, events: &[(i64, u64)]) -> (Vec<Step>, Vec<(i64, Vec<u64>)>) {
        let mut plain = Plain::new(ALWAYS);
        let mut windows = Windows::new(3, 99, 1);
        let steps = events.iter().map(|(at_ns, fills)| {
            let event = Filling {
                at_ns: *at_ns,
                fills: *fills,
            };
            let step = plain.apply(&rules(), event, 999, &mut windows);
            plain.settle(&rules(), history, i64::MAX, i64::MIN);
            step
        });
        let steps = steps.collect();
        let counts = windows.take_changed(i64::MIN, 99).into_iter();
        (
            steps,
            counts.map(|window| (window.start, window.counts)).collect(),
        )
    }

    #[test]
    fn an_event_fills_one_step_and_the_window_is_inclusive() {
        let (_, counts) = feed(99, &[(0, 0b011), (2 * HOUR, 0b100)]);
        assert_eq!(counts, [(0, vec![1, 0, 0])]);
        let (_, counts) = feed(99, &[(0, 0b001), (1, 0b010), (2 * HOUR + 1, 0b100)]);
        assert_eq!(counts, [(0, vec![1, 1, 0])]);
        let (_, counts) = feed(99, &[(0, 0b001), (1, 0b010), (2 * HOUR, 0b100)]);
        assert_eq!(counts, [(0, vec![1, 1, 1])]);
    }

    #[test]
    fn each_window_has_its_own_attempt() {
        let (_, counts) = feed(99, &[(0, 1), (1, 2), (HOUR, 1), (HOUR + 1, 4)]);
        assert_eq!(counts, [(0, vec![1, 1, 1]), (HOUR, vec![1, 0, 0])]);
    }

    #[test]
    fn a_tie_may_be_taken_in_any_order_each_event_once() {
        let (_, counts) = feed(99, &[(5, 4), (5, 2), (5, 1)]);
        assert_eq!(counts, [(0, vec![1, 1, 1])]);
        let (_, counts) = feed(99, &[(5, 0b111), (5, 0b111)]);
        assert_eq!(counts, [(0, vec![1, 1, 0])]);
        let (_, counts) = feed(99, &[(5, 0b011), (5, 0b001)]);
        assert_eq!(
            counts,
            [(0, vec![1, 1, 0])],
            "the one that can do both moves over"
        );
    }

    #[test]
    fn a_late_event_puts_the_counts_right_unless_it_lies_too_far_back() {
        let (steps, counts) = feed(99, &[(10, 1), (30, 4), (20, 2)]);
        assert_eq!(steps[2], Step::Replayed);
        assert_eq!(counts, [(0, vec![1, 1, 1])]);
        let (steps, counts) = feed(2, &[(10, 1), (30, 4), (40, 4), (20, 2)]);
        assert_eq!(steps[3], Step::Unreachable);
        assert_eq!(counts, [(0, vec![1, 0, 0])]);
    }

    #[test]
    fn folding_leaves_the_state_as_it_was() {
        let events: Vec<(i64, u64)> = (0..200)
            .map(|at| (at / 2 * HOUR / 7, 1 << (at % 3)))
            .collect();
        assert_eq!(feed(4, &events).1, feed(9_999, &events).1);
    }
}
