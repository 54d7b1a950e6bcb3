//! Building a file of property columns for a segment.
//!
//! Rows may come in any order. They are sorted like the segment (user, time, name; then the values of all properties,
//! so that the file does not depend on the order of arrival) and held against it event by event: a file is made of
//! exactly the segment's rows or not at all.

use std::{collections::HashMap, sync::Arc};

use super::{
    bits::{SLACK, pack, width_of},
    format::{Kind, encode_file},
    properties::{
        ColumnFacts, FACTS, PROPERTIES_MAX, PropertiesError, PropertyFacts, VALUES_MAX,
        codes_section, values_section,
    },
    runs::Runs,
    segment::Segment,
    wire::Sheet,
    writer::EventRow,
};

/// Most bytes of one property's distinct values.
const VALUES_BYTES_MAX: usize = u32::MAX as usize;

/// Collects rows; 16 bytes a row and 4 for each property of it.
pub struct PropertyBuilder<'a> {
    segment: &'a Segment,
    columns: Vec<Column>,
    rows: Vec<EventRow>,
    /// Row by row, a code for each property.
    cells: Vec<u32>,
}

#[derive(Default)]
struct Column {
    name: String,
    codes: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    /// By code less one.
    values: Vec<Arc<str>>,
    bytes: usize,
}

impl Column {
    fn code(&mut self, value: &str) -> Result<u32, PropertiesError> {
        if let Some(code) = self.codes.get(value) {
            return Ok(*code);
        }
        self.bytes += value.len();
        let code = u32::try_from(self.values.len() + 1).ok();
        let code = code.filter(|code| *code as usize <= VALUES_MAX);
        let code = code.ok_or_else(|| PropertiesError::TooManyValues {
            property: self.name.clone(),
        })?;
        if self.bytes > VALUES_BYTES_MAX {
            return Err(PropertiesError::Limit {
                what: format!("4 GiB of values of {:?}", self.name),
            });
        }
        let value: Arc<str> = value.into();
        self.values.push(Arc::clone(&value));
        self.codes.insert(value, code);
        Ok(code)
    }

    /// Sorted values, and the sorted code of each code.
    fn ranks(&self) -> (Vec<&str>, Vec<u32>) {
        let mut order: Vec<(&str, usize)> = self
            .values
            .iter()
            .zip(1..)
            .map(|(value, code)| (&**value, code))
            .collect();
        order.sort_unstable();
        let mut ranks = vec![0; self.values.len() + 1];
        for ((_, code), rank) in order.iter().zip(1..) {
            if let Some(slot) = ranks.get_mut(*code) {
                *slot = rank;
            }
        }
        (order.iter().map(|(value, _)| *value).collect(), ranks)
    }
}

impl<'a> PropertyBuilder<'a> {
    /// Columns of these properties for the segment.
    ///
    /// # Errors
    /// None, more than 64, or one of them twice.
    pub fn new(segment: &'a Segment, names: &[&str]) -> Result<Self, PropertiesError> {
        let mut sorted = names.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        if names.is_empty() || sorted.len() != names.len() || names.len() > PROPERTIES_MAX {
            return Err(PropertiesError::Limit {
                what: format!("1 to {PROPERTIES_MAX} different properties"),
            });
        }
        let columns = names.iter().map(|name| Column {
            name: (*name).to_owned(),
            ..Column::default()
        });
        Ok(Self {
            segment,
            columns: columns.collect(),
            rows: Vec::new(),
            cells: Vec::new(),
        })
    }

    /// Adds a row of the segment: its codes, and a value or none for each property in the order of `new`.
    ///
    /// # Errors
    /// A property has more than 1,000,000 distinct values, there are more rows than the segment has, or not as many
    /// values as properties.
    pub fn push(&mut self, row: EventRow, values: &[Option<&str>]) -> Result<(), PropertiesError> {
        if values.len() != self.columns.len() {
            return Err(PropertiesError::Mismatch {
                what: format!(
                    "{} values for {} properties",
                    values.len(),
                    self.columns.len()
                ),
            });
        }
        if self.rows.len() as u64 >= self.segment.meta().events {
            return Err(PropertiesError::Mismatch {
                what: format!("more than {} rows", self.segment.meta().events),
            });
        }
        for (column, value) in self.columns.iter_mut().zip(values) {
            let code = value.map_or(Ok(0), |value| column.code(value))?;
            self.cells.push(code);
        }
        self.rows.push(row);
        Ok(())
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// The rows are not exactly those of the segment, or the segment is corrupt.
    pub fn finish(mut self) -> Result<Vec<u8>, PropertiesError> {
        let ranked: Vec<_> = self.columns.iter().map(Column::ranks).collect();
        for cells in self.cells.chunks_mut(self.columns.len()) {
            for (cell, (_, ranks)) in cells.iter_mut().zip(&ranked) {
                *cell = ranks.get(*cell as usize).copied().unwrap_or(0);
            }
        }
        let width = self.columns.len();
        let cells_of = |row: usize| {
            let cells = self.cells.get(row * width..(row + 1) * width);
            cells.unwrap_or_default()
        };
        let mut order: Vec<(EventRow, u32)> = self.rows.iter().copied().zip(0..).collect();
        order.sort_unstable_by(|left, right| {
            let by_cells = || cells_of(left.1 as usize).cmp(cells_of(right.1 as usize));
            left.0.cmp(&right.0).then_with(by_cells)
        });
        hold_against(self.segment, order.iter().map(|(row, _)| *row))?;
        let mut facts = PropertyFacts {
            segment: self.segment.seal(),
            events: self.segment.meta().events,
            columns: Vec::new(),
        };
        let mut sections = Vec::new();
        for (index, (values, _)) in ranked.iter().enumerate() {
            let mut texts = Sheet::default();
            for value in values {
                texts.text(value);
            }
            let width = width_of(values.len() as u64);
            let codes = order.iter().map(|(_, row)| {
                let cell = cells_of(*row as usize).get(index);
                cell.map_or(0, |code| u64::from(*code))
            });
            let mut packed = Vec::new();
            pack(&mut packed, width, codes);
            packed.extend([0; SLACK]);
            facts.columns.push(ColumnFacts {
                name: self
                    .columns
                    .get(index)
                    .map_or("", |column| &column.name)
                    .to_owned(),
                width,
                values: u32::try_from(values.len()).unwrap_or(u32::MAX),
            });
            sections.push((values_section(index), texts.0));
            sections.push((codes_section(index), packed));
        }
        sections.insert(0, (FACTS, facts.encode()));
        Ok(encode_file(Kind::Properties, &sections).0)
    }
}

/// Whether the rows, in order, are the events of the segment.
fn hold_against(
    segment: &Segment,
    mut rows: impl ExactSizeIterator<Item = EventRow>,
) -> Result<(), PropertiesError> {
    let mismatch = |what: String| PropertiesError::Mismatch { what };
    if rows.len() as u64 != segment.meta().events {
        let events = segment.meta().events;
        return Err(mismatch(format!("{} rows for {events} events", rows.len())));
    }
    let mut runs = Runs::new(segment);
    while runs.advance()? {
        let Some(run) = runs.run() else { break };
        for event in run.events {
            let own = EventRow::new(run.user, run.times.get(event), run.codes.get(event));
            if rows.next() != Some(own) {
                return Err(mismatch(format!(
                    "user code {}, time {}, name code {} is not among them",
                    own.user(),
                    own.at_ns(),
                    own.name()
                )));
            }
        }
    }
    Ok(())
}
