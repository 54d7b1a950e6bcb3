//! The level that ClickHouse's `windowFunnel` gives, restated plainly for every mode and combination of modes.
//!
//! Owns: the order `clickhouse`. Refuses: times of steps (the function gives a level only) and any wish to be
//! better than ClickHouse; where the function is odd, this is odd in the same way.
//!
//! One combination depends on the order of rows in the engine: `strict_once` with `strict_deduplication`, when rows
//! of one timestamp meet the same condition. Here rows of one timestamp are taken by the conditions they meet.

use crate::{
    definition::Mode,
    shape::{Mark, Shape},
};

/// One row meets one condition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at_ns: i64,
    /// From 1; 0 for a row that meets no condition.
    condition: usize,
    row: usize,
}

/// Rows that met the conditions 1, 2, ... one after another.
#[derive(Clone)]
struct Chain {
    first_ns: i64,
    last_ns: i64,
    rows: Vec<usize>,
}

/// What an entry does to the scan.
enum Then {
    GoOn,
    Stop,
}

/// The level of one subject, 0 if no row met the first condition.
pub(super) fn level(shape: &Shape, marks: &[Mark]) -> usize {
    let mut scan = Scan {
        shape,
        chains: vec![Vec::new(); shape.steps],
    };
    for entry in entries(shape, marks) {
        match scan.take(entry) {
            Then::GoOn => {}
            Then::Stop => break,
        }
        // "... returns at once when the last level is reached." With one condition that is the first row that
        // meets it.
        if scan.is_set(shape.steps) {
            break;
        }
    }
    // "Result = highest level ever set."
    (1..=shape.steps)
        .rev()
        .find(|level| scan.is_set(*level))
        .unwrap_or(0)
}

/// "Every row adds one entry (ts, i) per condition i it meets; with `strict_order` a row meeting none adds (ts, 0).
/// Entries are stable-sorted by (ts, i)."
fn entries(shape: &Shape, marks: &[Mark]) -> Vec<Entry> {
    let mut rows = marks.to_vec();
    rows.sort_by_key(|mark| (mark.at_ns, mark.kind.fills));
    let mut entries = Vec::new();
    for (row, mark) in rows.iter().enumerate() {
        let met: Vec<usize> = (1..=shape.steps)
            .filter(|condition| mark.kind.fills >> (condition - 1) & 1 == 1)
            .collect();
        if met.is_empty() && has(shape, Mode::StrictOrder) {
            entries.push(Entry {
                at_ns: mark.at_ns,
                condition: 0,
                row,
            });
        }
        entries.extend(met.into_iter().map(|condition| Entry {
            at_ns: mark.at_ns,
            condition,
            row,
        }));
    }
    entries.sort();
    entries
}

fn has(shape: &Shape, mode: Mode) -> bool {
    shape.modes.contains(&mode)
}

/// The scan over the entries, in their order.
struct Scan<'a> {
    shape: &'a Shape,
    /// For each level its chains: all with `strict_once`, else the last one only.
    chains: Vec<Vec<Chain>>,
}

