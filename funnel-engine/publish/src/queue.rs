//! What waits for one sink: at most one snapshot per window, and a bound on windows.
//!
//! Of one window only the newest snapshot is of use, so a newer one takes the place of the one that waits; a sink that
//! is slow for a while then has less to do, not more. Beyond the bound the window that waited longest is dropped.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use funnel_engine::live::Snapshot;
use tokio::sync::Notify;

/// Funnel, tenant, beginning and end of the window.
type Key = (String, String, i64, i64);

fn key(snapshot: &Snapshot) -> Key {
    (
        snapshot.funnel.clone(),
        snapshot.tenant.clone(),
        snapshot.from_ns,
        snapshot.to_ns,
    )
}

#[derive(Debug, Default)]
struct Waiting {
    /// In the order in which they began to wait.
    order: VecDeque<Key>,
    newest: HashMap<Key, Arc<Snapshot>>,
    is_closed: bool,
}

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits.
    Waits,
    /// It waits in the place of an older one.
    Replaced,
    /// It waits, and another window was dropped for it; or, after closing, it was dropped itself.
    Dropped,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    bound: usize,
    waiting: Mutex<Waiting>,
    changed: Notify,
}

impl Queue {
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            bound: bound.max(1),
            waiting: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // No code that holds the lock can panic half-way through a change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a snapshot; never waits.
    pub(crate) fn push(&self, snapshot: Arc<Snapshot>) -> Pushed {
        let key = key(&snapshot);
        let mut waiting = self.waiting();
        if waiting.is_closed {
            return Pushed::Dropped;
        }
        let mut pushed = Pushed::Waits;
        if waiting.newest.insert(key.clone(), snapshot).is_some() {
            return Pushed::Replaced;
        }
        waiting.order.push_back(key);
        if waiting.order.len() > self.bound
            && let Some(oldest) = waiting.order.pop_front()
        {
            waiting.newest.remove(&oldest);
            pushed = Pushed::Dropped;
        }
        drop(waiting);
        self.changed.notify_one();
        pushed
    }

    /// The next at most `most` snapshots, as soon as there are any; empty when it was closed and is empty.
    pub(crate) async fn take(&self, most: usize) -> Vec<Arc<Snapshot>> {
        loop {
            let changed = self.changed.notified();
            {
                let mut waiting = self.waiting();
                let some = most.min(waiting.order.len());
                let keys: Vec<Key> = waiting.order.drain(..some).collect();
                let taken: Vec<_> = keys
                    .iter()
                    .filter_map(|key| waiting.newest.remove(key))
                    .collect();
                if !taken.is_empty() || waiting.is_closed {
                    return taken;
                }
            }
            changed.await;
        }
    }

    /// Takes nothing in any more.
    pub(crate) fn close(&self) {
        self.waiting().is_closed = true;
        self.changed.notify_one();
    }

    /// How many windows wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting().order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::samples::snapshot;

    fn push(queue: &Queue, hour: i64, revision: u64) -> Pushed {
        queue.push(Arc::new(snapshot("t1", hour, revision, &[1, 1])))
    }

    #[tokio::test]
    async fn the_newest_of_a_window_is_handed_out_once() {
        let queue = Queue::new(9);
        assert_eq!(push(&queue, 1, 1), Pushed::Waits);
        assert_eq!(push(&queue, 2, 1), Pushed::Waits);
        assert_eq!(push(&queue, 1, 2), Pushed::Replaced);
        let taken = queue.take(1).await;
        assert_eq!((taken.len(), taken[0].revision), (1, 2));
        assert_eq!(queue.take(9).await.len(), 1);
        queue.close();
        assert_eq!(push(&queue, 1, 3), Pushed::Dropped);
        assert!(queue.take(9).await.is_empty());
    }

    #[tokio::test]
    async fn beyond_the_bound_the_one_that_waited_longest_goes() {
        let queue = Queue::new(2);
        assert_eq!(push(&queue, 1, 1), Pushed::Waits);
        assert_eq!(push(&queue, 2, 1), Pushed::Waits);
        assert_eq!(push(&queue, 3, 1), Pushed::Dropped);
        let from: Vec<i64> = queue.take(9).await.iter().map(|one| one.from_ns).collect();
        assert_eq!(
            from,
            [
                snapshot("", 2, 1, &[]).from_ns,
                snapshot("", 3, 1, &[]).from_ns
            ]
        );
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let queue = Arc::new(Queue::new(9));
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.take(9).await.len() }
        });
        tokio::task::yield_now().await;
        push(&queue, 1, 1);
        assert_eq!(waiting.await.unwrap(), 1);
    }
}
