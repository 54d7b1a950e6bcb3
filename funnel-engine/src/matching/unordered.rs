//! `unordered` funnels: distinct steps inside one window, in any order.
//!
//! Owns: the attempts from every start at once, and the entries of totals. Refuses: optional steps, gap limits, and
//! exclusions that do not span all steps (the definition refuses them too).
//!
//! Cost: one pass backward. The events that an attempt uses are the first ones in time that can be matched to steps, and
//! those of an earlier start are found among its own event and at most 64 of the next start's: O(events), times the cost
//! of matching at most 65 events. Totals go forward through entries that do not overlap.

use crate::matching::bits::{PerStep, has, members, only};
use crate::matching::instants::Rules;
use crate::matching::out::Out;
use crate::matching::ties::instants;
use crate::shape::Mark;

/// Steps matched to events, one event after another.
#[derive(Debug)]
struct Taken {
    steps: u64,
    /// For each step taken: what its event can fill.
    event: PerStep<u64>,
}

impl Taken {
    const fn none() -> Self {
        Self {
            steps: 0,
            event: PerStep::of(0),
        }
    }

    /// Takes an event in, if it can have a step of its own beside all those before.
    fn add(&mut self, fills: u64) -> bool {
        self.place(fills, &mut 0)
    }

    fn place(&mut self, fills: u64, seen: &mut u64) -> bool {
        for step in members(fills) {
            if has(*seen, step) {
                continue;
            }
            *seen |= only(step);
            if !has(self.steps, step) || self.place(self.event.get(step), seen) {
                self.steps |= only(step);
                self.event.set(step, fills);
                return true;
            }
        }
        false
    }
}

/// The machine of unordered funnels.
#[derive(Debug, Default)]
pub(super) struct Unordered {
    /// The first events that can be matched, from the present start on: time and steps, in time order.
    basis: Vec<(i64, u64)>,
    spare: Vec<(i64, u64)>,
    /// The same for the best start so far.
    best: Vec<(i64, u64)>,
    /// Whether some event can fill several steps.
    overlapping: bool,
}

/// What an instant is here.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: i64,
    fills: u64,
    /// Not mixed, and an exclusion.
    voids: bool,
}

impl Moment {
    fn of(rules: &Rules, marks: &[Mark]) -> Option<Self> {
        let mut present = marks.iter().filter(|mark| rules.takes_part(mark.kind));
        let one = present.next()?;
        let mut fills = one.kind.fills & rules.all;
        let mut excludes = one.kind.excludes;
        let mut alike = true;
        for mark in present {
            alike &= mark.kind == one.kind;
            fills |= mark.kind.fills & rules.all;
            excludes |= mark.kind.excludes;
        }
        Some(Self {
            at: one.at_ns,
            fills,
            voids: excludes != 0 && (alike || fills == 0),
        })
    }

    const fn starts(self) -> bool {
        self.fills != 0 && !self.voids
    }
}

impl Unordered {
    /// Judges a subject by the attempt that got furthest.
    pub(super) fn judge(&mut self, rules: &Rules, marks: &[Mark], out: &mut Out<'_>) {
        self.basis.clear();
        self.overlapping = false;
        let mut best = (0, i64::MAX);
        let mut voided = None;
        for marks in instants(marks).rev() {
            let Some(moment) = Moment::of(rules, marks) else {
                continue;
            };
            for mark in marks {
                self.prepend(moment.at, mark.kind.fills & rules.all);
            }
            if let Some((level, reached)) = self.reached(rules, moment, voided) {
                if out.wants_attempts() {
                    out.attempt(level, rules.steps, |times| write(times, &self.basis, level));
                } else if level > best.0 || level == best.0 && reached < best.1 {
                    // Starts come from the last to the first: of equals the later one stays.
                    best = (level, reached);
                    self.best.clone_from(&self.basis);
                }
            }
            if moment.voids {
                voided = Some(moment.at);
            }
        }
        if out.wants_attempts() {
            out.attempts().reverse();
            let furthest = out.attempts().iter().map(|attempt| attempt.level).max();
            out.choose(furthest.unwrap_or(0));
        } else if best.0 > 0 {
            out.attempt(best.0, rules.steps, |times| {
                write(times, &self.best, best.0);
            });
        }
    }

    /// Judges a subject entry by entry.
    pub(super) fn judge_totals(&mut self, rules: &Rules, marks: &[Mark], out: &mut Out<'_>) {
        let mut entry: Option<(i64, Taken)> = None;
        for marks in instants(marks) {
            let Some(moment) = Moment::of(rules, marks) else {
                continue;
            };
            if let Some((start, _)) = entry
                && moment.at.saturating_sub(start) > rules.window
            {
                self.tell(rules, out);
                entry = None;
            }
            if moment.voids {
                entry = None;
            }
            if !moment.starts() {
                continue;
            }
            let (_, taken) = entry.get_or_insert_with(|| {
                self.basis.clear();
                (moment.at, Taken::none())
            });
            for mark in marks {
                if taken.add(mark.kind.fills & rules.all) {
                    self.basis.push((moment.at, mark.kind.fills));
                }
            }
            if self.basis.len() == rules.steps {
                self.tell(rules, out);
                entry = None;
            }
        }
        if entry.is_some() {
            self.tell(rules, out);
        }
        out.count_all();
    }

    // An event before all those so far: of these, one at most is not needed any more.
    fn prepend(&mut self, at: i64, fills: u64) {
        if fills == 0 {
            return;
        }
        self.overlapping |= !fills.is_power_of_two();
        if !self.overlapping {
            let known = self.basis.iter().position(|event| event.1 == fills);
            let place = known.unwrap_or(self.basis.len());
            if known.is_none() {
                self.basis.push((at, fills));
            }
            if let Some(moved) = self.basis.get_mut(..=place) {
                moved.rotate_right(1);
            }
            if let Some(front) = self.basis.first_mut() {
                *front = (at, fills);
            }
            return;
        }
        std::mem::swap(&mut self.basis, &mut self.spare);
        self.basis.clear();
        let mut taken = Taken::none();
        let events = std::iter::once((at, fills)).chain(self.spare.drain(..));
        self.basis
            .extend(events.filter(|(_, fills)| taken.add(*fills)));
    }

    // How far the attempt gets that starts now, and when it got there; none if it cannot start or is void.
    fn reached(&self, rules: &Rules, moment: Moment, voided: Option<i64>) -> Option<(usize, i64)> {
        if !moment.starts() {
            return None;
        }
        let inside = |at: i64| at.saturating_sub(moment.at) <= rules.window;
        let level = self
            .basis
            .iter()
            .take_while(|event| inside(event.0))
            .count();
        let (reached, _) = self.basis.get(level.checked_sub(1)?)?;
        let complete = |voided: i64| level == rules.steps && *reached < voided;
        let stays = voided.is_none_or(|voided| !inside(voided) || complete(voided));
        stays.then_some((level, *reached))
    }

    fn tell(&self, rules: &Rules, out: &mut Out<'_>) {
        let level = self.basis.len();
        out.attempt(level, rules.steps, |times| write(times, &self.basis, level));
    }
}

fn write(times: &mut [Option<i64>], events: &[(i64, u64)], level: usize) {
    for (time, event) in times.iter_mut().zip(events).take(level) {
        *time = Some(event.0);
    }
}
