//! Property columns beside a segment: for a set of properties one dictionary-coded column each, aligned with the
//! positions of the segment's events.
//!
//! Columns of one file belong together: where several events of a user have the same time and name, row `n` of every
//! column is the same event. Columns of two files agree only up to the order of such events, so a question about
//! several properties needs a file that has them all.
//!
//! A column (values and codes) is checked the first time it is asked for.

use std::{
    ops::Range,
    path::Path,
    sync::{Arc, OnceLock},
};

use super::{
    bits::{Packed, SLACK, is_width, packed_bytes},
    error::SegmentError,
    format::{Kind, Layout},
    map::Bytes,
    segment::Segment,
    wire::{Input, Sheet},
};

/// Most distinct values of one property in one segment.
pub const VALUES_MAX: usize = 1_000_000;
/// Most properties of one file.
pub const PROPERTIES_MAX: usize = 64;

/// Why a segment has no such columns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    /// No file has all of them: build one that does.
    #[error("no column file has all of the properties; the nearest lacks {}", names.join(", "))]
    Missing {
        /// Which properties the nearest file lacks.
        names: Vec<String>,
    },
    /// More distinct values than a column can have: ask the store itself.
    #[error(
        "property {property:?} has more than {VALUES_MAX} distinct values; use the clickhouse backend"
    )]
    TooManyValues {
        /// Which property.
        property: String,
    },
    /// Too many properties, or texts of more than 4 GiB.
    #[error("too large for one column file: {what}")]
    Limit {
        /// Which bound.
        what: String,
    },
    /// The rows given are not those of the segment.
    #[error("the rows are not those of the segment: {what}")]
    Mismatch {
        /// Where they differ.
        what: String,
    },
    /// The file is not what it should be.
    #[error(transparent)]
    File(#[from] SegmentError),
}

pub(super) const FACTS: u32 = 1;

pub(super) fn values_section(column: usize) -> u32 {
    u32::try_from(column).map_or(u32::MAX, |column| 2 + 2 * column)
}

pub(super) fn codes_section(column: usize) -> u32 {
    u32::try_from(column).map_or(u32::MAX, |column| 3 + 2 * column)
}

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PropertyFacts {
    /// Seal of the segment it belongs to.
    pub(super) segment: u32,
    pub(super) events: u64,
    pub(super) columns: Vec<ColumnFacts>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnFacts {
    pub(super) name: String,
    pub(super) width: u8,
    pub(super) values: u32,
}

impl PropertyFacts {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut sheet = Sheet::default();
        sheet.u32(self.segment);
        sheet.u64(self.events);
        sheet.count(self.columns.len());
        for column in &self.columns {
            sheet.text(&column.name);
            sheet.u8(column.width);
            sheet.u32(column.values);
        }
        sheet.0
    }

    fn decode(bytes: &[u8]) -> Result<Self, SegmentError> {
        let mut input = Input::new(bytes, "facts of the columns");
        let (segment, events) = (input.u32()?, input.u64()?);
        let mut columns = Vec::new();
        for _ in 0..input.count(13)? {
            columns.push(ColumnFacts {
                name: input.text()?,
                width: input.u8()?,
                values: input.u32()?,
            });
        }
        input.end()?;
        let sound = columns.len() <= PROPERTIES_MAX
            && columns
                .iter()
                .all(|column| is_width(column.width) && column.values as usize <= VALUES_MAX);
        if !sound {
            return Err(SegmentError::corrupt("facts of the columns"));
        }
        Ok(Self {
            segment,
            events,
            columns,
        })
    }
}

/// A file of columns.
pub struct PropertyFile {
    pub(super) generation: u64,
    bytes: Arc<Bytes>,
    layout: Layout,
    facts: PropertyFacts,
    loaded: Vec<OnceLock<Result<Arc<PropertyColumn>, SegmentError>>>,
}

impl PropertyFile {
    pub(super) fn open(path: &Path, generation: u64) -> Result<Self, SegmentError> {
        let bytes = Bytes::open(path).map_err(|error| SegmentError::Unreadable {
            what: format!("{}: {error}", path.display()),
        })?;
        Self::new(bytes, generation)
    }

