//! What a scan looks for, by name code: which steps an event can fill, and which runs have an event of the first step.

use std::ops::Range;

use crate::{
    index::{Codes, NameSet},
    shape::Kind,
};

/// Codes of one byte.
const NARROW: usize = 256;
/// Events of one word of [`Marks`].
const WORD: usize = 64;
/// Names that are searched for by comparing instead of looking each event's name up.
const COMPARED_MAX: usize = 6;

/// What a scan looks for in one tenant's events.
pub(in crate::columnar) struct Wanted {
    /// Steps that events of each name fill, by name code.
    fills: Vec<u64>,
    /// The same of the codes that fit a byte.
    narrow: [u64; NARROW],
    /// Names of the first step: where none of them is, nobody enters.
    first: Vec<u16>,
    first_set: NameSet,
    pub(super) time_range: (i64, i64),
}

/// Which events of a block can fill the first step; a bit per event.
#[derive(Debug, Default)]
pub(super) struct Marks(Vec<u64>);

impl Wanted {
    pub(in crate::columnar) fn new(kinds: &[Kind], time_range: (i64, i64)) -> Self {
        let is_first = |(_, kind): &(u16, &Kind)| kind.fills & 1 == 1;
        let first: Vec<u16> = (0..)
            .zip(kinds)
            .filter(is_first)
            .map(|(code, _)| code)
            .collect();
        let mut narrow = [0; NARROW];
        for (slot, kind) in narrow.iter_mut().zip(kinds) {
            *slot = kind.fills;
        }
        Self {
            fills: kinds.iter().map(|kind| kind.fills).collect(),
            narrow,
            first_set: first.iter().copied().collect(),
            first,
            time_range,
        }
    }

    /// Names of the first step.
    pub(super) const fn first(&self) -> &NameSet {
        &self.first_set
    }

    /// Whether an instant lies in the time range.
    pub(super) fn covers(&self, at_ns: i64) -> bool {
        self.time_range.0 <= at_ns && at_ns < self.time_range.1
    }

    /// The steps that an event of a block can fill.
    #[inline]
    pub(super) fn fills(&self, codes: &Codes<'_>, index: usize) -> u64 {
        match codes {
            Codes::U8(bytes) => self.fills_of_byte(bytes, index),
            Codes::U16(_) => {
                let code = usize::from(codes.get(index));
                self.fills.get(code).copied().unwrap_or(0)
            }
        }
    }

    /// The same where codes are bytes.
    #[inline]
    pub(super) fn fills_of_byte(&self, codes: &[u8], index: usize) -> u64 {
        let code = codes.get(index);
        let fills = code.and_then(|code| self.narrow.get(usize::from(*code)));
        fills.copied().unwrap_or(0)
    }

    /// Whether events of a code of one byte fill no step but the first.
    #[inline]
    pub(super) fn is_first_or_none(&self, code: u8) -> bool {
        let fills = self.narrow.get(usize::from(code));
        fills.is_none_or(|fills| *fills <= 1)
    }

    /// Marks the events of a block.
    pub(super) fn mark(&self, codes: &Codes<'_>, marks: &mut Marks) {
        marks.0.clear();
        match codes {
            Codes::U8(bytes) if self.first.len() <= COMPARED_MAX => {
                // What is not one of these codes cannot be equal to a byte.
                let names = self
                    .first
                    .iter()
                    .filter_map(|code| u8::try_from(*code).ok());
                let mut some = [0; COMPARED_MAX];
                let count = some
                    .iter_mut()
                    .zip(names)
                    .map(|(slot, name)| *slot = name)
                    .count();
                marks.compare(bytes, some.get(..count).unwrap_or_default());
            }
            Codes::U8(bytes) => marks.look_up(bytes.chunks(WORD), |code| {
                self.narrow
                    .get(usize::from(*code))
                    .is_some_and(|fills| fills & 1 == 1)
            }),
            Codes::U16(bytes) => marks.look_up(bytes.as_chunks::<2>().0.chunks(WORD), |code| {
                let code = usize::from(u16::from_le_bytes(*code));
                self.fills.get(code).is_some_and(|fills| fills & 1 == 1)
            }),
        }
    }
}

