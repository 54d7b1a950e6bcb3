//! `spool`: what is found in a spool whose files were damaged, or made up, while no process used them.
//!
//! What must hold: it opens; what it hands out are batches that were appended, whole, in order, under their own tokens;
//! it hands out or reports exactly what it said at the opening; undamaged, nothing is missing; and afterwards it works.

use std::{fs, io, path::Path};

use collector::sink::spool::{Kept, Oldest, Spool, SpoolOptions};
use event_store::ExchangeRow;

const LIMITS: [u64; 4] = [4 << 10, 16 << 10, 64 << 10, 1 << 20];
/// So that no input waits for the disk because a new id has to be durable.
const ID: &str = "0123456789abcdef";

/// A batch as it was appended.
#[derive(Debug, PartialEq, Eq)]
struct Appended {
    token: String,
    rows: Vec<ExchangeRow>,
}

/// What was done to the files.
#[derive(Debug, Default)]
struct Damage {
    any: bool,
    /// A segment was replaced, so that it may hold batches of others.
    replaced: bool,
}

/// An input: how many batches are appended (three bits) and delivered (three bits), the limit, rows of each batch, and
/// then damages of four bytes each.
#[derive(Debug)]
struct Plan<'a> {
    delivered: usize,
    options: SpoolOptions,
    rows: &'a [u8],
    damages: &'a [u8],
}

impl<'a> Plan<'a> {
    fn read(data: &'a [u8], folder: &Path) -> Option<Self> {
        let [counts, limit, rest @ ..] = data else {
            return None;
        };
        let batches = usize::from(counts & 7).min(rest.len());
        let (rows, damages) = rest.split_at(batches);
        Some(Self {
            delivered: usize::from(counts >> 3 & 7).min(batches),
            options: SpoolOptions {
                folder: folder.to_owned(),
                bytes_limit: *LIMITS.get(usize::from(limit & 3))?,
            },
            rows,
            damages,
        })
    }
}

fn row(serial: i64) -> ExchangeRow {
    ExchangeRow {
        timestamp: serial,
        duration_ns: 1_500_000,
        ttfb_ns: None,
        role: "server".to_owned(),
        service: Some("gateway".to_owned()),
        pid: Some(4_711),
        process: None,
        method: Some("GET".to_owned()),
        path: Some(format!("/orders/{serial}")),
        route: None,
        host: None,
        status_code: Some(200),
        protocol: "http/1.1".to_owned(),
        tls: false,
        request_bytes: 120,
        response_bytes: 900,
        client_address: "::1".to_owned(),
        client_port: 50_000,
        server_address: "::1".to_owned(),
        server_port: 80,
        tenant_id: None,
        user_id: None,
        session_id: None,
        trace_id: None,
        span_id: None,
        parent_span_id: None,
        event: None,
        outcome: "ok".to_owned(),
        attributes: vec![("device".to_owned(), "phone".to_owned())],
    }
}

/// Appends and delivers as planned; returns what waits. A batch that does not fit is left out.
fn fill(plan: &Plan<'_>) -> io::Result<(Vec<Appended>, Vec<Appended>)> {
    let (mut spool, _) = Spool::open(&plan.options)?;
    let mut waiting = Vec::new();
    for (batch, count) in (0_i64..).zip(plan.rows) {
        let rows: Vec<ExchangeRow> = (0..i64::from(count & 15))
            .map(|number| row(batch * 100 + number))
            .collect();
        if let Kept::Yes(id) = spool.append(&rows, batch.unsigned_abs())? {
            let token = spool.token(id);
            waiting.push(Appended { token, rows });
        }
    }
    let mut delivered = Vec::new();
    while delivered.len() < plan.delivered && !waiting.is_empty() {
        let Oldest::Batch(batch) = spool.oldest()? else {
            return Err(io::Error::other("what was just appended is not there"));
        };
        spool.delivered(batch.id)?;
        delivered.push(waiting.remove(0));
        assert_eq!(delivered.last().map(|batch| &batch.rows), Some(&batch.rows));
    }
    Ok((delivered, waiting))
}

