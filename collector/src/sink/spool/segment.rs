//! The files of the spool: a segment of frames, the two-slot file of the delivered mark, the lock and the id.
//!
//! A segment is only ever appended to, and only while it is the newest. It is written with one `pwrite` per frame
//! at a known offset, so that a failed write is cut off again and a killed one leaves a short frame at the end.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    hash::{BuildHasher as _, RandomState},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use event_store::ExchangeRow;

use super::frame::{HEADER_BYTES, Header, MARK_BYTES, Mark, Place};

const EXTENSION: &str = "seg";
const ASIDE: &str = ".seg.corrupt";
/// Damaged segments kept for inspection; the oldest makes room for the next.
const ASIDE_KEPT_MAX: usize = 2;
const ID_DIGITS: usize = 16;
const LOCK_TRIES: u32 = 50;
const LOCK_TRY_EVERY: Duration = Duration::from_millis(10);
const SCAN_BUFFER_BYTES: usize = 256 * 1024;
/// A sector apart, so that one torn write cannot reach both.
const MARK_SLOT_BYTES: u64 = 512;

/// One file of frames.
#[derive(Debug)]
pub(super) struct Segment {
    /// Its number; files are named and ordered by it.
    pub(super) number: u64,
    /// Its length.
    pub(super) bytes: u64,
    /// Frames in it that have not been passed; an unreadable end counts as one.
    pub(super) batches: u64,
    /// Their rows.
    pub(super) rows: u64,
    /// Whether something in it did not read back.
    pub(super) damaged: bool,
    path: PathBuf,
    writer: Option<File>,
}

/// What a scan found behind the delivered mark.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Frames that verify.
    pub(super) sound: u64,
    /// Their rows.
    pub(super) sound_rows: u64,
    /// Frames that do not, an unreadable end included.
    pub(super) corrupt: u64,
    /// Rows of those whose header is readable.
    pub(super) corrupt_rows: u64,
    /// Bytes of a short frame that were cut off.
    pub(super) torn_bytes: u64,
    /// Position of the last frame with a readable header.
    pub(super) position: Option<u64>,
}

/// A frame read back.
#[derive(Debug)]
pub(super) enum Frame {
    /// As it was written.
    Sound(Header, Vec<ExchangeRow>),
    /// The payload is damaged, or of another version; the frame behind it can be read.
    Damaged(Header),
    /// The header is damaged: nothing from here to the end of the segment can be read.
    Unreadable,
}

enum End {
    Whole,
    Short,
    Unreadable,
}

