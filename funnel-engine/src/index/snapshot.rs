//! What queries see: segments and dictionaries at one moment, together with the cursor that says how far they go.
//! Files that a snapshot holds may be replaced and unlinked meanwhile; the snapshot keeps them.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::{
    error::IndexError, names::Names, properties::PropertyFile, segment::Segment, users::UsersView,
};

/// One tenant's events.
pub struct Tenant {
    /// Whose; empty for events without a tenant.
    pub name: String,
    /// User ids by code. An event without a user has the id `""`, which has a code like any other.
    pub users: UsersView,
    /// Event names by code.
    pub names: Arc<Names>,
    /// Together, all events; by partition and time.
    pub segments: Vec<Segment>,
}

impl Tenant {
    /// The code of "no user", if the tenant has such events.
    pub fn nobody(&self) -> Option<u32> {
        self.users.code("")
    }

    /// The same with one more column file at a segment; columns in `dropped` generations go.
    pub(super) fn with_properties(
        &self,
        segment: u64,
        file: &Arc<PropertyFile>,
        dropped: &[u64],
    ) -> Self {
        let change = |own: &Segment| {
            let mut own = own.clone();
            if own.id() == segment {
                own.properties
                    .retain(|file| !dropped.contains(&file.generation));
                own.properties.push(Arc::clone(file));
            }
            own
        };
        Self {
            name: self.name.clone(),
            users: self.users.clone(),
            names: Arc::clone(&self.names),
            segments: self.segments.iter().map(change).collect(),
        }
    }
}

/// A tenant as it is listed.
#[derive(Clone)]
pub(super) enum Listed {
    Held(Arc<Tenant>),
    /// Not indexed, for this reason.
    Refused(String),
}

#[derive(Default)]
pub(super) struct Published {
    pub(super) cursor: Arc<[u8]>,
    pub(super) tenants: BTreeMap<String, Listed>,
}

/// The index at one moment.
#[derive(Clone)]
pub struct Snapshot {
    /// How far the source has been read, as given to `append`.
    pub cursor: Arc<[u8]>,
    /// The tenants asked for that have events.
    pub tenants: Vec<Arc<Tenant>>,
}

/// Takes snapshots of an index that somebody else writes; cheap to clone.
#[derive(Clone)]
pub struct IndexReader {
    pub(super) published: Arc<RwLock<Published>>,
}

impl IndexReader {
    /// One tenant's events, or those of all tenants. A tenant without events is not in it.
    ///
    /// # Errors
    /// The tenant, or one of all tenants, is not in the index because it passed a bound.
    pub fn snapshot(&self, tenant: Option<&str>) -> Result<Snapshot, IndexError> {
        let published = self.published.read();
        let published = published.unwrap_or_else(PoisonError::into_inner);
        let wanted: Vec<(&String, &Listed)> = match tenant {
            Some(tenant) => published
                .tenants
                .get_key_value(tenant)
                .into_iter()
                .collect(),
            None => published.tenants.iter().collect(),
        };
        let mut tenants = Vec::with_capacity(wanted.len());
        for (name, listed) in wanted {
            match listed {
                Listed::Held(tenant) if tenant.segments.is_empty() => {}
                Listed::Held(tenant) => tenants.push(Arc::clone(tenant)),
                Listed::Refused(reason) => {
                    return Err(IndexError::Refused {
                        tenant: name.clone(),
                        reason: reason.clone(),
                    });
                }
            }
        }
        Ok(Snapshot {
            cursor: Arc::clone(&published.cursor),
            tenants,
        })
    }
}
