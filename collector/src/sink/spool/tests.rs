//! A spool dropped without any closing call is a process killed: nothing is buffered and nothing runs on drop.

use std::{collections::HashMap, fs, fs::OpenOptions, path::Path};

use proptest::prelude::*;

use super::{frame::HEADER_BYTES, *};

pub(super) const ROOMY: u64 = 1 << 20;

pub(super) fn row(serial: i64, text: &str) -> ExchangeRow {
    ExchangeRow {
        timestamp: serial,
        duration_ns: 2,
        ttfb_ns: None,
        role: "server".to_owned(),
        service: Some("s".to_owned()),
        pid: Some(300),
        process: None,
        method: None,
        path: Some(text.to_owned()),
        route: None,
        host: None,
        status_code: Some(200),
        protocol: "http/1.1".to_owned(),
        tls: true,
        request_bytes: 1,
        response_bytes: 128,
        client_address: "::1".to_owned(),
        client_port: 1,
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
        attributes: vec![("k".to_owned(), "v".to_owned())],
    }
}

/// Rows that no other serial has.
pub(super) fn rows(serial: u64, count: usize) -> Vec<ExchangeRow> {
    let serial = i64::try_from(serial).unwrap() * 1_000;
    (0..count)
        .map(|index| row(serial + i64::try_from(index).unwrap(), "/path"))
        .collect()
}

pub(super) fn open(folder: &Path, bytes_limit: u64) -> (Spool, Recovery) {
    Spool::open(&SpoolOptions {
        folder: folder.to_owned(),
        bytes_limit,
    })
    .unwrap()
}

pub(super) fn append(spool: &mut Spool, rows: &[ExchangeRow], position: u64) -> BatchId {
    match spool.append(rows, position).unwrap() {
        Kept::Yes(id) => id,
        kept @ (Kept::Full | Kept::DiskFull) => panic!("the batch was not kept: {kept:?}"),
    }
}

pub(super) fn oldest(spool: &mut Spool) -> Batch {
    match spool.oldest().unwrap() {
        Oldest::Batch(batch) => batch,
        found @ (Oldest::Corrupt { .. } | Oldest::Empty) => panic!("not a batch: {found:?}"),
    }
}

/// Delivers everything; returns the batches and the reported losses.
pub(super) fn drain(spool: &mut Spool) -> (Vec<Batch>, Vec<Option<u32>>) {
    let (mut batches, mut losses) = (Vec::new(), Vec::new());
    loop {
        match spool.oldest().unwrap() {
            Oldest::Batch(batch) => {
                spool.delivered(batch.id).unwrap();
                batches.push(batch);
            }
            Oldest::Corrupt { rows } => losses.push(rows),
            Oldest::Empty => {
                assert!(spool.is_empty());
                assert_eq!(spool.waiting(), Waiting::default());
                return (batches, losses);
            }
        }
    }
}

pub(super) fn files_ending(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(end))
        .collect();
    files.sort();
    files
}

pub(super) fn segments(folder: &Path) -> Vec<PathBuf> {
    files_ending(folder, ".seg")
}

pub(super) fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

pub(super) fn bytes_in(folder: &Path) -> u64 {
    segments(folder).iter().map(|path| length(path)).sum()
}

fn cut(path: &Path, length: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

pub(super) fn flip(path: &Path, at: u64, mask: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= mask;
    fs::write(path, bytes).unwrap();
}

/// A batch as the test remembers it: where it lies is read from the file system, not from the spool.
#[derive(Debug)]
pub(super) struct Truth {
    pub(super) file: PathBuf,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) token: String,
    pub(super) rows: Vec<ExchangeRow>,
    pub(super) position: u64,
}

pub(super) fn append_truth(spool: &mut Spool, folder: &Path, serial: u64, count: usize) -> Truth {
    let rows = rows(serial, count);
    let before: HashMap<PathBuf, u64> = segments(folder)
        .into_iter()
        .map(|path| (path.clone(), length(&path)))
        .collect();
    let id = append(spool, &rows, serial);
    let file = segments(folder).pop().unwrap();
    Truth {
        start: before.get(&file).copied().unwrap_or(0),
        end: length(&file),
        file,
        token: spool.token(id),
        rows,
        position: serial,
    }
}

