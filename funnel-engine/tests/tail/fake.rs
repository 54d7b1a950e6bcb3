//! An index that keeps everything in memory, a clock, and bags of events to compare.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use event_store::Store;
use funnel_engine::tail::{Cursor, EventBatch, HotBatch, HotTail, IndexFailure, IndexWriter, Tail};

use crate::NOVEMBER;

/// A small generator with a fixed sequence; the numbers need no quality, only variety.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    pub(crate) fn below_i64(&mut self, limit: u64) -> i64 {
        i64::try_from(self.below(limit)).unwrap()
    }
}

/// Tenant, user, time, name.
type Key = (String, String, i64, String);

/// A multiset of events.
pub(crate) type Bag = BTreeMap<Key, u64>;

pub(crate) fn add(bag: &mut Bag, events: &EventBatch) {
    for row in events.rows() {
        let key = (
            row.tenant.to_owned(),
            row.user.to_owned(),
            row.at_ns,
            row.event.to_owned(),
        );
        *bag.entry(key).or_default() += 1;
    }
}

/// What an index keeps on disk: it outlives the tail.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Kept>>);

#[derive(Clone, Default)]
struct Kept {
    cursor: Cursor,
    batches: Vec<Arc<HotBatch>>,
    /// So many of the next writes fail.
    failing: u64,
}

impl IndexWriter for Disk {
    fn cursor(&self) -> Cursor {
        let text = serde_json::to_string(&self.0.lock().unwrap().cursor).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn append(&mut self, batches: &[Arc<HotBatch>], cursor: &Cursor) -> Result<(), IndexFailure> {
        let mut kept = self.0.lock().unwrap();
        if kept.failing > 0 {
            kept.failing -= 1;
            return Err("the disk is full".into());
        }
        for batch in batches {
            assert!(
                cursor.covers(&batch.slice),
                "{cursor:?} does not cover {batch:?}"
            );
            assert!(
                !kept.cursor.covers(&batch.slice),
                "{:?} a second time",
                batch.slice
            );
        }
        kept.batches.extend_from_slice(batches);
        kept.cursor = cursor.clone();
        Ok(())
    }

    fn forget(&mut self, partition: &str) -> Result<(), IndexFailure> {
        let mut kept = self.0.lock().unwrap();
        kept.cursor.partitions.remove(partition);
        kept.batches
            .retain(|batch| batch.slice.partition != partition);
        Ok(())
    }
}

impl Disk {
    /// Lets so many more of the next writes fail; none for 0.
    pub(crate) fn fail(&self, writes: u64) {
        let mut kept = self.0.lock().unwrap();
        kept.failing = if writes == 0 {
            0
        } else {
            kept.failing + writes
        };
    }

    fn kept(&self) -> Kept {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn bag(&self) -> Bag {
        let mut bag = Bag::new();
        for batch in &self.kept().batches {
            add(&mut bag, &batch.events);
        }
        bag
    }

    /// What a query sees: the hot tail first, then the index, and nothing twice.
    pub(crate) fn seen(&self, hot: &HotTail) -> Bag {
        let hot = hot.batches();
        let kept = self.kept();
        let mut bag = Bag::new();
        for batch in &kept.batches {
            add(&mut bag, &batch.events);
        }
        for batch in hot.iter().filter(|batch| !kept.cursor.covers(&batch.slice)) {
            add(&mut bag, &batch.events);
        }
        bag
    }
}

/// A clock that the test moves.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<AtomicU64>);

impl Clock {
    pub(crate) fn tail(&self, store: &Store, disk: &Disk) -> Tail<Disk> {
        let clock = Arc::clone(&self.0);
        Tail::new(store.clone(), disk.clone(), move || {
            NOVEMBER + i64::try_from(clock.load(Relaxed)).unwrap()
        })
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1_000_000_000, Relaxed);
    }
}

/// Bags are too large to print.
pub(crate) fn assert_same(found: &Bag, wanted: &Bag, what: &str) {
    let total = |bag: &Bag| bag.values().sum::<u64>();
    let first = wanted
        .iter()
        .find(|(key, count)| found.get(*key) != Some(*count));
    let extra = found.iter().find(|(key, _)| !wanted.contains_key(*key));
    assert!(
        found == wanted,
        "{what}: {} events instead of {}; wanted {first:?}, not wanted {extra:?}",
        total(found),
        total(wanted)
    );
}
