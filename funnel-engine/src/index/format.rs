//! The frame that every file of the index has, except dictionaries: a header, a table of sections, the sections.
//!
//! ```text
//! 0   magic "WEIRIDX1"          8 bytes
//! 8   format version            u32
//! 12  kind of file              u32
//! 16  length of the file        u64
//! 24  number of sections        u32
//! 28  CRC-32 of header + table  u32, itself taken as 0
//! 32  table: per section        id u32, CRC-32 u32, offset u64, length u64
//! ```
//! Everything is little endian. Sections lie without gaps from the end of the table to the end of the file, so that
//! every byte is under a checksum. A section whose id has [`OWN_CHECKSUMS`] set carries checksums inside and 0 here.
//! The checksum of the header is the file's *seal*: it covers the checksums of the sections, so the manifest, which
//! notes it, vouches for the content of the file.

use super::{
    error::SegmentError,
    wire::{Input, Sheet},
};

pub(super) const MAGIC: [u8; 8] = *b"WEIRIDX1";
/// Counted up with every change of a layout: files of another version are refused.
pub(super) const VERSION: u32 = 1;
/// Set in the id of a section that is not under a checksum of the table.
pub(super) const OWN_CHECKSUMS: u32 = 1 << 31;

const HEADER_BYTES: usize = 32;
const ENTRY_BYTES: usize = 24;
const SEAL_AT: usize = 28;
const SECTIONS_MAX: u32 = 1_024;

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Segment = 1,
    Properties = 2,
    Manifest = 3,
}

/// A stretch of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Section {
    pub(super) id: u32,
    pub(super) crc: u32,
    pub(super) length: u64,
}

impl Section {
    pub(super) fn new(id: u32, bytes: &[u8]) -> Self {
        Self {
            id,
            crc: crc32fast::hash(bytes),
            length: bytes.len() as u64,
        }
    }
}

/// Bytes of header and table.
pub(super) fn header_bytes(sections: usize) -> usize {
    HEADER_BYTES + sections * ENTRY_BYTES
}

/// Header and table of a file whose sections follow each other as listed, and its seal.
pub(super) fn encode_header(kind: Kind, sections: &[Section]) -> (Vec<u8>, u32) {
    let start = header_bytes(sections.len()) as u64;
    let mut table = Sheet::default();
    let mut offset = start;
    for section in sections {
        table.u32(section.id);
        table.u32(section.crc);
        table.u64(offset);
        table.u64(section.length);
        offset += section.length;
    }
    let mut head = Sheet::default();
    head.0.extend(MAGIC);
    head.u32(VERSION);
    head.u32(kind as u32);
    head.u64(offset);
    head.u32(u32::try_from(sections.len()).unwrap_or(u32::MAX));
    let seal = seal_of(&head.0, &table.0);
    head.u32(seal);
    head.0.extend(table.0);
    (head.0, seal)
}

fn seal_of(head: &[u8], table: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(&[0; 4]);
    hasher.update(table);
    hasher.finalize()
}

/// A file whose header is sound.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) seal: u32,
    sections: Vec<(Section, usize)>,
}

impl Layout {
    /// Reads header and table; the sections themselves are not looked at.
    pub(super) fn read(bytes: &[u8], kind: Kind) -> Result<Self, SegmentError> {
        let mut input = Input::new(bytes, "header");
        if input.bytes(MAGIC.len())? != MAGIC {
            return Err(SegmentError::corrupt("no file of the index (magic)"));
        }
        let version = input.u32()?;
        if version != VERSION {
            return Err(SegmentError::Version {
                found: version,
                expected: VERSION,
            });
        }
        let found_kind = input.u32()?;
        let length = input.u64()?;
        let count = input.u32()?;
        let seal = input.u32()?;
        if count > SECTIONS_MAX {
            return Err(SegmentError::corrupt("too many sections"));
        }
        let table_bytes = count as usize * ENTRY_BYTES;
        let table = input.bytes(table_bytes)?;
        if seal_of(bytes.get(..SEAL_AT).unwrap_or_default(), table) != seal {
            return Err(SegmentError::corrupt("checksum of the header"));
        }
        if found_kind != kind as u32 {
            return Err(SegmentError::corrupt("another kind of file"));
        }
        if length != bytes.len() as u64 {
            return Err(SegmentError::corrupt(format!(
                "{} bytes instead of {length}",
                bytes.len()
            )));
        }
        let sections = Self::sections(table, header_bytes(count as usize) as u64, length)?;
        Ok(Self { seal, sections })
    }

    fn sections(
        table: &[u8],
        start: u64,
        length: u64,
    ) -> Result<Vec<(Section, usize)>, SegmentError> {
        let mut input = Input::new(table, "section table");
        let mut sections = Vec::new();
        let mut expected = start;
        while !input.is_empty() {
            let (id, crc) = (input.u32()?, input.u32()?);
            let (offset, bytes) = (input.u64()?, input.u64()?);
            let end = offset.checked_add(bytes);
            let (Ok(at), true) = (usize::try_from(offset), offset == expected) else {
                return Err(SegmentError::corrupt("sections leave a gap"));
            };
            expected = end.ok_or_else(|| SegmentError::corrupt("length of a section"))?;
            sections.push((
                Section {
                    id,
                    crc,
                    length: bytes,
                },
                at,
            ));
        }
        if expected != length {
            return Err(SegmentError::corrupt("sections do not fill the file"));
        }
        Ok(sections)
    }

    /// Where a section lies; its checksum is not looked at.
    pub(super) fn find(&self, id: u32) -> Result<std::ops::Range<usize>, SegmentError> {
        let (section, at) = self.entry(id)?;
        let length = usize::try_from(section.length).unwrap_or(usize::MAX);
        Ok(at..at.saturating_add(length))
    }

    /// A section under a checksum of the table, which is computed here.
    pub(super) fn checked<'a>(&self, bytes: &'a [u8], id: u32) -> Result<&'a [u8], SegmentError> {
        let content = bytes
            .get(self.find(id)?)
            .ok_or_else(|| SegmentError::corrupt("section outside the file"))?;
        if crc32fast::hash(content) != self.entry(id)?.0.crc {
            return Err(SegmentError::corrupt(format!("checksum of section {id}")));
        }
        Ok(content)
    }

    fn entry(&self, id: u32) -> Result<(Section, usize), SegmentError> {
        let found = self.sections.iter().find(|(section, _)| section.id == id);
        found
            .copied()
            .ok_or_else(|| SegmentError::corrupt(format!("section {id} is missing")))
    }
}

/// A whole file of sections that are all in memory, and its seal.
pub(super) fn encode_file(kind: Kind, contents: &[(u32, Vec<u8>)]) -> (Vec<u8>, u32) {
    let sections: Vec<Section> = contents
        .iter()
        .map(|(id, bytes)| Section::new(*id, bytes))
        .collect();
    let (mut file, seal) = encode_header(kind, &sections);
    for (_, bytes) in contents {
        file.extend(bytes);
    }
    (file, seal)
}
