//! A process that ends at any step, and a machine that loses its power at any step, leave the old state or the new.

use std::{path::Path, sync::Arc};

use super::{
    super::{files::Step, *},
    Fact, all, batch, blocks,
    disk::Crash,
    fact, sorted,
};

fn facts(part: i64) -> Vec<Fact> {
    (0..60_i64)
        .map(|event| {
            let tenant = ["", "a"][usize::from(event % 4 == 0)];
            let user = format!("u{}", (event * 7 + part * 13) % 40);
            fact(
                tenant,
                &user,
                part * 1_000 + event,
                &format!("n{}", (event + part) % 5),
            )
        })
        .collect()
}

const OPERATIONS: usize = 7;

/// Operation `number` of a life of an index.
fn operate(index: &mut Index, number: usize) -> Result<(), IndexError> {
    let cursor = [b'0' + u8::try_from(number).unwrap()];
    let rows = facts(i64::try_from(number).unwrap());
    match number {
        0 | 1 | 5 => {
            let block = number as u64 + 1;
            index
                .append(vec![batch(blocks("p", block, block), &rows)], &cursor)
                .map(|_| ())
        }
        2 => {
            let other = facts(77);
            let batches = vec![
                batch(blocks("q", 1, 1), &rows),
                batch(blocks("p", 3, 3), &other),
            ];
            index.append(batches, &cursor).map(|_| ())
        }
        3 => index.compact(u64::MAX, Thrift::Amortised).map(|_| ()),
        4 => attach(index),
        6 => index.forget("q", &cursor),
        _ => unreachable!(),
    }
}

fn attach(index: &mut Index) -> Result<(), IndexError> {
    let tenant = Arc::clone(&index.snapshot(Some("a")).unwrap().tenants[0]);
    let mut segments = tenant.segments.iter();
    let segment = segments
        .find(|segment| segment.meta().sources[0].partition == "p")
        .unwrap();
    let mut builder = PropertyBuilder::new(segment, &["x"]).unwrap();
    let mut runs = Runs::new(segment);
    while runs.advance().unwrap() {
        let run = runs.run().unwrap();
        for event in run.events.clone() {
            builder
                .push(
                    EventRow::new(run.user, run.times.get(event), run.codes.get(event)),
                    &[Some("v")],
                )
                .unwrap();
        }
    }
    assert!(index.attach_properties("a", segment.id(), &builder.finish().unwrap())?);
    Ok(())
}

/// All that an index shows: rows, cursor, columns.
type Shown = (Vec<Fact>, Vec<u8>, usize);

fn shown(index: &Index) -> Shown {
    let snapshot = index.snapshot(None).unwrap();
    let segments = snapshot.tenants.iter().flat_map(|tenant| &tenant.segments);
    let columns = segments.map(|segment| segment.property_files().len()).sum();
    (all(index), index.cursor().to_vec(), columns)
}

fn open(dir: &Path, crash: &Arc<Crash>) -> Result<Index, IndexError> {
    Index::open_files(Files::new(dir, Some(Arc::<Crash>::clone(crash))))
}

/// An index after each number of operations, and what it shows.
struct Life {
    dirs: Vec<tempfile::TempDir>,
    truths: Vec<Shown>,
}

impl Life {
    fn live() -> Self {
        let crash = Arc::new(Crash::default());
        let mut life = Self {
            dirs: Vec::new(),
            truths: Vec::new(),
        };
        let dir = tempfile::tempdir().unwrap();
        let mut index = open(dir.path(), &crash).unwrap();
        let mut rows: Vec<Fact> = Vec::new();
        let mut forgotten: Vec<Fact> = Vec::new();
        for number in 0..=OPERATIONS {
            assert!(
                shown(&index).0 == sorted(&[&*rows, &forgotten].concat()),
                "before operation {number}"
            );
            life.truths.push(shown(&index));
            life.dirs.push(copy(dir.path()));
            if number == OPERATIONS {
                break;
            }
            operate(&mut index, number).unwrap();
            match number {
                2 => {
                    rows.extend(facts(77));
                    forgotten = facts(2);
                }
                0 | 1 | 5 => rows.extend(facts(i64::try_from(number).unwrap())),
                6 => forgotten.clear(),
                _ => {}
            }
        }
        life
    }

    /// A copy of the index as it was before an operation.
    fn before(&self, number: usize) -> tempfile::TempDir {
        copy(self.dirs[number].path())
    }
}

fn copy(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Kill,
    /// With the name of the old manifest, or of the new.
    Power(bool),
}

