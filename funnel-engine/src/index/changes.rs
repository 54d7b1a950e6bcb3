//! Changing the index: append, forget, merge, attach columns. Every change is the same: new files, synced; then the
//! next manifest in place of the present one; then what readers see; then old files go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLockReadGuard},
};

use super::{
    Index,
    append::{Batch, Held, Intake, Share, TenantRows, advance},
    dictionaries::{Dictionaries, store},
    error::IndexError,
    files::segment_name,
    manifest::{Manifest, SegmentEntry, TenantEntry},
    meta::{Source, day_of},
    open::open_segment,
    segment::Segment,
    snapshot::{Listed, Published, Tenant},
    writer::build_sorted,
};

/// What an append did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Rows taken in.
    pub rows: u64,
    /// Rows of tenants that are not indexed.
    pub refused_rows: u64,
    /// Segments written.
    pub segments: u64,
    /// Tenants that passed a bound now, and from now on are not indexed.
    pub refused: Vec<String>,
}

/// A change that is being prepared.
pub(super) struct Change {
    pub(super) next: Manifest,
    /// Tenants that change; none: the tenant goes.
    pub(super) tenants: BTreeMap<String, Option<Listed>>,
    /// Files written for it.
    pub(super) created: Vec<String>,
}

impl Index {
    /// Takes over rows and the cursor that covers them, in one step. With an error nothing of either is stored, and the
    /// call may be repeated, unless the error is `Reopen`.
    ///
    /// A tenant that passes a bound (65,535 names; 3,221,225,472 users; a text of more than 65,535 bytes) is left out
    /// of the index from then on: its snapshots are errors, the other tenants' are not.
    ///
    /// # Errors
    /// A batch does not follow the one before, there are too many rows or tenants, the disk refuses, or an earlier
    /// change was cut short.
    pub fn append(
        &mut self,
        batches: Vec<Batch<'_>>,
        cursor: &[u8],
    ) -> Result<Appended, IndexError> {
        let mut change = self.change()?;
        cursor.clone_into(&mut change.next.cursor);
        match self.prepare_append(&mut change, batches) {
            Ok(appended) => {
                self.commit(change)?;
                for tenant in &appended.refused {
                    self.dictionaries.remove(tenant);
                }
                Ok(appended)
            }
            Err(error) => {
                self.give_up(&change);
                Err(error)
            }
        }
    }

    fn prepare_append(
        &mut self,
        change: &mut Change,
        batches: Vec<Batch<'_>>,
    ) -> Result<Appended, IndexError> {
        let mut intake = Intake::default();
        let mut held = Held {
            manifest: &self.manifest,
            dictionaries: &mut self.dictionaries,
        };
        for batch in batches {
            advance(&mut change.next.reach, &batch.source)?;
            intake.take(batch, &mut held)?;
        }
        let mut appended = Appended {
            refused_rows: intake.refused_rows,
            ..Appended::default()
        };
        for (name, mut rows) in std::mem::take(&mut intake.tenants) {
            if rows.refused.is_some() {
                appended.refused.push(name.clone());
                appended.refused_rows += rows.rows;
            }
            appended.segments += self.append_tenant(change, &intake, &name, &mut rows)?;
        }
        appended.rows = intake.rows - appended.refused_rows;
        Ok(appended)
    }

    fn append_tenant(
        &self,
        change: &mut Change,
        intake: &Intake,
        name: &str,
        rows: &mut TenantRows,
    ) -> Result<u64, IndexError> {
        if let Some(reason) = rows.refused.take() {
            let entry = TenantEntry {
                refused: Some(reason.clone()),
                ..TenantEntry::default()
            };
            change.next.tenants.insert(name.to_owned(), entry);
            let listed = Some(Listed::Refused(reason));
            change.tenants.insert(name.to_owned(), listed);
            return Ok(0);
        }
        let Some(dictionaries) = self.dictionaries.get(name) else {
            return Ok(0);
        };
        let mut entry = self.manifest.tenants.get(name).cloned().unwrap_or_default();
        self.store_dictionaries(change, &mut entry, dictionaries)?;
        let present = self.held(name);
        let mut segments = Vec::new();
        for share in intake.shares(rows, present.as_deref()) {
            let written = self.write_share(change, share)?;
            segments.push(open_segment(&self.files, &written, dictionaries)?);
            entry.segments.push(written);
        }
        let count = segments.len() as u64;
        let old = present.iter().flat_map(|tenant| &tenant.segments);
        segments.splice(0..0, old.cloned());
        let tenant = dictionaries.tenant(name, segments);
        change.put(name, entry, tenant);
        Ok(count)
    }

    fn store_dictionaries(
        &self,
        change: &mut Change,
        entry: &mut TenantEntry,
        dictionaries: &Dictionaries,
    ) -> Result<(), IndexError> {
        let users = entry.users.extent.texts;
        if users == 0 && !dictionaries.users.is_empty() {
            entry.users.file = change.next.number();
            change.created.push(entry.users_name());
        }
        let file = entry.users_name();
        let ids = dictionaries.users.from(users);
        store(&self.files, &mut entry.users, &file, ids)?;
        let names = entry.names.extent.texts;
        if names == 0 && !dictionaries.names.is_empty() {
            entry.names.file = change.next.number();
            change.created.push(entry.names_name());
        }
        let file = entry.names_name();
        let texts = dictionaries.names.texts().iter().map(String::as_str);
        store(
            &self.files,
            &mut entry.names,
            &file,
            texts.skip(names as usize),
        )
    }

