//! Files in memory that a benchmark writes and removes: a disk must not be part of what is measured.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::shell::say;

/// A file of this process in memory, removed when dropped.
pub(super) struct MemoryFile(PathBuf);

impl MemoryFile {
    /// Chooses the path; whoever is given it creates the file.
    pub(super) fn named(name: &str) -> Self {
        Self(folder().join(format!("weir-bench-{}-{name}", std::process::id())))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        if self.0.exists()
            && let Err(error) = fs::remove_file(&self.0)
        {
            say(&format!("could not remove {}: {error}", self.0.display()));
        }
    }
}

/// The tmpfs that every usual Linux has, or the folder for temporary files where there is none.
pub(super) fn folder() -> PathBuf {
    let shared_memory = PathBuf::from("/dev/shm");
    if shared_memory.is_dir() {
        shared_memory
    } else {
        env::temp_dir()
    }
}
