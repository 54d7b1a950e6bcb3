//! Arrays of unsigned integers packed to a common width.
//!
//! Any width of 0..=57 bits is read with one unaligned load of eight bytes, because such a value and the up to seven
//! bits before it fit into 64. Wider values take 64 bits, which puts each at a byte border. The load of the last
//! values reaches behind the array: whoever stores one keeps [`SLACK`] bytes behind it.

/// Bytes that must follow a packed array.
pub(super) const SLACK: usize = 8;

/// The width that holds every value up to `largest`: 0..=57 or 64.
pub(super) fn width_of(largest: u64) -> u8 {
    match 64 - largest.leading_zeros() {
        bits @ 0..=57 => u8::try_from(bits).unwrap_or(64),
        _ => 64,
    }
}

/// Whether a stored width is one that [`width_of`] gives.
pub(super) fn is_width(width: u8) -> bool {
    width <= 57 || width == 64
}

/// Bytes that `count` values take, without the slack.
pub(super) fn packed_bytes(count: u64, width: u8) -> Option<u64> {
    Some(count.checked_mul(u64::from(width))?.div_ceil(8))
}

/// Appends the values to `out`; the slack is not written.
pub(super) fn pack(out: &mut Vec<u8>, width: u8, values: impl Iterator<Item = u64>) {
    let width = u32::from(width);
    let mut pending = 0_u128;
    let mut filled = 0_u32;
    for value in values {
        pending |= u128::from(value) << filled;
        filled += width;
        if filled >= 64 {
            out.extend_from_slice(&low_half(pending).to_le_bytes());
            pending >>= 64;
            filled -= 64;
        }
    }
    let rest = low_half(pending).to_le_bytes();
    out.extend(rest.iter().take(filled.div_ceil(8) as usize));
}

fn low_half(pending: u128) -> u64 {
    (pending & 0xffff_ffff_ffff_ffff) as u64
}

/// A packed array that is read in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed<'a> {
    bytes: &'a [u8],
    width: usize,
    mask: u64,
}

impl<'a> Packed<'a> {
    /// `bytes` begins with the array and holds its slack.
    pub(super) fn new(bytes: &'a [u8], width: u8) -> Self {
        let mask = match width {
            0 => 0,
            1..=63 => (1 << width) - 1,
            64.. => u64::MAX,
        };
        Self {
            bytes,
            width: usize::from(width),
            mask,
        }
    }

    /// The value at `index`; 0 behind the slack, anything inside it.
    #[inline]
    pub(super) fn get(&self, index: usize) -> u64 {
        let bit = index.wrapping_mul(self.width);
        let tail = self.bytes.get(bit >> 3..);
        let Some(word) = tail.and_then(<[u8]>::first_chunk::<8>) else {
            return 0;
        };
        (u64::from_le_bytes(*word) >> (bit & 7)) & self.mask
    }
}

impl Packed<'_> {
    /// Hands out the first `count` values. Narrow ones come several from one load.
    #[inline]
    pub(super) fn for_each(&self, count: usize, mut take: impl FnMut(u64)) {
        // So many fit beside the up to seven bits before the first.
        let per_load = 57_usize.checked_div(self.width).unwrap_or(usize::MAX);
        if per_load < 2 {
            (0..count).for_each(|index| take(self.get(index)));
            return;
        }
        let mut index = 0;
        while index < count {
            let bit = index.wrapping_mul(self.width);
            let tail = self.bytes.get(bit >> 3..);
            let word = tail.and_then(<[u8]>::first_chunk::<8>);
            let mut rest = word.map_or(0, |word| u64::from_le_bytes(*word)) >> (bit & 7);
            let end = count.min(index.saturating_add(per_load));
            for _ in index..end {
                take(rest & self.mask);
                rest >>= self.width;
            }
            index = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(values: &[u64], width: u8) -> Vec<u64> {
        let mut bytes = Vec::new();
        pack(&mut bytes, width, values.iter().copied());
        assert_eq!(
            bytes.len() as u64,
            packed_bytes(values.len() as u64, width).unwrap()
        );
        bytes.extend([0xff; SLACK]);
        let packed = Packed::new(&bytes, width);
        let read: Vec<u64> = (0..values.len()).map(|index| packed.get(index)).collect();
        let mut handed_out = Vec::new();
        packed.for_each(values.len(), |value| handed_out.push(value));
        assert_eq!(handed_out, read);
        read
    }

    #[test]
    fn every_width_keeps_its_extremes_beside_each_other() {
        for bits in 0..=64_u32 {
            let largest = u64::MAX.checked_shr(64 - bits).unwrap_or(0);
            let width = width_of(largest);
            assert!(is_width(width) && u32::from(width) >= bits);
            let values: Vec<u64> = (0..67)
                .map(|index| if index % 3 == 0 { 0 } else { largest })
                .collect();
            assert_eq!(round_trip(&values, width), values, "{bits} bits");
        }
    }

    #[test]
    fn width_is_the_smallest_that_one_load_can_read() {
        assert_eq!(width_of(0), 0);
        assert_eq!(width_of(1), 1);
        assert_eq!(width_of((1 << 57) - 1), 57);
        assert_eq!(width_of(1 << 57), 64);
        assert!(!is_width(58) && !is_width(63) && !is_width(65));
    }

    #[test]
    fn an_index_far_behind_the_end_is_zero() {
        let packed = Packed::new(&[0xff; 16], 57);
        assert_eq!(packed.get(1_000), 0);
        assert_eq!(packed.get(usize::MAX), 0);
    }

    proptest! {
        #[test]
        fn values_come_back(values in proptest::collection::vec(any::<u64>(), 0..300), shift in 0..64_u32) {
            let values: Vec<u64> = values.iter().map(|value| value >> shift).collect();
            let width = width_of(values.iter().copied().max().unwrap_or(0));
            prop_assert_eq!(round_trip(&values, width), values);
        }
    }
}
