//! The columnar index beside the server: who fills it, when its segments are joined, and its figures on `/metrics`.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use event_store::Store;
use funnel_engine::{
    IndexAtHand, SharedIndex, StoreIndex,
    index::IndexError,
    tail::{Tail, TailFigures},
};
use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

/// How often it is looked whether the index has caught up with the store for the first time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often all segments of a partition are joined. A question goes through one segment fastest, and joining drops the
/// columns beside those that were joined.
const JOIN_EVERY: Duration = Duration::from_hours(24);

/// An index of the store that is not followed yet.
#[derive(Debug)]
pub struct Index {
    tail: Tail<SharedIndex>,
    at_hand: Arc<IndexAtHand>,
}

impl Index {
    /// Opens the index of a folder, which is made if need be. One that cannot be trusted is built anew.
    ///
    /// # Errors
    /// Another process has it, or the folder cannot be used.
    pub fn open(store: &Store, folder: &Path) -> Result<Self, IndexError> {
        let (index, rebuilt) = StoreIndex::open(folder)?;
        if let Some(reason) = rebuilt {
            tracing::warn!(reason, "the index is built anew from the store");
        }
        let tail = Tail::new(store.clone(), SharedIndex::new(index), now_ns);
        let at_hand = Arc::new(IndexAtHand::of(&tail, store.clone(), now_ns));
        Ok(Self { tail, at_hand })
    }

    /// Follows the store on a thread of its own, because writing files blocks, until `ending` becomes true.
    pub(crate) fn start(
        self,
        registry: &mut Registry,
        mut ending: watch::Receiver<bool>,
    ) -> (Arc<IndexAtHand>, JoinHandle<()>) {
        let Self { mut tail, at_hand } = self;
        registry.register_collector(Box::new(Figures(Arc::clone(&at_hand))));
        let (runtime, index) = (Handle::current(), Arc::clone(&at_hand));
        let follow = async move {
            let (shared, watched) = (tail.index().clone(), ending.clone());
            let ended = async move {
                // Without a sender the server is gone.
                drop(ending.wait_for(|ending| *ending).await);
            };
            tokio::select! {
                followed = tail.follow(ended) => {
                    if let Err(error) = followed {
                        tracing::warn!(%error, "what was read last is read again by the next start");
                    }
                }
                () = join(&index, &shared, &watched) => {}
            }
        };
        let following = tokio::task::spawn_blocking(move || runtime.block_on(follow));
        (at_hand, following)
    }
}

/// Joins segments, first when the index has caught up, then once a day, until the server ends.
async fn join(at_hand: &IndexAtHand, index: &SharedIndex, ending: &watch::Receiver<bool>) {
    while !at_hand.is_level() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    while !*ending.borrow() {
        if let Err(error) = index.lock().compact() {
            tracing::warn!(%error, "segments of the index were not joined");
        }
        tokio::time::sleep(JOIN_EVERY).await;
    }
    // Whoever follows the store has the last word.
    std::future::pending::<()>().await;
}

fn now_ns() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Figures of the index, read when they are asked for.
struct Figures(Arc<IndexAtHand>);

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, value) in counters(&self.0.figures()) {
            let counter = ConstCounter::new(value);
            let name = format!("weir_index_{name}");
            let metric = encoder.encode_descriptor(&name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        for (name, help, value) in gauges(&self.0) {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let name = format!("weir_index_{name}");
            let metric = encoder.encode_descriptor(&name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

type Figure = (&'static str, &'static str, u64);

/// What the tail has done: rows seen are rows passed on and rows refused.
const fn counters(tail: &TailFigures) -> [Figure; 9] {
    [
        (
            "rows_seen",
            "Rows read from the store, those read again included",
            tail.seen,
        ),
        ("rows_passed", "Rows passed on to the index", tail.passed),
        ("rows_not_text", "Rows refused: not UTF-8", tail.not_text),
        (
            "rows_too_long",
            "Rows refused: a text is too long",
            tail.too_long,
        ),
        (
            "rows_before_1970",
            "Rows refused: before 1970",
            tail.before_1970,
        ),
        (
            "rows_of_the_future",
            "Rows passed on that lie more than a day ahead",
            tail.future,
        ),
        (
            "rows_handed_over",
            "Rows that the files of the index have taken",
            tail.handed_over,
        ),
        (
            "partitions_rebuilt",
            "Partitions read anew: the store had changed",
            tail.rebuilt,
        ),
        (
            "polls_failed",
            "Looks at the store that failed",
            tail.failures,
        ),
    ]
}

fn gauges(index: &IndexAtHand) -> [Figure; 7] {
    let (tail, files) = (index.figures(), index.stats());
    let level_at_s = u64::try_from(tail.level_at_ns / 1_000_000_000).unwrap_or(0);
    [
        (
            "lag_rows",
            "Rows of the store that are not read yet",
            tail.lag_rows,
        ),
        (
            "level_at_seconds",
            "Unix time at which nothing was left to read last",
            level_at_s,
        ),
        (
            "hot_rows",
            "Rows that are in no file yet",
            index.hot_rows() as u64,
        ),
        ("events", "Events in files", files.events),
        ("segments", "Files of events", files.segments),
        ("bytes", "Bytes of all files", files.bytes()),
        (
            "refused_shops",
            "Shops that are not indexed: a bound was passed",
            files.refused,
        ),
    ]
}
