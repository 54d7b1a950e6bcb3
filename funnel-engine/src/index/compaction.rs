//! Compaction, and columns for segments: what is done to an index while nothing new arrives.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Index,
    changes::{Change, keep},
    compact::{Group, Thrift, groups},
    dictionaries::{is_ragged, store},
    error::IndexError,
    files::{properties_name, segment_name},
    manifest::{DictionaryEntry, PropertyEntry, SegmentEntry},
    merge::{merge, merged_sources},
    open::open_segment,
    properties::{PropertiesError, PropertyFile},
    segment::Segment,
    snapshot::Tenant,
};

/// Most sources of a merged segment: reading its rows from the store again takes a question with as many parts.
const SOURCES_MAX: usize = 1_000;
/// Most column files of a segment; with one more the oldest goes.
const PROPERTY_FILES_MAX: usize = 8;

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Segments that were merged into others.
    pub merged: u64,
    /// Events rewritten.
    pub events: u64,
    /// User dictionaries written anew.
    pub dictionaries: u64,
    /// Whether something is left that a larger budget would allow.
    pub more: bool,
}

impl Index {
    /// Merges segments, and writes dictionaries of many small appends anew, until nothing is left to do or the next
    /// step would rewrite more events and users than are left of the budget. Columns of merged segments are dropped.
    /// Queries go on meanwhile; `append` waits, so that a small budget is right while events arrive.
    ///
    /// # Errors
    /// The disk refuses, a file is corrupt, or an earlier change was cut short.
    pub fn compact(&mut self, budget: u64, thrift: Thrift) -> Result<Compacted, IndexError> {
        let mut total = Compacted::default();
        loop {
            let mut change = self.change()?;
            let left = budget.saturating_sub(total.events);
            match self.prepare_round(&mut change, left, thrift) {
                Ok(round) => {
                    total.more = round.more;
                    if round.merged + round.dictionaries == 0 {
                        return Ok(total);
                    }
                    self.commit(change)?;
                    total.merged += round.merged;
                    total.events += round.events;
                    total.dictionaries += round.dictionaries;
                }
                Err(error) => {
                    self.give_up(&change);
                    return Err(error);
                }
            }
        }
    }

    /// One merge of each tenant at most, so that many tenants share the price of a commit.
    fn prepare_round(
        &self,
        change: &mut Change,
        budget: u64,
        thrift: Thrift,
    ) -> Result<Compacted, IndexError> {
        let mut round = Compacted::default();
        let names: Vec<String> = self.dictionaries.keys().cloned().collect();
        for name in names {
            let Some(tenant) = self.held(&name) else {
                continue;
            };
            let left = budget.saturating_sub(round.events);
            let (group, more) = self.choose(&tenant, left, thrift);
            round.more |= more;
            if let Some(group) = group {
                round.events += group.events;
                round.merged += group.files.len() as u64;
                self.merge_group(change, &tenant, &group)?;
            }
            let left = budget.saturating_sub(round.events);
            self.rewrite_users(change, &name, left, &mut round)?;
        }
        Ok(round)
    }

    /// The best group within the budget, and whether there are others without.
    fn choose(&self, tenant: &Tenant, budget: u64, thrift: Thrift) -> (Option<Group>, bool) {
        let entry = self.manifest.tenants.get(&tenant.name);
        let entries = entry.map_or(&[][..], |entry| &entry.segments);
        let fits = |group: &Group| {
            let segments = segments_of(tenant, group);
            let segments: Vec<&Segment> = segments.iter().collect();
            merged_sources(&segments).len() <= SOURCES_MAX
        };
        let mut too_dear = false;
        for group in groups(entries, thrift) {
            if group.events > budget {
                too_dear = true;
            } else if fits(&group) {
                return (Some(group), true);
            }
        }
        (None, too_dear)
    }

    fn merge_group(
        &self,
        change: &mut Change,
        tenant: &Tenant,
        group: &Group,
    ) -> Result<(), IndexError> {
        let Some((dictionaries, mut entry)) = self
            .dictionaries
            .get(&tenant.name)
            .zip(change.next.tenants.get(&tenant.name).cloned())
        else {
            return Ok(());
        };
        let inputs = segments_of(tenant, group);
        let inputs: Vec<&Segment> = inputs.iter().collect();
        let file = change.next.number();
        let name = segment_name(file);
        change.created.push(name.clone());
        let (output, seal) = merge(&inputs, self.files.create(&name)?)?;
        let bytes = output.bytes();
        output.finish()?;
        let gone = |segment: &&SegmentEntry| group.files.contains(&segment.file);
        let days = entry.segments.iter().filter(gone);
        let first_day = days.clone().map(|segment| segment.first_day).min();
        let partition = days.clone().map(|segment| segment.partition.clone()).next();
        let last_day = days.map(|segment| segment.last_day).max();
        entry
            .segments
            .retain(|segment| !group.files.contains(&segment.file));
        let merged = SegmentEntry {
            file,
            bytes,
            seal,
            events: group.events,
            partition: partition.unwrap_or_default(),
            first_day: first_day.unwrap_or_default(),
            last_day: last_day.unwrap_or_default(),
            properties: Vec::new(),
        };
        let opened = open_segment(&self.files, &merged, dictionaries)?;
        let kept: BTreeSet<u64> = entry.segments.iter().map(|segment| segment.file).collect();
        let mut segments = keep(&tenant.segments, &kept);
        segments.push(opened);
        entry.segments.push(merged);
        let tenant = dictionaries.tenant(&tenant.name, segments);
        let name = tenant.name.clone();
        change.put(&name, entry, tenant);
        Ok(())
    }

