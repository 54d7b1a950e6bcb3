//! Property columns against the rows they were made of.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{super::*, batch, blocks, fact};

type Values = (Option<String>, Option<String>);

fn segment_of(rows: &[EventRow]) -> Segment {
    Segment::from_bytes(build(&mut rows.to_vec(), Vec::new()).unwrap()).unwrap()
}

fn columns_of(segment: &Segment, rows: &[(EventRow, Values)]) -> Result<Vec<u8>, PropertiesError> {
    let mut builder = PropertyBuilder::new(segment, &["one", "two"])?;
    for (row, (one, two)) in rows {
        builder.push(*row, &[one.as_deref(), two.as_deref()])?;
    }
    builder.finish()
}

/// The rows as segment and columns show them, with how often each occurs.
fn shown(segment: &Segment) -> BTreeMap<(EventRow, Values), usize> {
    let columns = segment.properties(&["one", "two"]).unwrap();
    let value = |column: usize, position: u64| {
        let column = &columns[column];
        let code = column.code(position) as usize;
        code.checked_sub(1)
            .map(|index| column.values()[index].clone())
    };
    let mut shown = BTreeMap::new();
    let mut runs = Runs::new(segment);
    while runs.advance().unwrap() {
        let run = runs.run().unwrap();
        for event in run.events.clone() {
            let position = run.first_event + event as u64;
            let row = EventRow::new(run.user, run.times.get(event), run.codes.get(event));
            *shown
                .entry((row, (value(0, position), value(1, position))))
                .or_insert(0) += 1;
        }
    }
    shown
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Few users, times and names, so that most rows have others with the same key.
    #[test]
    fn any_rows_in_any_order_come_back_with_their_values_together(
        rows in proptest::collection::vec(
            ((0..3_u32, 0..3_i64, 0..2_u16), (proptest::option::of("[a-c]{0,2}"), proptest::option::of("[x-z]{0,1}"))), 1..80
        ),
        turn in 0..80_usize,
    ) {
        let mut rows: Vec<(EventRow, Values)> = rows
            .into_iter()
            .map(|((user, at_ns, name), values)| (EventRow::new(user, at_ns, name), values))
            .collect();
        let mut truth = BTreeMap::new();
        for row in &rows {
            *truth.entry(row.clone()).or_insert(0) += 1;
        }
        let keys: Vec<EventRow> = rows.iter().map(|row| row.0).collect();
        let segment = segment_of(&keys);
        let bytes = columns_of(&segment, &rows).unwrap();
        let turn = turn % rows.len();
        rows.rotate_left(turn);
        prop_assert_eq!(&bytes, &columns_of(&segment, &rows).unwrap(), "the order of rows does not matter");
        let segment = segment.with_properties(PropertyFile::from_bytes(bytes).unwrap()).unwrap();
        prop_assert_eq!(shown(&segment), truth);
    }
}

fn some_rows() -> Vec<(EventRow, Values)> {
    (0..50_u32)
        .map(|row| {
            let values = (
                Some(format!("v{}", row % 7)),
                (row % 2 == 0).then(|| "even".to_owned()),
            );
            (EventRow::new(row / 4, i64::from(row), 1), values)
        })
        .collect()
}

#[test]
fn rows_that_are_not_the_segments_are_refused() {
    let rows = some_rows();
    let keys: Vec<EventRow> = rows.iter().map(|row| row.0).collect();
    let segment = segment_of(&keys);
    let refused = |rows: &[(EventRow, Values)]| {
        matches!(
            columns_of(&segment, rows),
            Err(PropertiesError::Mismatch { .. })
        )
    };
    assert!(refused(&rows[1..]), "one is missing");
    assert!(refused(&[&*rows, &rows[..1]].concat()), "one too many");
    let mut other = rows.clone();
    other[3].0 = EventRow::new(0, 3, 2);
    assert!(refused(&other), "another name");
    let mut builder = PropertyBuilder::new(&segment, &["one"]).unwrap();
    assert!(matches!(
        builder.push(rows[0].0, &[]),
        Err(PropertiesError::Mismatch { .. })
    ));
    assert!(PropertyBuilder::new(&segment, &["one", "one"]).is_err());
    let columns = columns_of(&segment, &rows).unwrap();
    let stranger = segment_of(&keys[1..]);
    let file = PropertyFile::from_bytes(columns).unwrap();
    assert!(matches!(
        stranger.with_properties(file),
        Err(PropertiesError::Mismatch { .. })
    ));
}

