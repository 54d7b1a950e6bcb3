//! The fan-out: every sink has a queue and a task of its own.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use funnel_engine::live::Snapshot;
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::{task::JoinHandle, time::Instant};
use uuid::Uuid;

use crate::{
    Delivery, Retry, Sink, SinkError, Wanted,
    queue::{Pushed, Queue},
};

/// How one sink is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkSettings {
    /// Windows that may wait for it.
    pub queue: usize,
    /// Windows of one delivery.
    pub batch: usize,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How often it is tried.
    pub retry: Retry,
    /// Whether it is told of windows only once they are final (and of corrections after that).
    pub only_final: bool,
}

impl Default for SinkSettings {
    fn default() -> Self {
        Self {
            queue: 10_000,
            batch: 200,
            timeout: Duration::from_secs(20),
            retry: Retry::default(),
            only_final: false,
        }
    }
}

/// What became of the snapshots for one sink. All but `waiting` only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkCounts {
    /// Arrived.
    pub published: u64,
    /// A newer one of the same window took their place while they waited.
    pub replaced: u64,
    /// Given up after the last attempt, or refused.
    pub failed: u64,
    /// Too many windows were waiting, or the end came first.
    pub dropped: u64,
    /// Attempts that failed and were followed by another; of deliveries, not of snapshots.
    pub retried: u64,
    /// In the queue now, in windows.
    pub waiting: u64,
}

type Outcomes = Family<Vec<(&'static str, String)>, Counter>;

/// Counters of one sink.
#[derive(Clone, Debug)]
struct Meters {
    published: Counter,
    replaced: Counter,
    failed: Counter,
    dropped: Counter,
    retried: Counter,
}

impl Meters {
    fn new(snapshots: &Outcomes, retries: &Outcomes, sink: &str) -> Self {
        let outcome = |outcome: &str| {
            let labels = vec![("sink", sink.to_owned()), ("outcome", outcome.to_owned())];
            snapshots.get_or_create_owned(&labels)
        };
        Self {
            published: outcome("published"),
            replaced: outcome("replaced"),
            failed: outcome("failed"),
            dropped: outcome("dropped"),
            retried: retries.get_or_create_owned(&vec![("sink", sink.to_owned())]),
        }
    }
}

#[derive(Debug)]
struct Served {
    name: String,
    queue: Arc<Queue>,
    meters: Meters,
    only_final: bool,
    wanted: Wanted,
    task: JoinHandle<()>,
}

/// Hands snapshots to every sink and never waits for one.
#[derive(Debug, Default)]
pub struct Publisher {
    sinks: Vec<Served>,
    snapshots: Outcomes,
    retries: Outcomes,
}

impl Publisher {
    /// Without sinks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers `weir_publish_snapshots_total{sink,outcome}` and `weir_publish_retries_total{sink}` with a registry
    /// that has no prefix.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Snapshots of live funnels for a sink, by what became of them";
        registry.register("weir_publish_snapshots", help, self.snapshots.clone());
        let help = "Deliveries to a sink that failed and were tried again";
        registry.register("weir_publish_retries", help, self.retries.clone());
    }

    /// Adds a sink under a name that is fit for a label, and starts its task on the current runtime.
    pub fn add<S: Sink + 'static>(&mut self, name: &str, sink: S, settings: SinkSettings) {
        self.add_for(Wanted::default(), name, sink, settings);
    }

    /// As [`Self::add`]; the sink is told only of what is wanted.
    pub fn add_for<S: Sink + 'static>(
        &mut self,
        wanted: Wanted,
        name: &str,
        sink: S,
        settings: SinkSettings,
    ) {
        let queue = Arc::new(Queue::new(settings.queue));
        let meters = Meters::new(&self.snapshots, &self.retries, name);
        let worker = Worker {
            name: name.to_owned(),
            queue: Arc::clone(&queue),
            meters: meters.clone(),
            settings,
        };
        self.sinks.push(Served {
            name: name.to_owned(),
            queue,
            meters,
            only_final: settings.only_final,
            wanted,
            task: tokio::spawn(worker.run(sink)),
        });
    }

    /// Queues snapshots for every sink; never waits.
    pub fn publish(&self, snapshots: impl IntoIterator<Item = Snapshot>) {
        for snapshot in snapshots {
            let snapshot = Arc::new(snapshot);
            for sink in &self.sinks {
                if (sink.only_final && !snapshot.is_final) || !sink.wanted.has(&snapshot) {
                    continue;
                }
                match sink.queue.push(Arc::clone(&snapshot)) {
                    Pushed::Waits => {}
                    Pushed::Replaced => {
                        sink.meters.replaced.inc();
                    }
                    Pushed::Dropped => {
                        sink.meters.dropped.inc();
                    }
                }
            }
        }
    }

    /// What became of the snapshots, by sink.
    pub fn counts(&self) -> impl Iterator<Item = (&str, SinkCounts)> {
        self.sinks.iter().map(|sink| {
            let counts = SinkCounts {
                published: sink.meters.published.get(),
                replaced: sink.meters.replaced.get(),
                failed: sink.meters.failed.get(),
                dropped: sink.meters.dropped.get(),
                retried: sink.meters.retried.get(),
                waiting: sink.queue.len() as u64,
            };
            (sink.name.as_str(), counts)
        })
    }

    /// Lets the sinks finish what waits, together at most this long; what is left then is dropped and counted.
    pub async fn close(&mut self, grace: Duration) {
        for sink in &self.sinks {
            sink.queue.close();
        }
        let end = Instant::now() + grace;
        for sink in &mut self.sinks {
            if tokio::time::timeout_at(end, &mut sink.task).await.is_err() {
                sink.task.abort();
                sink.meters.dropped.inc_by(sink.queue.len() as u64);
                tracing::warn!(
                    sink = sink.name,
                    left = sink.queue.len(),
                    "sink did not finish in time"
                );
            }
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        for sink in &self.sinks {
            sink.task.abort();
        }
    }
}

