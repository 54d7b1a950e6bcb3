//! Long subjects with exclusions: not going through the same taints for every start.
//!
//! A way at a step where nothing taints, the floor, stays. When an exclusion ends all ways above it, what follows depends
//! on the floor alone and not on the start. So a start may go on after any later exclusion that does the same, as long as
//! nothing above could be kept in between.
//!
//! Owns: the places of such exclusions, and between which of them nothing was reached that stays. Refuses: limited gaps,
//! optional steps, `strict`; there the floor is not all that counts.
//!
//! Bounds: 16 cycles, each with two numbers per exclusion among the events; further ones are gone through.

use crate::matching::instants::Instant;

const CYCLES: usize = 16;

/// A way at the floor, alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alone {
    /// The step where it stands; nothing taints there.
    pub(super) floor: usize,
    /// The steps right above, at which exclusions taint.
    pub(super) span: u64,
    /// The step after those, if nothing taints there; as a set.
    pub(super) beyond: u64,
}

#[derive(Debug)]
struct Cycle {
    alone: Alone,
    /// The instants that end all ways in the span.
    wipes: Vec<usize>,
    /// For each of them: a later one up to which nothing beyond the span is reached, or itself.
    barren: Vec<usize>,
}

/// The cycles of a subject.
#[derive(Debug, Default)]
pub(super) struct Cycles {
    known: Vec<Cycle>,
    /// The cycle and the wipe after which the present start goes on.
    last: Option<(usize, usize)>,
}

impl Cycles {
    /// Begins a subject.
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.last = None;
    }

    /// Begins a start.
    pub(super) const fn begin(&mut self) {
        self.last = None;
    }

    /// A way is alone after the instant at `place`. Returns the place after which it may go on as well. `end`: of its
    /// window.
    pub(super) fn jump(&mut self, list: &[Instant], alone: Alone, place: usize, end: i64) -> usize {
        let Some(id) = self.find(list, alone) else {
            return place;
        };
        let Some(cycle) = self.known.get_mut(id) else {
            return place;
        };
        let Ok(wipe) = cycle.wipes.binary_search(&place) else {
            return place;
        };
        let next = if alone.beyond == 0 {
            // Nothing above stays: only what is reached after the last wipe counts.
            let inside = |other: &usize| list.get(*other).is_some_and(|instant| instant.at <= end);
            cycle.wipes.partition_point(inside).saturating_sub(1)
        } else {
            if let Some((known, before)) = self.last
                && known == id
                && before < wipe
                && let Some(barren) = cycle.barren.get_mut(before)
            {
                *barren = wipe;
            }
            cycle.fertile(wipe)
        };
        self.last = Some((id, next));
        cycle.wipes.get(next).copied().unwrap_or(place)
    }

    fn find(&mut self, list: &[Instant], alone: Alone) -> Option<usize> {
        let known = self.known.iter().position(|cycle| cycle.alone == alone);
        if known.is_some() || self.known.len() >= CYCLES {
            return known;
        }
        let Alone { span, beyond, .. } = alone;
        let wipes =
            |instant: &Instant| instant.kill & span == span && instant.fills & (span | beyond) == 0;
        let places = list
            .iter()
            .enumerate()
            .filter(|(_, instant)| wipes(instant));
        let wipes: Vec<usize> = places.map(|(place, _)| place).collect();
        self.known.push(Cycle {
            alone,
            barren: (0..wipes.len()).collect(),
            wipes,
        });
        Some(self.known.len() - 1)
    }
}

impl Cycle {
    // The first wipe from this one on after which something may be reached; shortens the path to it.
    fn fertile(&mut self, wipe: usize) -> usize {
        let next = |barren: &[usize], wipe: usize| barren.get(wipe).copied().unwrap_or(wipe);
        let mut at = wipe;
        while next(&self.barren, at) != at {
            let skip = next(&self.barren, next(&self.barren, at));
            if let Some(barren) = self.barren.get_mut(at) {
                *barren = skip;
            }
            at = skip;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::{Alone, Cycles};
    use crate::matching::instants::{Instant, Tie};

    fn list() -> Vec<Instant> {
        // Taints at step 2 at every third place, at step 3 instead at place 9.
        let instant = |place: i64| Instant {
            at: 10 * place,
            fills: if place % 3 == 0 { 0 } else { 0b10 },
            kill: if place == 9 {
                0b100
            } else {
                0b10 * u64::from(place % 3 == 0)
            },
            solid: true,
            tie: Tie::Single,
        };
        (0..20).map(instant).collect()
    }

    #[test]
    fn where_nothing_stays_the_last_wipe_in_the_window_counts() {
        let alone = Alone {
            floor: 0,
            span: 0b10,
            beyond: 0,
        };
        let mut cycles = Cycles::default();
        assert_eq!(cycles.jump(&list(), alone, 3, 155), 15);
        assert_eq!(
            cycles.jump(&list(), alone, 3, 99),
            6,
            "place 9 wipes another step"
        );
        assert_eq!(cycles.jump(&list(), alone, 4, 155), 4, "no wipe");
    }

    #[test]
    fn what_led_nowhere_once_is_passed_over() {
        let alone = Alone {
            floor: 0,
            span: 0b10,
            beyond: 0b100,
        };
        let mut cycles = Cycles::default();
        for place in [0, 3, 6] {
            assert_eq!(cycles.jump(&list(), alone, place, 999), place);
        }
        cycles.begin();
        assert_eq!(cycles.jump(&list(), alone, 0, 999), 6);
        // What came between was of another kind: nothing is known of it.
        cycles.begin();
        assert_eq!(cycles.jump(&list(), alone, 12, 999), 12);
        cycles.begin();
        assert_eq!(cycles.jump(&list(), alone, 15, 999), 15);
        cycles.begin();
        assert_eq!(cycles.jump(&list(), alone, 12, 999), 12);
        cycles.clear();
        assert_eq!(cycles.jump(&list(), alone, 0, 999), 0);
    }
}