impl Segment {
    /// Makes an empty segment that takes frames.
    ///
    /// # Errors
    /// When the file exists or cannot be made.
    pub(super) fn create(folder: &Path, number: u64) -> io::Result<Self> {
        let path = path_of(folder, number);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).open(&path);
        Ok(Self {
            number,
            bytes: 0,
            batches: 0,
            rows: 0,
            damaged: false,
            writer: Some(file.map_err(naming(&path))?),
            path,
        })
    }

    /// Opens a segment of an earlier run and verifies it from an offset on. Only the newest one may end in a short
    /// frame, which is cut off, and takes further frames unless its end is unreadable.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn recover(
        folder: &Path,
        number: u64,
        from: u64,
        newest: bool,
    ) -> io::Result<(Self, Scan)> {
        let path = path_of(folder, number);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(&path);
        let mut file = file.map_err(naming(&path))?;
        let length = file.metadata()?.len();
        let (mut scan, end, place) = scan(&mut file, from, length).map_err(naming(&path))?;
        let mut bytes = length;
        match end {
            End::Short if newest => {
                file.set_len(place).map_err(naming(&path))?;
                scan.torn_bytes = length - place;
                bytes = place;
            }
            End::Short | End::Unreadable => scan.corrupt += 1,
            End::Whole => {}
        }
        // Behind the mark but shorter than it (power was lost): a frame appended here would count as delivered.
        let appendable = newest && from <= bytes && !matches!(end, End::Unreadable);
        let segment = Self {
            number,
            bytes,
            batches: scan.sound + scan.corrupt,
            rows: scan.sound_rows + scan.corrupt_rows,
            damaged: false,
            path,
            writer: appendable.then_some(file),
        };
        Ok((segment, scan))
    }

    /// Whether it is open for frames.
    pub(super) fn is_open(&self) -> bool {
        self.writer.is_some()
    }

    /// Whether it is open for a frame of this size. An empty one takes any.
    pub(super) fn takes(&self, frame_bytes: u64, bytes_max: u64) -> bool {
        self.is_open() && (self.bytes == 0 || self.bytes + frame_bytes <= bytes_max)
    }

    /// Appends a frame and returns its offset. A frame that fails midway is cut off again.
    ///
    /// # Errors
    /// When the disk fails or is full.
    pub(super) fn append(&mut self, frame: &[u8], header: &Header) -> io::Result<u64> {
        let offset = self.bytes;
        let writer = self
            .writer
            .as_ref()
            .ok_or(io::ErrorKind::ReadOnlyFilesystem)?;
        if let Err(error) = writer.write_all_at(frame, offset) {
            if let Err(cut) = writer.set_len(offset) {
                tracing::warn!(path = %self.path.display(), "a short frame stays at the end of a segment: {cut}");
                self.writer = None;
            }
            return Err(naming(&self.path)(error));
        }
        self.bytes += header.frame_bytes();
        self.batches += 1;
        self.rows += u64::from(header.rows);
        Ok(offset)
    }

    /// Reads and verifies the frame at an offset.
    ///
    /// # Errors
    /// When the disk fails; a file that is gone or too short is not an error but unreadable.
    pub(super) fn read(&self, offset: u64) -> io::Result<Frame> {
        match self.read_frame(offset) {
            Ok(frame) => Ok(frame),
            Err(error)
                if [io::ErrorKind::NotFound, io::ErrorKind::UnexpectedEof]
                    .contains(&error.kind()) =>
            {
                Ok(Frame::Unreadable)
            }
            Err(error) => Err(naming(&self.path)(error)),
        }
    }

    fn read_frame(&self, offset: u64) -> io::Result<Frame> {
        let file = File::open(&self.path)?;
        let mut head = [0; HEADER_BYTES];
        file.read_exact_at(&mut head, offset)?;
        let Some(header) = Header::parse(&head) else {
            return Ok(Frame::Unreadable);
        };
        // The length is compared with the file before that much memory is taken.
        if offset + header.frame_bytes() > self.bytes {
            return Ok(Frame::Unreadable);
        }
        let length = usize::try_from(header.payload_bytes).map_err(io::Error::other)?;
        let mut payload = vec![0; length];
        file.read_exact_at(&mut payload, offset + HEADER_BYTES as u64)?;
        Ok(match header.rows(&payload) {
            Some(rows) => Frame::Sound(header, rows),
            None => Frame::Damaged(header),
        })
    }

    /// Takes no further frames. What still waits in it is synced, since [`Self::sync`] will not reach it any more.
    ///
    /// # Errors
    /// When the disk fails; it then stays open.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        if self.batches > 0 {
            self.sync()?;
        }
        self.writer = None;
        Ok(())
    }

    /// Syncs its data, if it is open.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn sync(&self) -> io::Result<()> {
        match &self.writer {
            Some(file) => file.sync_data().map_err(naming(&self.path)),
            None => Ok(()),
        }
    }

    /// Deletes the file, or sets it aside when something in it did not read back.
    ///
    /// # Errors
    /// When the disk fails; a file that is already gone is fine.
    pub(super) fn remove(&self) -> io::Result<()> {
        let done = if self.damaged {
            set_aside(&self.path, self.number)
        } else {
            fs::remove_file(&self.path)
        };
        match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(naming(&self.path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Walks the frames from `from` on; also returns how the file ends and where the last readable frame does.
fn scan(file: &mut File, from: u64, length: u64) -> io::Result<(Scan, End, u64)> {
    let mut scan = Scan::default();
    let mut place = from;
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(SCAN_BUFFER_BYTES, file);
    let mut head = [0; HEADER_BYTES];
    while place < length {
        if length - place < HEADER_BYTES as u64 {
            return Ok((scan, End::Short, place));
        }
        reader.read_exact(&mut head)?;
        let Some(header) = Header::parse(&head) else {
            return Ok((scan, End::Unreadable, place));
        };
        if length - place < header.frame_bytes() {
            return Ok((scan, End::Short, place));
        }
        if header.accepts(checksum(&mut reader, u64::from(header.payload_bytes))?) {
            scan.sound += 1;
            scan.sound_rows += u64::from(header.rows);
        } else {
            scan.corrupt += 1;
            scan.corrupt_rows += u64::from(header.rows);
        }
        scan.position = Some(header.position);
        place += header.frame_bytes();
    }
    Ok((scan, End::Whole, place))
}

fn checksum(reader: &mut BufReader<&mut File>, bytes: u64) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut payload = reader.take(bytes);
    loop {
        let part = payload.fill_buf()?;
        if part.is_empty() {
            return Ok(hasher.finalize());
        }
        hasher.update(part);
        let length = part.len();
        payload.consume(length);
    }
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.{EXTENSION}"))
}

/// The segments of a folder in order.
///
/// # Errors
/// When the folder cannot be listed.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let number = stem.and_then(|stem| stem.parse().ok());
        // Only the name that this code gives: `7.seg` is somebody else's.
        numbers.extend(number.filter(|number| path == path_of(folder, *number)));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Deletes a segment that the mark has passed.
///
/// # Errors
/// When the disk fails.
pub(super) fn delete(folder: &Path, number: u64) -> io::Result<()> {
    let path = path_of(folder, number);
    fs::remove_file(&path).map_err(naming(&path))
}

fn set_aside(path: &Path, number: u64) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let aside = folder.join(format!("{number:020}{ASIDE}"));
    fs::rename(path, &aside)?;
    tracing::error!(path = %aside.display(), "a spool segment does not read back and was set aside; check the disk");
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_str().is_some_and(|path| path.ends_with(ASIDE)) {
            kept.push(path);
        }
    }
    kept.sort_unstable();
    let surplus = kept.len().saturating_sub(ASIDE_KEPT_MAX);
    kept.iter().take(surplus).try_for_each(fs::remove_file)
}