pub(super) fn assert_same(found: &[Batch], expected: &[&Truth]) {
    let found: Vec<_> = found
        .iter()
        .map(|batch| (&batch.token, &batch.rows))
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|truth| (&truth.token, &truth.rows))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn batches_come_back_in_order_also_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, recovery) = open(folder.path(), ROOMY);
    assert_eq!(recovery, Recovery::default());
    let a = append(&mut spool, &rows(1, 2), 1);
    let tokens = [spool.token(a)];
    drop(spool);

    let (mut spool, recovery) = open(folder.path(), ROOMY);
    assert_eq!((recovery.batches_waiting, recovery.rows_waiting), (1, 2));
    append(&mut spool, &rows(2, 1), 2);
    assert_eq!(spool.waiting().rows, 3);
    assert_eq!(spool.waiting().bytes, bytes_in(folder.path()));
    let first = oldest(&mut spool);
    assert_eq!(
        (&first.token, &first.rows, first.id),
        (&tokens[0], &rows(1, 2), a)
    );
    assert_eq!(
        oldest(&mut spool),
        first,
        "it stays the oldest until it is delivered"
    );
    spool.delivered(first.id).unwrap();
    spool.delivered(first.id).unwrap();
    drop(spool);

    let (mut spool, _) = open(folder.path(), ROOMY);
    let (batches, losses) = drain(&mut spool);
    assert_eq!((batches.len(), losses.len()), (1, 0));
    assert_eq!(batches[0].rows, rows(2, 1));
}

#[test]
fn batches_do_not_overtake() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path(), ROOMY);
    append(&mut spool, &rows(1, 1), 1);
    let second = append(&mut spool, &rows(2, 1), 2);
    let error = spool.delivered(second).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(drain(&mut spool).0.len(), 2);
}

#[test]
fn the_newest_position_survives_the_deletion_of_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path(), 2_000);
    for serial in 1..40 {
        let id = append(&mut spool, &rows(serial, 2), u64::MAX - serial);
        spool.delivered(id).unwrap();
    }
    assert_eq!(segments(folder.path()).len(), 1);
    drop(spool);
    let last = Some(u64::MAX - 39);
    let (mut spool, recovery) = open(folder.path(), 2_000);
    assert_eq!(recovery.last_position, last);
    assert!(spool.is_empty());
    append(&mut spool, &rows(40, 2), 7);
    drop(spool);
    assert_eq!(open(folder.path(), 2_000).1.last_position, Some(7));
    fs::remove_file(segments(folder.path()).pop().unwrap()).unwrap();
    assert_eq!(open(folder.path(), 2_000).1.last_position, last);
}

#[test]
fn the_limit_refuses_and_delivery_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path(), 4_000);
    let mut kept = 0;
    while let Kept::Yes(_) = spool.append(&rows(kept, 1), kept).unwrap() {
        kept += 1;
        assert!(bytes_in(folder.path()) <= 4_000);
    }
    assert!(kept > 20, "most of the limit can be used");
    assert_eq!(spool.append(&rows(kept, 1), kept).unwrap(), Kept::Full);
    assert_eq!(spool.waiting().batches, kept);
    assert_eq!(spool.bytes_on_disk(), bytes_in(folder.path()));
    for _ in 0..kept / 2 {
        let id = oldest(&mut spool).id;
        spool.delivered(id).unwrap();
    }
    append(&mut spool, &rows(kept, 1), kept);
}

#[test]
fn a_batch_as_large_as_the_limit_is_kept_whenever_nothing_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (_, frame) = frame::encode(&rows(1, 10), 1).unwrap();
    let limit = frame.len() as u64;
    let (mut spool, _) = open(folder.path(), limit);
    for serial in 1..5 {
        let id = append(&mut spool, &rows(serial, 10), serial);
        assert_eq!(spool.append(&rows(serial, 1), serial).unwrap(), Kept::Full);
        assert_eq!(bytes_in(folder.path()), limit);
        spool.delivered(id).unwrap();
        append(&mut spool, &rows(serial, 1), serial);
        drain(&mut spool);
    }
    assert_eq!(spool.append(&rows(9, 11), 9).unwrap(), Kept::Full);
}

#[test]
fn a_log_shorter_than_its_mark_gets_no_frame_that_counts_as_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path(), ROOMY);
    let truths: Vec<Truth> = (1..4)
        .map(|serial| append_truth(&mut spool, folder.path(), serial, 2))
        .collect();
    drain(&mut spool);
    drop(spool);
    // As after a power failure that kept the mark and lost the data.
    cut(&truths[0].file, truths[0].end);
    let (mut spool, recovery) = open(folder.path(), ROOMY);
    assert_eq!((recovery.batches_waiting, recovery.corrupt_frames), (0, 0));
    let after = append_truth(&mut spool, folder.path(), 9, 2);
    drop(spool);
    let (mut spool, _) = open(folder.path(), ROOMY);
    assert_same(&drain(&mut spool).0, &[&after]);
}