impl Marks {
    fn look_up<'a, T: 'a>(
        &mut self,
        words: impl Iterator<Item = &'a [T]>,
        is_first: impl Fn(&T) -> bool,
    ) {
        self.0.extend(words.map(|word| {
            let bits = word.iter().enumerate();
            bits.fold(0, |all, (bit, code)| all | u64::from(is_first(code)) << bit)
        }));
    }

    /// Sixteen events at a time on any x86-64, without being told to.
    fn compare(&mut self, codes: &[u8], names: &[u8]) {
        let (words, rest) = codes.as_chunks::<WORD>();
        self.0
            .extend(words.iter().map(|word| equal_to_any(word, names)));
        if !rest.is_empty() {
            let mut last = [0; WORD];
            last.iter_mut()
                .zip(rest)
                .for_each(|(slot, code)| *slot = *code);
            let behind = u64::MAX << rest.len();
            self.0.push(equal_to_any(&last, names) & !behind);
        }
    }

    /// The first event of a run that can fill the first step.
    #[inline]
    pub(super) fn find(&self, run: &Range<usize>) -> Option<usize> {
        let mut start = run.start;
        while start < run.end {
            let bits = self.0.get(start / WORD).copied().unwrap_or(0) >> (start % WORD);
            if bits != 0 {
                let found = start + bits.trailing_zeros() as usize;
                return (found < run.end).then_some(found);
            }
            start = (start / WORD + 1) * WORD;
        }
        None
    }
}

/// Bit k: whether byte k is one of the names.
#[inline]
fn equal_to_any(word: &[u8; WORD], names: &[u8]) -> u64 {
    /// Moves the lowest bits of eight bytes into one: byte k, times the power of two that lifts its bit to 56 + k.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut equal = [0_u8; WORD];
    for name in names {
        for (equal, code) in equal.iter_mut().zip(word) {
            *equal |= u8::from(code == name);
        }
    }
    let bytes = equal.as_chunks::<8>().0.iter().enumerate();
    bytes.fold(0, |all, (index, eight)| {
        let gathered = u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56;
        all | gathered << (8 * index)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_of_a_run_is_found_at_every_border() {
        let codes: Vec<u8> = (0..300_u32)
            .map(|index| (index * 7 % 31 % 29).to_le_bytes()[0])
            .collect();
        let wide: Vec<u8> = codes.iter().flat_map(|code| [*code, 0]).collect();
        for firsts in [&[][..], &[3], &[0, 28], &[1, 2, 3, 4, 5, 6, 7, 8]] {
            let kind = |code: u8| Kind {
                fills: u64::from(firsts.contains(&code)) | 2,
                excludes: 0,
            };
            let kinds: Vec<Kind> = (0..29).map(kind).collect();
            let wanted = Wanted::new(&kinds, (0, 1));
            let mut marks = Marks::default();
            for columns in [Codes::U8(&codes), Codes::U16(&wide)] {
                wanted.mark(&columns, &mut marks);
                for start in 0..codes.len() {
                    for end in start + 1..=codes.len() {
                        let expected = (start..end).find(|event| firsts.contains(&codes[*event]));
                        assert_eq!(marks.find(&(start..end)), expected, "{start}..{end}");
                    }
                }
                for (event, code) in codes.iter().enumerate() {
                    assert_eq!(wanted.fills(&columns, event), kind(*code).fills);
                }
            }
        }
    }

    #[test]
    fn a_code_that_no_name_has_fills_nothing() {
        let wanted = Wanted::new(
            &[Kind {
                fills: 1,
                excludes: 0,
            }],
            (0, 1),
        );
        assert_eq!(wanted.fills(&Codes::U8(&[9]), 0), 0);
        assert_eq!(wanted.fills(&Codes::U16(&[9, 0]), 0), 0);
        assert_eq!(wanted.fills(&Codes::U8(&[]), 0), 0);
    }
}