    /// A file in memory, as [`PropertyBuilder`](super::PropertyBuilder) makes it.
    ///
    /// # Errors
    /// The bytes are of another version, or corrupt in header or facts.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, SegmentError> {
        Self::new(Bytes::Owned(bytes), 0)
    }

    fn new(bytes: Bytes, generation: u64) -> Result<Self, SegmentError> {
        let layout = Layout::read(&bytes, Kind::Properties)?;
        let facts = PropertyFacts::decode(layout.checked(&bytes, FACTS)?)?;
        let loaded = facts.columns.iter().map(|_| OnceLock::new()).collect();
        Ok(Self {
            generation,
            bytes: Arc::new(bytes),
            layout,
            facts,
            loaded,
        })
    }

    /// The properties it has.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.facts.columns.iter().map(|column| &*column.name)
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn seal(&self) -> u32 {
        self.layout.seal
    }

    /// Whether it was made for the segment.
    pub(super) fn belongs_to(&self, segment: &Segment) -> bool {
        (self.facts.segment, self.facts.events) == (segment.seal(), segment.meta().events)
    }

    pub(super) fn lacks(&self, wanted: &[&str]) -> Vec<String> {
        let missing = wanted
            .iter()
            .filter(|wanted| !self.names().any(|name| name == **wanted));
        missing.map(|name| (*name).to_owned()).collect()
    }

    /// A column, checked the first time.
    pub(super) fn column(&self, name: &str) -> Result<Arc<PropertyColumn>, PropertiesError> {
        let index = self.names().position(|own| own == name);
        let missing = || PropertiesError::Missing {
            names: vec![name.to_owned()],
        };
        let index = index.ok_or_else(missing)?;
        let slot = self.loaded.get(index).ok_or_else(missing)?;
        let column = slot.get_or_init(|| self.load(index).map(Arc::new));
        Ok(column.clone()?)
    }

    /// Reads and checks a column anew.
    pub(super) fn load(&self, index: usize) -> Result<PropertyColumn, SegmentError> {
        let outside = || SegmentError::corrupt(format!("there is no column {index}"));
        let facts = self.facts.columns.get(index).ok_or_else(outside)?;
        let values = self.layout.checked(&self.bytes, values_section(index))?;
        let values = read_values(values, facts)?;
        self.layout.checked(&self.bytes, codes_section(index))?;
        let codes = self.layout.find(codes_section(index))?;
        let bytes = packed_bytes(self.facts.events, facts.width);
        let expected = bytes.and_then(|bytes| bytes.checked_add(SLACK as u64));
        if expected != Some(codes.len() as u64) {
            return Err(SegmentError::corrupt("length of a column"));
        }
        let column = PropertyColumn {
            bytes: Arc::clone(&self.bytes),
            codes,
            width: facts.width,
            values,
        };
        let largest = (0..self.facts.events).map(|position| column.code(position));
        if largest.max().unwrap_or(0) > facts.values {
            return Err(SegmentError::corrupt("code of a column without a value"));
        }
        Ok(column)
    }

    /// Number of columns.
    pub(super) fn columns(&self) -> usize {
        self.facts.columns.len()
    }
}

fn read_values(bytes: &[u8], facts: &ColumnFacts) -> Result<Vec<String>, SegmentError> {
    let mut input = Input::new(bytes, "values of a column");
    let mut values: Vec<String> = Vec::new();
    while !input.is_empty() {
        let value = input.text()?;
        if values.last().is_some_and(|before| *before >= value) {
            return Err(SegmentError::corrupt("order of a column's values"));
        }
        values.push(value);
    }
    if values.len() != facts.values as usize {
        return Err(SegmentError::corrupt("number of a column's values"));
    }
    Ok(values)
}

/// One property of every event of a segment.
pub struct PropertyColumn {
    bytes: Arc<Bytes>,
    codes: Range<usize>,
    width: u8,
    values: Vec<String>,
}

impl PropertyColumn {
    /// The code at a position of the segment: 0 is not set, else one more than the index of the value.
    #[inline]
    pub fn code(&self, position: u64) -> u32 {
        let Ok(position) = usize::try_from(position) else {
            return 0;
        };
        let codes = self.bytes.get(self.codes.clone()).unwrap_or_default();
        (Packed::new(codes, self.width).get(position) & 0xffff_ffff) as u32
    }

    /// The distinct values, sorted by their bytes.
    pub fn values(&self) -> &[String] {
        &self.values
    }
}

impl Segment {
    /// The columns of the properties, in the order asked for, from one file that has them all.
    ///
    /// # Errors
    /// No file has them all, or the file is corrupt.
    pub fn properties(&self, wanted: &[&str]) -> Result<Vec<Arc<PropertyColumn>>, PropertiesError> {
        let nearest = self
            .properties
            .iter()
            .map(|file| (file, file.lacks(wanted)))
            .min_by_key(|(_, lacks)| lacks.len());
        match nearest {
            Some((file, lacks)) if lacks.is_empty() => {
                wanted.iter().map(|name| file.column(name)).collect()
            }
            Some((_, names)) => Err(PropertiesError::Missing { names }),
            None => Err(PropertiesError::Missing {
                names: wanted.iter().map(|name| (*name).to_owned()).collect(),
            }),
        }
    }

    /// The property files of the segment, oldest first.
    pub fn property_files(&self) -> &[Arc<PropertyFile>] {
        &self.properties
    }

    /// The same segment with one more file of columns.
    ///
    /// # Errors
    /// The file was made for another segment.
    pub fn with_properties(&self, file: PropertyFile) -> Result<Self, PropertiesError> {
        self.accepts(&file)?;
        let mut segment = self.clone();
        segment.properties.push(Arc::new(file));
        Ok(segment)
    }

    pub(super) fn accepts(&self, file: &PropertyFile) -> Result<(), PropertiesError> {
        if file.belongs_to(self) {
            return Ok(());
        }
        Err(PropertiesError::Mismatch {
            what: "the file was made for another segment".to_owned(),
        })
    }
}
