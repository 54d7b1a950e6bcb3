//! What is remembered of a way, and which of two ways at the same step is the better one.
//!
//! Owns: [`Newest`] (a way is its start; the newest start wins), for all starts in one pass, and [`Earliest`] (a way is
//! the times of its steps; the lexicographically smallest wins), for the times of one start. Refuses: whether a step may
//! be taken.
//!
//! Bounds: `Earliest` keeps one node per step taken, so at most events times steps of one attempt.

use crate::matching::bits::{PerStep, has, highest, members};

/// A rule of what to remember of a way.
pub(super) trait Memory {
    /// A way.
    type Way: Copy + Default;

    /// Forgets all ways.
    fn clear(&mut self);

    /// A way that starts at an instant, before its first step.
    fn seed(&self, at: i64) -> Self::Way;

    /// Whether the window of a way that was not worse than any other is still open.
    fn is_open(&self, way: Self::Way, at: i64, window: i64) -> bool;

    /// A way that goes on by steps, all at one time.
    fn extend(&mut self, way: Self::Way, steps: u64, at: i64) -> Self::Way;

    /// Whether the first of two ways, which stand at the same step, is better than the second.
    fn is_better(&self, left: Self::Way, right: Self::Way) -> bool;
}

/// A way is its start.
#[derive(Debug, Default)]
pub(super) struct Newest;

impl Memory for Newest {
    type Way = i64;

    fn clear(&mut self) {}

    fn seed(&self, at: i64) -> i64 {
        at
    }

    fn is_open(&self, way: i64, at: i64, window: i64) -> bool {
        at.saturating_sub(way) <= window
    }

    fn extend(&mut self, way: i64, _steps: u64, _at: i64) -> i64 {
        way
    }

    fn is_better(&self, left: i64, right: i64) -> bool {
        left > right
    }
}

#[derive(Clone, Copy, Debug)]
struct Node {
    at: i64,
    steps: u64,
    /// Index of the node before, plus 1; 0 for none.
    before: usize,
}

/// A way is the times of its steps, as a chain of nodes. Ways share what they have in common.
#[derive(Debug, Default)]
pub(super) struct Earliest {
    nodes: Vec<Node>,
}

impl Earliest {
    fn chain(&self, way: usize) -> impl Iterator<Item = Node> {
        let node = |way: usize| {
            way.checked_sub(1)
                .and_then(|index| self.nodes.get(index))
                .copied()
        };
        std::iter::successors(node(way), move |last| node(last.before))
    }

    /// The times of a way's steps, by step; the others are left as they are.
    pub(super) fn write(&self, way: usize, times: &mut [Option<i64>]) {
        for node in self.chain(way) {
            for (step, time) in times.iter_mut().enumerate().take(64) {
                if has(node.steps, step) {
                    *time = Some(node.at);
                }
            }
        }
    }

    fn times(&self, way: usize) -> PerStep<i64> {
        let mut times = PerStep::of(i64::MAX);
        for node in self.chain(way) {
            members(node.steps).for_each(|step| times.set(step, node.at));
        }
        times
    }

    fn steps(&self, way: usize) -> u64 {
        self.chain(way).fold(0, |all, node| all | node.steps)
    }
}

impl Memory for Earliest {
    type Way = usize;

    fn clear(&mut self) {
        self.nodes.clear();
    }

    fn seed(&self, _at: i64) -> usize {
        0
    }

    fn is_open(&self, _way: usize, _at: i64, _window: i64) -> bool {
        // There is one start only, and its machine stops at the end of the window.
        true
    }

    fn extend(&mut self, way: usize, steps: u64, at: i64) -> usize {
        self.nodes.push(Node {
            at,
            steps,
            before: way,
        });
        self.nodes.len()
    }

    fn is_better(&self, left: usize, right: usize) -> bool {
        if left == right {
            return false;
        }
        let (left_times, right_times) = (self.times(left), self.times(right));
        let top = highest(self.steps(left) | self.steps(right)).unwrap_or(0);
        let differing = (0..=top).find(|step| left_times.get(*step) != right_times.get(*step));
        differing.is_some_and(|step| left_times.get(step) < right_times.get(step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lexicographically_smaller_way_is_better() {
        let mut ways = Earliest::default();
        let start = ways.extend(0, 0b1, 10);
        let second = ways.extend(start, 0b10, 15);
        let via_second = ways.extend(second, 0b1000, 30);
        let via_third = ways.extend(start, 0b1100, 20);
        assert!(
            ways.is_better(via_second, via_third),
            "step 2 filled beats step 2 skipped"
        );
        assert!(!ways.is_better(via_third, via_second) && !ways.is_better(via_third, via_third));
        let mut times = vec![None; 4];
        ways.write(via_third, &mut times);
        assert_eq!(times, [Some(10), None, Some(20), Some(20)]);
    }

    #[test]
    fn the_newer_start_is_better_while_its_window_is_open() {
        let ways = Newest;
        assert!(ways.is_better(5, 4) && !ways.is_better(4, 4));
        assert!(ways.is_open(5, 15, 10) && !ways.is_open(5, 16, 10));
    }
}
