//! Tests of the whole index, against plain lists of rows.

mod bounds;
mod columns;
mod compaction;
mod crash;
mod damage;
mod disk;
mod round_trip;

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use super::{
    Batch, Index, Row, Runs, Snapshot, Source,
    files::{Fault, Files, Step},
};

/// A disk without syncs, for tests of many small changes.
struct Unsynced;

impl Fault for Unsynced {
    fn before(&self, _: Step, _: &Path, bytes: usize) -> io::Result<usize> {
        Ok(bytes)
    }
}

fn open_unsynced(dir: &Path) -> Index {
    Index::open_files(Files::new(dir, Some(Arc::new(Unsynced)))).unwrap()
}

/// A row that owns its texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fact {
    tenant: String,
    user: String,
    at_ns: i64,
    name: String,
}

fn fact(tenant: &str, user: &str, at_ns: i64, name: &str) -> Fact {
    Fact {
        tenant: tenant.to_owned(),
        user: user.to_owned(),
        at_ns,
        name: name.to_owned(),
    }
}

fn blocks(partition: &str, first_block: u64, last_block: u64) -> Source {
    Source {
        partition: partition.to_owned(),
        first_day: i32::MIN,
        last_day: i32::MAX,
        first_block,
        last_block,
    }
}

fn batch(source: Source, facts: &[Fact]) -> Batch<'_> {
    let rows = facts.iter().map(|fact| Row {
        tenant: &fact.tenant,
        user: &fact.user,
        at_ns: fact.at_ns,
        name: &fact.name,
    });
    Batch {
        source,
        rows: Box::new(rows),
    }
}

/// Facts of every tenant, sorted.
fn sorted(facts: &[Fact]) -> Vec<Fact> {
    let mut facts = facts.to_vec();
    facts.sort();
    facts
}

/// Everything that a snapshot shows, sorted.
fn facts_of(snapshot: &Snapshot) -> Vec<Fact> {
    let mut facts = Vec::new();
    for tenant in &snapshot.tenants {
        for segment in &tenant.segments {
            let mut runs = Runs::new(segment);
            while runs.advance().unwrap() {
                let run = runs.run().unwrap();
                let user = tenant.users.id(run.user).unwrap();
                for event in run.events.clone() {
                    let name = tenant.names.text(run.codes.get(event)).unwrap();
                    facts.push(fact(&tenant.name, user, run.times.get(event), name));
                }
            }
        }
    }
    facts.sort();
    facts
}

fn all(index: &Index) -> Vec<Fact> {
    facts_of(&index.snapshot(None).unwrap())
}

/// What the sources of a tenant's segments say, by cell of block and day; panics where two overlap.
fn cells(
    snapshot: &Snapshot,
    tenant: &str,
    days: std::ops::Range<i32>,
) -> BTreeMap<(String, u64, i32), u64> {
    let mut cells = BTreeMap::new();
    for held in snapshot.tenants.iter().filter(|held| held.name == tenant) {
        for segment in &held.segments {
            for source in &segment.meta().sources {
                for block in source.first_block..=source.last_block {
                    let days = days.clone();
                    for day in days.filter(|day| (source.first_day..=source.last_day).contains(day))
                    {
                        let cell = (source.partition.clone(), block, day);
                        assert_eq!(cells.insert(cell, segment.id()), None, "sources overlap");
                    }
                }
            }
        }
    }
    cells
}

/// A small generator, so that large inputs need no dependency and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
