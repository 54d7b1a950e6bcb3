//! All that changes the index's folder goes through here: numbered files that are written once or appended to, and one
//! file, `MANIFEST`, that is replaced as a whole. Tests stop the process's hand at any of these steps.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    error::{IndexError, SegmentError},
    writer::Output,
};

pub(super) const MANIFEST: &str = "MANIFEST";
const MANIFEST_NEXT: &str = "MANIFEST.next";
const LOCK: &str = "LOCK";
const BUFFER_BYTES: usize = 1 << 20;

/// Something that changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Create,
    Write,
    Sync,
    Shorten,
    Rename,
    SyncDir,
    Remove,
}

/// Asked before every step; only tests have one.
pub(super) trait Fault: Send + Sync {
    /// How many of the bytes to be written arrive before the process ends; an error if the step does not happen.
    fn before(&self, step: Step, path: &Path, bytes: usize) -> io::Result<usize>;
}

/// The folder.
#[derive(Clone)]
pub(super) struct Files {
    dir: PathBuf,
    fault: Option<Arc<dyn Fault>>,
}

pub(super) fn segment_name(file: u64) -> String {
    format!("{file}.segment")
}

pub(super) fn properties_name(file: u64, generation: u64) -> String {
    format!("{file}.p{generation}")
}

pub(super) fn users_name(file: u64) -> String {
    format!("{file}.users")
}

pub(super) fn names_name(file: u64) -> String {
    format!("{file}.names")
}

/// Whether a file can be one of the index: nothing else is ever removed.
fn is_ours(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match name.split_once('.') {
        Some((number, kind)) if digits(number) => {
            matches!(kind, "segment" | "users" | "names")
                || kind.strip_prefix('p').is_some_and(digits)
        }
        Some(_) | None => name == MANIFEST || name == MANIFEST_NEXT,
    }
}

