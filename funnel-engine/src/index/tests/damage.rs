//! Files that are not what was written: refused, whatever the damage.

use proptest::prelude::*;

use super::{super::*, Fact, all, batch, blocks, fact, sorted};
use crate::index::format::{Kind, MAGIC, VERSION, encode_header};

fn small_segment() -> Vec<u8> {
    let mut rows: Vec<EventRow> = (0..40_u32)
        .map(|event| {
            EventRow::new(
                event / 3,
                i64::from(event) * 7_000_000,
                u16::try_from(event % 5).unwrap(),
            )
        })
        .collect();
    build(&mut rows, vec![blocks("p", 1, 2)]).unwrap()
}

/// All that reading can do, to the first error.
fn read(bytes: &[u8]) -> Result<u64, SegmentError> {
    let segment = Segment::from_bytes(bytes.to_vec())?;
    let mut scratch = BlockScratch::default();
    let mut sum = 0_u64;
    for index in 0..segment.blocks() {
        let block = segment.block(index, &mut scratch)?;
        let events = match block.codes {
            Codes::U8(codes) => codes.len(),
            Codes::U16(codes) => codes.len() / 2,
        };
        assert!(scratch.users.is_sorted_by(|left, right| left < right));
        assert!(scratch.ends.is_sorted_by(|left, right| left < right));
        assert_eq!(
            scratch.ends.last().map(|end| *end as usize),
            Some(events),
            "ends are indexes"
        );
        for (user, run) in scratch.runs() {
            let event = run.end - 1;
            let at_ns = block.times.get(event).cast_unsigned();
            sum = sum.wrapping_add(u64::from(user) ^ at_ns ^ u64::from(block.codes.get(event)));
        }
    }
    segment.verify()?;
    Ok(sum)
}

#[test]
fn every_bit_flip_in_a_segment_is_found() {
    let bytes = small_segment();
    assert!(read(&bytes).is_ok());
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&bytes).is_err(), "bit {bit} of byte {}", bit / 8);
    }
}

#[test]
fn every_cut_and_every_byte_more_is_found() {
    let bytes = small_segment();
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "cut at {length}");
    }
    assert!(read(&[&*bytes, &[0]].concat()).is_err());
}

#[test]
fn a_block_that_was_right_is_not_checked_again_and_a_wrong_one_always() {
    let mut bytes = small_segment();
    let middle = bytes.len() / 4;
    bytes[middle] ^= 1;
    if let Ok(segment) = Segment::from_bytes(bytes) {
        let mut scratch = BlockScratch::default();
        for _ in 0..3 {
            let error = segment
                .block(0, &mut scratch)
                .map(|block| block.first_event)
                .unwrap_err();
            assert!(matches!(error, SegmentError::Corrupt { .. }));
        }
    }
    let sound = Segment::from_bytes(small_segment()).unwrap();
    let mut scratch = BlockScratch::default();
    assert!(sound.block(0, &mut scratch).is_ok());
    assert!(
        sound.block(1, &mut scratch).is_err(),
        "there is no such block"
    );
}

#[test]
fn another_version_is_refused_by_name() {
    for version in [0, VERSION + 1, u32::MAX] {
        let mut bytes = small_segment();
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        let found = Segment::from_bytes(bytes).map(|_| ()).unwrap_err();
        assert_eq!(
            found,
            SegmentError::Version {
                found: version,
                expected: VERSION
            }
        );
    }
}

/// Puts right checksums over whatever the bytes are, so that reading gets past them.
fn reseal(bytes: &[u8], kind: Kind) -> Option<Vec<u8>> {
    let count = u32::from_le_bytes(bytes.get(24..28)?.try_into().ok()?) as usize;
    let mut sections = Vec::new();
    let mut at = 32 + count.min(100) * 24;
    for entry in bytes.get(32..at)?.chunks(24) {
        let id = u32::from_le_bytes(entry[..4].try_into().ok()?);
        let length = u64::from_le_bytes(entry[16..].try_into().ok()?);
        let end = at.checked_add(usize::try_from(length).ok()?)?;
        let mut section = format::Section::new(id, bytes.get(at..end)?);
        if id & format::OWN_CHECKSUMS != 0 {
            section.crc = 0;
        }
        sections.push(section);
        at = end;
    }
    let (head, _) = encode_header(kind, &sections);
    Some([&*head, bytes.get(head.len()..)?].concat())
}

