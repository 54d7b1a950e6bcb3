//! What goes in comes out.

use proptest::prelude::*;

use super::{super::*, Dice, Fact, all, batch, blocks, cells, fact, sorted};

type Plain = (u32, i64, u16);

fn rows_of(segment: &Segment) -> Vec<Plain> {
    let mut rows = Vec::new();
    let mut scratch = BlockScratch::default();
    for index in 0..segment.blocks() {
        let block = segment.block(index, &mut scratch).unwrap();
        assert_eq!(block.first_event, rows.len() as u64);
        let users: Vec<u32> = scratch.runs().map(|(user, _)| user).collect();
        assert_eq!(
            (users.first(), users.last()),
            (
                Some(&segment.first_user(index)),
                Some(&segment.last_user(index))
            )
        );
        for (user, run) in scratch.runs() {
            assert!(!run.is_empty(), "an empty run");
            assert_eq!(segment.block_of(user), Some(index));
            for event in run {
                let name = block.codes.get(event);
                assert!(segment.may_contain(index, &[name].into_iter().collect()));
                rows.push((user, block.times.get(event), name));
            }
        }
    }
    rows
}

fn round_trip(rows: &[Plain]) {
    let mut events: Vec<EventRow> = rows
        .iter()
        .map(|(user, at_ns, name)| EventRow::new(*user, *at_ns, *name))
        .collect();
    let sources = vec![blocks("p", 1, 2)];
    let segment = Segment::from_bytes(build(&mut events, sources.clone()).unwrap()).unwrap();
    let mut rows = rows.to_vec();
    rows.sort_unstable();
    assert_eq!(rows_of(&segment), rows);
    let meta = segment.meta();
    assert_eq!(meta.events, rows.len() as u64);
    assert_eq!(meta.sources, sources);
    let times = || rows.iter().map(|row| row.1);
    assert_eq!(meta.min_ns, times().min().unwrap_or(0));
    assert_eq!(meta.max_ns, times().max().unwrap_or(0));
    for (name, count) in &meta.name_counts {
        assert_eq!(
            rows.iter().filter(|row| row.2 == *name).count() as u64,
            *count
        );
        assert_eq!(meta.count_of(*name), *count);
    }
    segment.verify().unwrap();
    let sizes = segment.sizes();
    assert_eq!(
        sizes.runs + sizes.codes + sizes.times + sizes.other,
        segment.bytes()
    );
}

/// Times at every scale, so that all units and widths occur.
fn times() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        (-50..50_i64).prop_map(|second| second * 1_000_000_000),
        (0..3_000_000_000_i64).prop_map(|ms| 1_700_000_000_000_000_000 + ms * 1_000_000),
        (0..1_000_000_i64).prop_map(|us| us * 1_000),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_rows_come_back(
        rows in proptest::collection::vec(
            (prop_oneof![0..5_u32, any::<u32>()], times(), prop_oneof![0..4_u16, 0..u16::MAX]), 0..300
        )
    ) {
        round_trip(&rows);
    }

    #[test]
    fn rows_of_one_unit_come_back(
        rows in proptest::collection::vec((0..2_000_u32, 0..1_000_i64, 0..300_u16), 0..400),
        unit in prop_oneof![Just(1), Just(1_000), Just(1_000_000), Just(1_000_000_000_i64)],
        start in -1_000_000_000_000_i64..1_000_000_000_000,
    ) {
        let rows: Vec<Plain> = rows.iter().map(|row| (row.0, start + row.1 * unit, row.2)).collect();
        round_trip(&rows);
    }
}

#[test]
fn many_blocks_heavy_users_and_the_largest_codes_come_back() {
    let mut dice = Dice(7);
    let mut rows: Vec<Plain> = Vec::new();
    for user in 0..3_000_u32 {
        for _ in 0..=dice.below(4) {
            let at_ns = i64::try_from(dice.below(2_592_000_000)).unwrap() * 1_000_000;
            let name = u16::try_from(dice.below(40)).unwrap();
            rows.push((user * 3, at_ns, name));
        }
    }
    rows.extend((0..70_000).map(|at| (4_444, at, 39)));
    rows.push((u32::MAX, i64::MAX, 0));
    rows.push((0, i64::MIN, 65_534));
    round_trip(&rows);
    round_trip(&rows[..rows.len() - 2]);
}

