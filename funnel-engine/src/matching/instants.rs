//! A funnel's rules and a subject's events, laid out for the machines.
//!
//! Owns: what an instant can do (which steps it fills, which ways it taints, whether it is mixed). Refuses: following
//! ways through them.
//!
//! Bounds: one entry per instant, so never more than the subject has events.

use crate::definition::Order;
use crate::matching::bits::{PerStep, first, has, members, only, skipping};
use crate::matching::ties::{Group, group, instants, is_free};
use crate::shape::{Kind, Mark, Shape};

/// The rules of a funnel, as bit sets where possible. Steps are indices from 0.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) steps: usize,
    /// All steps.
    pub(super) all: u64,
    /// The last step.
    pub(super) last: u64,
    pub(super) window: i64,
    pub(super) optional: u64,
    pub(super) strict: bool,
    /// Steps that can be filled at the same instant as the one before them.
    pub(super) follow: u64,
    /// Whether any gap is limited.
    pub(super) gaps: bool,
    within: PerStep<i64>,
    not_before: PerStep<i64>,
    /// For each step: the largest gap after which a way that stands there can still go on.
    patience: PerStep<i64>,
    /// For each step: the gap after which it can go on to any next step, as far as `not_before` is concerned.
    longest_wait: PerStep<i64>,
    /// The steps from which no way to go on gets too old.
    pub(super) ageless: u64,
    /// For each exclusion: the steps at which a standing way is tainted.
    covers: Vec<u64>,
    every: bool,
}

impl Rules {
    /// The rules of a shape.
    pub(super) fn of(shape: &Shape) -> Self {
        let steps = shape.steps.clamp(1, 64);
        let mut rules = Self {
            steps,
            all: first(steps),
            last: only(steps - 1),
            window: shape.window_ns,
            optional: shape.optional & first(steps) & !1,
            strict: shape.order == Order::Strict,
            follow: 0,
            gaps: false,
            within: PerStep::of(i64::MAX),
            not_before: PerStep::of(0),
            patience: PerStep::of(i64::MAX),
            longest_wait: PerStep::of(0),
            ageless: 0,
            covers: Vec::new(),
            every: shape.wants_every_event(),
        };
        // The first step has no gap before it.
        for (step, within) in shape.within_ns.iter().enumerate().take(steps).skip(1) {
            rules.within.set(step, *within);
            rules.gaps |= *within < shape.window_ns;
        }
        for (step, not_before) in shape.not_before_ns.iter().enumerate().take(steps).skip(1) {
            rules.not_before.set(step, *not_before);
            rules.gaps |= *not_before > 0;
        }
        rules.follow = members(rules.all)
            .filter(|step| rules.not_before(*step) <= 0)
            .map(only)
            .sum();
        for step in 0..steps {
            let next = rules.after(only(step), false);
            rules.patience.set(
                step,
                members(next)
                    .map(|next| rules.within(next))
                    .max()
                    .unwrap_or(0),
            );
            rules.longest_wait.set(
                step,
                members(next)
                    .map(|next| rules.not_before(next))
                    .max()
                    .unwrap_or(0),
            );
            if members(next).all(|next| rules.within(next) >= rules.window) {
                rules.ageless |= only(step);
            }
        }
        rules.covers = shape
            .exclusions
            .iter()
            .map(|range| {
                first(range.to_step.saturating_sub(1)) & !first(range.from_step.saturating_sub(1))
            })
            .collect();
        rules
    }

    /// The largest gap from the step before, in nanoseconds.
    pub(super) fn within(&self, step: usize) -> i64 {
        self.within.get(step)
    }

    /// The smallest gap from the step before, in nanoseconds.
    pub(super) fn not_before(&self, step: usize) -> i64 {
        self.not_before.get(step)
    }

    /// The largest gap after which a way that stands at a step can still go on.
    pub(super) fn patience(&self, step: usize) -> i64 {
        self.patience.get(step)
    }

    /// The gap after which it need not wait any more, whatever the next step.
    pub(super) fn longest_wait(&self, step: usize) -> i64 {
        self.longest_wait.get(step)
    }

    /// The steps that may be the next one after these.
    #[inline]
    pub(super) const fn after(&self, steps: u64, seed: bool) -> u64 {
        skipping(steps << 1 | seed as u64, self.optional) & self.all
    }

    /// Whether ways never differ in more than their start and the step where they stand.
    pub(super) fn is_plain(&self) -> bool {
        self.optional == 0 && !self.gaps && !self.strict
    }