/// Puts the file's name before an error; the kind stays.
pub(super) fn naming(path: &Path) -> impl FnOnce(io::Error) -> io::Error + use<> {
    let path = path.to_owned();
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The file `delivered`: two slots written in turn, the higher sequence that verifies holds.
#[derive(Debug)]
pub(super) struct MarkFile {
    file: File,
    path: PathBuf,
    mark: Mark,
}

impl MarkFile {
    /// Opens or creates it. Without a slot that verifies nothing counts as delivered.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("delivered");
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(naming(&path))?;
        let mut marks = Vec::new();
        for slot in 0..2 {
            let mut bytes = [0; MARK_BYTES];
            match file.read_exact_at(&mut bytes, slot * MARK_SLOT_BYTES) {
                Ok(()) => marks.extend(Mark::parse(&bytes)),
                // Both slots take their room on disk now, so that a full disk does not stop deliveries.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    file.write_all_at(&[0; MARK_BYTES], slot * MARK_SLOT_BYTES)
                        .map_err(naming(&path))?;
                }
                Err(error) => return Err(naming(&path)(error)),
            }
        }
        let newest = marks.into_iter().max_by_key(|mark| mark.sequence);
        let mark = newest.unwrap_or_default();
        Ok(Self { file, path, mark })
    }

    /// The mark that holds.
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// Moves the mark; a batch whose position is not known leaves that as it is.
    ///
    /// # Errors
    /// When the disk fails; the mark then stays where it was.
    pub(super) fn advance(&mut self, place: Place, position: Option<u64>) -> io::Result<()> {
        let mark = Mark {
            sequence: self.mark.sequence + 1,
            place,
            position: position.or(self.mark.position),
        };
        self.file
            .write_all_at(&mark.encode()?, (mark.sequence % 2) * MARK_SLOT_BYTES)
            .map_err(naming(&self.path))?;
        self.mark = mark;
        Ok(())
    }

    /// Syncs it.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data().map_err(naming(&self.path))
    }
}

