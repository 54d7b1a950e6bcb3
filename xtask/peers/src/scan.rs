//! The least that can be done with a recording of the collector: read every record and add up its bytes.
//!
//! The limit that decoding is held against. Knows the framing of a recording (`collector run --record`): 24 bytes of
//! header, then per record a little-endian u32 length and its bytes; nothing of what is inside.

use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Value, json};

const MAGIC: &[u8; 8] = b"WEIRREC2";
/// Longer than any record can be.
const RECORD_BYTES_MAX: usize = 1024 * 1024;
const READ_BYTES: usize = 256 * 1024;
/// The fastest counts: a limit is what is possible, not what the neighbours leave.
const PASSES: u32 = 3;

#[derive(Clone, Debug, Args)]
pub(crate) struct ScanArgs {
    /// The recording.
    #[arg(value_name = "FILE")]
    recording: PathBuf,
}

/// What one pass found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    records: u64,
    bytes: u64,
    checksum: u64,
}

pub(crate) fn run(args: &ScanArgs) -> anyhow::Result<Value> {
    let mut fastest = Duration::MAX;
    let mut seen = Seen::default();
    for _ in 0..PASSES {
        let file = File::open(&args.recording)
            .with_context(|| format!("while opening {}", args.recording.display()))?;
        let started = Instant::now();
        seen = pass(BufReader::with_capacity(READ_BYTES, file))
            .with_context(|| format!("in {}", args.recording.display()))?;
        fastest = fastest.min(started.elapsed());
    }
    Ok(json!({
        "records": seen.records, "bytes": seen.bytes, "checksum": format!("{:016x}", seen.checksum),
        "seconds": fastest.as_secs_f64(),
    }))
}

fn pass(mut input: impl Read) -> anyhow::Result<Seen> {
    let mut header = [0_u8; 24];
    input
        .read_exact(&mut header)
        .context("while reading the header")?;
    ensure!(
        header.starts_with(MAGIC),
        "this is no recording of the collector"
    );
    let mut seen = Seen::default();
    let mut record = Vec::new();
    loop {
        let mut length = [0_u8; 4];
        match input.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(seen),
            Err(error) => return Err(error).context("while reading a length"),
        }
        let bytes = usize::try_from(u32::from_le_bytes(length))?;
        ensure!(
            bytes <= RECORD_BYTES_MAX,
            "corrupt: a record of {bytes} bytes"
        );
        record.resize(bytes, 0);
        input
            .read_exact(&mut record)
            .context("the last record is cut off")?;
        seen.records += 1;
        seen.bytes += bytes as u64;
        seen.checksum = seen.checksum.wrapping_add(checksum(&record));
    }
}

/// Sum of the little-endian words: bound by memory, not by arithmetic.
fn checksum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let of_words = words.iter().fold(0_u64, |sum, word| {
        sum.wrapping_add(u64::from_le_bytes(*word))
    });
    rest.iter()
        .fold(of_words, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(records: &[&[u8]]) -> Vec<u8> {
        let mut file = [MAGIC.as_slice(), &[0; 16]].concat();
        for record in records {
            file.extend(u32::try_from(record.len()).unwrap().to_le_bytes());
            file.extend(*record);
        }
        file
    }

    #[test]
    fn every_record_is_read() {
        let nine = [1, 0, 0, 0, 0, 0, 0, 0, 5];
        let seen = pass(recording(&[&nine, &[], &[7]]).as_slice()).unwrap();
        let expected = Seen {
            records: 3,
            bytes: 10,
            checksum: 1 + 5 + 7,
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        assert!(pass([0_u8; 40].as_slice()).is_err());
        assert!(pass([0_u8; 3].as_slice()).is_err());
        let mut cut = recording(&[&[1, 2, 3]]);
        cut.pop();
        assert!(pass(cut.as_slice()).is_err());
        let mut long = recording(&[]);
        long.extend(u32::MAX.to_le_bytes());
        assert!(pass(long.as_slice()).is_err());
    }
}
