//! The bytes of a file: mapped, or, where the file is small, read. The only place of the index with `unsafe`.

use std::{fs::File, io, ops::Deref, path::Path};

use memmap2::Mmap;

/// Smaller files are read: a mapping costs a page and one of the process's 65,530 mappings.
const MAPPED_FROM_BYTES: u64 = 256 * 1_024;

/// Bytes that stay the same for as long as they are held.
pub(super) enum Bytes {
    Owned(Vec<u8>),
    Mapped(Mmap),
}

impl Bytes {
    /// The content of a file of the index. The file may be unlinked while it is held, but not changed.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() < MAPPED_FROM_BYTES {
            return Ok(Self::Owned(std::fs::read(path)?));
        }
        Ok(Self::Mapped(map(&file)?))
    }
}

#[expect(
    unsafe_code,
    reason = "a mapping is the only way to read a large file in place; the promise is explained below"
)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is read-only, and nobody changes or shortens the file: segments and property files are
    // written once under a new name before they are opened, the folder is locked against a second writer, and they
    // are only ever unlinked, which keeps the pages. A stranger who cuts such a file short ends the process (SIGBUS);
    // one who changes it behind a checked checksum could do the same to any database.
    unsafe { Mmap::map(file) }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(mapped) => mapped,
        }
    }
}
