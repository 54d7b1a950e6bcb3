//! Counting, with one look-up per program run.

use weir_abi::Counter;

use crate::COUNTERS;

/// This CPU's counters.
#[derive(Clone, Copy)]
pub struct Counters(*mut [u64; weir_abi::COUNTER_COUNT as usize]);

impl Counters {
    #[inline(always)]
    pub fn of_this_cpu() -> Option<Self> {
        COUNTERS.get_ptr_mut(0).map(Self)
    }

    #[inline(always)]
    pub fn add(self, counter: Counter, by: u64) {
        // SAFETY: the value belongs to this CPU, and the index is below its length by construction.
        unsafe { (*self.0)[counter as usize] += by };
    }

    #[inline(always)]
    pub fn get(self, counter: Counter) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0)[counter as usize] }
    }
}
