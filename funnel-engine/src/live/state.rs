//! What a funnel needs of the state it keeps per subject, and how subjects are told apart.
//!
//! Owns: the seam between the two machines (`plain`, `judged`) and the keeper that holds their states within bounds.

use super::{
    judged::{Bench, Judged, recount},
    plain::{Filling, Plain, Rules, Step, change},
    window::Windows,
};
use crate::{
    definition::Count,
    shape::{Kind, Mark},
};

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Whose shop; empty for none.
    pub tenant: &'a str,
    /// The user, if known.
    pub user: Option<&'a str>,
    /// The session, if known.
    pub session: Option<&'a str>,
}

impl Subject<'_> {
    /// Writes what tells subjects of one tenant apart; false when the event has none to count.
    pub(super) fn key(&self, count: Count, into: &mut Vec<u8>) -> bool {
        into.clear();
        match (count, self.user, self.session) {
            (Count::Users | Count::Totals, Some(user), _) => {
                into.extend_from_slice(user.as_bytes());
            }
            (Count::Sessions, user, Some(session)) => {
                // The length in front keeps "a" + "bc" and "ab" + "c" apart.
                let length = user.map_or(u64::MAX, |user| user.len() as u64);
                into.extend_from_slice(&length.to_le_bytes());
                into.extend_from_slice(user.unwrap_or_default().as_bytes());
                into.extend_from_slice(session.as_bytes());
            }
            (Count::Users | Count::Totals, None, _) | (Count::Sessions, _, None) => return false,
        }
        true
    }
}

/// From when on a state knows everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Windows (totals: entries) that begin here or later are kept.
    pub(super) kept_from: i64,
    /// Events from here on can do nothing to what is not kept.
    pub(super) exact_from: i64,
}

/// How much one state may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Marks that have to be kept.
    pub(super) marks: usize,
    /// Marks that are kept for late events only.
    pub(super) history: usize,
    /// All states together hold as much as they may.
    pub(super) is_tight: bool,
}

/// Result windows, or entries, in order, with the set of steps that count.
pub(super) type Counted = Vec<(i64, u64)>;

/// Keeps the state of a subject up to date.
pub(super) trait Machine {
    /// Of one subject.
    type State;
    /// Whether an event does anything.
    fn takes(&self, kind: Kind) -> bool;
    /// Of a subject without events.
    fn fresh(&self, known: Known) -> Self::State;
    /// Takes an event in; what counts changes in `windows`.
    fn apply(
        &mut self,
        state: &mut Self::State,
        mark: Mark,
        room: Room,
        windows: &mut Windows,
    ) -> Step;
    /// Lets go of what is not needed; `is_urgent` when there is no room.
    fn settle(&self, state: &mut Self::State, room: Room, watermark_ns: i64, is_urgent: bool);
    /// From all marks (sorted) since `known.kept_from`.
    fn rebuilt(&mut self, known: Known, marks: Vec<Mark>) -> (Self::State, Counted);
    /// Counts what changed.
    fn recount(&self, old: Counted, new: Counted, windows: &mut Windows);
    /// The newest event of a state.
    fn newest_ns(state: &Self::State) -> i64;
    /// How many marks a state holds.
    fn held(state: &Self::State) -> usize;
}

impl Machine for Rules {
    type State = Plain;

    fn takes(&self, kind: Kind) -> bool {
        kind.fills != 0
    }

    fn fresh(&self, known: Known) -> Plain {
        Plain::new(known)
    }

    fn apply(&mut self, state: &mut Plain, mark: Mark, room: Room, windows: &mut Windows) -> Step {
        state.apply(self, filling(mark), room.marks, windows)
    }

    fn settle(&self, state: &mut Plain, room: Room, watermark_ns: i64, is_urgent: bool) {
        if room.is_tight {
            // The newest instant has to stay, for a tie; one more makes an instant to fold.
            state.settle(self, 2, i64::MAX, watermark_ns);
        } else if is_urgent || state.held() > room.marks {
            state.settle(self, room.history, i64::MAX, watermark_ns);
        } else if state.held().is_multiple_of(room.history / 2) {
            // Events that are not late yet may still get others before them, so they stay. Now and then is enough.
            state.settle(self, room.history, watermark_ns, watermark_ns);
        }
    }

    fn rebuilt(&mut self, known: Known, marks: Vec<Mark>) -> (Plain, Counted) {
        Plain::rebuilt(self, known, marks.into_iter().map(filling).collect())
    }

    fn recount(&self, old: Counted, new: Counted, windows: &mut Windows) {
        change(old.into_iter(), new.into_iter(), |window, was, is| {
            windows.swap(window, was, is);
        });
    }

    fn newest_ns(state: &Plain) -> i64 {
        state.newest_ns()
    }

    fn held(state: &Plain) -> usize {
        state.held()
    }
}

const fn filling(mark: Mark) -> Filling {
    Filling {
        at_ns: mark.at_ns,
        fills: mark.kind.fills,
    }
}

impl Machine for Bench {
    type State = Judged;

    fn takes(&self, kind: Kind) -> bool {
        self.shape().wants(kind)
    }

    fn fresh(&self, known: Known) -> Judged {
        Judged::new(known)
    }

    fn apply(&mut self, state: &mut Judged, mark: Mark, room: Room, windows: &mut Windows) -> Step {
        let bound = if room.is_tight { 0 } else { room.marks };
        state.apply(self, mark, bound, windows)
    }

    fn settle(&self, state: &mut Judged, room: Room, watermark_ns: i64, is_urgent: bool) {
        // Now and then is enough: what is judged is cut out of the marks, however many there are.
        let is_due = state.held() >= room.history && state.held().is_power_of_two();
        if is_urgent || is_due || state.held() > room.marks {
            state.settle(self, watermark_ns);
        }
        if state.held() > room.marks {
            state.spill();
        }
    }

    fn rebuilt(&mut self, known: Known, marks: Vec<Mark>) -> (Judged, Counted) {
        Judged::rebuilt(self, known, marks)
    }

    fn recount(&self, old: Counted, new: Counted, windows: &mut Windows) {
        recount(self, &old, &new, windows);
    }

    fn newest_ns(state: &Judged) -> i64 {
        state.newest_ns()
    }

    fn held(state: &Judged) -> usize {
        state.held()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(count: Count, user: Option<&str>, session: Option<&str>) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        let subject = Subject {
            tenant: "t",
            user,
            session,
        };
        subject.key(count, &mut key).then_some(key)
    }

    #[test]
    fn subjects_are_told_apart() {
        assert_eq!(key(Count::Users, None, Some("s")), None);
        assert_eq!(key(Count::Sessions, Some("u"), None), None);
        assert_eq!(
            key(Count::Users, Some("u"), Some("s")),
            key(Count::Totals, Some("u"), None)
        );
        let sessions = [
            (Some("a"), "bc"),
            (Some("ab"), "c"),
            (None, "abc"),
            (Some(""), "abc"),
        ];
        let keys = sessions.map(|(user, session)| key(Count::Sessions, user, Some(session)));
        for (index, one) in keys.iter().enumerate() {
            assert!(keys.iter().skip(index + 1).all(|other| other != one));
        }
    }
}
