//! A hash table of u32 codes, in 8 bytes a slot: the upper half of a text's 64-bit hash, and the code.
//!
//! The table never decides that two texts are equal: it proposes codes whose half hash fits, and the caller compares
//! the text. Slots are found from the half hash alone, so that growing needs no text. At most three quarters are in
//! use, which makes 10.7 to 21.3 bytes a code.

/// Most codes: three quarters of 2^32 slots.
pub(super) const CODES_MAX: u32 = 3 << 30;

const SLOTS_MIN: usize = 16;

/// Linear probing over a power of two of slots; 0 is an empty one.
pub(super) struct Hashes {
    slots: Vec<u64>,
    used: usize,
}

/// The half of a hash that the table keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct HalfHash(u32);

impl HalfHash {
    pub(super) fn of(hash: u64) -> Self {
        Self((hash >> 32) as u32)
    }
}

fn half_of(slot: u64) -> HalfHash {
    HalfHash((slot >> 32) as u32)
}

fn code_of(slot: u64) -> u32 {
    ((slot & 0xffff_ffff) as u32).wrapping_sub(1)
}

impl Hashes {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![0; SLOTS_MIN],
            used: 0,
        }
    }

    /// Slot at which a search begins: the half hash scaled to the table.
    fn start(&self, half: HalfHash) -> usize {
        // The upper bits choose, so that a table of any size spreads over all of its slots.
        let scaled = (u64::from(half.0) * self.slots.len() as u64) >> 32;
        usize::try_from(scaled).unwrap_or(0)
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    fn slot(&self, index: usize) -> u64 {
        self.slots.get(index).copied().unwrap_or(0)
    }

    /// The code whose text `is_it` accepts.
    pub(super) fn find(&self, half: HalfHash, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut index = self.start(half);
        loop {
            let slot = self.slot(index);
            if slot == 0 {
                return None;
            }
            if half_of(slot) == half && is_it(code_of(slot)) {
                return Some(code_of(slot));
            }
            index = self.after(index);
        }
    }

    /// Adds a code below [`CODES_MAX`] that is not in the table.
    pub(super) fn insert(&mut self, half: HalfHash, code: u32) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        self.used += 1;
        self.put(u64::from(half.0) << 32 | (u64::from(code) + 1));
    }

    fn put(&mut self, entry: u64) {
        let mut index = self.start(half_of(entry));
        while self.slot(index) != 0 {
            index = self.after(index);
        }
        self.set(index, entry);
    }

    fn set(&mut self, index: usize, entry: u64) {
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = entry;
        }
    }

    fn grow(&mut self) {
        let larger = vec![0; self.slots.len() * 2];
        for entry in std::mem::replace(&mut self.slots, larger) {
            if entry != 0 {
                self.put(entry);
            }
        }
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> u64 {
        (self.slots.capacity() * size_of::<u64>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    proptest::proptest! {
        /// Few different half hashes, so that nearly everything collides.
        #[test]
        fn finds_exactly_what_was_added_whatever_collides(
            codes in proptest::collection::vec(0..200_u32, 1..200), spread in 0..33_u32,
        ) {
            let half_of_code = |code: u32| HalfHash(code.wrapping_mul(0x9e37_79b9).checked_shl(spread).unwrap_or(0));
            let mut table = Hashes::new();
            let mut truth = BTreeSet::new();
            for code in codes {
                if truth.insert(code) {
                    table.insert(half_of_code(code), code);
                }
                for code in 0..200 {
                    let found = table.find(half_of_code(code), |other| other == code);
                    proptest::prop_assert_eq!(found, truth.get(&code).copied());
                }
            }
        }
    }
}
