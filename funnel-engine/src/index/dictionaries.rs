//! The dictionaries of one tenant: in memory, and how they are brought to and from their files.

use std::sync::Arc;

use super::{
    error::{IndexError, SegmentError},
    files::Files,
    frames::{self, Extent},
    manifest::{DictionaryEntry, TenantEntry},
    names::Names,
    users::Users,
};

/// Users and names of a tenant.
#[derive(Default)]
pub(super) struct Dictionaries {
    pub(super) users: Users,
    /// Shared with snapshots; copied when names are added.
    pub(super) names: Arc<Names>,
}

impl Dictionaries {
    /// Reads both files; what lies behind the extents in the manifest is cut off.
    pub(super) fn load(files: &Files, entry: &TenantEntry) -> Result<Self, IndexError> {
        let mut dictionaries = Self::default();
        let users = &mut dictionaries.users;
        load(files, &entry.users, &entry.users_name(), |id| {
            users.code(id).map(u64::from)
        })?;
        let names = Arc::make_mut(&mut dictionaries.names);
        load(files, &entry.names, &entry.names_name(), |name| {
            names.code(name).map(u64::from)
        })?;
        Ok(dictionaries)
    }

    pub(super) fn name(&mut self, name: &str) -> Result<u16, SegmentError> {
        if let Some(code) = self.names.find(name) {
            return Ok(code);
        }
        Arc::make_mut(&mut self.names).code(name)
    }
}

fn load(
    files: &Files,
    entry: &DictionaryEntry,
    file: &str,
    mut code: impl FnMut(&str) -> Result<u64, SegmentError>,
) -> Result<(), IndexError> {
    if entry.extent.texts == 0 {
        return Ok(());
    }
    let Some(bytes) = files.read(file)? else {
        return Err(IndexError::rebuild(file, "is missing"));
    };
    let length = usize::try_from(entry.extent.bytes).unwrap_or(usize::MAX);
    let sound = bytes.get(..length);
    let sound = sound.ok_or_else(|| IndexError::rebuild(file, "is too short"))?;
    if bytes.len() > length {
        files.shorten(file, entry.extent.bytes)?;
    }
    let mut expected = 0;
    let read = frames::decode(sound, entry.extent, |text| {
        // A text that is there twice gets its first code again.
        if code(text)? != expected {
            return Err(SegmentError::corrupt("a text is twice in the dictionary"));
        }
        expected += 1;
        Ok(())
    });
    read.map_err(|error| IndexError::rebuild(file, error))
}

/// Appends what is new; `entry` is moved on. A dictionary without texts has no file.
pub(super) fn store<'a, I: Iterator<Item = &'a str>>(
    files: &Files,
    entry: &mut DictionaryEntry,
    file: &str,
    texts: I,
) -> Result<(), IndexError> {
    let at = entry.extent.bytes;
    let bytes = frames::encode(&mut entry.extent, texts)?;
    if bytes.is_empty() {
        return Ok(());
    }
    files.extend(file, at, &bytes)
}

/// Many small appends make many small frames, which compress badly: such a file is worth writing anew.
pub(super) fn is_ragged(extent: &Extent) -> bool {
    extent.frames > 64 + extent.texts / 16_384
}