impl Files {
    pub(super) fn new(dir: &Path, fault: Option<Arc<dyn Fault>>) -> Self {
        Self {
            dir: dir.to_owned(),
            fault,
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes the folder if need be and takes its lock, which lasts as long as the file is open.
    pub(super) fn lock(&self) -> Result<File, IndexError> {
        let failed = |source| IndexError::Io {
            doing: "open the folder of the index",
            path: self.dir.clone(),
            source,
        };
        std::fs::create_dir_all(&self.dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let lock = options.open(self.path(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(std::fs::TryLockError::WouldBlock) => Err(IndexError::Locked {
                dir: self.dir.clone(),
            }),
            Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The index's files that are there, without the lock.
    pub(super) fn list(&self) -> Result<Vec<String>, IndexError> {
        let failed = |source| IndexError::Io {
            doing: "list",
            path: self.dir.clone(),
            source,
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_str().filter(|name| is_ours(name));
            names.extend(name.map(ToOwned::to_owned));
        }
        Ok(names)
    }

    /// The content of a file, or none if there is no such file.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, IndexError> {
        match std::fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed("read", name, source)),
        }
    }

    /// A new file, which nothing names yet.
    pub(super) fn create(&self, name: &str) -> Result<NewFile, IndexError> {
        let path = self.path(name);
        self.step(Step::Create, &path)?;
        let file = File::create(&path).map_err(|source| self.failed("create", name, source))?;
        Ok(NewFile {
            files: self.clone(),
            file,
            path,
            buffer: Vec::new(),
            written: 0,
        })
    }

    /// Appends to a file of which `at` bytes count, and syncs it. What lay behind them is of an append that failed.
    pub(super) fn extend(&self, name: &str, at: u64, bytes: &[u8]) -> Result<(), IndexError> {
        let path = self.path(name);
        let failed = |source| self.failed("append to", name, source);
        let mut options = OpenOptions::new();
        options.write(true).create(at == 0).truncate(false);
        if at == 0 {
            self.step(Step::Create, &path)?;
        }
        let file = options.open(&path).map_err(failed)?;
        self.write(&file, &path, at, bytes)?;
        self.sync(&file, &path)
    }

    /// Cuts a file that is longer than `length`; false if it is shorter.
    pub(super) fn shorten(&self, name: &str, length: u64) -> Result<bool, IndexError> {
        let path = self.path(name);
        let failed = |source| self.failed("shorten", name, source);
        let file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        if found > length {
            self.step(Step::Shorten, &path)?;
            file.set_len(length).map_err(failed)?;
        }
        Ok(found >= length)
    }

    /// A new file of these bytes, synced.
    pub(super) fn write_new(&self, name: &str, bytes: &[u8]) -> Result<(), IndexError> {
        let mut file = self.create(name)?;
        file.append(bytes)?;
        file.finish()
    }

    /// Writes the next manifest beside the present one.
    pub(super) fn prepare_manifest(&self, bytes: &[u8]) -> Result<(), IndexError> {
        self.write_new(MANIFEST_NEXT, bytes)
    }

    /// Puts the prepared manifest in the place of the present one.
    pub(super) fn publish_manifest(&self) -> Result<(), IndexError> {
        let (from, to) = (self.path(MANIFEST_NEXT), self.path(MANIFEST));
        self.step(Step::Rename, &to)?;
        std::fs::rename(from, to).map_err(|source| self.failed("replace", MANIFEST, source))?;
        self.sync_dir()
    }

    /// Makes names of new files last.
    pub(super) fn sync_dir(&self) -> Result<(), IndexError> {
        self.step(Step::SyncDir, &self.dir)?;
        let synced = File::open(&self.dir).and_then(|dir| self.flush(&dir));
        synced.map_err(|source| IndexError::Io {
            doing: "sync",
            path: self.dir.clone(),
            source,
        })
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), IndexError> {
        let path = self.path(name);
        self.step(Step::Remove, &path)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.failed("remove", name, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn write(&self, file: &File, path: &Path, at: u64, bytes: &[u8]) -> Result<(), IndexError> {
        let failed = |source| failed("write", path, source);
        let allowed = self
            .permit(Step::Write, path, bytes.len())
            .map_err(failed)?;
        let arrives = bytes.get(..allowed).unwrap_or(bytes);
        file.write_all_at(arrives, at).map_err(failed)?;
        if arrives.len() < bytes.len() {
            return Err(failed(io::ErrorKind::WriteZero.into()));
        }
        Ok(())
    }

    fn sync(&self, file: &File, path: &Path) -> Result<(), IndexError> {
        self.step(Step::Sync, path)?;
        let synced = self.flush(file);
        synced.map_err(|source| failed("sync", path, source))
    }

    /// A test that plays the disk needs no real one, and thousands of syncs take minutes.
    fn flush(&self, file: &File) -> io::Result<()> {
        if self.fault.is_some() {
            return Ok(());
        }
        file.sync_all()
    }

    fn step(&self, step: Step, path: &Path) -> Result<(), IndexError> {
        let allowed = self.permit(step, path, 0);
        allowed.map_err(|source| failed("change", path, source))?;
        Ok(())
    }

    fn permit(&self, step: Step, path: &Path, bytes: usize) -> io::Result<usize> {
        let fault = self.fault.as_ref();
        fault.map_or(Ok(bytes), |fault| fault.before(step, path, bytes))
    }

    fn failed(&self, doing: &'static str, name: &str, source: io::Error) -> IndexError {
        failed(doing, &self.path(name), source)
    }
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> IndexError {
    IndexError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// A file that is being written.
pub(super) struct NewFile {
    files: Files,
    file: File,
    path: PathBuf,
    buffer: Vec<u8>,
    written: u64,
}

impl NewFile {
    /// Writes what is left and syncs the file; its name lasts after `sync_dir`.
    pub(super) fn finish(mut self) -> Result<(), IndexError> {
        self.flush()?;
        self.files.sync(&self.file, &self.path)
    }

    /// Bytes appended so far.
    pub(super) fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn flush(&mut self) -> Result<(), IndexError> {
        if !self.buffer.is_empty() {
            let bytes = std::mem::take(&mut self.buffer);
            self.files
                .write(&self.file, &self.path, self.written, &bytes)?;
            self.written += bytes.len() as u64;
            self.buffer = bytes;
            self.buffer.clear();
        }
        Ok(())
    }
}

impl From<SegmentError> for IndexError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Limit { what } => Self::Limit { what },
            SegmentError::Version { .. }
            | SegmentError::Corrupt { .. }
            | SegmentError::Unreadable { .. } => Self::Rebuild {
                reason: error.to_string(),
            },
        }
    }
}

impl Output for NewFile {
    type Error = IndexError;

    fn append(&mut self, bytes: &[u8]) -> Result<(), IndexError> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() > BUFFER_BYTES {
            self.files
                .write(&self.file, &self.path, self.written, bytes)?;
            self.written += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn put_head(&mut self, bytes: &[u8]) -> Result<(), IndexError> {
        if self.written == 0
            && let Some(head) = self.buffer.get_mut(..bytes.len())
        {
            head.copy_from_slice(bytes);
            return Ok(());
        }
        self.flush()?;
        self.files.write(&self.file, &self.path, 0, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_index_are_ours() {
        for name in [
            "0.segment",
            "17.p3",
            "5.users",
            "5.names",
            "MANIFEST",
            "MANIFEST.next",
        ] {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            "LOCK",
            "a.segment",
            ".segment",
            "1.p",
            "1.px",
            "1.segment.bak",
            "1.txt",
            "MANIFEST.old",
            "photo.png",
            "",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