/// The same for the one block of a small segment.
fn reseal_block(bytes: &mut [u8]) -> Option<()> {
    let table = bytes.get(32..32 + 3 * 24)?.to_vec();
    let length = |entry: usize| {
        let bytes = table[entry * 24 + 16..entry * 24 + 24].try_into().ok()?;
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let (start, blocks) = (32 + 3 * 24_usize, length(0)?);
    let crc = crc32fast::hash(bytes.get(start..start.checked_add(blocks)?)?);
    let slot = start.checked_add(blocks)? + 28;
    bytes
        .get_mut(slot..slot + 4)?
        .copy_from_slice(&crc.to_le_bytes());
    Some(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), head in any::<bool>()) {
        let mut bytes = bytes;
        if head && bytes.len() >= 12 {
            bytes[..8].copy_from_slice(&MAGIC);
            bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        }
        prop_assert!(read(&bytes).is_err());
        prop_assert!(PropertyFile::from_bytes(bytes.clone()).is_err());
        prop_assert!(Manifest::decode(&bytes).is_err());
    }

    /// Damage with right checksums: made on purpose, or by a bug of a writer. It may be read, but never panics.
    #[test]
    fn sealed_nonsense_never_panics(
        changes in proptest::collection::vec((0..2_000_usize, any::<u8>()), 1..6)
    ) {
        let mut bytes = small_segment();
        let length = bytes.len();
        for (at, value) in &changes {
            bytes[32 + at % (length - 32)] = *value;
        }
        reseal_block(&mut bytes);
        if let Some(bytes) = reseal(&bytes, Kind::Segment) {
            drop(read(&bytes));
        }
    }

    #[test]
    fn sealed_nonsense_in_columns_never_panics(
        changes in proptest::collection::vec((0..2_000_usize, any::<u8>()), 1..6)
    ) {
        let mut bytes = small_columns();
        let length = bytes.len();
        for (at, value) in &changes {
            bytes[32 + at % (length - 32)] = *value;
        }
        if let Some(bytes) = reseal(&bytes, Kind::Properties) {
            drop(read_columns(bytes));
        }
    }
}

fn small_columns() -> Vec<u8> {
    let segment = Segment::from_bytes(small_segment()).unwrap();
    let mut builder = PropertyBuilder::new(&segment, &["a", "b"]).unwrap();
    for event in 0..40_u32 {
        let row = EventRow::new(
            event / 3,
            i64::from(event) * 7_000_000,
            u16::try_from(event % 5).unwrap(),
        );
        let value = format!("v{}", event % 7);
        builder
            .push(row, &[Some(&value), (event % 2 == 0).then_some("x")])
            .unwrap();
    }
    builder.finish().unwrap()
}

fn read_columns(bytes: Vec<u8>) -> Result<usize, PropertiesError> {
    let segment = Segment::from_bytes(small_segment())?;
    let segment = segment.with_properties(PropertyFile::from_bytes(bytes)?)?;
    let columns = segment.properties(&["a", "b"])?;
    let mut sum = 0;
    for column in columns {
        for position in 0..segment.meta().events {
            let code = column.code(position) as usize;
            assert!(code <= column.values().len());
            sum += code;
        }
    }
    Ok(sum)
}

#[test]
fn every_bit_flip_and_cut_in_columns_is_found() {
    let bytes = small_columns();
    assert!(read_columns(bytes.clone()).is_ok());
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(
            read_columns(bytes).is_err(),
            "bit {bit} of byte {}",
            bit / 8
        );
    }
    for length in 0..bytes.len() {
        assert!(
            read_columns(bytes[..length].to_vec()).is_err(),
            "cut at {length}"
        );
    }
}

fn facts() -> Vec<Fact> {
    (0..200_i64)
        .map(|event| {
            fact(
                ["a", "b"][usize::from(event % 3 == 0)],
                &format!("u{}", event % 31),
                event * 1_000,
                &format!("n{}", event % 4),
            )
        })
        .collect()
}

/// Opens, reads everything, verifies.
fn use_index(dir: &Path) -> Result<Vec<Fact>, IndexError> {
    let index = Index::open(dir)?;
    index.verify()?;
    Ok(all(&index))
}

