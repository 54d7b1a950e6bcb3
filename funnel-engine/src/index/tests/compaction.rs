//! Merging: the same bytes as one build, and what is kept or goes.

use proptest::prelude::*;

use super::{super::*, Fact, all, batch, blocks, fact, sorted};
use crate::index::merge::merge;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn merged_parts_are_the_same_bytes_as_one_build(
        rows in proptest::collection::vec((0..400_u32, 0..1_000_i64, 0..5_u16, 0..4_u64), 0..1_500),
        units in proptest::collection::vec(prop_oneof![Just(1_i64), Just(1_000), Just(1_000_000), Just(1_000_000_000)], 4),
        wide in any::<bool>(),
        start in -1_000_000_000_000_i64..1_000_000_000_000,
    ) {
        let mut parts: Vec<Vec<EventRow>> = vec![Vec::new(); 4];
        let mut together = Vec::new();
        for (user, at, name, part) in rows {
            let part = usize::try_from(part).unwrap();
            let name = if wide && part == 3 { name + 300 } else { name };
            let row = EventRow::new(user, start + at * units[part], name);
            parts[part].push(row);
            together.push(row);
        }
        let sources: Vec<Source> = (0..4).map(|part| blocks("p", part * 10, part * 10 + 9)).collect();
        let segments: Vec<Segment> = parts
            .iter_mut()
            .zip(&sources)
            .map(|(part, source)| Segment::from_bytes(build(part, vec![source.clone()]).unwrap()).unwrap())
            .collect();
        let inputs: Vec<&Segment> = segments.iter().collect();
        let (merged, _) = merge(&inputs, Vec::new()).unwrap();
        let whole = build(&mut together, vec![blocks("p", 0, 39)]).unwrap();
        prop_assert!(merged == whole);
    }
}

#[test]
fn a_large_merge_goes_through_a_file_the_same_way() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    let facts: Vec<Fact> = (0..400_000_i64)
        .map(|event| {
            fact(
                "t",
                &format!("u{}", event * 7_919 % 50_021),
                event * 1_000_000,
                &format!("n{}", event % 40),
            )
        })
        .collect();
    for (block, part) in (1..).zip(facts.chunks(100_000)) {
        index
            .append(vec![batch(blocks("p", block, block), part)], b"1")
            .unwrap();
    }
    let compacted = index.compact(u64::MAX, Thrift::Amortised).unwrap();
    assert_eq!((compacted.events, compacted.more), (400_000, false));
    let snapshot = index.snapshot(None).unwrap();
    let [tenant] = &*snapshot.tenants else {
        panic!()
    };
    let [segment] = &*tenant.segments else {
        panic!()
    };
    let mut rows: Vec<EventRow> = facts
        .iter()
        .map(|fact| {
            EventRow::new(
                tenant.users.code(&fact.user).unwrap(),
                fact.at_ns,
                tenant.names.find(&fact.name).unwrap(),
            )
        })
        .collect();
    let whole = build(&mut rows, vec![blocks("p", 0, 4)]).unwrap();
    let file = dir.path().join(format!("{}.segment", segment.id()));
    assert!(
        std::fs::read(file).unwrap() == whole,
        "more than one buffer's worth of bytes"
    );
    assert_eq!(index.verify().unwrap().events, 400_000);
    drop(index);
    assert_eq!(all(&Index::open(dir.path()).unwrap()), sorted(&facts));
}

#[test]
fn a_budget_is_kept_and_what_is_left_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    for block in 1..=8_u64 {
        let facts: Vec<Fact> = (0..100_i64)
            .map(|event| fact("t", &format!("u{event}"), event, "n"))
            .collect();
        index
            .append(vec![batch(blocks("p", block, block), &facts)], b"1")
            .unwrap();
    }
    let nothing = index.compact(150, Thrift::Amortised).unwrap();
    assert_eq!((nothing.events, nothing.merged, nothing.more), (0, 0, true));
    let all_of_it = index.compact(800, Thrift::Amortised).unwrap();
    assert_eq!(
        (all_of_it.events, all_of_it.merged, all_of_it.more),
        (800, 8, false)
    );
    assert_eq!(index.stats().segments, 1);
    assert_eq!(
        index.compact(u64::MAX, Thrift::Amortised).unwrap(),
        Compacted::default()
    );
}

#[test]
fn a_dictionary_of_many_small_appends_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = super::open_unsynced(dir.path());
    let mut truth = Vec::new();
    for block in 1..=100_u64 {
        let facts: Vec<Fact> = (0..3)
            .map(|user| fact("t", &format!("user-{block}-{user}"), 5, "n"))
            .collect();
        index
            .append(vec![batch(blocks("p", block, block), &facts)], b"1")
            .unwrap();
        truth.extend(facts);
    }
    let before = index.stats().user_bytes;
    assert_eq!(
        index
            .compact(u64::MAX, Thrift::Amortised)
            .unwrap()
            .dictionaries,
        1
    );
    assert!(
        index.stats().user_bytes * 3 < before,
        "{} of {before}",
        index.stats().user_bytes
    );
    let facts = [fact("t", "one more", 5, "n"), fact("t", "user-1-0", 6, "n")];
    index
        .append(vec![batch(blocks("p", 101, 101), &facts)], b"2")
        .unwrap();
    truth.extend(facts);
    drop(index);
    let index = Index::open(dir.path()).unwrap();
    assert_eq!(all(&index), sorted(&truth));
    assert_eq!(index.stats().users, 301);
    index.verify().unwrap();
}
