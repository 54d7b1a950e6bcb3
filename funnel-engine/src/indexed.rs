//! The index of a store: filled by the tail, asked by the columnar scan.
//!
//! It holds named events. A funnel with an `http` step looks at every exchange, and is refused.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use event_store::{PropertyQuestion, Scope, Slice, Store, StoreError, TenantId};

use crate::{
    answer::FunnelResult,
    columnar::{ColumnarError, TenantEvents, TenantSegment, run_columnar, wanted_properties},
    definition::{DefinitionError, FunnelDefinition},
    index::{
        Batch, EventRow, Index, IndexError, PropertiesError, PropertyBuilder, PropertyColumn, Row,
        Segment, Snapshot, Source, Tenant, Thrift,
    },
    tail::{Cursor, HotBatch, IndexFailure, IndexWriter},
};

/// Events that are rewritten by merging segments for each event that arrives, at most.
const MERGED_PER_EVENT: u64 = 8;

/// An index as the tail writes it.
pub struct StoreIndex(Index);

/// A question that the index cannot answer, or columns that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum IndexedError {
    /// The definition asks for what the index does not hold.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The index refuses.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A segment cannot be read.
    #[error(transparent)]
    Columnar(#[from] ColumnarError),
    /// The store is away or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A column cannot be made, or the store's rows are not those of the index any more.
    #[error("the columns of {property} cannot be made: {source}")]
    Columns {
        /// Which properties.
        property: String,
        /// Why.
        source: PropertiesError,
    },
}

impl StoreIndex {
    /// Opens the index of a folder. One that cannot be trusted is emptied, and the reason is returned: it is derived
    /// data, and the tail reads the store again.
    ///
    /// # Errors
    /// Another process has it, or the folder cannot be used.
    pub fn open(folder: &Path) -> Result<(Self, Option<String>), IndexError> {
        match Index::open(folder) {
            Ok(index) => Ok((Self(index), None)),
            Err(IndexError::Rebuild { reason }) => {
                Index::wipe(folder)?;
                Ok((Self(Index::open(folder)?), Some(reason)))
            }
            Err(error) => Err(error),
        }
    }

    /// The index itself.
    pub fn index(&self) -> &Index {
        &self.0
    }

    /// Merges segments until nothing is left to merge, for when nothing more is expected soon.
    ///
    /// # Errors
    /// See [`Index::compact`].
    pub fn compact(&mut self) -> Result<(), IndexError> {
        while self.0.compact(u64::MAX, Thrift::Whole)?.more {}
        Ok(())
    }

    /// Reads the columns that a definition looks at and the index does not have yet.
    ///
    /// # Errors
    /// See [`IndexedError`].
    pub async fn load_columns(
        &mut self,
        store: &Store,
        scope: &Scope,
        definition: &FunnelDefinition,
    ) -> Result<(), IndexedError> {
        let wanted = wanted_properties(definition);
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        if names.is_empty() {
            return Ok(());
        }
        for tenant in self
            .0
            .snapshot(scope.tenant().map(TenantId::as_str))?
            .tenants
        {
            for segment in &tenant.segments {
                if segment.properties(&names).is_err() {
                    let columns = read_columns(store, &tenant, segment, &names).await?;
                    self.0
                        .attach_properties(&tenant.name, segment.id(), &columns)?;
                }
            }
        }
        Ok(())
    }
}

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
    let mut cells = ColumnRows::default();
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
    let mut builder = PropertyBuilder::new(segment, names).map_err(failed)?;
    for (row, values) in cells.rows.iter().zip(cells.values.chunks(names.len())) {
        let texts: Vec<Option<&str>> = values.iter().map(Option::as_deref).collect();
        builder.push(*row, &texts).map_err(failed)?;
    }
    builder.finish().map_err(failed)
}

/// Rows of one segment while its columns are made.
#[derive(Default)]
struct ColumnRows {
    rows: Vec<EventRow>,
    values: Vec<Option<Arc<str>>>,
    texts: BTreeMap<String, Arc<str>>,
}

