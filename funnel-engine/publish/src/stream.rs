//! A hub for pages that follow: the newest window of each funnel, and every change after it.
//!
//! A follower sees only what its [`Scope`] allows. One that reads too slowly misses changes in between and is given the
//! newest windows again, never a gap it does not know of.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use event_store::Scope;
use funnel_engine::live::Snapshot;
use tokio::sync::broadcast::{Receiver, Sender, channel, error::RecvError};

use crate::{Delivery, Sink, SinkError, Wanted};

/// Bounds of a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubSettings {
    /// Changes that a follower may lag behind.
    pub changes: usize,
    /// Pairs of funnel and tenant whose newest window is kept for whoever comes later; one beyond is only told as it
    /// changes.
    pub newest: usize,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self {
            changes: 1_024,
            newest: 10_000,
        }
    }
}

#[derive(Debug)]
struct Shared {
    /// By funnel and tenant.
    newest: Mutex<HashMap<(String, String), Arc<Snapshot>>>,
    changes: Sender<Arc<Snapshot>>,
    settings: HubSettings,
}

/// See the module. Clones are the same hub; it is a sink, too.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Shared>);

impl Hub {
    /// Empty.
    pub fn new(settings: HubSettings) -> Self {
        let (changes, _) = channel(settings.changes.max(1));
        Self(Arc::new(Shared {
            newest: Mutex::default(),
            changes,
            settings,
        }))
    }

    fn newest(&self) -> MutexGuard<'_, HashMap<(String, String), Arc<Snapshot>>> {
        // No code that holds the lock can panic half-way through a change.
        self.0.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, snapshot: &Arc<Snapshot>) {
        let key = (snapshot.funnel.clone(), snapshot.tenant.clone());
        let mut newest = self.newest();
        let known = newest.get(&key);
        let has_room = known.is_some() || newest.len() < self.0.settings.newest;
        if has_room && known.is_none_or(|known| known.from_ns <= snapshot.from_ns) {
            newest.insert(key, Arc::clone(snapshot));
        }
        // Under the lock, so that a follower that comes now sees it exactly once. Nobody may be listening.
        self.0
            .changes
            .send(Arc::clone(snapshot))
            .unwrap_or_default();
    }

    /// How many follow now.
    pub fn followers(&self) -> usize {
        self.0.changes.receiver_count()
    }

    /// Follows what a scope allows, of one funnel or all: first the newest window of each, then every change.
    pub fn subscribe(&self, scope: &Scope, funnel: Option<&str>) -> Subscription {
        let mut wanted = Wanted::within(scope);
        if let Some(funnel) = funnel {
            wanted = wanted.funnels(vec![funnel.to_owned()]);
        }
        let newest = self.newest();
        let changes = self.0.changes.subscribe();
        let mut pending: Vec<_> = newest
            .values()
            .filter(|one| wanted.has(one))
            .cloned()
            .collect();
        drop(newest);
        pending
            .sort_by(|one, other| (&one.funnel, &one.tenant).cmp(&(&other.funnel, &other.tenant)));
        Subscription {
            hub: self.clone_weak(),
            wanted,
            pending: pending.into(),
            changes,
        }
    }

    fn clone_weak(&self) -> std::sync::Weak<Shared> {
        Arc::downgrade(&self.0)
    }
}

impl Sink for Hub {
    async fn publish(&mut self, delivery: &Delivery) -> Result<(), SinkError> {
        for snapshot in &delivery.snapshots {
            self.take(snapshot);
        }
        Ok(())
    }
}

/// One follower.
#[derive(Debug)]
pub struct Subscription {
    /// Does not keep the hub alive, so that followers end with it.
    hub: std::sync::Weak<Shared>,
    wanted: Wanted,
    pending: VecDeque<Arc<Snapshot>>,
    changes: Receiver<Arc<Snapshot>>,
}

impl Subscription {
    /// The next snapshot; `None` when the hub is gone. May be cancelled at any time.
    pub async fn next(&mut self) -> Option<Arc<Snapshot>> {
        loop {
            if let Some(snapshot) = self.pending.pop_front() {
                return Some(snapshot);
            }
            match self.changes.recv().await {
                Ok(snapshot) if self.wanted.has(&snapshot) => return Some(snapshot),
                Ok(_) => {}
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(_)) => self.start_over()?,
            }
        }
    }

    fn start_over(&mut self) -> Option<()> {
        let hub = Hub(self.hub.upgrade()?);
        let newest = hub.newest();
        self.changes = self.changes.resubscribe();
        let wanted = newest.values().filter(|one| self.wanted.has(one));
        self.pending = wanted.cloned().collect();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use event_store::TenantId;

    use super::*;
    use crate::names::samples::snapshot;

    fn take(hub: &Hub, tenant: &str, hour: i64, revision: u64) {
        hub.take(&Arc::new(snapshot(tenant, hour, revision, &[1, 1])));
    }

    async fn next(subscription: &mut Subscription) -> (String, u64) {
        let snapshot = subscription.next().await.unwrap();
        (snapshot.tenant.clone(), snapshot.revision)
    }

    #[tokio::test]
    async fn a_follower_sees_the_newest_and_then_the_changes_of_its_scope() {
        let hub = Hub::new(HubSettings::default());
        for (tenant, hour, revision) in [("t1", 1, 1), ("t2", 1, 1), ("t1", 2, 5), ("t1", 1, 2)] {
            take(&hub, tenant, hour, revision);
        }
        let scope = Scope::Tenant(TenantId::new("t1").unwrap());
        let mut mine = hub.subscribe(&scope, Some("checkout"));
        let mut other = hub.subscribe(&scope, Some("other"));
        let mut all = hub.subscribe(&Scope::Operator, None);
        take(&hub, "t2", 2, 7);
        take(&hub, "t1", 1, 3);
        assert_eq!(next(&mut mine).await, ("t1".to_owned(), 5));
        assert_eq!(
            next(&mut mine).await,
            ("t1".to_owned(), 3),
            "a correction of an older window"
        );
        assert_eq!(next(&mut all).await, ("t1".to_owned(), 5));
        assert_eq!(next(&mut all).await, ("t2".to_owned(), 1));
        assert_eq!(next(&mut all).await, ("t2".to_owned(), 7));
        assert_eq!(hub.followers(), 3);
        drop(hub);
        assert!(mine.next().await.is_none());
        assert!(other.next().await.is_none());
    }

    #[tokio::test]
    async fn one_that_lags_is_given_the_newest_again() {
        let settings = HubSettings {
            changes: 2,
            newest: 1,
        };
        let hub = Hub::new(settings);
        let mut slow = hub.subscribe(&Scope::Operator, None);
        for revision in 1..=10 {
            take(&hub, "t1", 1, revision);
        }
        take(&hub, "t2", 1, 1);
        assert_eq!(next(&mut slow).await, ("t1".to_owned(), 10));
        take(&hub, "t2", 1, 2);
        assert_eq!(
            next(&mut slow).await,
            ("t2".to_owned(), 2),
            "not kept, but told as it changes"
        );
    }
}