/// Locks the folder for this process. The kernel releases the lock when the process ends, however it ends. The
/// short wait is for a killed process that is not quite gone, and for a fork between `fork` and `exec`, which
/// holds a copy of the lock.
///
/// # Errors
/// When another process holds it.
pub(super) fn lock(folder: &Path) -> io::Result<File> {
    let path = folder.join("lock");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    let file = options.open(&path).map_err(naming(&path))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_TRY_EVERY),
            Err(TryLockError::Error(error)) => return Err(naming(&path)(error)),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::WouldBlock,
        format!(
            "another collector uses the spool in {}; stop it or give this one a folder of its own",
            folder.display()
        ),
    ))
}

/// The spool's id, made once.
///
/// # Errors
/// When the disk fails.
pub(super) fn identity(folder: &Path) -> io::Result<String> {
    let path = folder.join("id");
    match fs::read(&path) {
        Ok(bytes) => {
            if bytes.len() == ID_DIGITS && bytes.iter().all(u8::is_ascii_hexdigit) {
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            tracing::warn!(
                path = %path.display(),
                "the spool's id does not read back and is made anew; \
                 a batch that was delivered just before may be stored twice"
            );
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(naming(&path)(error)),
    }
    // The keys of the hasher come from the operating system's random numbers.
    let id = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
    let unfinished = folder.join("id.tmp");
    fs::write(&unfinished, &id).map_err(naming(&unfinished))?;
    File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, &path).map_err(naming(&path))?;
    sync_folder(folder)?;
    Ok(id)
}

/// Makes new and removed files survive a power failure.
///
/// # Errors
/// When the disk fails.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(naming(folder))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{
        super::{Kept, Oldest, Recovery, Spool, SpoolOptions, tests::*},
        *,
    };

    #[test]
    fn a_second_collector_is_refused_while_the_first_lives() {
        let folder = tempfile::tempdir().unwrap();
        let options = SpoolOptions {
            folder: folder.path().to_owned(),
            bytes_limit: ROOMY,
        };
        let (first, _) = Spool::open(&options).unwrap();
        let error = Spool::open(&options).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(error.to_string().contains("another collector"), "{error}");
        drop(first);
        Spool::open(&options).unwrap();
    }

    #[test]
    fn a_torn_mark_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("delivered");
        let (mut spool, _) = open(folder.path(), ROOMY);
        for serial in 1..6 {
            append(&mut spool, &rows(serial, 1), serial);
        }
        for serial in 1..5_u64 {
            let batch = oldest(&mut spool);
            assert_eq!(batch.rows, rows(serial, 1));
            let before = fs::read(&mark).unwrap();
            spool.delivered(batch.id).unwrap();
            let after = fs::read(&mark).unwrap();
            drop(spool);
            for at in (0..before.len()).filter(|at| before[*at] != after[*at]) {
                let torn = [&after[..at], &before[at..]].concat();
                fs::write(&mark, torn).unwrap();
                let (mut again, recovery) = open(folder.path(), ROOMY);
                assert_eq!(oldest(&mut again), batch, "at worst once more");
                assert_eq!(recovery.last_position, Some(5));
            }
            fs::write(&mark, &after).unwrap();
            (spool, _) = open(folder.path(), ROOMY);
        }
        drop(spool);
        fs::write(&mark, [0; 700]).unwrap();
        let (mut spool, _) = open(folder.path(), ROOMY);
        assert_eq!(
            drain(&mut spool).0.len(),
            5,
            "without a mark everything on disk is delivered again"
        );
    }

    #[test]
    fn damaged_segments_are_set_aside_and_two_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for serial in 0..4 {
            let (mut spool, _) = open(folder.path(), ROOMY);
            let truth = append_truth(&mut spool, folder.path(), serial, 3);
            // Damaged while running: found when it is read back.
            flip(&truth.file, truth.end - 1, 1);
            let next = append_truth(&mut spool, folder.path(), serial, 1);
            assert_eq!(truth.file, next.file);
            assert_eq!(spool.oldest().unwrap(), Oldest::Corrupt { rows: Some(3) });
            let (batches, losses) = drain(&mut spool);
            assert_same(&batches, &[&next]);
            assert!(losses.is_empty(), "counted once");
            assert!(!truth.file.exists());
            let aside = files_ending(folder.path(), ".seg.corrupt");
            let kept = usize::try_from(serial + 1).unwrap().min(2);
            assert_eq!(aside.len(), kept, "{aside:?}");
            assert!(
                aside
                    .last()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .starts_with(truth.file.to_str().unwrap())
            );
            assert_eq!(spool.bytes_on_disk(), 0);
            append(&mut spool, &rows(serial, 1), serial);
            drain(&mut spool);
        }
    }

    #[test]
    fn tokens_of_two_spools_differ_and_a_damaged_id_is_made_anew() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let token = |folder: &Path| {
            let (mut spool, _) = open(folder, ROOMY);
            let id = append(&mut spool, &rows(1, 1), 1);
            spool.token(id)
        };
        assert_ne!(token(one.path()), token(two.path()));
        let id = one.path().join("id");
        let before = fs::read(&id).unwrap();
        fs::write(&id, "").unwrap();
        token(one.path());
        let after = fs::read(&id).unwrap();
        assert_eq!(after.len(), 16);
        assert_ne!(before, after);
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "00000000000000000001.spool",
            "7.seg",
            "x.seg",
            "00000000000000000001.corrupt",
        ];
        for name in names {
            fs::write(folder.path().join(name), "theirs").unwrap();
        }
        let (mut spool, recovery) = open(folder.path(), ROOMY);
        assert_eq!(recovery, Recovery::default());
        append(&mut spool, &rows(1, 1), 1);
        drain(&mut spool);
        spool.sync().unwrap();
        for name in names {
            assert_eq!(
                fs::read_to_string(folder.path().join(name)).unwrap(),
                "theirs"
            );
        }
    }

    /// A file system of one megabyte; unmounted when dropped.
    struct SmallDisk(tempfile::TempDir);

    impl SmallDisk {
        fn mount() -> Option<Self> {
            let folder = tempfile::tempdir().unwrap();
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
                .arg(folder.path())
                .status();
            mounted
                .is_ok_and(|status| status.success())
                .then_some(Self(folder))
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            let unmounted = Command::new("umount").arg(self.0.path()).status();
            assert!(unmounted.unwrap().success());
        }
    }

    #[test]
    fn a_full_disk_cuts_the_batch_off_and_the_spool_goes_on() {
        let Some(disk) = SmallDisk::mount() else {
            assert!(
                std::env::var_os("CI").is_none(),
                "this test mounts a tmpfs and needs root"
            );
            eprintln!(
                "NOT TESTED: a full disk. Mounting a tmpfs needs root; run this test as root."
            );
            return;
        };
        let folder = disk.0.path();
        let (mut spool, _) = open(folder, 2 << 20);
        let mut truths = Vec::new();
        let refused = loop {
            let serial = truths.len() as u64;
            let before = bytes_in(folder);
            match spool.append(&rows(serial, 50), serial).unwrap() {
                Kept::Yes(id) => truths.push((spool.token(id), rows(serial, 50))),
                Kept::DiskFull => {
                    assert_eq!(bytes_in(folder), before, "the short frame was cut off");
                    break serial;
                }
                Kept::Full => panic!("the disk is smaller than the limit"),
            }
        };
        assert_eq!(spool.bytes_on_disk(), bytes_in(folder));
        assert_eq!(spool.waiting().batches, refused);
        drop(spool);

        let (mut spool, recovery) = open(folder, 2 << 20);
        assert_eq!(recovery.batches_waiting, refused);
        assert_eq!((recovery.torn_bytes, recovery.corrupt_frames), (0, 0));
        assert_eq!(recovery.last_position, Some(refused - 1));
        // Deliveries work on the full disk, and free it.
        let (batches, losses) = drain(&mut spool);
        assert!(losses.is_empty());
        let found: Vec<_> = batches
            .into_iter()
            .map(|batch| (batch.token, batch.rows))
            .collect();
        assert_eq!(found, truths);
        append(&mut spool, &rows(refused, 50), refused);

        // Something else fills the disk: the delivered frames of the newest segment make room.
        for serial in refused..refused + 3 {
            append(&mut spool, &rows(serial, 50), serial);
            drain(&mut spool);
        }
        let mut filler = File::create(folder.join("filler")).unwrap();
        let full = io::copy(&mut io::repeat(1), &mut filler).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let large = rows(refused + 1, 50);
        append(&mut spool, &large, refused + 1);
        assert_eq!(oldest(&mut spool).rows, large);
    }
}
