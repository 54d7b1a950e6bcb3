//! The disk tank: batches that the store did not take, one file each, oldest first.
//!
//! A file is: 8 bytes magic, 8 bytes checksum (the first of SHA-256 over the rest), u16 length and text of the
//! insert token, then the rows as NDJSON. It is written under another name, synced, and renamed, so a torn
//! tail is never read as a batch. SP-1: a file leaves only after the store took it. SP-3: bytes on disk stay
//! within the limit. Because the token is stored too, a batch delivered twice is stored once.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use event_store::ExchangeRow;
use sha2::{Digest as _, Sha256};

const MAGIC: &[u8; 8] = b"WEIRSPL1";
const EXTENSION: &str = "spool";

/// Rows with the token under which they are inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Same token, same rows.
    pub token: String,
    /// The rows.
    pub rows: Vec<ExchangeRow>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is on disk.
    Yes,
    /// The tank is full; the batch is dropped and must be counted.
    Full,
}

/// The oldest file of the tank.
#[derive(Debug)]
pub enum Oldest {
    /// A sound batch and its file.
    Batch(PathBuf, Batch),
    /// A file that does not read back; it has been set aside under another name.
    Corrupt(PathBuf),
    /// Nothing there.
    Empty,
}

/// A folder of spooled batches.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    bytes_limit: u64,
    sequence: u64,
}

impl Spool {
    /// Opens (or creates) a folder; batches of an earlier run are found again.
    ///
    /// # Errors
    /// When the folder cannot be created or listed.
    pub fn open(folder: &Path, bytes_limit: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let spool = Self {
            folder: folder.to_owned(),
            bytes_limit,
            sequence: 0,
        };
        let last = spool
            .files()?
            .last()
            .and_then(|path| path.file_stem()?.to_str()?.parse::<u64>().ok());
        Ok(Self {
            sequence: last.unwrap_or(0),
            ..spool
        })
    }

    /// Puts a batch on disk, synced.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn push(&mut self, batch: &Batch) -> io::Result<Kept> {
        let mut body = Vec::with_capacity(batch.rows.len() * 512);
        body.extend_from_slice(
            &u16::try_from(batch.token.len())
                .unwrap_or(u16::MAX)
                .to_le_bytes(),
        );
        body.extend_from_slice(batch.token.as_bytes());
        for row in &batch.rows {
            serde_json::to_writer(&mut body, row)?;
            body.push(b'\n');
        }
        if self.bytes()? + body.len() as u64 + 16 > self.bytes_limit {
            return Ok(Kept::Full);
        }
        self.sequence += 1;
        let path = self
            .folder
            .join(format!("{:020}.{EXTENSION}", self.sequence));
        let unfinished = path.with_extension("tmp");
        let mut file = File::create(&unfinished)?;
        file.write_all(MAGIC)?;
        file.write_all(&checksum(&body))?;
        file.write_all(&body)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(&self.folder)?.sync_all()?;
        Ok(Kept::Yes)
    }

    /// The oldest batch. A corrupt file is renamed to `*.corrupt` so that it is not met again.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn oldest(&self) -> io::Result<Oldest> {
        let Some(path) = self.files()?.into_iter().next() else {
            return Ok(Oldest::Empty);
        };
        let bytes = fs::read(&path)?;
        if let Some(batch) = parse(&bytes) {
            return Ok(Oldest::Batch(path, batch));
        }
        let aside = path.with_extension("corrupt");
        fs::rename(&path, &aside)?;
        Ok(Oldest::Corrupt(aside))
    }

    /// Removes a batch that the store has taken.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Number of batches on disk.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn len(&self) -> io::Result<usize> {
        Ok(self.files()?.len())
    }

    /// Whether nothing waits.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.files()?
            .iter()
            .map(|path| path.metadata().map(|data| data.len()))
            .sum()
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<PathBuf>>>()?;
        files.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == EXTENSION)
        });
        files.sort();
        Ok(files)
    }
}

fn checksum(body: &[u8]) -> [u8; 8] {
    let digest = Sha256::digest(body);
    std::array::from_fn(|index| digest.get(index).copied().unwrap_or_default())
}

fn parse(bytes: &[u8]) -> Option<Batch> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (sum, body) = rest.split_first_chunk::<8>()?;
    if *sum != checksum(body) {
        return None;
    }
    let (length, rest) = body.split_first_chunk::<2>()?;
    let (token, rows) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    let rows = rows
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    Some(Batch {
        token: String::from_utf8(token.to_vec()).ok()?,
        rows: rows
            .map(|line| serde_json::from_slice(line).ok())
            .collect::<Option<Vec<_>>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(token: &str, rows: usize) -> Batch {
        let row: ExchangeRow = serde_json::from_value(serde_json::json!({
            "timestamp": 1, "duration_ns": 2, "ttfb_ns": null, "role": "server", "service": "s", "pid": null,
            "process": null, "method": "GET", "path": "/", "route": "/", "host": null, "status_code": 200,
            "protocol": "http/1.1", "tls": false, "request_bytes": 1, "response_bytes": 1, "client_address": "::1",
            "client_port": 1, "server_address": "::1", "server_port": 2, "tenant_id": null, "user_id": null,
            "session_id": null, "trace_id": null, "span_id": null, "parent_span_id": null, "event": null,
            "outcome": "ok", "attributes": [["device", "phone"]],
        }))
        .unwrap();
        Batch {
            token: token.to_owned(),
            rows: vec![row; rows],
        }
    }

    #[test]
    fn batches_come_back_in_order_also_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        spool.push(&batch("a", 2)).unwrap();
        drop(spool);
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        spool.push(&batch("b", 1)).unwrap();
        for expected in [batch("a", 2), batch("b", 1)] {
            let Oldest::Batch(path, found) = spool.oldest().unwrap() else {
                panic!("a batch waits")
            };
            assert_eq!(found, expected);
            spool.remove(&path).unwrap();
        }
        assert!(spool.is_empty().unwrap());
    }

    #[test]
    fn the_limit_holds() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 2_000).unwrap();
        assert_eq!(spool.push(&batch("a", 2)).unwrap(), Kept::Yes);
        assert_eq!(spool.push(&batch("b", 20)).unwrap(), Kept::Full);
        assert!(spool.bytes().unwrap() <= 2_000);
    }

    #[test]
    fn damage_is_set_aside_not_delivered() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        spool.push(&batch("a", 1)).unwrap();
        let file = spool.files().unwrap().remove(0);
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, bytes).unwrap();
        assert!(matches!(spool.oldest().unwrap(), Oldest::Corrupt(_)));
        assert!(matches!(spool.oldest().unwrap(), Oldest::Empty));
    }
}
