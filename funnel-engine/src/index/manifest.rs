//! The manifest: what exists. One small checksummed file; replacing it is the one moment at which the index goes from
//! its old to its new state.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    error::SegmentError,
    files::{MANIFEST, names_name, properties_name, segment_name, users_name},
    format::{Kind, Layout, encode_file},
    frames::Extent,
    wire::{Input, Sheet},
};

/// How far a partition of the store has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Every row of the blocks up to here.
    pub(super) block: u64,
    /// Of the blocks behind, up to this one, the days up to this one.
    pub(super) ahead: Option<(u64, i32)>,
}

/// Most tenants of one index: the manifest lists them all and is rewritten with every batch.
pub(super) const TENANTS_MAX: usize = 65_536;

const SECTION: u32 = 1;

/// The whole state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) next_file: u64,
    /// Opaque: what the reader of the source gave.
    pub(super) cursor: Vec<u8>,
    pub(super) reach: BTreeMap<String, Reach>,
    pub(super) tenants: BTreeMap<String, TenantEntry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TenantEntry {
    /// Why the tenant is not indexed; it then has no files.
    pub(super) refused: Option<String>,
    pub(super) users: DictionaryEntry,
    pub(super) names: DictionaryEntry,
    pub(super) segments: Vec<SegmentEntry>,
}