/// Applies the damages in order.
fn damage(plan: &Plan<'_>) -> io::Result<Damage> {
    let mut done = Damage::default();
    let mut rest = plan.damages;
    while let [what, low, high, value, after @ ..] = rest {
        rest = after;
        let mut segments: Vec<_> = fs::read_dir(&plan.options.folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
            .collect();
        segments.sort();
        let segment = segments.get(usize::from(what / 5) % segments.len().max(1));
        let mark = plan.options.folder.join("delivered");
        let (file, is_mark) = match (what % 5, segment) {
            (2 | 3, _) => (&mark, true),
            (_, Some(segment)) => (segment, false),
            (_, None) => continue,
        };
        let mut bytes = fs::read(file)?;
        let at = usize::from(u16::from_le_bytes([*low, *high]));
        match what % 5 {
            1 | 3 => bytes.truncate(at),
            4 => {
                bytes = after.to_vec();
                rest = &[];
                done.replaced = true;
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= value;
                }
            }
        }
        // The file of the mark is as long as its second slot reaches; beyond it, a change changes nothing.
        done.any |= bytes != fs::read(file)? || is_mark;
        fs::write(file, bytes)?;
    }
    Ok(done)
}

/// Opens the spool, takes everything, and compares it with what the opening said.
fn drain(plan: &Plan<'_>) -> io::Result<Vec<Appended>> {
    let (mut spool, recovery) = Spool::open(&plan.options)?;
    let (mut found, mut corrupt, mut rows) = (Vec::new(), 0, 0);
    loop {
        match spool.oldest()? {
            Oldest::Batch(batch) => {
                rows += batch.rows.len() as u64;
                spool.delivered(batch.id)?;
                found.push(Appended {
                    token: batch.token,
                    rows: batch.rows,
                });
            }
            Oldest::Corrupt { .. } => corrupt += 1,
            Oldest::Empty => break,
        }
        let seen = found.len() as u64 + corrupt;
        let said = recovery.batches_waiting + recovery.corrupt_frames;
        assert!(seen <= said, "{seen} so far, but {recovery:?}");
    }
    assert_eq!(
        (found.len() as u64, corrupt, rows),
        (
            recovery.batches_waiting,
            recovery.corrupt_frames,
            recovery.rows_waiting
        ),
        "batches, corrupt frames and rows differ from {recovery:?}"
    );
    assert!(
        spool.is_empty() && spool.waiting().rows == 0,
        "{:?}",
        spool.waiting()
    );
    let kept = spool.append(&[row(9_999)], 99)?;
    assert!(
        matches!(kept, Kept::Yes(_)),
        "an empty spool takes no batch: {kept:?}"
    );
    drop(spool);
    let (mut spool, recovery) = Spool::open(&plan.options)?;
    assert_eq!(
        (recovery.rows_waiting, recovery.last_position),
        (1, Some(99))
    );
    let oldest = spool.oldest()?;
    assert!(
        matches!(&oldest, Oldest::Batch(batch) if batch.rows == [row(9_999)]),
        "{oldest:?}"
    );
    Ok(found)
}

fn replay(data: &[u8]) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(plan) = Plan::read(data, folder.path()) else {
        return Ok(());
    };
    fs::write(folder.path().join("id"), ID)?;
    let (delivered, waiting) = fill(&plan)?;
    let damage = damage(&plan)?;
    let found = drain(&plan)?;
    if !damage.any {
        assert_eq!(found, waiting, "an undamaged spool");
    } else if !damage.replaced {
        // What was delivered may come again when the mark was damaged; nothing may come that never was there.
        let mut appended = delivered.iter().chain(&waiting);
        for batch in &found {
            assert!(
                appended.any(|one| one == batch),
                "out of order or changed: {batch:?}"
            );
        }
    }
    Ok(())
}

/// The target.
pub(super) fn run(data: &[u8]) {
    let result = replay(data);
    assert!(result.is_ok(), "the disk is fine, but {result:?}");
}