/// Ends operation `number` at step `step`; false when the operation has fewer steps.
fn ends_at(life: &Life, number: usize, step: usize, tears: bool, end: End) -> bool {
    let what = format!("operation {number} step {step} {tears} {end:?}");
    let dir = life.before(number);
    let crash = Arc::new(Crash::default());
    let mut index = open(dir.path(), &crash).unwrap();
    crash.arm(step, tears, false);
    let result = operate(&mut index, number);
    let Some(_) = crash.disarm() else {
        assert!(result.is_ok());
        return false;
    };
    drop(index);
    if let End::Power(old_name) = end {
        crash.lose_power(old_name);
    }
    let mut index = open(dir.path(), &crash).unwrap();
    index.verify().unwrap();
    let found = shown(&index);
    // Whether a compaction was done does not show; it may be repeated.
    let done = if found == life.truths[number + 1] && number != 3 {
        number + 1
    } else {
        assert!(found == life.truths[number], "{what}");
        assert!(result.is_err() || number == 3);
        number
    };
    // Life goes on as if nothing had been.
    for after in done..OPERATIONS {
        operate(&mut index, after).unwrap();
    }
    assert!(shown(&index) == life.truths[OPERATIONS], "{what}");
    index.verify().unwrap();
    let named = index.manifest.files().len() + 1;
    drop(index);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        named,
        "a file was left behind: {what}"
    );
    true
}

#[test]
fn any_end_at_any_step_leaves_the_old_state_or_the_new() {
    let life = Life::live();
    for number in 0..OPERATIONS {
        for (tears, end) in [
            (false, End::Kill),
            (true, End::Kill),
            (true, End::Power(false)),
            (false, End::Power(true)),
        ] {
            let mut step = 0;
            while ends_at(&life, number, step, tears, end) {
                step += 1;
            }
            assert!(step >= 4, "operation {number} has only {step} steps");
        }
    }
}

#[test]
fn an_end_while_an_index_is_opened_does_no_harm() {
    let life = Life::live();
    for step in 0..100 {
        let dir = life.before(3);
        // What an end in the middle of an append leaves.
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|kind| kind == "users" || kind == "names")
            {
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, [&*bytes, b"half a frame"].concat()).unwrap();
            }
        }
        for stray in ["900.segment", "901.users", "902.p3", "MANIFEST.next"] {
            std::fs::write(dir.path().join(stray), "half").unwrap();
        }
        let crash = Arc::new(Crash::default());
        crash.arm(step, false, false);
        let opened = open(dir.path(), &crash);
        let ended = crash.disarm().is_some();
        assert_eq!(opened.is_err(), ended);
        drop(opened);
        let mut index = open(dir.path(), &crash).unwrap();
        assert!(shown(&index) == life.truths[3]);
        operate(&mut index, 3).unwrap();
        index.verify().unwrap();
        if !ended {
            assert!(step >= 8, "only {step} steps");
            return;
        }
    }
    panic!("opening has no end");
}

/// One failing step in operation `number`, and all goes on after it; false when the operation has fewer steps.
fn refused_at(life: &Life, number: usize, step: usize) -> bool {
    let dir = life.before(number);
    let crash = Arc::new(Crash::default());
    let mut index = open(dir.path(), &crash).unwrap();
    crash.arm(step, step.is_multiple_of(2), true);
    let result = operate(&mut index, number);
    let Some(stopped) = crash.disarm() else {
        return false;
    };
    match result {
        Ok(()) => assert_eq!(stopped, Step::Remove, "only old files may stay"),
        Err(IndexError::Io { .. }) => {
            assert!(shown(&index) == life.truths[number]);
            operate(&mut index, number).unwrap();
        }
        Err(IndexError::Reopen { .. }) => {
            assert!(matches!(
                operate(&mut index, number),
                Err(IndexError::Reopen { .. })
            ));
            drop(index);
            index = open(dir.path(), &crash).unwrap();
            if shown(&index) == life.truths[number] {
                operate(&mut index, number).unwrap();
            }
        }
        Err(other) => panic!("{other}"),
    }
    for after in number + 1..OPERATIONS {
        operate(&mut index, after).unwrap();
    }
    assert!(
        shown(&index) == life.truths[OPERATIONS],
        "operation {number} step {step}"
    );
    index.verify().unwrap();
    drop(index);
    assert!(shown(&open(dir.path(), &crash).unwrap()) == life.truths[OPERATIONS]);
    true
}

#[test]
fn a_disk_that_refuses_once_leaves_the_index_usable_or_asks_to_open_it_again() {
    let life = Life::live();
    for number in 0..OPERATIONS {
        let mut step = 0;
        while refused_at(&life, number, step) {
            step += 1;
        }
        assert!(step >= 4, "operation {number} has only {step} steps");
    }
}