#[test]
fn a_segment_without_rows_is_a_segment() {
    round_trip(&[]);
}

#[test]
fn a_name_code_that_no_dictionary_gives_is_refused() {
    let error = build(&mut [EventRow::new(0, 0, u16::MAX)], Vec::new()).unwrap_err();
    assert!(matches!(error, SegmentError::Limit { .. }));
}

#[test]
fn a_unit_or_a_size_is_what_the_layout_promises() {
    let mut rows: Vec<EventRow> = (0..100_000_u32)
        .map(|event| {
            let at_ms = i64::from(event.wrapping_mul(2_654_435_761) % 2_592_000_000);
            EventRow::new(
                event / 10,
                at_ms * 1_000_000,
                u16::try_from(event % 40).unwrap(),
            )
        })
        .collect();
    let segment = Segment::from_bytes(build(&mut rows, Vec::new()).unwrap()).unwrap();
    assert_eq!(segment.meta().unit_ns, 1_000_000);
    assert!(!segment.meta().wide_codes);
    let sizes = segment.sizes();
    assert_eq!((sizes.codes, sizes.times), (100_000, 400_000));
    assert!(sizes.runs + sizes.other < 20_000, "{sizes:?}");
}

/// Rows of two partitions whose days tell them apart, as a store's do.
fn some_facts(seed: u64, count: u64) -> Vec<Fact> {
    let mut dice = Dice(seed);
    (0..count)
        .map(|_| {
            let tenant = ["", "a", "b"][usize::try_from(dice.below(3)).unwrap()];
            let at_ns = i64::try_from(dice.below(60 * 86_400)).unwrap() * 1_000_000_000;
            let name = format!("n{}", dice.below(6));
            fact(
                tenant,
                &format!("u{}", dice.below(count / 4 + 1)),
                at_ns,
                &name,
            )
        })
        .collect()
}

fn partition_of(fact: &Fact) -> &'static str {
    if fact.at_ns < 30 * DAY_NS { "p" } else { "q" }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_split_into_batches_and_compactions_shows_all_rows_once(
        seed in any::<u64>(), cuts in proptest::collection::vec((1..120_u64, 0..3_u8), 1..12)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut index = super::open_unsynced(dir.path());
        let mut truth: Vec<Fact> = Vec::new();
        for (block, (count, then)) in (1..).zip(&cuts) {
            let facts = some_facts(seed ^ block, *count);
            let (first, second): (Vec<Fact>, Vec<Fact>) =
                facts.iter().cloned().partition(|fact| partition_of(fact) == "p");
            let batches = vec![batch(blocks("p", block, block), &first), batch(blocks("q", block, block), &second)];
            let cursor = block.to_string();
            let appended = index.append(batches, cursor.as_bytes()).unwrap();
            prop_assert_eq!(appended.rows, *count);
            truth.extend(facts);
            match then {
                0 => { index.compact(u64::MAX, Thrift::Amortised).unwrap(); }
                1 => { drop(index); index = super::open_unsynced(dir.path()); }
                _ => {}
            }
            prop_assert_eq!(index.cursor(), cursor.as_bytes());
            prop_assert_eq!(all(&index), sorted(&truth));
        }
        index.compact(u64::MAX, Thrift::Amortised).unwrap();
        prop_assert_eq!(all(&index), sorted(&truth));
        prop_assert_eq!(index.verify().unwrap().events, truth.len() as u64);
        let snapshot = index.snapshot(None).unwrap();
        for held in &snapshot.tenants {
            let claimed = cells(&snapshot, &held.name, 0..60);
            for (block, (count, _)) in (1..).zip(&cuts) {
                for own in some_facts(seed ^ block, *count).iter().filter(|own| own.tenant == held.name) {
                    let cell = (partition_of(own).to_owned(), block, day_of(own.at_ns));
                    let segment = claimed.get(&cell).expect("a row that no source names");
                    let segment = held.segments.iter().find(|own| own.id() == *segment).unwrap();
                    prop_assert!((segment.meta().first_day()..=segment.meta().last_day()).contains(&cell.2));
                }
            }
        }
    }
}

