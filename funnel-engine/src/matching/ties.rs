//! Instants with several events: which steps can be filled together, each by an event of its own.
//!
//! Owns: grouping the events of an instant, bipartite matching of steps to events (augmenting paths), and the ways
//! through an instant. Refuses: times, windows, exclusions.
//!
//! Bounds: a matching never needs more than 64 candidates per step, so an instant keeps at most 4,096 groups whatever
//! the number of its events.

use crate::matching::bits::{PerStep, first, has, members, only};
use crate::shape::Mark;

/// Events of one instant that can fill the same steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The steps.
    pub(super) fills: u64,
    /// How many events there are, 64 at most.
    pub(super) events: u32,
}

/// Appends the groups of an instant's events. Events that fill nothing are left out. `scratch` is working space.
pub(super) fn group(
    events: impl Iterator<Item = u64>,
    scratch: &mut Vec<u64>,
    groups: &mut Vec<Group>,
) {
    scratch.clear();
    scratch.extend(events.filter(|fills| *fills != 0));
    scratch.sort_unstable();
    let mut kept = PerStep::of(0_u32);
    for alike in scratch.chunk_by(|left, right| left == right) {
        let fills = alike.first().copied().unwrap_or_default();
        // A step with 64 candidates can always be filled last: further ones change nothing.
        if members(fills).all(|step| kept.get(step) >= 64) {
            continue;
        }
        let events = u32::try_from(alike.len()).unwrap_or(u32::MAX).min(64);
        for step in members(fills) {
            kept.set(step, kept.get(step).saturating_add(events));
        }
        groups.push(Group { fills, events });
    }
}

/// Whether every set of the steps that these groups can fill can be filled at once.
pub(super) fn is_free(groups: &[Group]) -> bool {
    let mut union = 0;
    groups.iter().all(|group| {
        let apart = group.fills & union == 0 && group.fills.count_ones() <= group.events;
        union |= group.fills;
        apart
    })
}

/// The steps filled by the events of an instant so far, each by its own event.
#[derive(Clone, Debug)]
pub(super) struct Matching {
    matched: u64,
    group_of: PerStep<u32>,
    used: Vec<u32>,
    seen: Vec<bool>,
}

impl Default for Matching {
    fn default() -> Self {
        Self {
            matched: 0,
            group_of: PerStep::of(0),
            used: Vec::new(),
            seen: Vec::new(),
        }
    }
}

impl Matching {
    /// Forgets everything.
    pub(super) fn clear(&mut self, groups: &[Group]) {
        self.matched = 0;
        self.used.clear();
        self.used.resize(groups.len(), 0);
    }

    /// Becomes the same as another, keeping its own buffers.
    fn copy(&mut self, other: &Self) {
        self.matched = other.matched;
        self.group_of.clone_from(&other.group_of);
        self.used.clone_from(&other.used);
    }

    /// Fills one more step beside those filled already, if that is possible.
    pub(super) fn add(&mut self, groups: &[Group], step: usize) -> bool {
        self.seen.clear();
        self.seen.resize(groups.len(), false);
        let placed = self.place(groups, step);
        if placed {
            self.matched |= only(step);
        }
        placed
    }

    /// Takes a step out again.
    pub(super) fn remove(&mut self, step: usize) {
        if has(self.matched, step) {
            self.matched &= !only(step);
            if let Some(used) = self.used.get_mut(self.group_of.get(step) as usize) {
                *used -= 1;
            }
        }
    }

    // The depth is bounded by the steps filled: every call but the last moves one of them.
    fn place(&mut self, groups: &[Group], step: usize) -> bool {
        for (index, (group, code)) in groups.iter().zip(0_u32..).enumerate() {
            if !has(group.fills, step) || self.seen.get(index).copied().unwrap_or(true) {
                continue;
            }
            if let Some(seen) = self.seen.get_mut(index) {
                *seen = true;
            }
            let free = self
                .used
                .get_mut(index)
                .filter(|used| **used < group.events);
            if let Some(used) = free {
                *used += 1;
                self.group_of.set(step, code);
                return true;
            }
            for other in members(self.matched) {
                // The one that moves away counts itself at its new group; its place here is taken over.
                if self.group_of.get(other) == code && self.place(groups, other) {
                    self.group_of.set(step, code);
                    return true;
                }
            }
        }
        false
    }
}

/// The ways through one instant: from a first step taken there, what else can be taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    base: Matching,
    trial: Matching,
    /// For every step that can be the last one taken: that step, and the steps taken on the best way to it.
    pub(super) found: Vec<(usize, u64)>,
}

