//! A fixed amount of computation per request: a checksum over a small buffer, repeated.
//!
//! Owns: measuring at start how many repetitions make a microsecond. Refuses: looking at a clock while working; that
//! would end early after a preemption or a cache miss that somebody else caused, and so hide what a watcher costs.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

const BLOCK_BYTES: usize = 256;
const TRIAL_PASSES: u64 = 1_000;
const TRIALS: u32 = 50;

/// The computation of one request; the same number of instructions every time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    passes: u64,
}

impl Work {
    /// Work that takes this many microseconds of an undisturbed core, by a measurement made now.
    pub(crate) fn calibrated(microseconds: u32) -> Self {
        // The fastest trial: preemption and cold caches only ever make one slower.
        let fastest = (0..TRIALS).map(|_| trial()).min().unwrap_or(Duration::MAX);
        let trial_ns = u64::try_from(fastest.as_nanos()).unwrap_or(u64::MAX).max(1);
        Self {
            passes: u64::from(microseconds) * 1_000 * TRIAL_PASSES / trial_ns,
        }
    }

    /// Passes over the buffer that one request takes.
    pub(crate) const fn passes(self) -> u64 {
        self.passes
    }

    pub(crate) fn run(self) {
        black_box(checksum(self.passes));
    }
}

fn trial() -> Duration {
    let started = Instant::now();
    black_box(checksum(black_box(TRIAL_PASSES)));
    started.elapsed()
}

/// FNV-1a: every step needs the one before, so no compiler makes it shorter and no core overlaps it.
fn checksum(passes: u64) -> u64 {
    let block = [0x5a_u8; BLOCK_BYTES];
    (0..passes).fold(0xcbf2_9ce4_8422_2325, |sum, _| {
        black_box(&block)
            .iter()
            .fold(sum, |sum: u64, byte| step(sum, *byte))
    })
}

const fn step(sum: u64, byte: u8) -> u64 {
    (sum ^ byte as u64).wrapping_mul(0x0100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_is_fnv_1a() {
        // Test vector of the algorithm's authors: 64-bit FNV-1a of "foobar".
        let sum = b"foobar"
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |sum, byte| step(sum, *byte));
        assert_eq!(sum, 0x8594_4171_f739_67e8);
    }

    #[test]
    fn passes_grow_with_the_time_asked_for() {
        let (none, some) = (Work::calibrated(0), Work::calibrated(1_000));
        assert_eq!(none.passes(), 0);
        assert!(some.passes() > 100, "{} passes", some.passes());
        assert_ne!(checksum(1), checksum(2), "a pass that changes nothing");
    }
}