#[test]
fn a_log_that_is_gone_is_begun_anew_behind_its_mark() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path(), 2_000);
    let truths: Vec<Truth> = (1..6)
        .map(|serial| {
            let truth = append_truth(&mut spool, folder.path(), serial, 3);
            drain(&mut spool);
            truth
        })
        .collect();
    drop(spool);
    fs::remove_file(&truths[4].file).unwrap();
    // One that should have been deleted long ago, as after a power failure that undid the deletion.
    fs::write(&truths[0].file, "delivered").unwrap();
    let (mut spool, recovery) = open(folder.path(), 2_000);
    assert!(spool.is_empty());
    assert_eq!(recovery.last_position, Some(5));
    assert_eq!(segments(folder.path()), <[PathBuf; 0]>::default());
    let after = append_truth(&mut spool, folder.path(), 9, 2);
    drop(spool);
    let (mut spool, _) = open(folder.path(), 2_000);
    assert_same(&drain(&mut spool).0, &[&after]);
}

#[test]
fn a_short_frame_that_no_kill_can_leave_is_a_loss() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path(), 4_000);
    let truths: Vec<Truth> = (1..4)
        .map(|serial| append_truth(&mut spool, folder.path(), serial, 5))
        .collect();
    drop(spool);
    assert_ne!(truths[0].file, truths[1].file);
    cut(&truths[0].file, truths[0].end - 1);
    let (mut spool, recovery) = open(folder.path(), 4_000);
    assert_eq!((recovery.torn_bytes, recovery.corrupt_frames), (0, 1));
    let (batches, losses) = drain(&mut spool);
    assert_same(&batches, &[&truths[1], &truths[2]]);
    assert_eq!(losses, [None]);
}

#[test]
fn a_place_that_is_used_twice_gives_two_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path(), ROOMY);
    let lost = append_truth(&mut spool, folder.path(), 1, 2);
    drop(spool);
    cut(&lost.file, 0);
    let (mut spool, _) = open(folder.path(), ROOMY);
    let other = append_truth(&mut spool, folder.path(), 2, 2);
    assert_eq!((&lost.file, lost.start), (&other.file, other.start));
    assert_ne!(lost.token, other.token);
}

#[test]
fn an_unreadable_end_costs_the_rest_of_its_segment_only() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path(), 8_000);
    let truths: Vec<Truth> = (1..20)
        .map(|serial| append_truth(&mut spool, folder.path(), serial, 2))
        .collect();
    drop(spool);
    // Zeros behind the data, as some file systems leave them after a power failure.
    let last = &truths.last().unwrap().file;
    let mut bytes = fs::read(last).unwrap();
    bytes.resize(bytes.len() + 100, 0);
    fs::write(last, bytes).unwrap();
    flip(&truths[0].file, truths[0].start, 1);
    let (mut spool, recovery) = open(folder.path(), 8_000);
    assert_eq!(recovery.corrupt_frames, 2);
    assert_eq!(recovery.torn_bytes, 0);
    let expected: Vec<&Truth> = truths
        .iter()
        .filter(|truth| truth.file != truths[0].file)
        .collect();
    assert_eq!(recovery.batches_waiting, expected.len() as u64);
    // What is appended now does not end up behind the unreadable bytes.
    let after = append_truth(&mut spool, folder.path(), 99, 2);
    assert_ne!(&after.file, last);
    let (batches, losses) = drain(&mut spool);
    let expected: Vec<&Truth> = expected.into_iter().chain([&after]).collect();
    assert_same(&batches, &expected);
    assert_eq!(losses, [None, None]);
}

/// One step of a collector that may be killed at any point of it.
#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Deliver,
    Sync,
    Kill,
    KillWhileAppending(usize, prop::sample::Index),
    KillBeforeMarking,
    KillWhileMarking(prop::sample::Index),
    KillBeforeDeleting,
}

fn any_step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (0_usize..6).prop_map(Step::Append),
        6 => Just(Step::Deliver),
        1 => Just(Step::Sync),
        1 => Just(Step::Kill),
        1 => ((0_usize..6), index()).prop_map(|(rows, at)| Step::KillWhileAppending(rows, at)),
        1 => Just(Step::KillBeforeMarking),
        1 => index().prop_map(Step::KillWhileMarking),
        1 => Just(Step::KillBeforeDeleting),
    ]
}

