//! Reading a segment: the events of one tenant over a span of days, as runs sorted by user code, inside a run by time,
//! inside an instant by name code.
//!
//! Nothing is used before its checksum was right: header, facts and block directory when the segment is opened, each
//! block the first time it is read. Which blocks were right is remembered, so that the check costs once.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    block::{Block, BlockScratch, Columns},
    directory::{self, BlockHead, NameSet},
    error::SegmentError,
    format::{Kind, Layout, OWN_CHECKSUMS},
    map::Bytes,
    meta::SegmentMeta,
    properties::PropertyFile,
};

pub(super) const BLOCKS: u32 = 1 | OWN_CHECKSUMS;
pub(super) const DIRECTORY: u32 = 2;
pub(super) const FACTS: u32 = 3;

/// One immutable segment; cheap to clone, all clones share what they have read.
#[derive(Clone)]
pub struct Segment {
    body: Arc<Body>,
    pub(super) properties: Vec<Arc<PropertyFile>>,
}

struct Body {
    file: u64,
    bytes: Bytes,
    data_at: usize,
    seal: u32,
    meta: SegmentMeta,
    blocks: Vec<BlockHead>,
    /// One bit per block whose checksum was right.
    checked: Vec<AtomicU64>,
}

/// Bytes of a segment by what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentSizes {
    /// Which users, and the lengths of their runs.
    pub runs: u64,
    /// Name codes.
    pub codes: u64,
    /// Times.
    pub times: u64,
    /// Header, facts, block directory, padding.
    pub other: u64,
}

impl Segment {
    /// Opens a segment file.
    ///
    /// # Errors
    /// The file cannot be read, is of another version, or is corrupt in header, facts or directory.
    pub fn open(path: &Path) -> Result<Self, SegmentError> {
        Self::open_file(path, 0)
    }

    pub(super) fn open_file(path: &Path, file: u64) -> Result<Self, SegmentError> {
        let bytes = Bytes::open(path).map_err(|error| SegmentError::Unreadable {
            what: format!("{}: {error}", path.display()),
        })?;
        Self::new(bytes, file)
    }

    /// A segment in memory, as [`build`](super::build) makes it.
    ///
    /// # Errors
    /// The bytes are of another version, or corrupt in header, facts or directory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, SegmentError> {
        Self::new(Bytes::Owned(bytes), 0)
    }

    fn new(bytes: Bytes, file: u64) -> Result<Self, SegmentError> {
        let layout = Layout::read(&bytes, Kind::Segment)?;
        let meta = SegmentMeta::decode(layout.checked(&bytes, FACTS)?)?;
        let data = layout.find(BLOCKS)?;
        let directory = layout.checked(&bytes, DIRECTORY)?;
        let blocks = directory::decode(directory, &meta, data.len())?;
        let checked = (0..blocks.len().div_ceil(64))
            .map(|_| AtomicU64::new(0))
            .collect();
        let body = Body {
            file,
            data_at: data.start,
            seal: layout.seal,
            meta,
            blocks,
            checked,
            bytes,
        };
        Ok(Self {
            body: Arc::new(body),
            properties: Vec::new(),
        })
    }

    /// The number of the segment in its index; 0 for one that is in none.
    pub fn id(&self) -> u64 {
        self.body.file
    }

    /// Counts, times, sources.
    pub fn meta(&self) -> &SegmentMeta {
        &self.body.meta
    }

    /// The checksum that stands for the whole content.
    pub(super) fn seal(&self) -> u32 {
        self.body.seal
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.body.bytes.len() as u64
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.body.blocks.len()
    }

    /// Code of the first user of a block; `u32::MAX` behind the last block.
    pub fn first_user(&self, block: usize) -> u32 {
        let head = self.body.blocks.get(block);
        head.map_or(u32::MAX, |head| head.first_user)
    }

    /// Code of the last user of a block; `u32::MAX` behind the last block.
    pub fn last_user(&self, block: usize) -> u32 {
        let head = self.body.blocks.get(block);
        head.map_or(u32::MAX, |head| head.last_user)
    }

    /// The block that holds the user's run, if the segment has one.
    pub fn block_of(&self, user: u32) -> Option<usize> {
        let index = self
            .body
            .blocks
            .partition_point(|head| head.last_user < user);
        let head = self.body.blocks.get(index)?;
        (head.first_user <= user).then_some(index)
    }

    /// Whether a block may hold an event of one of the names; never false where it does.
    pub fn may_contain(&self, block: usize, names: &NameSet) -> bool {
        let head = self.body.blocks.get(block);
        head.is_some_and(|head| head.names.meets(names))
    }

    /// Reads a block: its runs into `scratch`, codes and times in place.
    ///
    /// # Errors
    /// The block is corrupt, or there is none of this index.
    pub fn block(
        &self,
        index: usize,
        scratch: &mut BlockScratch,
    ) -> Result<Block<'_>, SegmentError> {
        let columns = self.columns(index)?;
        columns.read_runs(scratch)?;
        Ok(columns.block())
    }

    /// The events of a block whose runs are known.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub fn events(&self, index: usize) -> Result<Block<'_>, SegmentError> {
        Ok(self.columns(index)?.block())
    }

    /// The columns of a block, checked.
    pub(super) fn columns(&self, index: usize) -> Result<Columns<'_>, SegmentError> {
        let body = &*self.body;
        let outside = || SegmentError::corrupt(format!("there is no block {index}"));
        let head = body.blocks.get(index).ok_or_else(outside)?;
        let start = body.data_at + head.at;
        let bytes = body
            .bytes
            .get(start..start + head.bytes)
            .ok_or_else(outside)?;
        body.check(index, head, bytes)?;
        Columns::new(head, &body.meta, bytes)
    }

    /// Forgets which blocks were right, so that each is checked again.
    pub(super) fn forget_checks(&self) {
        for word in &self.body.checked {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Where the bytes go.
    pub fn sizes(&self) -> SegmentSizes {
        let mut sizes = SegmentSizes::default();
        for head in &self.body.blocks {
            if let Some(parts) = head.parts(self.body.meta.wide_codes) {
                sizes.runs += (parts.users + parts.lengths) as u64;
                sizes.codes += parts.codes as u64;
                sizes.times += parts.times as u64;
            }
        }
        sizes.other = self.bytes() - sizes.runs - sizes.codes - sizes.times;
        sizes
    }

    pub(super) fn head(&self, block: usize) -> Option<&BlockHead> {
        self.body.blocks.get(block)
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Segment")
            .field("id", &self.id())
            .field("meta", self.meta())
            .finish_non_exhaustive()
    }
}

impl Body {
    fn check(&self, index: usize, head: &BlockHead, bytes: &[u8]) -> Result<(), SegmentError> {
        let bit = 1_u64 << (index % 64);
        let word = self.checked.get(index / 64);
        // Relaxed: the bytes do not change, so a bit that comes late only costs another check.
        if word.is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0) {
            return Ok(());
        }
        if crc32fast::hash(bytes) != head.crc {
            return Err(SegmentError::corrupt(format!("checksum of block {index}")));
        }
        if let Some(word) = word {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }
}