impl Scan<'_> {
    fn take(&mut self, entry: Entry) -> Then {
        let has = |mode| has(self.shape, mode);
        let level = entry.condition;
        let is_started = self.is_set(1);
        if level == 0 {
            // "After the first level-1 entry, a row with no condition stops the scan for good."
            return if is_started { Then::Stop } else { Then::GoOn };
        }
        if level == 1 {
            // "Level-1 entries always overwrite"; "level 1 is exempt" from `strict_deduplication`.
            self.put(
                1,
                vec![Chain {
                    first_ns: entry.at_ns,
                    last_ns: entry.at_ns,
                    rows: vec![entry.row],
                }],
            );
            return Then::GoOn;
        }
        if has(Mode::StrictDeduplication) && self.is_set(level) {
            // "An entry for a level that is already set stops the scan."
            return Then::Stop;
        }
        if has(Mode::StrictOrder) && is_started && !self.is_set(level - 1) {
            // "A level whose predecessor is unset stops it too"; `allow_reentry` "skips too-early levels instead".
            return if has(Mode::AllowReentry) {
                Then::GoOn
            } else {
                Then::Stop
            };
        }
        let longer: Vec<Chain> = self
            .chains_of(level - 1)
            .iter()
            .filter(|chain| self.extends(chain, entry))
            .map(|chain| Chain {
                first_ns: chain.first_ns,
                last_ns: entry.at_ns,
                rows: chain.rows.iter().copied().chain([entry.row]).collect(),
            })
            .collect();
        self.put(level, longer);
        Then::GoOn
    }

    /// "Level k extends level k-1 if `ts <= first + window` (inclusive)"; `strict_increase`: "next step needs a
    /// strictly later ts"; `strict_once`: "a row fills at most one step of a chain".
    fn extends(&self, chain: &Chain, entry: Entry) -> bool {
        let since_first = i128::from(entry.at_ns) - i128::from(chain.first_ns);
        since_first <= i128::from(self.shape.window_ns)
            && (!has(self.shape, Mode::StrictIncrease) || chain.last_ns < entry.at_ns)
            && (!has(self.shape, Mode::StrictOnce) || !chain.rows.contains(&entry.row))
    }

    /// "Per level it keeps ONE chain ... Later chains overwrite earlier ones"; `strict_once`: "all chains are kept".
    fn put(&mut self, level: usize, new: Vec<Chain>) {
        let keeps_all = has(self.shape, Mode::StrictOnce);
        if let Some(chains) = self.chains.get_mut(level - 1) {
            if !keeps_all && !new.is_empty() {
                chains.clear();
            }
            chains.extend(new);
        }
    }

    fn is_set(&self, level: usize) -> bool {
        !self.chains_of(level).is_empty()
    }

    fn chains_of(&self, level: usize) -> &[Chain] {
        self.chains.get(level - 1).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::notation::{clickhouse, marks};

    fn level_of(steps: usize, modes: &[Mode], text: &str) -> usize {
        level(&clickhouse(steps, modes), &marks(text))
    }

    #[test]
    fn the_window_is_inclusive_and_starts_at_the_first_condition() {
        assert_eq!(level_of(3, &[], "a@0 b@5 c@10"), 3);
        assert_eq!(level_of(3, &[], "a@0 b@5 c@11"), 2);
        assert_eq!(level_of(3, &[], "b@0 c@1"), 0);
    }

    #[test]
    fn rows_of_one_time_advance_in_the_order_of_conditions() {
        assert_eq!(level_of(2, &[], "b@5 a@5"), 2);
        assert_eq!(level_of(3, &[], "c@5 b@5 a@5"), 3);
    }

    #[test]
    fn one_row_can_fill_several_steps_unless_once() {
        assert_eq!(level_of(3, &[], "abc@0"), 3);
        assert_eq!(level_of(3, &[Mode::StrictOnce], "abc@0"), 1);
        assert_eq!(level_of(3, &[Mode::StrictOnce], "abc@0 abc@0"), 2);
        assert_eq!(level_of(1, &[], "a@0"), 1);
    }

    #[test]
    fn a_later_chain_overwrites_an_earlier_one() {
        assert_eq!(level_of(3, &[], "a@0 a@4 b@5 c@12"), 3);
        // The level stays set although the later chain goes no further.
        assert_eq!(level_of(3, &[], "a@0 b@1 a@20"), 2);
    }

    #[test]
    fn deduplication_stops_at_a_level_that_is_set() {
        let modes = [Mode::StrictDeduplication];
        assert_eq!(level_of(3, &modes, "a@0 b@1 b@2 c@3"), 2);
        assert_eq!(level_of(3, &modes, "a@0 a@1 b@2 c@3"), 3);
    }

    #[test]
    fn strict_order_stops_for_good() {
        let modes = [Mode::StrictOrder];
        assert_eq!(level_of(3, &modes, "a@0 .@1 a@2 b@3"), 1);
        assert_eq!(level_of(3, &modes, ".@0 a@1 b@2"), 2);
        assert_eq!(level_of(3, &modes, "a@0 c@1 b@2 c@3"), 1);
        assert_eq!(level_of(3, &modes, "b@0 a@1 b@2 c@3"), 3);
        // A row without a condition comes first among the rows of its time.
        assert_eq!(level_of(2, &modes, "a@0 b@1 .@1"), 1);
        assert_eq!(level_of(2, &modes, "a@0 b@0 .@0"), 2);
    }

    #[test]
    fn reentry_skips_steps_that_come_too_early_but_not_rows_without_a_condition() {
        let modes = [Mode::StrictOrder, Mode::AllowReentry];
        assert_eq!(level_of(3, &modes, "a@0 c@1 b@2 c@3"), 3);
        assert_eq!(level_of(3, &modes, "a@0 .@1 b@2 c@3"), 1);
    }

    #[test]
    fn strict_increase_has_the_open_defect_of_clickhouse() {
        // a@1 overwrites a@0, and b@1 is not later than that.
        assert_eq!(level_of(2, &[Mode::StrictIncrease], "a@0 a@1 b@1"), 1);
        assert_eq!(level_of(2, &[Mode::StrictIncrease], "a@0 b@1"), 2);
        let kept = [Mode::StrictIncrease, Mode::StrictOnce];
        assert_eq!(level_of(2, &kept, "a@0 a@1 b@1"), 2);
    }

    #[test]
    fn once_with_deduplication_takes_rows_of_one_time_by_their_conditions() {
        let modes = [Mode::StrictOnce, Mode::StrictDeduplication];
        // The row b comes before the row ab: b sets level 2, ab meets condition 2 again and stops the scan.
        assert_eq!(level_of(3, &modes, "ab@0 b@0 c@1"), 2);
        assert_eq!(level_of(3, &modes, "b@0 ab@0 c@1"), 2);
        assert_eq!(level_of(3, &modes, "a@0 b@0 c@1"), 3);
    }
}