/// Serves one sink.
struct Worker {
    name: String,
    queue: Arc<Queue>,
    meters: Meters,
    settings: SinkSettings,
}

/// Counts what it holds as dropped unless it is told otherwise: a worker may be ended at any await.
struct InHand {
    count: u64,
    dropped: Counter,
}

impl InHand {
    fn settle(&mut self, counter: &Counter) {
        counter.inc_by(std::mem::take(&mut self.count));
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.dropped.inc_by(self.count);
    }
}

impl Worker {
    async fn run<S: Sink>(self, mut sink: S) {
        loop {
            let snapshots = self.queue.take(self.settings.batch.max(1)).await;
            if snapshots.is_empty() {
                return;
            }
            let mut in_hand = InHand {
                count: snapshots.len() as u64,
                dropped: self.meters.dropped.clone(),
            };
            let delivery = Delivery {
                id: Uuid::now_v7(),
                attempt: 0,
                unix_s: 0,
                snapshots,
            };
            if self.deliver(&mut sink, delivery).await {
                in_hand.settle(&self.meters.published);
            } else {
                in_hand.settle(&self.meters.failed);
            }
        }
    }

    /// True when it arrived.
    async fn deliver<S: Sink>(&self, sink: &mut S, mut delivery: Delivery) -> bool {
        let retry = self.settings.retry;
        for attempt in 1..=retry.attempts.max(1) {
            delivery.attempt = attempt;
            delivery.unix_s = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs());
            let publishing = tokio::time::timeout(self.settings.timeout, sink.publish(&delivery));
            let error = match publishing.await {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => error,
                Err(elapsed) => SinkError::away(format!("took too long: {elapsed}")),
            };
            let (is_last, wait) = match &error {
                SinkError::Refused { .. } => (true, None),
                SinkError::Away { wait, .. } => (attempt >= retry.attempts, *wait),
            };
            if is_last {
                let (windows, sink) = (delivery.snapshots.len(), &self.name);
                tracing::warn!(sink, %error, attempt, windows, "a delivery is given up");
                return false;
            }
            tracing::debug!(sink = self.name, %error, attempt, "a delivery will be tried again");
            self.meters.retried.inc();
            tokio::time::sleep(retry.wait(delivery.id, attempt, wait)).await;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::names::samples::snapshot;

    /// Fails as often as it is told to, then keeps what it gets.
    struct Fake {
        failures: u32,
        error: SinkError,
        got: Arc<Mutex<Vec<Delivery>>>,
    }

    impl Sink for Fake {
        async fn publish(&mut self, delivery: &Delivery) -> Result<(), SinkError> {
            self.got.lock().unwrap().push(delivery.clone());
            if self.failures > 0 {
                self.failures -= 1;
                return Err(self.error.clone());
            }
            Ok(())
        }
    }

    /// Never answers.
    struct Dead;

    impl Sink for Dead {
        async fn publish(&mut self, _: &Delivery) -> Result<(), SinkError> {
            std::future::pending().await
        }
    }

    fn fake(failures: u32, error: SinkError) -> (Fake, Arc<Mutex<Vec<Delivery>>>) {
        let got = Arc::default();
        let fake = Fake {
            failures,
            error,
            got: Arc::clone(&got),
        };
        (fake, got)
    }

    fn counts(publisher: &Publisher, name: &str) -> SinkCounts {
        publisher
            .counts()
            .find(|(sink, _)| *sink == name)
            .unwrap()
            .1
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_sink_does_not_hold_up_the_others() {
        let mut publisher = Publisher::new();
        let (live, got) = fake(0, SinkError::away("-"));
        let settings = SinkSettings {
            queue: 3,
            ..SinkSettings::default()
        };
        publisher.add("dead", Dead, settings);
        publisher.add("live", live, settings);
        for hour in 0..10 {
            publisher.publish([snapshot("t1", hour, 1, &[1, 1])]);
            tokio::task::yield_now().await;
        }
        publisher.close(Duration::from_secs(5)).await;
        assert_eq!(counts(&publisher, "live").published, 10);
        let seen: usize = got
            .lock()
            .unwrap()
            .iter()
            .map(|one| one.snapshots.len())
            .sum();
        assert_eq!(seen, 10);
        let dead = counts(&publisher, "dead");
        assert_eq!((dead.published, dead.failed), (0, 0));
        tokio::task::yield_now().await;
        assert_eq!(
            counts(&publisher, "dead").dropped,
            10,
            "waiting, in hand and beyond the bound"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_delivery_keeps_its_id_and_is_given_up_in_the_end() {
        for (failures, attempts) in [(2, 3), (99, 8)] {
            let mut publisher = Publisher::new();
            let (sink, got) = fake(failures, SinkError::away("not now"));
            publisher.add("s", sink, SinkSettings::default());
            publisher.publish([snapshot("t1", 0, 1, &[1, 1])]);
            publisher.close(Duration::from_mins(10)).await;
            let got = got.lock().unwrap();
            assert_eq!(got.len(), attempts);
            assert!(got.iter().all(|one| one.id == got[0].id));
            let counts = counts(&publisher, "s");
            assert_eq!(counts.retried, attempts as u64 - 1);
            assert_eq!(
                (counts.published, counts.failed),
                if failures == 2 { (1, 0) } else { (0, 1) }
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_not_tried_again() {
        let mut publisher = Publisher::new();
        let message = "no".to_owned();
        let (sink, got) = fake(1, SinkError::Refused { message });
        publisher.add("s", sink, SinkSettings::default());
        publisher.publish([snapshot("t1", 0, 1, &[1, 1])]);
        publisher.close(Duration::from_mins(10)).await;
        assert_eq!(
            (got.lock().unwrap().len(), counts(&publisher, "s").failed),
            (1, 1)
        );
    }

    #[tokio::test]
    async fn a_sink_is_told_of_nothing_that_is_not_wanted() {
        let mut publisher = Publisher::new();
        let of = |funnel: &str| {
            let tenant = event_store::TenantId::new("t1").unwrap();
            Wanted::within(&event_store::Scope::Tenant(tenant)).funnels(vec![funnel.to_owned()])
        };
        let (mine, got) = fake(0, SinkError::away("-"));
        let (other, got_other) = fake(0, SinkError::away("-"));
        publisher.add_for(of("checkout"), "mine", mine, SinkSettings::default());
        publisher.add_for(of("other"), "other", other, SinkSettings::default());
        publisher.publish(["t1", "t2", ""].map(|tenant| snapshot(tenant, 0, 1, &[1, 1])));
        publisher.close(Duration::from_secs(5)).await;
        let got = got.lock().unwrap();
        let tenants: Vec<&str> = got
            .iter()
            .flat_map(|one| &one.snapshots)
            .map(|one| one.tenant.as_str())
            .collect();
        assert_eq!(tenants, ["t1"]);
        assert!(got_other.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn final_windows_only_and_figures_for_prometheus() {
        let mut publisher = Publisher::new();
        let (sink, got) = fake(0, SinkError::away("-"));
        let settings = SinkSettings {
            only_final: true,
            ..SinkSettings::default()
        };
        publisher.add("bi", sink, settings);
        let mut last = snapshot("t1", 0, 2, &[1, 1]);
        last.is_final = true;
        publisher.publish([snapshot("t1", 0, 1, &[1, 1]), last]);
        publisher.close(Duration::from_secs(5)).await;
        assert_eq!(got.lock().unwrap()[0].snapshots[0].revision, 2);
        let mut registry = Registry::default();
        publisher.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = r#"weir_publish_snapshots_total{sink="bi",outcome="published"} 1"#;
        assert!(text.contains(line), "{text}");
    }
}