    fn rewrite_users(
        &self,
        change: &mut Change,
        name: &str,
        budget: u64,
        round: &mut Compacted,
    ) -> Result<(), IndexError> {
        let Some((dictionaries, entry)) = self
            .dictionaries
            .get(name)
            .zip(change.next.tenants.get(name))
        else {
            return Ok(());
        };
        let extent = entry.users.extent;
        if !is_ragged(&extent) {
            return Ok(());
        }
        if u64::from(extent.texts) > budget {
            round.more = true;
            return Ok(());
        }
        let mut entry = entry.clone();
        entry.users = DictionaryEntry {
            file: change.next.number(),
            ..DictionaryEntry::default()
        };
        let file = entry.users_name();
        change.created.push(file.clone());
        let ids = dictionaries.users.from(0);
        store(&self.files, &mut entry.users, &file, ids)?;
        change.next.tenants.insert(name.to_owned(), entry);
        round.events += u64::from(extent.texts);
        round.dictionaries += 1;
        Ok(())
    }

    /// Puts columns beside a segment, as [`PropertyBuilder`](super::PropertyBuilder) made them. False if the segment
    /// has been merged away meanwhile; then nothing is stored.
    ///
    /// # Errors
    /// The columns are not those of the segment, the disk refuses, or an earlier change was cut short.
    pub fn attach_properties(
        &mut self,
        tenant: &str,
        segment: u64,
        columns: &[u8],
    ) -> Result<bool, IndexError> {
        let held = self.held(tenant);
        let present = held.as_deref().and_then(|tenant| {
            let mut segments = tenant.segments.iter();
            segments.find(|own| own.id() == segment)
        });
        let Some((held, present)) = held.as_deref().zip(present) else {
            return Ok(false);
        };
        let mut change = self.change()?;
        match self.prepare_properties(&mut change, held, present, columns) {
            Ok(()) => self.commit(change).map(|()| true),
            Err(error) => {
                self.give_up(&change);
                Err(error)
            }
        }
    }

    fn prepare_properties(
        &self,
        change: &mut Change,
        tenant: &Tenant,
        segment: &Segment,
        columns: &[u8],
    ) -> Result<(), IndexError> {
        let generation = change.next.number();
        let name = properties_name(segment.id(), generation);
        change.created.push(name.clone());
        self.files.write_new(&name, columns)?;
        let file = PropertyFile::open(&self.files.path(&name), generation);
        let file = Arc::new(file.map_err(PropertiesError::from)?);
        segment.accepts(&file)?;
        let dropped = superseded(segment, &file);
        let mut entry = change.next.tenants.get(&tenant.name).cloned();
        let entries = entry.iter_mut().flat_map(|entry| &mut entry.segments);
        for own in entries.filter(|own| own.file == segment.id()) {
            own.properties
                .retain(|file| !dropped.contains(&file.generation));
            own.properties.push(PropertyEntry {
                generation,
                bytes: file.bytes(),
                seal: file.seal(),
            });
        }
        let changed = tenant.with_properties(segment.id(), &file, &dropped);
        change.put(&tenant.name, entry.unwrap_or_default(), changed);
        Ok(())
    }
}

/// Files that the new one makes needless, and the oldest that are too many.
fn superseded(segment: &Segment, new: &PropertyFile) -> Vec<u64> {
    let names: BTreeSet<&str> = new.names().collect();
    let (mut dropped, kept): (Vec<&Arc<PropertyFile>>, Vec<_>) = segment
        .properties
        .iter()
        .partition(|file| file.names().all(|name| names.contains(name)));
    let too_many = (kept.len() + 1).saturating_sub(PROPERTY_FILES_MAX);
    dropped.extend(kept.into_iter().take(too_many));
    dropped.iter().map(|file| file.generation).collect()
}

fn segments_of(tenant: &Tenant, group: &Group) -> Vec<Segment> {
    keep(&tenant.segments, &group.files.iter().copied().collect())
}