/// A dictionary file; with no texts there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DictionaryEntry {
    pub(super) file: u64,
    pub(super) extent: Extent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentEntry {
    pub(super) file: u64,
    pub(super) bytes: u64,
    pub(super) seal: u32,
    pub(super) events: u64,
    /// Of the store; a segment has rows of one alone.
    pub(super) partition: String,
    pub(super) first_day: i32,
    pub(super) last_day: i32,
    pub(super) properties: Vec<PropertyEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PropertyEntry {
    pub(super) generation: u64,
    pub(super) bytes: u64,
    pub(super) seal: u32,
}

impl Manifest {
    /// A number that no file has.
    pub(super) fn number(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file
    }

    /// Every file that exists.
    pub(super) fn files(&self) -> BTreeSet<String> {
        let mut files = BTreeSet::from([MANIFEST.to_owned()]);
        for tenant in self.tenants.values() {
            files.extend(tenant.files());
        }
        files
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut sheet = Sheet::default();
        sheet.u64(self.next_file);
        sheet.count(self.cursor.len());
        sheet.0.extend(&self.cursor);
        sheet.count(self.reach.len());
        for (partition, reach) in &self.reach {
            sheet.text(partition);
            sheet.u64(reach.block);
            sheet.u8(u8::from(reach.ahead.is_some()));
            let (block, day) = reach.ahead.unwrap_or_default();
            sheet.u64(block);
            sheet.i32(day);
        }
        sheet.count(self.tenants.len());
        for (name, tenant) in &self.tenants {
            sheet.text(name);
            tenant.encode(&mut sheet);
        }
        encode_file(Kind::Manifest, &[(SECTION, sheet.0)]).0
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, SegmentError> {
        let layout = Layout::read(bytes, Kind::Manifest)?;
        let mut input = Input::new(layout.checked(bytes, SECTION)?, "manifest");
        let mut manifest = Self {
            next_file: input.u64()?,
            ..Self::default()
        };
        let cursor = input.count(1)?;
        manifest.cursor = input.bytes(cursor)?.to_vec();
        for _ in 0..input.count(29)? {
            let partition = input.text()?;
            let block = input.u64()?;
            let is_ahead = input.u8()? != 0;
            let ahead = (input.u64()?, input.i32()?);
            let ahead = is_ahead.then_some(ahead);
            manifest.reach.insert(partition, Reach { block, ahead });
        }
        for _ in 0..input.count(8)? {
            let name = input.text()?;
            let tenant = TenantEntry::decode(&mut input)?;
            manifest.tenants.insert(name, tenant);
        }
        input.end()?;
        Ok(manifest)
    }
}

impl TenantEntry {
    fn files(&self) -> impl Iterator<Item = String> {
        let users = (self.users.extent.texts > 0).then(|| self.users_name());
        let names = (self.names.extent.texts > 0).then(|| self.names_name());
        let segments = self.segments.iter().flat_map(SegmentEntry::files);
        users.into_iter().chain(names).chain(segments)
    }

    pub(super) fn users_name(&self) -> String {
        users_name(self.users.file)
    }

    pub(super) fn names_name(&self) -> String {
        names_name(self.names.file)
    }

    fn encode(&self, sheet: &mut Sheet) {
        sheet.u8(u8::from(self.refused.is_some()));
        sheet.text(self.refused.as_deref().unwrap_or_default());
        self.users.encode(sheet);
        self.names.encode(sheet);
        sheet.count(self.segments.len());
        for segment in &self.segments {
            segment.encode(sheet);
        }
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, SegmentError> {
        let is_refused = input.u8()? != 0;
        let reason = input.text()?;
        let mut tenant = Self {
            refused: is_refused.then_some(reason),
            users: DictionaryEntry::decode(input)?,
            names: DictionaryEntry::decode(input)?,
            segments: Vec::new(),
        };
        for _ in 0..input.count(52)? {
            tenant.segments.push(SegmentEntry::decode(input)?);
        }
        Ok(tenant)
    }
}

impl DictionaryEntry {
    fn encode(self, sheet: &mut Sheet) {
        sheet.u64(self.file);
        sheet.u64(self.extent.bytes);
        sheet.u32(self.extent.texts);
        sheet.u32(self.extent.frames);
        sheet.u32(self.extent.chain);
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, SegmentError> {
        Ok(Self {
            file: input.u64()?,
            extent: Extent {
                bytes: input.u64()?,
                texts: input.u32()?,
                frames: input.u32()?,
                chain: input.u32()?,
            },
        })
    }
}

impl SegmentEntry {
    /// Its own file and those beside it.
    pub(super) fn files(&self) -> impl Iterator<Item = String> {
        let beside = self.properties.iter();
        let beside = beside.map(|properties| properties_name(self.file, properties.generation));
        std::iter::once(segment_name(self.file)).chain(beside)
    }

    fn encode(&self, sheet: &mut Sheet) {
        sheet.u64(self.file);
        sheet.u64(self.bytes);
        sheet.u32(self.seal);
        sheet.u64(self.events);
        sheet.text(&self.partition);
        sheet.i32(self.first_day);
        sheet.i32(self.last_day);
        sheet.count(self.properties.len());
        for properties in &self.properties {
            sheet.u64(properties.generation);
            sheet.u64(properties.bytes);
            sheet.u32(properties.seal);
        }
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, SegmentError> {
        let mut segment = Self {
            file: input.u64()?,
            bytes: input.u64()?,
            seal: input.u32()?,
            events: input.u64()?,
            partition: input.text()?,
            first_day: input.i32()?,
            last_day: input.i32()?,
            properties: Vec::new(),
        };
        for _ in 0..input.count(20)? {
            segment.properties.push(PropertyEntry {
                generation: input.u64()?,
                bytes: input.u64()?,
                seal: input.u32()?,
            });
        }
        Ok(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let extent = Extent {
            bytes: 3,
            texts: 2,
            frames: 1,
            chain: 9,
        };
        let segment = SegmentEntry {
            file: 7,
            bytes: 100,
            seal: 5,
            events: 6,
            partition: "202601".to_owned(),
            first_day: -1,
            last_day: 2,
            properties: vec![PropertyEntry {
                generation: 8,
                bytes: 4,
                seal: 3,
            }],
        };
        let tenant = TenantEntry {
            refused: None,
            users: DictionaryEntry { file: 1, extent },
            names: DictionaryEntry { file: 2, extent },
            segments: vec![segment],
        };
        let refused = TenantEntry {
            refused: Some("too many names".to_owned()),
            ..TenantEntry::default()
        };
        Manifest {
            next_file: 9,
            cursor: b"{}".to_vec(),
            reach: BTreeMap::from([
                (
                    "202601".to_owned(),
                    Reach {
                        block: 12,
                        ahead: None,
                    },
                ),
                (
                    "202602".to_owned(),
                    Reach {
                        block: 1,
                        ahead: Some((9, -3)),
                    },
                ),
            ]),
            tenants: BTreeMap::from([("t".to_owned(), tenant), ("r".to_owned(), refused)]),
        }
    }

    #[test]
    fn comes_back_and_names_its_files() {
        let manifest = sample();
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest.clone()));
        let files = ["1.users", "2.names", "7.p8", "7.segment", "MANIFEST"];
        assert!(manifest.files().iter().eq(files));
    }

    #[test]
    fn every_bit_flip_and_every_cut_is_found() {
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&bytes).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(
                Manifest::decode(&bytes[..length]).is_err(),
                "cut at {length}"
            );
        }
    }

    #[test]
    fn another_version_is_told_apart_from_corruption() {
        let mut bytes = sample().encode();
        bytes[8] = 0;
        let found = Manifest::decode(&bytes);
        assert!(matches!(
            found,
            Err(SegmentError::Version {
                found: 0,
                expected: 1
            })
        ));
    }
}
