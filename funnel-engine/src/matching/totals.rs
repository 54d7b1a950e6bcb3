//! Totals of `ordered` and `strict` funnels: a subject enters again after completion, window end or exclusion.
//!
//! Owns: when an entry ends and which one begins next. Refuses: following ways, which is the machine's.
//!
//! Cost: entries do not overlap, so O(events); with limited gaps and exclusions each entry is followed twice.

use crate::matching::bits::{above, has, highest};
use crate::matching::instants::Rules;
use crate::matching::ordered::Ordered;
use crate::matching::out::Out;
use crate::matching::standing::Standing;
use crate::matching::ways::{Earliest, Newest};
use crate::shape::Mark;

/// How an entry ended, and from which instant on the next one may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Completed(usize),
    Excluded(usize),
    /// Strictness has ended every way.
    Broken(usize),
    Window(usize),
}

impl<N: Standing<Newest> + Default, E: Standing<Earliest> + Default> Ordered<N, E> {
    /// Judges a subject entry by entry.
    pub(super) fn judge_totals(&mut self, rules: &Rules, marks: &[Mark], out: &mut Out<'_>) {
        self.instants.fill(rules, marks);
        self.skips.clear();
        let mut from = 0;
        while let Some(start) = self.instants.start_from(from) {
            let end = self.enter(rules, start);
            let level = highest(self.earliest.recorded);
            let (next, counts) = match end {
                End::Completed(next) | End::Broken(next) => (next, true),
                End::Excluded(next) => (next, false),
                // Without limited gaps an untainted way can go wherever a tainted one of no higher level goes.
                End::Window(next) => {
                    let alone = !rules.gaps || self.instants.kills == 0;
                    (next, alone || self.level_from(rules, start) <= level)
                }
            };
            if let Some(level) = level.filter(|_| counts) {
                self.tell(rules, level, out);
            }
            from = next;
        }
        out.count_all();
    }

    // Follows an entry to its end.
    fn enter(&mut self, rules: &Rules, start: usize) -> End {
        self.earliest.clear(rules, true);
        let list = self.instants.list.as_slice();
        let Some(begin) = list.get(start).map(|instant| instant.at) else {
            return End::Window(list.len());
        };
        for (index, instant) in list.iter().enumerate().skip(start) {
            if instant.at.saturating_sub(begin) > rules.window {
                return End::Window(index);
            }
            let before = highest(self.earliest.recorded);
            self.earliest
                .step(rules, &self.instants.groups, instant, index == start, true);
            if self.earliest.recorded & rules.last != 0 {
                return End::Completed(index + 1);
            }
            let Some(before) = before else { continue };
            if has(instant.kill, before) && self.earliest.arrived & above(before) == 0 {
                return End::Excluded(index);
            }
            if rules.strict && instant.solid && self.earliest.arrived == 0 {
                return End::Broken(index);
            }
        }
        End::Window(list.len())
    }
}
