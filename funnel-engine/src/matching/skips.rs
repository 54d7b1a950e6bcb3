//! Long subjects: from one instant that matters to the next.
//!
//! Owns: where each step is filled and where ways are tainted. Refuses: what matters; the machine says.
//!
//! Bounds: 16 places per instant, and 64 different sets of tainted steps; beyond that every instant is looked at, as in
//! short subjects.

use crate::matching::bits::members;
use crate::matching::instants::Instant;

// Tests take the shortcuts in subjects that the oracle can still follow.
const SHORT: usize = if cfg!(test) { 6 } else { 128 };
const PLACES: usize = 16;
const TAINTS: usize = 64;

/// What an instant must do to matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Concern {
    /// Fill one of these steps.
    pub(super) fills: u64,
    /// Or taint at one of these.
    pub(super) kills: u64,
    /// Or be one that ends ways by strictness.
    pub(super) solid: bool,
}

/// The places that matter of a subject's instants.
#[derive(Debug, Default)]
pub(super) struct Skips {
    usable: bool,
    /// By step: the instants that fill it.
    filled: Vec<Vec<usize>>,
    /// By what is tainted: the instants that do so.
    tainted: Vec<(u64, Vec<usize>)>,
    /// Those that are not mixed.
    solid: Vec<usize>,
}

impl Skips {
    /// Notes a subject's instants, if that is worth it.
    pub(super) fn fill(&mut self, list: &[Instant]) {
        self.usable = list.len() >= SHORT && self.note(list);
    }

    fn note(&mut self, list: &[Instant]) -> bool {
        self.filled.resize_with(64, Vec::new);
        self.filled.iter_mut().for_each(Vec::clear);
        self.tainted.clear();
        self.solid.clear();
        let mut noted = 0;
        for (place, instant) in list.iter().enumerate() {
            for step in members(instant.fills) {
                self.filled
                    .get_mut(step)
                    .into_iter()
                    .for_each(|places| places.push(place));
                noted += 1;
            }
            if instant.solid {
                self.solid.push(place);
            }
            if instant.kill != 0 {
                let known = self
                    .tainted
                    .iter_mut()
                    .find(|taint| taint.0 == instant.kill);
                match known {
                    Some((_, places)) => places.push(place),
                    None => self.tainted.push((instant.kill, vec![place])),
                }
            }
            if noted > PLACES * list.len() || self.tainted.len() > TAINTS {
                return false;
            }
        }
        true
    }

    /// Forgets the subject: every instant is looked at.
    pub(super) const fn clear(&mut self) {
        self.usable = false;
    }

    /// Whether the subject is long enough for shortcuts.
    pub(super) const fn are_usable(&self) -> bool {
        self.usable
    }

    /// The first instant from `place` on that matters, or some instant before it.
    pub(super) fn next(&self, place: usize, concern: Concern) -> usize {
        if !self.usable {
            return place;
        }
        let filled = members(concern.fills).filter_map(|step| self.filled.get(step));
        let tainted = self
            .tainted
            .iter()
            .filter(|taint| taint.0 & concern.kills != 0)
            .map(|taint| &taint.1);
        let next = |places: &Vec<usize>| {
            let later = places.partition_point(|other| *other < place);
            places.get(later).copied()
        };
        let solid = concern.solid.then_some(&self.solid);
        filled
            .chain(tainted)
            .chain(solid)
            .filter_map(next)
            .min()
            .unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{Concern, Skips};
    use crate::matching::instants::{Instant, Tie};

    fn instant(fills: u64, kill: u64, solid: bool) -> Instant {
        Instant {
            at: 0,
            fills,
            kill,
            solid,
            tie: Tie::Single,
        }
    }

    const NOTHING: Concern = Concern {
        fills: 0,
        kills: 0,
        solid: false,
    };

    #[test]
    fn the_next_instant_that_matters_is_found() {
        let nth = |index: u64| {
            instant(
                1 << (index % 3),
                u64::from(index % 50 == 49),
                index % 7 == 6,
            )
        };
        let list: Vec<Instant> = (0..600).map(nth).collect();
        let mut skips = Skips::default();
        skips.fill(&list);
        for (fills, kills, solid) in [
            (0b100, 0, false),
            (0, 1, false),
            (0b010, 1, false),
            (0, 0, true),
            (0, 0, false),
        ] {
            for place in 0..list.len() {
                let matters = |place: &usize| {
                    let instant = list[*place];
                    instant.fills & fills != 0
                        || instant.kill & kills != 0
                        || solid && instant.solid
                };
                let expected = (place..list.len()).find(matters).unwrap_or(usize::MAX);
                assert_eq!(
                    skips.next(
                        place,
                        Concern {
                            fills,
                            kills,
                            solid
                        }
                    ),
                    expected
                );
            }
        }
        skips.fill(&list[..5]);
        assert_eq!(skips.next(7, NOTHING), 7, "short subjects are not worth it");
    }

    #[test]
    fn too_many_places_are_not_noted() {
        let mut skips = Skips::default();
        skips.fill(&vec![instant(u64::MAX, 0, true); 200]);
        assert_eq!(skips.next(7, NOTHING), 7);
        skips.fill(
            &(0..200)
                .map(|kill| instant(1, kill, true))
                .collect::<Vec<_>>(),
        );
        assert_eq!(skips.next(7, NOTHING), 7);
        skips.fill(&vec![instant(1, 1, true); 200]);
        assert_eq!(skips.next(7, NOTHING), usize::MAX);
        skips.clear();
        assert_eq!(skips.next(7, NOTHING), 7);
    }
}
