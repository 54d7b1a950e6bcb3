//! What the index refuses, and that it says so.

use super::{super::*, Fact, all, batch, blocks, fact, sorted};

#[test]
fn a_second_writer_is_refused_while_the_first_lives() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    assert!(matches!(
        Index::open(dir.path()),
        Err(IndexError::Locked { .. })
    ));
    assert!(matches!(
        Index::wipe(dir.path()),
        Err(IndexError::Locked { .. })
    ));
    drop(index);
    assert!(Index::open(dir.path()).is_ok());
}

#[test]
fn a_batch_out_of_order_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    let facts = [fact("t", "u", 1, "n")];
    let new = [fact("new", "v", 2, "m"), fact("t", "v", 2, "m")];
    index
        .append(vec![batch(blocks("p", 3, 5), &facts)], b"1")
        .unwrap();
    for again in [blocks("p", 5, 6), blocks("p", 1, 2), blocks("p", 8, 7)] {
        let batches = vec![batch(blocks("q", 1, 1), &new), batch(again, &new)];
        let error = index.append(batches, b"2").unwrap_err();
        assert!(
            matches!(error, IndexError::OutOfOrder { reached: 5, .. }),
            "{error}"
        );
    }
    assert_eq!((all(&index), index.cursor()), (sorted(&facts), &b"1"[..]));
    index
        .append(vec![batch(blocks("q", 1, 1), &new)], b"2")
        .unwrap();
    assert_eq!(all(&index), sorted(&[&facts[..], &new].concat()));
    index.verify().unwrap();
}

#[test]
fn a_tenant_with_too_many_names_leaves_the_index_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    let good = [fact("good", "u", 1, "n")];
    index
        .append(
            vec![batch(
                blocks("p", 1, 1),
                &[&good[..], &[fact("bad", "u", 1, "n")]].concat(),
            )],
            b"1",
        )
        .unwrap();
    let mut many: Vec<Fact> = (0..70_000)
        .map(|name| fact("bad", "u", 1, &format!("n{name}")))
        .collect();
    many.push(fact("good", "v", 2, "m"));
    let appended = index
        .append(vec![batch(blocks("p", 2, 2), &many)], b"2")
        .unwrap();
    assert_eq!(appended.refused, ["bad"]);
    assert_eq!((appended.rows, appended.refused_rows), (1, 70_000));
    for _ in 0..2 {
        let error = index.snapshot(Some("bad")).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("65535 event names"), "{error}");
        assert!(matches!(
            index.snapshot(None),
            Err(IndexError::Refused { .. })
        ));
        assert_eq!(
            super::facts_of(&index.snapshot(Some("good")).unwrap()),
            sorted(&[good[0].clone(), many[70_000].clone()])
        );
        drop(index);
        index = Index::open(dir.path()).unwrap();
    }
    let more = [fact("bad", "u", 3, "n"), fact("good", "u", 3, "n")];
    let appended = index
        .append(vec![batch(blocks("p", 3, 3), &more)], b"3")
        .unwrap();
    assert_eq!(
        (appended.rows, appended.refused_rows, index.stats().refused),
        (1, 1, 1)
    );
    index.compact(u64::MAX, Thrift::Amortised).unwrap();
    index.verify().unwrap();
}

#[test]
fn a_user_id_that_is_too_long_refuses_its_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    let facts = [
        fact("bad", &"x".repeat(70_000), 1, "n"),
        fact("good", &"x".repeat(65_535), 1, "n"),
    ];
    let appended = index
        .append(vec![batch(blocks("p", 1, 1), &facts)], b"1")
        .unwrap();
    assert_eq!(appended.refused, ["bad"]);
    assert_eq!(
        super::facts_of(&index.snapshot(Some("good")).unwrap()),
        sorted(&facts[1..])
    );
}

#[test]
fn a_cursor_alone_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    let cursor = vec![7_u8; 100_000];
    assert_eq!(
        index
            .append(vec![batch(blocks("p", 1, 9), &[])], &cursor)
            .unwrap(),
        Appended::default()
    );
    drop(index);
    let index = Index::open(dir.path()).unwrap();
    assert_eq!(index.cursor(), cursor);
    assert_eq!(&*index.snapshot(None).unwrap().cursor, cursor);
}

#[test]
fn names_beyond_256_take_two_bytes_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    let narrow: Vec<Fact> = (0..256)
        .map(|name| fact("t", "u", name, &format!("n{name}")))
        .collect();
    let wide: Vec<Fact> = (0..300)
        .map(|name| fact("t", "u", name, &format!("n{name}")))
        .collect();
    index
        .append(vec![batch(blocks("p", 1, 1), &narrow)], b"1")
        .unwrap();
    index
        .append(vec![batch(blocks("p", 2, 2), &wide)], b"2")
        .unwrap();
    let widths = |index: &Index| -> Vec<bool> {
        let snapshot = index.snapshot(None).unwrap();
        snapshot.tenants[0]
            .segments
            .iter()
            .map(|segment| segment.meta().wide_codes)
            .collect()
    };
    assert_eq!(widths(&index), [false, true]);
    index.compact(u64::MAX, Thrift::Amortised).unwrap();
    assert_eq!(widths(&index), [true]);
    assert_eq!(all(&index), sorted(&[narrow, wide].concat()));
}

#[test]
fn whoever_reads_may_sit_in_another_thread() {
    fn may_move<T: Send>() {}
    fn may_be_shared<T: Send + Sync>() {}
    may_move::<Index>();
    may_move::<PropertyBuilder<'_>>();
    may_be_shared::<IndexReader>();
    may_be_shared::<Snapshot>();
    may_be_shared::<Segment>();
}