/// A collector and a store that drops repeated tokens, as ClickHouse does.
struct World {
    folder: tempfile::TempDir,
    spool: Option<Spool>,
    accepted: Vec<Vec<ExchangeRow>>,
    stored: HashMap<String, Vec<ExchangeRow>>,
    order: Vec<Vec<ExchangeRow>>,
    position: Option<u64>,
    serial: u64,
}

const SMALL: u64 = 6_000;

impl World {
    fn spool(&mut self) -> &mut Spool {
        self.spool.as_mut().unwrap()
    }

    fn kill(&mut self) {
        self.spool = None;
    }

    fn restart(&mut self) {
        let (spool, recovery) = open(self.folder.path(), SMALL);
        assert_eq!(recovery.last_position, self.position);
        assert_eq!(recovery.corrupt_frames, 0);
        assert_eq!(recovery.batches_waiting, spool.waiting().batches);
        assert_eq!(recovery.rows_waiting, spool.waiting().rows);
        self.spool = Some(spool);
    }

    fn append(&mut self, count: usize) {
        self.serial += 1;
        let (serial, rows) = (self.serial, rows(self.serial, count));
        if let Kept::Yes(_) = self.spool().append(&rows, serial).unwrap() {
            self.accepted.push(rows);
            self.position = Some(serial);
        }
    }

    /// The store takes the oldest batch.
    fn send(&mut self) -> Option<BatchId> {
        match self.spool().oldest().unwrap() {
            Oldest::Batch(batch) => {
                let rows = batch.rows.clone();
                match self.stored.insert(batch.token, batch.rows) {
                    Some(before) => assert_eq!(before, rows, "a token with other rows"),
                    None => self.order.push(rows),
                }
                Some(batch.id)
            }
            Oldest::Empty => None,
            Oldest::Corrupt { rows } => panic!("corrupt: {rows:?}"),
        }
    }

    fn deliver(&mut self) -> bool {
        let Some(id) = self.send() else { return false };
        self.spool().delivered(id).unwrap();
        true
    }

    fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        files_ending(self.folder.path(), "")
            .into_iter()
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }

    fn kill_while_appending(&mut self, count: usize, at: prop::sample::Index) {
        self.serial += 1;
        let (serial, rows) = (self.serial, rows(self.serial, count));
        let newest = segments(self.folder.path()).pop();
        let before = newest.map(|path| (length(&path), path));
        if let Kept::Yes(_) = self.spool().append(&rows, serial).unwrap() {
            let path = segments(self.folder.path()).pop().unwrap();
            let start = before.filter(|before| before.1 == path);
            let start = start.map_or(0, |before| before.0);
            let written = at.index(usize::try_from(length(&path) - start).unwrap());
            self.kill();
            cut(&path, start + written as u64);
        }
    }

    fn kill_while_marking(&mut self, at: Option<prop::sample::Index>) {
        let Some(id) = self.send() else { return };
        let before = self.snapshot();
        self.spool().delivered(id).unwrap();
        self.kill();
        let mark = self.folder.path().join("delivered");
        let after = fs::read(&mark).unwrap();
        for (path, bytes) in before {
            fs::write(path, bytes).unwrap();
        }
        let before = fs::read(&mark).unwrap();
        let written = at.map_or(after.len(), |at| at.index(after.len()));
        fs::write(&mark, [&after[..written], &before[written..]].concat()).unwrap();
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Append(count) => self.append(*count),
            Step::Deliver => {
                self.deliver();
            }
            Step::Sync => self.spool().sync().unwrap(),
            Step::Kill => self.kill(),
            Step::KillWhileAppending(count, at) => self.kill_while_appending(*count, *at),
            Step::KillBeforeMarking => {
                self.send();
                self.kill();
            }
            Step::KillWhileMarking(at) => self.kill_while_marking(Some(*at)),
            Step::KillBeforeDeleting => self.kill_while_marking(None),
        }
        if self.spool.is_none() {
            self.restart();
        }
        let on_disk = bytes_in(self.folder.path());
        assert!(on_disk <= SMALL);
        assert_eq!(self.spool().bytes_on_disk(), on_disk);
        assert!(segments(self.folder.path()).len() <= 20);
    }
}

