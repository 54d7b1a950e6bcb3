//! Values of a breakdown as small numbers while a scan runs; texts only at its end.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::{
    index::PropertyColumn,
    shape::Attempt,
    tally::{Steps, Tally},
};

/// Properties of a breakdown, at most; the definition says so too.
const BREAKDOWN_PROPERTIES_MAX: usize = 4;

/// Number of the empty value.
pub(crate) const EMPTY: u32 = 0;

/// A value's number by the codes of its columns, in one segment.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Of one column: by code, plus one; 0 where not met yet.
    one: Vec<u32>,
    several: HashMap<[u32; BREAKDOWN_PROPERTIES_MAX], u32, RandomState>,
}

/// Values met by one thread.
#[derive(Debug)]
pub(crate) struct Values {
    /// Which of the wanted columns make the value.
    columns: Vec<usize>,
    texts: Vec<String>,
    numbers: HashMap<String, u32, RandomState>,
    /// Per segment.
    known: Vec<Known>,
    tallies: Vec<Option<Tally>>,
}

impl Values {
    pub(crate) fn new(columns: Vec<usize>, segments: usize) -> Self {
        let mut numbers = HashMap::default();
        numbers.insert(String::new(), EMPTY);
        Self {
            columns,
            texts: vec![String::new()],
            numbers,
            known: vec![Known::default(); segments],
            tallies: Vec::new(),
        }
    }

    /// Forgets what it knows of segments: those of another tenant follow. Values and tallies stay.
    pub(crate) fn turn_to(&mut self, segments: usize) {
        self.known.clear();
        self.known.resize(segments, Known::default());
    }

    /// The number of an event's value, from the codes of all wanted columns.
    pub(crate) fn number(
        &mut self,
        segment: usize,
        codes: &[u32],
        columns: &[Option<&PropertyColumn>],
    ) -> u32 {
        let code = |column: &usize| codes.get(*column).copied().unwrap_or(0);
        match self.columns.as_slice() {
            [] => EMPTY,
            [column] => {
                let index = code(column) as usize;
                let known = self
                    .known
                    .get(segment)
                    .and_then(|known| known.one.get(index));
                if let Some(number) = known.and_then(|number| number.checked_sub(1)) {
                    return number;
                }
                let number = self.intern(text_of(columns, *column, code(column)).to_owned());
                if let Some(known) = self.known.get_mut(segment) {
                    if known.one.len() <= index {
                        known.one.resize(index + 1, 0);
                    }
                    known
                        .one
                        .iter_mut()
                        .skip(index)
                        .take(1)
                        .for_each(|slot| *slot = number + 1);
                }
                number
            }
            several => {
                let mut key = [0; BREAKDOWN_PROPERTIES_MAX];
                key.iter_mut()
                    .zip(several)
                    .for_each(|(slot, column)| *slot = code(column));
                let known = self
                    .known
                    .get(segment)
                    .and_then(|known| known.several.get(&key));
                if let Some(number) = known {
                    return *number;
                }
                let texts: Vec<&str> = several
                    .iter()
                    .map(|column| text_of(columns, *column, code(column)))
                    .collect();
                let is_empty = texts.iter().all(|text| text.is_empty());
                let joined = if is_empty {
                    String::new()
                } else {
                    texts.join("|")
                };
                let number = self.intern(joined);
                if let Some(known) = self.known.get_mut(segment) {
                    known.several.insert(key, number);
                }
                number
            }
        }
    }

    fn intern(&mut self, text: String) -> u32 {
        if let Some(number) = self.numbers.get(&text) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        number
    }

    /// The smaller of two values, by text.
    pub(crate) fn smaller(&self, one: u32, other: u32) -> u32 {
        if self.text(one) <= self.text(other) {
            one
        } else {
            other
        }
    }

    /// A value's text.
    pub(crate) fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", String::as_str)
    }

    /// Adds an attempt to a value.
    pub(crate) fn add(&mut self, number: u32, steps: &Steps, attempt: &Attempt) {
        let index = number as usize;
        if self.tallies.len() <= index {
            self.tallies.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.tallies.get_mut(index) {
            slot.get_or_insert_with(|| Tally::new(steps.optional.len()))
                .add(steps, attempt);
        }
    }

    /// Everything added, by text.
    pub(crate) fn into_tallies(self) -> impl Iterator<Item = (String, Tally)> {
        let tallies = self.texts.into_iter().zip(self.tallies);
        tallies.filter_map(|(text, tally)| Some((text, tally?)))
    }
}

fn text_of<'a>(columns: &[Option<&'a PropertyColumn>], column: usize, code: u32) -> &'a str {
    let values = columns
        .get(column)
        .copied()
        .flatten()
        .map_or(&[][..], PropertyColumn::values);
    let index = (code as usize).checked_sub(1);
    index
        .and_then(|index| values.get(index))
        .map_or("", String::as_str)
}