    /// Whether an event takes part.
    pub(super) fn takes_part(&self, kind: Kind) -> bool {
        self.every || kind != Kind::default()
    }

    fn covered(&self, excludes: u64) -> u64 {
        let covers = members(excludes).filter_map(|number| self.covers.get(number));
        covers.fold(0, |all, cover| all | cover)
    }
}

/// How the events of an instant may be shared among steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tie {
    /// One event, so one step.
    Single,
    /// Any steps together.
    Free,
    /// Only what can be matched, among this range of the groups.
    Matched(usize, usize),
}

/// All events of a subject at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant {
    pub(super) at: i64,
    /// The steps that some event here can fill.
    pub(super) fills: u64,
    /// The steps at which a way that stands there and takes no step here is tainted; none if the instant is mixed.
    pub(super) kill: u64,
    /// Whether the instant counts for strictness: it is not mixed.
    pub(super) solid: bool,
    pub(super) tie: Tie,
}

/// The instants of one subject, in time order.
#[derive(Debug, Default)]
pub(super) struct Instants {
    pub(super) list: Vec<Instant>,
    /// Every group of the instants with [`Tie::Matched`].
    pub(super) groups: Vec<Group>,
    /// The steps at which some instant taints.
    pub(super) kills: u64,
    present: Vec<Mark>,
    scratch: Vec<u64>,
}

impl Instants {
    /// Takes a subject's events, sorted by time.
    pub(super) fn fill(&mut self, rules: &Rules, marks: &[Mark]) {
        self.list.clear();
        self.groups.clear();
        self.kills = 0;
        for marks in instants(marks) {
            if let [mark] = marks {
                if rules.takes_part(mark.kind) {
                    self.single(rules, *mark);
                }
                continue;
            }
            self.present.clear();
            self.present
                .extend(marks.iter().filter(|mark| rules.takes_part(mark.kind)));
            match self.present.as_slice() {
                [] => {}
                [mark] => self.single(rules, *mark),
                [_, ..] => self.several(rules),
            }
        }
    }

    /// The first instant from `index` on that can start an attempt.
    pub(super) fn start_from(&self, index: usize) -> Option<usize> {
        let rest = self.list.get(index..)?;
        rest.iter()
            .position(|instant| has(instant.fills, 0))
            .map(|offset| index + offset)
    }

    /// The first instant at this time or later.
    pub(super) fn at_or_after(&self, at: i64) -> usize {
        self.list.partition_point(|instant| instant.at < at)
    }

    /// The instant at `place`, if it is inside the window of one that starts at `start`.
    #[inline]
    pub(super) fn within_window(
        &self,
        rules: &Rules,
        start: usize,
        place: usize,
    ) -> Option<&Instant> {
        let begin = self.list.get(start)?.at;
        self.list
            .get(place)
            .filter(|instant| instant.at.saturating_sub(begin) <= rules.window)
    }

    fn single(&mut self, rules: &Rules, mark: Mark) {
        let kill = rules.covered(mark.kind.excludes);
        self.push(Instant {
            at: mark.at_ns,
            fills: mark.kind.fills & rules.all,
            kill,
            solid: true,
            tie: Tie::Single,
        });
    }

    fn several(&mut self, rules: &Rules) {
        let Some(one) = self.present.first().copied() else {
            return;
        };
        let alike = self.present.iter().all(|mark| mark.kind == one.kind);
        let fills = self
            .present
            .iter()
            .fold(0, |all, mark| all | mark.kind.fills)
            & rules.all;
        let excludes = self
            .present
            .iter()
            .fold(0, |all, mark| all | mark.kind.excludes);
        let solid = alike || fills == 0;
        let begin = self.groups.len();
        if fills != 0 {
            let fills = self.present.iter().map(|mark| mark.kind.fills & rules.all);
            group(fills, &mut self.scratch, &mut self.groups);
        }
        let mut tie = Tie::Matched(begin, self.groups.len());
        if self.groups.get(begin..).is_none_or(is_free) {
            self.groups.truncate(begin);
            tie = Tie::Free;
        }
        let kill = if solid { rules.covered(excludes) } else { 0 };
        self.push(Instant {
            at: one.at_ns,
            fills,
            kill,
            solid,
            tie,
        });
    }

    fn push(&mut self, instant: Instant) {
        self.kills |= instant.kill;
        self.list.push(instant);
    }
}