impl ColumnRows {
    fn push(&mut self, row: EventRow, values: &[Option<&str>]) {
        self.rows.push(row);
        for value in values {
            let text = value.map(|value| {
                if let Some(text) = self.texts.get(value) {
                    return Arc::clone(text);
                }
                let text: Arc<str> = value.into();
                self.texts.insert(value.to_owned(), Arc::clone(&text));
                text
            });
            self.values.push(text);
        }
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

impl IndexWriter for StoreIndex {
    fn cursor(&self) -> Cursor {
        // An empty cursor is what a new index has.
        serde_json::from_slice(self.0.cursor()).unwrap_or_default()
    }

    fn append(&mut self, batches: &[Arc<HotBatch>], cursor: &Cursor) -> Result<(), IndexFailure> {
        let cursor = serde_json::to_vec(cursor)?;
        let batch = |hot: &'_ Arc<HotBatch>| -> (Source, Arc<HotBatch>) {
            let source = Source {
                partition: hot.slice.partition.clone(),
                first_day: hot.slice.first_day,
                last_day: hot.slice.last_day,
                first_block: hot.slice.first_block,
                last_block: hot.slice.last_block,
            };
            (source, Arc::clone(hot))
        };
        let owned: Vec<(Source, Arc<HotBatch>)> = batches.iter().map(batch).collect();
        let events = batches
            .iter()
            .map(|batch| batch.events.len() as u64)
            .sum::<u64>();
        let mut taken = Vec::with_capacity(owned.len());
        for (source, hot) in &owned {
            let rows = hot.events.rows().map(|row| Row {
                tenant: row.tenant,
                user: row.user,
                at_ns: row.at_ns,
                name: row.event,
            });
            taken.push(Batch {
                source: source.clone(),
                rows: Box::new(rows),
            });
        }
        self.0.append(taken, &cursor)?;
        let budget = events.saturating_mul(MERGED_PER_EVENT);
        // The events are stored whatever becomes of merging, which comes again with the next batch.
        if let Err(error) = self.0.compact(budget, Thrift::Amortised) {
            tracing::warn!(%error, "segments of the index were not merged");
        }
        Ok(())
    }

    fn forget(&mut self, partition: &str) -> Result<(), IndexFailure> {
        let mut cursor = self.cursor();
        cursor.partitions.remove(partition);
        let bytes = serde_json::to_vec(&cursor)?;
        Ok(self.0.forget(partition, &bytes)?)
    }
}

/// Answers a definition over what the index held when the snapshot was taken.
///
/// # Errors
/// A definition that looks at more than named events, or at columns that were not loaded.
pub fn run_on_index(
    definition: &FunnelDefinition,
    snapshot: &Snapshot,
    threads: usize,
) -> Result<FunnelResult, IndexedError> {
    for (step, at) in definition.steps.iter().zip(0..) {
        if step.http.is_some() {
            let path = format!("steps[{at}].http");
            return Err(DefinitionError::at(
                path,
                "looks at every exchange, and the index holds named events only",
            )
            .into());
        }
    }
    let wanted = wanted_properties(definition);
    let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let mut columns: Vec<Vec<Vec<Arc<PropertyColumn>>>> = Vec::new();
    for tenant in &snapshot.tenants {
        let of_segment = |segment: &Segment| {
            if names.is_empty() {
                return Ok(Vec::new());
            }
            segment
                .properties(&names)
                .map_err(|source| IndexedError::Columns {
                    property: names.join(", "),
                    source,
                })
        };
        columns.push(
            tenant
                .segments
                .iter()
                .map(of_segment)
                .collect::<Result<_, _>>()?,
        );
    }
    let mut tenants = Vec::with_capacity(columns.len());
    for (tenant, columns) in snapshot.tenants.iter().zip(&columns) {
        let segments = tenant.segments.iter().zip(columns);
        let segments = segments.map(|(segment, columns)| TenantSegment {
            segment,
            columns: columns.iter().map(|column| Some(&**column)).collect(),
        });
        tenants.push(TenantEvents {
            names: tenant.names.texts(),
            users: tenant.users.len(),
            nobody: tenant.nobody(),
            segments: segments.collect(),
        });
    }
    Ok(run_columnar(definition, &tenants, threads)?)
}
