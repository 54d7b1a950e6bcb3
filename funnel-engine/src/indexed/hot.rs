//! What has arrived and is in no file yet, packed like a segment for one question.
//!
//! Users and names that the index knows keep their codes; others get the codes behind them, for this question only.
//! Its size is that of the hot tail (`tail/hot.rs`), so packing takes a few hundredths of a second at most.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use event_store::{PropertyQuestion, Slice, Store, TailRow};
use foldhash::fast::RandomState;

use super::{IndexedError, columns::Cells};
use crate::{
    index::{
        EventRow, PropertyColumn, PropertyFile, Segment, SegmentError, Snapshot, Tenant, build,
    },
    tail::HotBatch,
};

/// One tenant's events that the index does not have yet.
pub(super) struct HotTenant {
    pub(super) name: String,
    pub(super) segment: Segment,
    pub(super) columns: Vec<Arc<PropertyColumn>>,
    /// How many user codes there are, those of the index included.
    pub(super) users: u32,
    pub(super) nobody: Option<u32>,
    codes: Codes,
}

impl HotTenant {
    /// Event names by code, those of the index first.
    pub(super) fn names(&self) -> &[String] {
        &self.codes.names
    }

    /// The id of a user that the index does not know.
    pub(super) fn user(&self, code: u32) -> Option<&str> {
        let index = code.checked_sub(self.codes.first_user)?;
        self.codes.new_users.get(index as usize).map(String::as_str)
    }
}

/// Codes of texts, known and new.
struct Codes {
    tenant: Option<Arc<Tenant>>,
    first_user: u32,
    new_users: Vec<String>,
    users_added: HashMap<String, u32, RandomState>,
    names: Vec<String>,
    names_added: HashMap<String, u16, RandomState>,
}

impl Codes {
    fn of(tenant: Option<Arc<Tenant>>) -> Self {
        let names = tenant
            .as_ref()
            .map_or(&[][..], |tenant| tenant.names.texts())
            .to_vec();
        Self {
            first_user: tenant.as_ref().map_or(0, |tenant| tenant.users.len()),
            tenant,
            new_users: Vec::new(),
            users_added: HashMap::default(),
            names_added: HashMap::default(),
            names,
        }
    }

    fn user(&self, id: &str) -> Option<u32> {
        let known = self
            .tenant
            .as_ref()
            .and_then(|tenant| tenant.users.code(id));
        // The dictionary may have grown since the snapshot was taken.
        let known = known.filter(|code| *code < self.first_user);
        known.or_else(|| self.users_added.get(id).copied())
    }

    fn name(&self, name: &str) -> Option<u16> {
        let known = self
            .tenant
            .as_ref()
            .and_then(|tenant| tenant.names.find(name));
        known.or_else(|| self.names_added.get(name).copied())
    }

    fn add_user(&mut self, id: &str) -> Result<u32, SegmentError> {
        let added = u32::try_from(self.new_users.len()).ok();
        let code = added.and_then(|added| self.first_user.checked_add(added));
        let code = code.ok_or_else(|| SegmentError::limit("a user's code"))?;
        self.new_users.push(id.to_owned());
        self.users_added.insert(id.to_owned(), code);
        Ok(code)
    }

    fn add_name(&mut self, name: &str) -> Result<u16, SegmentError> {
        let code = u16::try_from(self.names.len()).ok();
        let code = code.filter(|code| *code < u16::MAX);
        let code = code.ok_or_else(|| SegmentError::limit("65,535 event names"))?;
        self.names.push(name.to_owned());
        self.names_added.insert(name.to_owned(), code);
        Ok(code)
    }

    fn take(&mut self, row: &TailRow<'_>) -> Result<EventRow, SegmentError> {
        let user = match self.user(row.user) {
            Some(user) => user,
            None => self.add_user(row.user)?,
        };
        let name = match self.name(row.event) {
            Some(name) => name,
            None => self.add_name(row.event)?,
        };
        Ok(EventRow::new(user, row.at_ns, name))
    }
}

/// Packs what is in batches and not in a snapshot, of one tenant or all.
pub(super) fn pack(
    snapshot: &Snapshot,
    batches: &[Arc<HotBatch>],
    only: Option<&str>,
) -> Result<Vec<HotTenant>, IndexedError> {
    let mut tenants: BTreeMap<String, (Codes, Vec<EventRow>)> = BTreeMap::new();
    for row in batches.iter().flat_map(|batch| batch.events.rows()) {
        if only.is_some_and(|tenant| tenant != row.tenant) {
            continue;
        }
        if !tenants.contains_key(row.tenant) {
            let held = snapshot
                .tenants
                .iter()
                .find(|tenant| tenant.name == row.tenant);
            let codes = Codes::of(held.map(Arc::clone));
            tenants.insert(row.tenant.to_owned(), (codes, Vec::new()));
        }
        if let Some((codes, rows)) = tenants.get_mut(row.tenant) {
            rows.push(codes.take(&row)?);
        }
    }
    let packed = tenants.into_iter().map(|(name, (codes, mut rows))| {
        let new = u32::try_from(codes.new_users.len()).unwrap_or(u32::MAX);
        Ok(HotTenant {
            name,
            segment: Segment::from_bytes(build(&mut rows, Vec::new())?)?,
            columns: Vec::new(),
            users: codes.first_user.saturating_add(new),
            nobody: codes.user(""),
            codes,
        })
    });
    packed.collect()
}

impl HotTenant {
    /// Reads the columns of these properties for the same rows.
    pub(super) async fn load_columns(
        &mut self,
        store: &Store,
        slices: &[Slice],
        properties: &[&str],
    ) -> Result<(), IndexedError> {
        let question = PropertyQuestion {
            tenant: &self.name,
            slices,
            properties,
        };
        let mut cells = Cells::default();
        let codes = &self.codes;
        let mut take = |row: event_store::PropertyRow<'_>| {
            if let Some((user, name)) = codes.user(row.user).zip(codes.name(row.event)) {
                cells.push(EventRow::new(user, row.at_ns, name), row.values);
            }
        };
        store.property_rows(&question, &mut take).await?;
        let failed = |source| IndexedError::Columns {
            property: properties.join(", "),
            source,
        };
        let file = cells.file(&self.segment, properties).map_err(failed)?;
        let file = PropertyFile::from_bytes(file).map_err(|error| failed(error.into()))?;
        self.segment = self.segment.clone().with_properties(file).map_err(failed)?;
        self.columns = self.segment.properties(properties).map_err(failed)?;
        Ok(())
    }
}
