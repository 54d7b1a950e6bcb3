//! An index in memory, built event by event: for event files, and for tests that hold the whole columnar way against
//! the reference. Of properties it keeps those that a definition looks at.

use std::{
    collections::{BTreeMap, HashMap, TryReserveError},
    sync::Arc,
};

use foldhash::fast::RandomState;

use super::{ColumnarError, TenantEvents, TenantSegment, run_columnar, wanted_properties};
use crate::{
    answer::FunnelResult,
    definition::FunnelDefinition,
    event::Event,
    index::{
        EventRow, PropertiesError, PropertyBuilder, PropertyColumn, PropertyFile, Segment,
        SegmentError, VALUES_MAX, build,
    },
    service::{ServiceTally, StepService},
};

/// Texts with a number each, in order of first appearance.
#[derive(Debug, Default)]
struct Texts {
    list: Vec<String>,
    numbers: HashMap<String, u32, RandomState>,
}

impl Texts {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }
}

/// Events of one tenant on their way into a segment.
#[derive(Debug, Default)]
struct Collected {
    users: Texts,
    names: Texts,
    nobody: Option<u32>,
    rows: Vec<EventRow>,
    /// Row by row, a number plus one (0: not set) for each wanted property.
    cells: Vec<u32>,
}

/// Collects events.
#[derive(Debug)]
pub struct HeapBuilder {
    definition: FunnelDefinition,
    service: ServiceTally,
    wanted: Vec<String>,
    /// Values of each wanted property.
    values: Vec<Texts>,
    tenants: BTreeMap<String, Collected>,
}

/// An index in memory, for one definition.
pub struct HeapIndex {
    pub(super) definition: FunnelDefinition,
    service: Vec<StepService>,
    pub(super) tenants: Vec<HeapTenant>,
}

pub(super) struct HeapTenant {
    pub(super) tenant: String,
    names: Vec<String>,
    pub(super) users: Vec<String>,
    nobody: Option<u32>,
    segment: Segment,
    columns: Vec<Arc<PropertyColumn>>,
}

/// Events that do not fit.
#[derive(Debug, thiserror::Error)]
pub enum HeapError {
    /// More different names than codes.
    #[error(
        "more than 65,535 different event names: name events by what happened, and write to whom as a property"
    )]
    Names,
    /// More events than a segment can hold.
    #[error("the events do not fit into memory as columns: {0}")]
    Segment(#[from] SegmentError),
    /// A property with more values than a column can hold.
    #[error(
        "property `{property}` has more than {} different values: leave it out of the definition, or \
         ask the store with the clickhouse backend",
        VALUES_MAX
    )]
    Values {
        /// Which property.
        property: String,
    },
    /// The system gives no more memory.
    #[error(
        "there is no memory for more than {events} events: give fewer, or ask the store with the clickhouse backend"
    )]
    Memory {
        /// How many there are so far.
        events: usize,
        /// What the system says.
        source: TryReserveError,
    },
    /// A column that cannot be made.
    #[error(transparent)]
    Properties(#[from] PropertiesError),
}

fn room<T>(list: &mut Vec<T>, more: usize, events: usize) -> Result<(), HeapError> {
    list.try_reserve(more)
        .map_err(|source| HeapError::Memory { events, source })
}

impl HeapBuilder {
    /// For a definition.
    pub fn new(definition: &FunnelDefinition) -> Self {
        let wanted = wanted_properties(definition);
        Self {
            definition: definition.clone(),
            service: ServiceTally::new(definition),
            values: wanted.iter().map(|_| Texts::default()).collect(),
            wanted,
            tenants: BTreeMap::new(),
        }
    }

