//! The fast matchers: what one subject did, from its events in time order.
//!
//! Owns: choosing the cheapest machine that is right for a funnel and a subject. Refuses: names, conditions, reading
//! events, counting subjects. Every machine agrees with `reference`, the slow and obviously right one.
//!
//! | machine | for | cost per subject |
//! |---|---|---|
//! | `newest` | ordered, plain (no optional steps, no gap limits, no exclusion among the events) | O(events) |
//! | `starts` | the same with every attempt wanted | O(events + attempts x steps) |
//! | `ordered` | ordered, strict | O(events); see there for what is not |
//! | `totals` | ordered, strict | O(events) |
//! | `unordered` | unordered, totals included | O(events) |
//! | `window_funnel` | clickhouse | O(events) |

mod bits;
mod cycles;
mod instants;
mod machine;
pub mod newest;
mod ordered;
mod out;
mod skips;
mod standing;
mod starts;
mod ties;
mod totals;
mod unordered;
mod ways;
mod window_funnel;

#[cfg(test)]
mod tests;

use self::instants::Rules;
use self::newest::Levels;
use self::ordered::{Gapless, Gapped};
use self::out::Out;
use self::starts::Starts;
use self::unordered::Unordered;
use self::window_funnel::WindowFunnel;
use crate::definition::{Count, Order};
use crate::shape::{Attempt, Mark, Shape, Verdict};

/// What a caller needs beside the attempts that count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Every clean attempt too, as trends do. Without it `Verdict::attempts` stays empty, and subjects cost less.
    pub attempts: bool,
}

/// Judges one subject after another. Its buffers are used again, so keep one per thread.
#[derive(Debug)]
pub struct Matcher {
    rules: Rules,
    attempts: bool,
    totals: bool,
    plain: Option<Plain>,
    machine: Machine,
    spare: Vec<Attempt>,
}

/// For subjects without an exclusion among their events.
#[derive(Debug)]
struct Plain {
    levels: Levels,
    starts: Starts,
}

#[derive(Debug)]
enum Machine {
    Gapless(Box<Gapless>),
    Gapped(Box<Gapped>),
    Unordered(Unordered),
    Clickhouse(Box<WindowFunnel>),
}

impl Matcher {
    /// The matcher of a shape.
    pub fn new(shape: &Shape, wants: Wants) -> Self {
        let rules = Rules::of(shape);
        let totals = match shape.count {
            Count::Totals => true,
            Count::Users | Count::Sessions => false,
        };
        let machine = match shape.order {
            Order::Ordered | Order::Strict if rules.gaps => Machine::Gapped(Box::default()),
            Order::Ordered | Order::Strict => Machine::Gapless(Box::default()),
            Order::Unordered => Machine::Unordered(Unordered::default()),
            Order::Clickhouse => Machine::Clickhouse(Box::new(WindowFunnel::new(shape))),
        };
        let plain = shape.order == Order::Ordered && rules.is_plain() && !totals;
        Self {
            plain: plain.then(|| Plain {
                levels: Levels::new(shape.steps, shape.window_ns),
                starts: Starts::default(),
            }),
            rules,
            attempts: wants.attempts,
            totals,
            machine,
            spare: Vec::new(),
        }
    }

    /// Judges a subject. `marks` are its events, sorted by time; the order within an instant does not matter. The
    /// verdict is overwritten; its lists are used again.
    pub fn judge(&mut self, marks: &[Mark], verdict: &mut Verdict) {
        let rules = &self.rules;
        let out = &mut Out::new(verdict, &mut self.spare, self.attempts);
        if let Some(plain) = &mut self.plain
            && marks.iter().all(|mark| mark.kind.excludes == 0)
        {
            plain.judge(rules, marks, out);
            return;
        }
        match (&mut self.machine, self.totals) {
            (Machine::Gapless(machine), false) => machine.judge(rules, marks, out),
            (Machine::Gapless(machine), true) => machine.judge_totals(rules, marks, out),
            (Machine::Gapped(machine), false) => machine.judge(rules, marks, out),
            (Machine::Gapped(machine), true) => machine.judge_totals(rules, marks, out),
            (Machine::Unordered(machine), false) => machine.judge(rules, marks, out),
            (Machine::Unordered(machine), true) => machine.judge_totals(rules, marks, out),
            (Machine::Clickhouse(machine), _) => {
                let level = machine.level(marks);
                if level > 0 {
                    out.count(level, rules.steps);
                }
            }
        }
    }
}

impl Plain {
    fn judge(&mut self, rules: &Rules, marks: &[Mark], out: &mut Out<'_>) {
        if out.wants_attempts() {
            self.starts.judge(rules, marks, out);
            return;
        }
        let events = marks.iter().map(|mark| (mark.at_ns, mark.kind.fills));
        let level = self.levels.run(events.clone());
        if level > 0 {
            out.attempt(level, rules.steps, |times| self.levels.times(events, times));
        }
    }
}