#[test]
fn a_million_values_fit_and_one_more_is_refused_by_name() {
    let keys: Vec<EventRow> = (0..1_000_001).map(|row| EventRow::new(row, 0, 0)).collect();
    let segment = segment_of(&keys);
    let mut builder = PropertyBuilder::new(&segment, &["id"]).unwrap();
    for (row, key) in keys.iter().enumerate().take(1_000_000) {
        builder.push(*key, &[Some(&row.to_string())]).unwrap();
    }
    let error = builder
        .push(keys[1_000_000], &[Some("one more")])
        .unwrap_err();
    assert_eq!(
        error,
        PropertiesError::TooManyValues {
            property: "id".to_owned()
        }
    );
    let mut builder = PropertyBuilder::new(&segment, &["id"]).unwrap();
    for (row, key) in keys.iter().enumerate() {
        let text = (row % 1_000_000).to_string();
        builder.push(*key, &[Some(&text)]).unwrap();
    }
    let file = PropertyFile::from_bytes(builder.finish().unwrap()).unwrap();
    let segment = segment.with_properties(file).unwrap();
    let column = &segment.properties(&["id"]).unwrap()[0];
    assert_eq!(column.values().len(), 1_000_000);
    assert_eq!(column.values()[column.code(777_777) as usize - 1], "777777");
}

/// Columns of the first segment; returns its number.
fn attach(index: &mut Index, names: &[&str]) -> u64 {
    let snapshot = index.snapshot(Some("t")).unwrap();
    let segment = &snapshot.tenants[0].segments[0];
    let mut builder = PropertyBuilder::new(segment, names).unwrap();
    let mut runs = Runs::new(segment);
    while runs.advance().unwrap() {
        let run = runs.run().unwrap();
        for event in run.events.clone() {
            let row = EventRow::new(run.user, run.times.get(event), run.codes.get(event));
            builder.push(row, &vec![Some("v"); names.len()]).unwrap();
        }
    }
    assert!(
        index
            .attach_properties("t", segment.id(), &builder.finish().unwrap())
            .unwrap()
    );
    segment.id()
}

fn first(index: &Index) -> Segment {
    index.snapshot(Some("t")).unwrap().tenants[0].segments[0].clone()
}

#[test]
fn attached_columns_last_and_say_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    let facts = [fact("t", "u", 1, "n"), fact("t", "v", 2, "n")];
    index
        .append(vec![batch(blocks("p", 1, 1), &facts)], b"1")
        .unwrap();
    let missing = |segment: &Segment, wanted: &[&str]| match segment
        .properties(wanted)
        .map(|columns| columns.len())
    {
        Ok(_) => Vec::new(),
        Err(PropertiesError::Missing { names }) => names,
        Err(other) => panic!("{other}"),
    };
    assert_eq!(missing(&first(&index), &["a", "b"]), ["a", "b"]);
    let old = first(&index);
    attach(&mut index, &["a"]);
    attach(&mut index, &["b", "c"]);
    assert_eq!(missing(&old, &["a"]), ["a"], "a snapshot does not change");
    drop(index);
    let mut index = Index::open(dir.path()).unwrap();
    assert_eq!(missing(&first(&index), &["c", "b"]), Vec::<String>::new());
    assert_eq!(
        missing(&first(&index), &["a", "b", "c"]),
        ["a"],
        "no file has all three"
    );
    let id = attach(&mut index, &["c", "b", "a"]);
    assert_eq!(
        missing(&first(&index), &["a", "b", "c"]),
        Vec::<String>::new()
    );
    assert_eq!(
        first(&index).property_files().len(),
        1,
        "the others are in it"
    );
    for extra in 0..12 {
        attach(&mut index, &[&format!("x{extra}")]);
    }
    assert_eq!(first(&index).property_files().len(), 8);
    assert_eq!(missing(&first(&index), &["a"]), ["a"], "the oldest is gone");
    assert_eq!(missing(&first(&index), &["x11"]), Vec::<String>::new());
    assert!(index.stats().property_bytes > 0);
    assert_eq!(index.verify().unwrap().columns, 8);
    let facts = [fact("t", "w", 1, "n"), fact("t", "x", 2, "n")];
    index
        .append(vec![batch(blocks("p", 2, 2), &facts)], b"2")
        .unwrap();
    index.compact(u64::MAX, Thrift::Amortised).unwrap();
    assert_eq!(first(&index).property_files().len(), 0);
    assert!(
        !index.attach_properties("t", id, b"anything").unwrap(),
        "the segment was merged away"
    );
    drop(index);
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 5, "LOCK, MANIFEST, users, names, one segment");
}

#[test]
fn columns_of_another_segment_are_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    let facts = [fact("t", "u", 1, "n"), fact("t", "v", 2, "n")];
    index
        .append(vec![batch(blocks("p", 1, 1), &facts)], b"1")
        .unwrap();
    let id = attach(&mut index, &["a"]);
    let before = index.stats();
    let row = EventRow::new(0, 1, 0);
    let others = columns_of(&segment_of(&[row]), &[(row, (None, None))]).unwrap();
    for wrong in [b"nonsense", &*others] {
        let refused = index.attach_properties("t", id, wrong);
        assert!(
            matches!(refused, Err(IndexError::Columns(_))),
            "{refused:?}"
        );
    }
    assert_eq!(index.stats(), before);
    drop(index);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        6,
        "nothing was left behind"
    );
}