proptest! {
    // Few, because every case syncs files.
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_exchange_is_stored_once_whenever_the_collector_is_killed(
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let mut world = World {
            folder: tempfile::tempdir().unwrap(),
            spool: None,
            accepted: Vec::new(),
            stored: HashMap::new(),
            order: Vec::new(),
            position: None,
            serial: 0,
        };
        world.restart();
        for step in steps {
            world.take(&step);
        }
        while world.deliver() {}
        prop_assert_eq!(world.order, world.accepted);
    }

    #[test]
    fn a_cut_anywhere_in_the_last_segment_costs_only_what_it_cuts(
        counts in prop::collection::vec(0_usize..8, 1..24),
        delivered: prop::sample::Index,
        at: prop::sample::Index,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut spool, _) = open(folder.path(), 40_000);
        let mut truths = Vec::new();
        for (serial, count) in counts.iter().enumerate() {
            truths.push(append_truth(&mut spool, folder.path(), serial as u64, *count));
        }
        let delivered = delivered.index(counts.len() + 1);
        for _ in 0..delivered {
            let id = oldest(&mut spool).id;
            spool.delivered(id).unwrap();
        }
        drop(spool);
        let last = segments(folder.path()).pop().unwrap();
        let left = at.index(usize::try_from(length(&last)).unwrap() + 1) as u64;
        cut(&last, left);

        let (mut spool, recovery) = open(folder.path(), 40_000);
        let survives = |truth: &Truth| truth.file != last || truth.end <= left;
        let waiting = truths.iter().skip(delivered);
        let expected: Vec<&Truth> = waiting.filter(|truth| survives(truth)).collect();
        prop_assert_eq!(recovery.batches_waiting, expected.len() as u64);
        prop_assert_eq!(recovery.corrupt_frames, 0);
        let torn = truths.iter().skip(delivered).find(|truth| {
            truth.file == last && truth.start < left && left < truth.end
        });
        prop_assert_eq!(recovery.torn_bytes, torn.map_or(0, |truth| left - truth.start));
        let known = truths.iter().enumerate();
        let mut known = known.filter(|(index, truth)| *index < delivered || survives(truth));
        prop_assert_eq!(recovery.last_position, known.next_back().map(|(_, truth)| truth.position));

        let after = append_truth(&mut spool, folder.path(), 99, 2);
        prop_assert!(truths.iter().all(|truth| truth.token != after.token));
        drop(spool);
        let (mut spool, _) = open(folder.path(), 40_000);
        let (batches, losses) = drain(&mut spool);
        assert_same(&batches, &expected.into_iter().chain([&after]).collect::<Vec<_>>());
        prop_assert_eq!(losses, []);
    }

    #[test]
    fn a_flipped_byte_is_reported_and_never_read_as_a_row(
        counts in prop::collection::vec(0_usize..6, 1..16),
        delivered: prop::sample::Index,
        file: prop::sample::Index,
        at: prop::sample::Index,
        mask in 1_u8..,
        reopened: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut spool, _) = open(folder.path(), 16_000);
        let mut truths = Vec::new();
        for (serial, count) in counts.iter().enumerate() {
            truths.push(append_truth(&mut spool, folder.path(), serial as u64, *count));
        }
        let delivered = delivered.index(counts.len() + 1);
        for _ in 0..delivered {
            let id = oldest(&mut spool).id;
            spool.delivered(id).unwrap();
        }
        let files = segments(folder.path());
        let file = file.get(&files);
        let at = at.index(usize::try_from(length(file)).unwrap()) as u64;
        flip(file, at, mask);
        if reopened {
            drop(spool);
            let recovery;
            (spool, recovery) = open(folder.path(), 16_000);
            prop_assert_eq!(recovery.torn_bytes, 0);
        }
        let waiting = truths.iter().skip(delivered);
        let hit = waiting.clone().find(|truth| {
            truth.file == *file && truth.start <= at && at < truth.end
        });
        let in_header = hit.is_some_and(|hit| at - hit.start < HEADER_BYTES as u64);
        let lost = |truth: &&Truth| hit.is_some_and(|hit| {
            truth.file == hit.file
                && (truth.start == hit.start || in_header && truth.start > hit.start)
        });
        let expected: Vec<&Truth> = waiting.filter(|truth| !lost(truth)).collect();
        let (batches, losses) = drain(&mut spool);
        assert_same(&batches, &expected);
        prop_assert_eq!(losses.len(), usize::from(hit.is_some()));
        if let (Some(hit), false) = (hit, in_header) {
            prop_assert_eq!(losses[0], Some(u32::try_from(hit.rows.len()).unwrap()));
        }
    }
}