    fn write_share(
        &self,
        change: &mut Change,
        mut share: Share,
    ) -> Result<SegmentEntry, IndexError> {
        share.rows.sort_unstable();
        let file = change.next.number();
        let name = segment_name(file);
        change.created.push(name.clone());
        let days = share.rows.iter().map(|row| day_of(row.at_ns()));
        let (first_day, last_day) = (days.clone().min(), days.max());
        let partition = partition_of(&share.sources);
        let output = self.files.create(&name)?;
        let (output, seal) = build_sorted(&share.rows, share.sources, output)?;
        let bytes = output.bytes();
        output.finish()?;
        Ok(SegmentEntry {
            file,
            bytes,
            seal,
            events: share.rows.len() as u64,
            partition,
            first_day: first_day.unwrap_or_default(),
            last_day: last_day.unwrap_or_default(),
            properties: Vec::new(),
        })
    }

    /// Drops all events of a partition of the store, and sets the cursor, in one step. Dictionaries keep their texts.
    ///
    /// # Errors
    /// The disk refuses, or an earlier change was cut short.
    pub fn forget(&mut self, partition: &str, cursor: &[u8]) -> Result<(), IndexError> {
        let mut change = self.change()?;
        cursor.clone_into(&mut change.next.cursor);
        change.next.reach.remove(partition);
        let mut names = Vec::new();
        for (name, entry) in &mut change.next.tenants {
            let before = entry.segments.len();
            entry
                .segments
                .retain(|segment| segment.partition != partition);
            if entry.segments.len() < before {
                names.push(name.clone());
            }
        }
        for name in names {
            let Some((present, entry)) = self.held(&name).zip(change.next.tenants.get(&name))
            else {
                continue;
            };
            let kept: BTreeSet<u64> = entry.segments.iter().map(|segment| segment.file).collect();
            let tenant = Tenant {
                name: name.clone(),
                users: present.users.clone(),
                names: Arc::clone(&present.names),
                segments: keep(&present.segments, &kept),
            };
            change
                .tenants
                .insert(name, Some(Listed::Held(Arc::new(tenant))));
        }
        self.commit(change)
    }

    pub(super) fn published(&self) -> RwLockReadGuard<'_, Published> {
        self.published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A tenant as readers see it now.
    pub(super) fn held(&self, name: &str) -> Option<Arc<Tenant>> {
        match self.published().tenants.get(name)? {
            Listed::Held(tenant) => Some(Arc::clone(tenant)),
            Listed::Refused(_) => None,
        }
    }

    pub(super) fn change(&self) -> Result<Change, IndexError> {
        if let Some(reason) = &self.broken {
            return Err(IndexError::Reopen {
                reason: reason.clone(),
            });
        }
        Ok(Change {
            next: self.manifest.clone(),
            tenants: BTreeMap::new(),
            created: Vec::new(),
        })
    }

    /// Makes the change the state.
    pub(super) fn commit(&mut self, change: Change) -> Result<(), IndexError> {
        let prepared = if change.created.is_empty() {
            Ok(())
        } else {
            self.files.sync_dir()
        };
        let prepared = prepared.and_then(|()| self.files.prepare_manifest(&change.next.encode()));
        if let Err(error) = prepared {
            self.give_up(&change);
            return Err(error);
        }
        if let Err(error) = self.files.publish_manifest() {
            // Old or new: only the disk knows. Going on from either could tear the other.
            self.broken = Some(error.to_string());
            return Err(IndexError::Reopen {
                reason: error.to_string(),
            });
        }
        let named = change.next.files();
        let old = std::mem::replace(&mut self.manifest, change.next);
        self.publish(change.tenants);
        for name in old.files().difference(&named) {
            self.remove(name);
        }
        Ok(())
    }

    fn publish(&self, tenants: BTreeMap<String, Option<Listed>>) {
        let mut published = self
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        published.cursor = self.manifest.cursor.as_slice().into();
        for (name, listed) in tenants {
            match listed {
                Some(listed) => published.tenants.insert(name, listed),
                None => published.tenants.remove(&name),
            };
        }
    }

    /// Back to the state before the change was begun. Texts that are new in the dictionaries may stay: no segment has
    /// their codes, and the next append that goes through stores them.
    pub(super) fn give_up(&mut self, change: &Change) {
        for name in &change.created {
            self.remove(name);
        }
    }

    fn remove(&mut self, name: &str) {
        if self.files.remove(name).is_err() {
            self.left_behind += 1;
        }
    }
}

impl Change {
    pub(super) fn put(&mut self, name: &str, entry: TenantEntry, tenant: Tenant) {
        self.next.tenants.insert(name.to_owned(), entry);
        let listed = Some(Listed::Held(Arc::new(tenant)));
        self.tenants.insert(name.to_owned(), listed);
    }
}

pub(super) fn keep(segments: &[Segment], kept: &BTreeSet<u64>) -> Vec<Segment> {
    let kept = segments
        .iter()
        .filter(|segment| kept.contains(&segment.id()));
    kept.cloned().collect()
}

/// All sources of a segment are of one partition.
fn partition_of(sources: &[Source]) -> String {
    let source = sources.first();
    source.map_or_else(String::new, |source| source.partition.clone())
}