#[test]
fn damage_to_any_file_of_an_index_asks_for_a_rebuild_or_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    index
        .append(vec![batch(blocks("p", 1, 1), &facts())], b"1")
        .unwrap();
    drop(index);
    let truth = sorted(&facts());
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("LOCK") {
            continue;
        }
        let sound = std::fs::read(&path).unwrap();
        let lengths = (0..sound.len())
            .step_by(7)
            .map(|length| sound[..length].to_vec());
        let flips = (0..sound.len() * 8).step_by(13).map(|bit| {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        });
        for bytes in lengths.chain(flips) {
            std::fs::write(&path, bytes).unwrap();
            let found = use_index(dir.path());
            assert!(
                matches!(found, Err(IndexError::Rebuild { .. })),
                "{} {found:?}",
                path.display()
            );
        }
        std::fs::write(&path, [&*sound, b"behind"].concat()).unwrap();
        match use_index(dir.path()) {
            Ok(found) => assert_eq!(found, truth, "the tail of a dictionary is cut off"),
            Err(error) => assert!(matches!(error, IndexError::Rebuild { .. }), "{error}"),
        }
        std::fs::write(&path, &sound).unwrap();
        assert_eq!(use_index(dir.path()).unwrap(), truth);
    }
}

#[test]
fn a_missing_or_exchanged_file_asks_for_a_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    index
        .append(vec![batch(blocks("p", 1, 1), &facts())], b"1")
        .unwrap();
    index
        .append(vec![batch(blocks("p", 2, 2), &facts())], b"2")
        .unwrap();
    drop(index);
    let mut by_kind = BTreeMap::<String, Vec<std::path::PathBuf>>::new();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if let Some(kind) = path.extension() {
            by_kind
                .entry(kind.to_str().unwrap().to_owned())
                .or_default()
                .push(path);
        }
    }
    for paths in by_kind.values() {
        let sound: Vec<Vec<u8>> = paths
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect();
        std::fs::remove_file(&paths[0]).unwrap();
        assert!(
            matches!(use_index(dir.path()), Err(IndexError::Rebuild { .. })),
            "{} is missing",
            paths[0].display()
        );
        std::fs::write(&paths[0], &sound[1]).unwrap();
        assert!(
            matches!(use_index(dir.path()), Err(IndexError::Rebuild { .. })),
            "{} is another",
            paths[0].display()
        );
        std::fs::write(&paths[0], &sound[0]).unwrap();
    }
    assert!(use_index(dir.path()).is_ok());
}

#[test]
fn an_older_index_is_refused_and_a_wiped_one_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    index
        .append(vec![batch(blocks("p", 1, 1), &facts())], b"1")
        .unwrap();
    drop(index);
    let manifest = dir.path().join("MANIFEST");
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[8] = 0;
    std::fs::write(&manifest, bytes).unwrap();
    std::fs::write(dir.path().join("notes.txt"), "not ours").unwrap();
    let refused = Index::open(dir.path()).map(|_| ()).unwrap_err().to_string();
    assert!(
        refused.contains("MANIFEST: format version 0; this program reads 1"),
        "{refused}"
    );
    Index::wipe(dir.path()).unwrap();
    let index = Index::open(dir.path()).unwrap();
    assert_eq!((all(&index), index.cursor()), (Vec::new(), &b""[..]));
    assert!(dir.path().join("notes.txt").exists());
}

#[test]
fn names_of_a_block_that_are_not_there_are_found_by_verify_alone() {
    let mut bytes = small_segment();
    let start = 32 + 3 * 24;
    let blocks = u64::from_le_bytes(bytes[32 + 16..32 + 24].try_into().unwrap());
    let names = start + usize::try_from(blocks).unwrap() + 32;
    assert_eq!(bytes[names], 0b11111, "five names");
    bytes[names] |= 1 << 5;
    let segment = Segment::from_bytes(reseal(&bytes, Kind::Segment).unwrap()).unwrap();
    assert!(segment.block(0, &mut BlockScratch::default()).is_ok());
    let found = segment.verify().unwrap_err();
    assert_eq!(found.to_string(), "corrupt: names of a block");
}

#[test]
fn a_writer_that_broke_order_is_found_by_verify_alone() {
    let mut builder = writer::Builder::new(
        writer::Frame {
            min_ns: 0,
            max_ns: 9,
            wide_codes: false,
        },
        1,
        Vec::new(),
        Vec::new(),
    )
    .unwrap();
    builder.begin_run(0).unwrap();
    builder.push(9, 0);
    builder.push(0, 0);
    let (bytes, _) = builder.finish().unwrap();
    let segment = Segment::from_bytes(bytes).unwrap();
    assert_eq!(
        segment.verify(),
        Err(SegmentError::Corrupt {
            what: "order of events".to_owned()
        })
    );
}
