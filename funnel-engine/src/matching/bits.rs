//! Sets of steps as 64-bit words, and one value per step.
//!
//! Owns: walking a set, skipping optional steps, and an array whose index cannot be out of bounds. Refuses: knowing what
//! the steps mean.

/// The members of a set, ascending.
pub(super) const fn members(set: u64) -> Members {
    Members(set)
}

/// Iterator of [`members`].
pub(super) struct Members(u64);

impl Iterator for Members {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let lowest = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(lowest)
    }
}

/// The set of the first `count` steps; 64 and more are all.
pub(super) const fn first(count: usize) -> u64 {
    if count >= 64 {
        u64::MAX
    } else {
        (1 << count) - 1
    }
}

/// The set of one step.
#[inline]
pub(super) const fn only(step: usize) -> u64 {
    1 << (step & 63)
}

/// Whether a set has a step.
#[inline]
pub(super) const fn has(set: u64, step: usize) -> bool {
    set >> (step & 63) & 1 == 1
}

/// The highest step of a set.
#[inline]
pub(super) fn highest(set: u64) -> Option<usize> {
    set.checked_ilog2().map(|step| step as usize)
}

/// The steps above one.
#[inline]
pub(super) const fn above(step: usize) -> u64 {
    // Two shifts, because one by 64 is not defined.
    u64::MAX << (step & 63) << 1
}

/// `next` and everything that can be had instead by skipping optional steps of it.
#[inline]
pub(super) const fn skipping(next: u64, optional: u64) -> u64 {
    let mut reached = next;
    let mut skipped = next & optional;
    while skipped != 0 {
        let further = (skipped << 1) & !reached;
        reached |= further;
        skipped = further & optional;
    }
    reached
}

/// One value per step. The index is taken modulo 64, which the compiler sees, so that no access needs a check.
#[derive(Clone, Debug)]
pub(super) struct PerStep<T>([T; 64]);

impl<T: Copy + Default> PerStep<T> {
    /// The same value for all.
    pub(super) const fn of(value: T) -> Self {
        Self([value; 64])
    }

    /// The value of a step.
    #[inline]
    pub(super) fn get(&self, step: usize) -> T {
        self.0.get(step & 63).copied().unwrap_or_default()
    }

    /// Changes the value of a step.
    #[inline]
    pub(super) fn set(&mut self, step: usize, value: T) {
        if let Some(slot) = self.0.get_mut(step & 63) {
            *slot = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{above, first, has, highest, members, only, skipping};

    #[test]
    fn sets_at_both_ends_of_the_word() {
        assert_eq!(members(1 | 1 << 63).collect::<Vec<_>>(), [0, 63]);
        assert_eq!((first(0), first(3), first(64)), (0, 0b111, u64::MAX));
        assert_eq!((above(0), above(62), above(63)), (!1, only(63), 0));
        assert_eq!((highest(0), highest(0b101)), (None, Some(2)));
        assert!(has(only(63), 63) && !has(only(63), 62));
    }

    #[test]
    fn skipping_goes_through_runs_of_optional_steps_only() {
        assert_eq!(skipping(0b0001, 0), 0b0001);
        assert_eq!(skipping(0b0010, 0b0110), 0b1110);
        assert_eq!(skipping(0b1_0010, 0b1_0110), 0b11_1110);
        assert_eq!(skipping(only(63), only(63)), only(63));
    }
}