impl Paths {
    /// Finds the ways that take `start` as their first step at this instant. `follow` are the steps that may be taken
    /// after another one at the same instant. Of several ways to a step the one is kept that fills the lowest steps,
    /// which is the one with the lexicographically smallest times.
    pub(super) fn find(
        &mut self,
        groups: &[Group],
        start: usize,
        steps: usize,
        optional: u64,
        follow: u64,
    ) {
        self.found.clear();
        self.base.clear(groups);
        if !self.base.add(groups, start) {
            return;
        }
        self.found.push((start, only(start)));
        let mut required = only(start);
        for last in start + 1..steps {
            let may_skip = has(optional, last);
            self.trial.copy(&self.base);
            if has(follow, last) && self.trial.add(groups, last) {
                if !may_skip {
                    self.base.copy(&self.trial);
                    required |= only(last);
                }
                let mut taken = required | only(last);
                for between in members(optional & follow & first(last) & !first(start + 1)) {
                    if self.trial.add(groups, between) {
                        taken |= only(between);
                    }
                }
                self.found.push((last, taken));
            } else if !may_skip {
                return;
            }
        }
    }
}

/// How far steps can be filled one after another from `level` on, by different events.
pub(super) fn climb(
    matching: &mut Matching,
    groups: &[Group],
    level: usize,
    steps: usize,
) -> usize {
    matching.clear(groups);
    (level..steps)
        .find(|step| !matching.add(groups, *step))
        .unwrap_or(steps)
}

/// The events of a subject, instant by instant. What takes no part is left out by the caller.
pub(super) fn instants(marks: &[Mark]) -> impl DoubleEndedIterator<Item = &[Mark]> {
    marks.chunk_by(|left, right| left.at_ns == right.at_ns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn groups_of(events: &[u64]) -> Vec<Group> {
        let mut groups = Vec::new();
        group(events.iter().copied(), &mut Vec::new(), &mut groups);
        groups
    }

    /// Tries every assignment.
    fn can_fill(events: &[u64], wanted: u64) -> bool {
        if wanted == 0 {
            return true;
        }
        let step = wanted.trailing_zeros() as usize;
        (0..events.len()).any(|index| {
            let mut rest = events.to_vec();
            let event = rest.remove(index);
            has(event, step) && can_fill(&rest, wanted & !only(step))
        })
    }

    #[test]
    fn alike_events_are_one_group() {
        let groups = groups_of(&[2, 1, 0, 2]);
        assert_eq!(
            groups,
            [
                Group {
                    fills: 1,
                    events: 1
                },
                Group {
                    fills: 2,
                    events: 2
                }
            ]
        );
        assert!(is_free(&groups));
        assert!(
            !is_free(&groups_of(&[3])),
            "one event cannot fill two steps"
        );
        assert!(is_free(&groups_of(&[3, 3])));
        assert!(!is_free(&groups_of(&[3, 2])));
    }

    #[test]
    fn an_event_gives_way_to_another_one() {
        let groups = groups_of(&[0b11, 0b01]);
        let mut matching = Matching::default();
        matching.clear(&groups);
        assert!(matching.add(&groups, 0) && matching.add(&groups, 1) && !matching.add(&groups, 2));
        matching.remove(0);
        assert!(!matching.add(&groups, 2) && matching.add(&groups, 0));
    }

    #[test]
    fn a_crowd_at_one_instant_keeps_a_bounded_number_of_groups() {
        let events: Vec<u64> = (1..20_000).collect();
        let groups = groups_of(&events);
        assert!(groups.len() <= 4096, "{}", groups.len());
        let mut matching = Matching::default();
        assert_eq!(climb(&mut matching, &groups, 0, 14), 14);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn matching_agrees_with_trying_everything(events in prop::collection::vec(1_u64..32, 0..6), order in Just((0_usize..5).collect::<Vec<_>>()).prop_shuffle()) {
            let groups = groups_of(&events);
            let mut matching = Matching::default();
            matching.clear(&groups);
            let mut taken = 0;
            for step in order {
                let expected = can_fill(&events, taken | only(step));
                prop_assert_eq!(matching.add(&groups, step), expected);
                if expected {
                    taken |= only(step);
                }
            }
            if is_free(&groups) {
                let union = events.iter().fold(0, |all, event| all | event);
                prop_assert!(can_fill(&events, union));
            }
        }

        #[test]
        fn paths_agree_with_trying_everything(events in prop::collection::vec(1_u64..32, 0..6), start in 0_usize..5, optional in 0_u64..32, follow in 0_u64..32) {
            let optional = optional & !1;
            let mut paths = Paths::default();
            paths.find(&groups_of(&events), start, 5, optional, follow);
            for last in start..5 {
                let rank = |set: u64| set.reverse_bits();
                let expected = (0_u64..32)
                    .filter(|set| set & first(start + 1) == only(start) && set & !first(last + 1) == 0 && has(*set, last))
                    .filter(|set| (start..last).all(|step| has(*set, step) || has(optional, step)))
                    .filter(|set| set & !only(start) & !follow == 0 && can_fill(&events, *set))
                    .max_by_key(|set| rank(*set));
                let found = paths.found.iter().find(|found| found.0 == last).map(|found| found.1);
                prop_assert_eq!(found, expected);
            }
        }
    }
}
