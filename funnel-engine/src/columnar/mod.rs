//! The columnar backend: a scan over an index, in parallel by stretches of users.
//!
//! Owns: turning segments into what each subject did, and adding that up. Refuses: deciding what an attempt is
//! (`matching`) and how files are laid out (`index`).
//!
//! Where names alone tell what an event can do, events of other names are passed over by their code, and nothing is
//! built per event. Otherwise the events of a few thousand users are gathered, sorted per subject, and judged.

mod gather;
mod heap;
mod list;
mod plain;
mod rules;
mod scan;
mod values;

pub use heap::{HeapBuilder, HeapError, HeapIndex};
pub(crate) use list::{ListQuestion, list_members};
pub use rules::wanted_properties;

use crate::{
    answer::FunnelResult,
    definition::{DefinitionError, FunnelDefinition},
    index::{PropertyColumn, Segment, SegmentError},
    shape::Verdict,
    tally::Sums,
};

/// A segment and the columns that a definition wants of it, in the order of [`wanted_properties`].
pub struct TenantSegment<'a> {
    /// The events.
    pub segment: &'a Segment,
    /// `None`: no event has the property.
    pub columns: Vec<Option<&'a PropertyColumn>>,
}

impl TenantEvents<'_> {
    /// The blocks of a segment, from the first that may hold this user or a later one.
    fn blocks_of(&self, segment: usize, user: u32) -> std::ops::Range<usize> {
        let Some(segment) = self.segments.get(segment).map(|segment| segment.segment) else {
            return 0..0;
        };
        let (mut low, mut high) = (0, segment.blocks());
        while low < high {
            let middle = usize::midpoint(low, high);
            if segment.last_user(middle) < user {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low..segment.blocks()
    }
}

/// The events of one tenant.
pub struct TenantEvents<'a> {
    /// Event names by code.
    pub names: &'a [String],
    /// How many user codes there are.
    pub users: u32,
    /// The code that stands for "no user".
    pub nobody: Option<u32>,
    /// Together, all events.
    pub segments: Vec<TenantSegment<'a>>,
}

/// Answers a funnel over the events of some tenants; users of different tenants are different.
///
/// # Errors
/// See [`ColumnarError`].
pub fn run_columnar(
    definition: &FunnelDefinition,
    tenants: &[TenantEvents<'_>],
    threads: usize,
) -> Result<FunnelResult, ColumnarError> {
    let mut sums = Sums::of(definition);
    for part in scan::scan(definition, tenants, threads, || {
        scan::Adding::new(definition)
    })? {
        sums.merge(part.into_sums());
    }
    Ok(FunnelResult::of(definition, sums, "columnar")?)
}

/// An index that could not answer.
#[derive(Debug, thiserror::Error)]
pub enum ColumnarError {
    /// The definition asks for too much.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The index must be rebuilt.
    #[error("the index cannot be read and must be rebuilt")]
    Index(#[from] SegmentError),
}

/// One subject of one tenant, as the scan hands it out.
#[derive(Debug)]
pub struct Judged<'a> {
    /// Index of the tenant's events.
    pub tenant: usize,
    /// User code.
    pub user: u32,
    /// Which session, where sessions are counted; otherwise empty.
    pub session: &'a str,
    /// What counts.
    pub verdict: &'a Verdict,
}

/// Visits every subject that is in the funnel; each thread has a visitor of its own, all of which are returned.
///
/// # Errors
/// See [`ColumnarError`].
pub fn visit_subjects<V: FnMut(Judged<'_>) + Send>(
    definition: &FunnelDefinition,
    tenants: &[TenantEvents<'_>],
    threads: usize,
    visitor: impl Fn() -> V + Sync,
) -> Result<Vec<V>, ColumnarError> {
    let parts = scan::scan(definition, tenants, threads, || scan::Visiting(visitor()))?;
    Ok(parts.into_iter().map(|part| part.0).collect())
}