#[test]
fn days_worth_a_segment_get_their_own_and_sources_tile_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    let facts: Vec<Fact> = (0..60_000_i64)
        .map(|event| {
            fact(
                "t",
                &format!("u{}", event % 977),
                event % 3 * DAY_NS + event,
                "n",
            )
        })
        .collect();
    let appended = index
        .append(vec![batch(blocks("p", 1, 4), &facts)], b"1")
        .unwrap();
    assert_eq!(appended.segments, 3);
    let snapshot = index.snapshot(Some("t")).unwrap();
    let days: Vec<(i32, i32)> = snapshot.tenants[0]
        .segments
        .iter()
        .map(|segment| (segment.meta().first_day(), segment.meta().last_day()))
        .collect();
    assert_eq!(days, [(0, 0), (1, 1), (2, 2)]);
    assert_eq!(
        cells(&snapshot, "t", -1..4).len(),
        5 * 5,
        "blocks 0 to 4 on all days"
    );
    assert_eq!(all(&index), sorted(&facts));
    index.compact(u64::MAX, Thrift::Amortised).unwrap();
    let snapshot = index.snapshot(Some("t")).unwrap();
    assert_eq!(snapshot.tenants[0].segments.len(), 1);
    assert_eq!(
        snapshot.tenants[0].segments[0].meta().sources,
        [blocks("p", 0, 4)]
    );
}

#[test]
fn a_snapshot_keeps_what_it_saw_while_everything_changes() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    let first = some_facts(1, 3_000);
    index
        .append(vec![batch(blocks("p", 1, 1), &first)], b"1")
        .unwrap();
    let old = index.snapshot(None).unwrap();
    let more = some_facts(2, 3_000);
    index
        .append(vec![batch(blocks("p", 2, 2), &more)], b"2")
        .unwrap();
    index.compact(u64::MAX, Thrift::Amortised).unwrap();
    let middle = index.reader().snapshot(None).unwrap();
    index.forget("p", b"3").unwrap();
    drop(index);
    Index::wipe(dir.path()).unwrap();
    assert_eq!((&*old.cursor, &*middle.cursor), (&b"1"[..], &b"2"[..]));
    assert_eq!(super::facts_of(&old), sorted(&first));
    assert_eq!(super::facts_of(&middle), sorted(&[first, more].concat()));
}

#[test]
fn a_tenant_sees_its_own_rows_and_an_unknown_one_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    let facts = [
        fact("a", "u", 1, "n"),
        fact("b", "u", 2, "m"),
        fact("a", "", 3, "m"),
    ];
    index
        .append(vec![batch(blocks("p", 1, 1), &facts)], b"1")
        .unwrap();
    let one = index.snapshot(Some("a")).unwrap();
    assert_eq!(
        super::facts_of(&one),
        sorted(&[facts[0].clone(), facts[2].clone()])
    );
    assert_eq!(one.tenants[0].nobody(), Some(1));
    assert_eq!(index.snapshot(Some("b")).unwrap().tenants[0].nobody(), None);
    assert!(index.snapshot(Some("c")).unwrap().tenants.is_empty());
    let stats = index.stats();
    assert_eq!(
        (
            stats.tenants,
            stats.events,
            stats.users,
            stats.names,
            stats.segments
        ),
        (2, 3, 3, 3, 2)
    );
}

#[test]
fn a_forgotten_partition_is_gone_and_may_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    let facts = some_facts(5, 500);
    let (first, second): (Vec<Fact>, Vec<Fact>) = facts
        .into_iter()
        .partition(|fact| partition_of(fact) == "p");
    let batches = vec![
        batch(blocks("p", 1, 7), &first),
        batch(blocks("q", 1, 9), &second),
    ];
    index.append(batches, b"1").unwrap();
    index.forget("p", b"2").unwrap();
    assert_eq!(all(&index), sorted(&second));
    drop(index);
    let mut index = Index::open(dir.path()).unwrap();
    assert_eq!((all(&index), index.cursor()), (sorted(&second), &b"2"[..]));
    index
        .append(vec![batch(blocks("p", 1, 7), &first)], b"3")
        .unwrap();
    assert_eq!(all(&index), sorted(&[first, second].concat()));
    index.verify().unwrap();
    index.forget("q", b"4").unwrap();
    index.forget("p", b"5").unwrap();
    assert!(index.snapshot(None).unwrap().tenants.is_empty());
}
