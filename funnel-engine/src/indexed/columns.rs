//! Property columns beside the segments of an index: read from the store, for exactly the rows of a segment.

use std::{collections::HashMap, sync::Arc};

use event_store::{PropertyQuestion, Slice, Store};
use foldhash::fast::RandomState;

use super::IndexedError;
use crate::index::{
    EventRow, IndexError, PropertiesError, PropertyBuilder, Segment, Source, Tenant,
};

/// Reads the columns that segments of these tenants lack, and hands each file over with its tenant and segment; false is
/// said of a segment that was merged away meanwhile and needs none.
pub(super) async fn read_missing(
    store: &Store,
    tenants: &[Arc<Tenant>],
    wanted: &[String],
    mut attach: impl FnMut(&str, u64, &[u8]) -> Result<bool, IndexError>,
) -> Result<(), IndexedError> {
    let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    if names.is_empty() {
        return Ok(());
    }
    for tenant in tenants {
        for segment in &tenant.segments {
            if segment.properties(&names).is_err() {
                let columns = read_columns(store, tenant, segment, &names).await?;
                attach(&tenant.name, segment.id(), &columns)?;
            }
        }
    }
    Ok(())
}

/// The file of columns of a segment.
async fn read_columns(
    store: &Store,
    tenant: &Tenant,
    segment: &Segment,
    names: &[&str],
) -> Result<Vec<u8>, IndexedError> {
    let failed = |source: PropertiesError| IndexedError::Columns {
        property: names.join(", "),
        source,
    };
    let sources = segment.meta().sources.iter();
    let slices: Vec<Slice> = sources.map(slice).collect();
    let question = PropertyQuestion {
        tenant: &tenant.name,
        slices: &slices,
        properties: names,
    };
    let mut cells = Cells::default();
    store
        .property_rows(&question, &mut |row| {
            let codes = tenant
                .users
                .code(row.user)
                .zip(tenant.names.find(row.event));
            // What the dictionaries do not know cannot be in the segment; the builder counts what is missing.
            if let Some((user, name)) = codes {
                cells.push(EventRow::new(user, row.at_ns, name), row.values);
            }
        })
        .await?;
    cells.file(segment, names).map_err(failed)
}

/// Rows of one segment while its columns are made: some 20 bytes each, and every text once.
#[derive(Default)]
pub(super) struct Cells {
    rows: Vec<EventRow>,
    /// Row by row, a number plus one (0: not set) for each property.
    values: Vec<u32>,
    texts: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u32, RandomState>,
}

impl Cells {
    pub(super) fn push(&mut self, row: EventRow, values: &[Option<&str>]) {
        self.rows.push(row);
        for value in values {
            let number = value.map_or(0, |value| self.number(value).saturating_add(1));
            self.values.push(number);
        }
    }

    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    /// The column file of a segment that has exactly these rows.
    pub(super) fn file(
        self,
        segment: &Segment,
        names: &[&str],
    ) -> Result<Vec<u8>, PropertiesError> {
        let mut builder = PropertyBuilder::new(segment, names)?;
        let mut texts = Vec::with_capacity(names.len());
        for (row, values) in self.rows.iter().zip(self.values.chunks(names.len())) {
            texts.clear();
            texts.extend(values.iter().map(|number| {
                let index = (*number as usize).checked_sub(1)?;
                self.texts.get(index).map(|text| &**text)
            }));
            builder.push(*row, &texts)?;
        }
        builder.finish()
    }
}

fn slice(source: &Source) -> Slice {
    Slice {
        partition: source.partition.clone(),
        first_block: source.first_block,
        last_block: source.last_block,
        first_day: source.first_day,
        last_day: source.last_day,
    }
}

/// The same rows as the index names them.
pub(super) fn source(slice: &Slice) -> Source {
    Source {
        partition: slice.partition.clone(),
        first_block: slice.first_block,
        last_block: slice.last_block,
        first_day: slice.first_day,
        last_day: slice.last_day,
    }
}