    /// Takes an event in.
    ///
    /// # Errors
    /// [`HeapError::Names`], [`HeapError::Values`], [`HeapError::Memory`].
    pub fn push(&mut self, event: &Event) -> Result<(), HeapError> {
        self.service.push(event);
        let tenant = event.tenant();
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.to_owned(), Collected::default());
        }
        let most = VALUES_MAX.saturating_mul(self.tenants.len());
        let Some(collected) = self.tenants.get_mut(tenant) else {
            return Ok(());
        };
        let user = event.user.as_deref().unwrap_or_default();
        let number = collected.users.number(user);
        if user.is_empty() {
            collected.nobody = Some(number);
        }
        let name = collected.names.number(&event.name);
        let name = u16::try_from(name)
            .ok()
            .filter(|name| *name < u16::MAX)
            .ok_or(HeapError::Names)?;
        let events = collected.rows.len();
        room(&mut collected.rows, 1, events)?;
        room(&mut collected.cells, self.wanted.len(), events)?;
        collected
            .rows
            .push(EventRow::new(number, event.at_ns, name));
        for (property, values) in self.wanted.iter().zip(&mut self.values) {
            let value = event.property(property);
            let cell = value.map_or(0, |value| values.number(&value) + 1);
            // More than all tenants together can have: at least one of them has too many.
            if values.list.len() > most {
                return Err(HeapError::Values {
                    property: property.clone(),
                });
            }
            collected.cells.push(cell);
        }
        Ok(())
    }

    /// Sorts and packs what was taken in.
    ///
    /// # Errors
    /// See [`HeapError`].
    pub fn finish(self) -> Result<HeapIndex, HeapError> {
        let Self {
            definition,
            service,
            wanted,
            values,
            tenants,
        } = self;
        let finish = |(tenant, collected): (String, Collected)| -> Result<HeapTenant, HeapError> {
            let mut sorted = Vec::new();
            let events = collected.rows.len();
            room(&mut sorted, events, events)?;
            sorted.extend_from_slice(&collected.rows);
            let mut segment = Segment::from_bytes(build(&mut sorted, Vec::new())?)?;
            drop(sorted);
            let mut columns = Vec::new();
            if !wanted.is_empty() {
                let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
                let mut builder = PropertyBuilder::new(&segment, &names)?;
                for (row, cells) in collected
                    .rows
                    .iter()
                    .zip(collected.cells.chunks(wanted.len()))
                {
                    let texts = cells.iter().zip(&values).map(|(cell, values)| {
                        let index = (*cell as usize).checked_sub(1)?;
                        values.list.get(index).map(String::as_str)
                    });
                    builder.push(*row, &texts.collect::<Vec<_>>())?;
                }
                let file = PropertyFile::from_bytes(builder.finish()?)?;
                segment = segment.with_properties(file)?;
                columns = segment.properties(&names)?;
            }
            Ok(HeapTenant {
                tenant,
                users: collected.users.list,
                names: collected.names.list,
                nobody: collected.nobody,
                segment,
                columns,
            })
        };
        let tenants = tenants.into_iter().map(finish);
        Ok(HeapIndex {
            definition,
            service: service.finish(),
            tenants: tenants.collect::<Result<_, _>>()?,
        })
    }
}

impl HeapIndex {
    /// Answers the definition that it was built for.
    ///
    /// # Errors
    /// See [`ColumnarError`].
    pub fn answer(&self, threads: usize) -> Result<FunnelResult, ColumnarError> {
        let tenants: Vec<TenantEvents<'_>> = self.tenants.iter().map(HeapTenant::events).collect();
        let mut result = run_columnar(&self.definition, &tenants, threads)?;
        result.set_service(&self.service);
        Ok(result)
    }
}

impl HeapTenant {
    pub(super) fn events(&self) -> TenantEvents<'_> {
        TenantEvents {
            names: &self.names,
            users: u32::try_from(self.users.len()).unwrap_or(u32::MAX),
            nobody: self.nobody,
            segments: vec![TenantSegment {
                segment: &self.segment,
                columns: self.columns.iter().map(|column| Some(&**column)).collect(),
            }],
        }
    }
}
