//! Opening: from the manifest to everything it names, and nothing else.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

use super::{
    Index,
    dictionaries::Dictionaries,
    error::{IndexError, SegmentError},
    files::{Files, MANIFEST, properties_name, segment_name},
    manifest::{Manifest, SegmentEntry, TenantEntry},
    properties::PropertyFile,
    segment::Segment,
    snapshot::{Listed, Published, Tenant},
};

impl Index {
    pub(super) fn open_files(files: Files) -> Result<Self, IndexError> {
        let lock = files.lock()?;
        let manifest = match files.read(MANIFEST)? {
            Some(bytes) => {
                Manifest::decode(&bytes).map_err(|error| IndexError::rebuild(MANIFEST, error))?
            }
            None => Manifest::default(),
        };
        let named = manifest.files();
        for name in files.list()? {
            if !named.contains(&name) {
                files.remove(&name)?;
            }
        }
        let mut dictionaries = BTreeMap::new();
        let mut published = Published {
            cursor: manifest.cursor.as_slice().into(),
            tenants: BTreeMap::new(),
        };
        for (name, entry) in &manifest.tenants {
            let listed = if let Some(reason) = &entry.refused {
                Listed::Refused(reason.clone())
            } else {
                let own = Dictionaries::load(&files, entry)?;
                let segments = open_segments(&files, entry, &own)?;
                let tenant = own.tenant(name, segments);
                dictionaries.insert(name.clone(), own);
                Listed::Held(Arc::new(tenant))
            };
            published.tenants.insert(name.clone(), listed);
        }
        Ok(Self {
            files,
            _lock: lock,
            manifest,
            dictionaries,
            published: Arc::new(RwLock::new(published)),
            broken: None,
            left_behind: 0,
        })
    }
}

impl Dictionaries {
    /// A tenant as snapshots see it.
    pub(super) fn tenant(&self, name: &str, segments: Vec<Segment>) -> Tenant {
        Tenant {
            name: name.to_owned(),
            users: self.users.view(),
            names: Arc::clone(&self.names),
            segments,
        }
    }
}

fn open_segments(
    files: &Files,
    entry: &TenantEntry,
    dictionaries: &Dictionaries,
) -> Result<Vec<Segment>, IndexError> {
    let segments = entry.segments.iter();
    segments
        .map(|segment| open_segment(files, segment, dictionaries))
        .collect()
}

/// Opens a segment and its columns, and holds them against the manifest and the dictionaries.
pub(super) fn open_segment(
    files: &Files,
    entry: &SegmentEntry,
    dictionaries: &Dictionaries,
) -> Result<Segment, IndexError> {
    let name = segment_name(entry.file);
    let rebuild = |error: SegmentError| IndexError::rebuild(&name, error);
    let other = || SegmentError::corrupt("it is not the file that the manifest names");
    let mut segment = Segment::open_file(&files.path(&name), entry.file).map_err(rebuild)?;
    let meta = segment.meta();
    if (segment.seal(), segment.bytes(), meta.events) != (entry.seal, entry.bytes, entry.events) {
        return Err(rebuild(other()));
    }
    let last_name = meta.name_counts.last().map(|(code, _)| usize::from(*code));
    let last_user = segment.blocks().checked_sub(1);
    let last_user = last_user.map(|block| segment.last_user(block));
    if last_name.is_some_and(|code| code >= dictionaries.names.len())
        || last_user.is_some_and(|code| code >= dictionaries.users.len())
    {
        return Err(rebuild(SegmentError::corrupt(
            "it has codes that the dictionaries do not have",
        )));
    }
    for properties in &entry.properties {
        let name = properties_name(entry.file, properties.generation);
        let rebuild = |error| IndexError::rebuild(&name, error);
        let file = PropertyFile::open(&files.path(&name), properties.generation);
        let file = file.map_err(rebuild)?;
        let found = (file.seal(), file.bytes());
        if found != (properties.seal, properties.bytes) || !file.belongs_to(&segment) {
            return Err(rebuild(other()));
        }
        segment.properties.push(Arc::new(file));
    }
    Ok(segment)
}
