//! The task of live funnels: takes events in, publishes what changed, begins anew when the store changed behind it.

use std::{sync::Arc, time::Duration};

use event_store::Store;
use funnel_engine::{
    feed::{Feed, Polled},
    live::LiveError,
    tail::TailError,
};
use funnel_publish::{Publisher, SinkError, next_revision, published_windows};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::meters::Meters;

/// Name of the store among the sinks.
pub(super) const STORE: &str = "clickhouse";
/// Name of Redis among the sinks.
pub(super) const REDIS: &str = "redis";

const POLL_EVERY: Duration = Duration::from_millis(500);
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// Longest wait while the store is away.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// Windows that may wait for the store; its queue has room for more.
const WAITING_MAX: usize = 5_000;
/// How long the sinks may take to finish what waits.
const DRAIN: Duration = Duration::from_secs(5);
/// After a loss, everything is sent again no more often than this.
const RESEND_EVERY: Duration = Duration::from_mins(1);

/// Nanoseconds since 1970 UTC.
pub(super) fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Live funnels cannot go on for now.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Feed(#[from] TailError),
    #[error("what was published before is not known: {0}")]
    Published(#[from] SinkError),
    #[error(transparent)]
    Funnel(#[from] LiveError),
}

/// What is known of a sink that keeps a copy of every window.
#[derive(Debug, Default)]
struct Copy {
    name: &'static str,
    /// Snapshots that it did not get, at the last look.
    lost: u64,
    /// Whether any of them may still be missing, and how much had arrived by then.
    missing_since: Option<u64>,
}

/// See the module.
pub(super) struct Driver {
    feed: Feed,
    store: Store,
    width_ns: i64,
    publisher: Publisher,
    meters: Arc<Meters>,
    has_begun: bool,
    published: Instant,
    copies: [Copy; 2],
    resent: Instant,
}

impl Driver {
    pub(super) fn new(
        feed: Feed,
        store: Store,
        width_ns: i64,
        publisher: Publisher,
        meters: Arc<Meters>,
    ) -> Self {
        Self {
            feed,
            store,
            width_ns,
            publisher,
            meters,
            has_begun: false,
            published: Instant::now(),
            copies: [STORE, REDIS].map(|name| Copy {
                name,
                ..Copy::default()
            }),
            resent: Instant::now(),
        }
    }

    /// Runs until `ending` becomes true.
    pub(super) async fn run(mut self, mut ending: watch::Receiver<bool>) {
        let mut failures = 0_u32;
        while !*ending.borrow() {
            let turned = tokio::select! {
                turned = self.turn() => turned,
                _ = ending.wait_for(|ending| *ending) => break,
            };
            let wait = match turned {
                Ok(wait) => {
                    failures = 0;
                    wait
                }
                Err(error) => {
                    self.meters.failed();
                    let factor = 2_u32.saturating_pow(failures.min(16));
                    let wait = POLL_EVERY.saturating_mul(factor).min(BACK_OFF_MAX);
                    failures += 1;
                    tracing::warn!(%error, again_in_s = wait.as_secs_f64(), "live funnels are not being fed");
                    wait
                }
            };
            self.meters.set(self.feed.figures());
            tokio::select! {
                () = sleep(wait) => {}
                _ = ending.wait_for(|ending| *ending) => break,
            }
        }
        self.publish();
        self.publisher.close(DRAIN).await;
    }

    /// Takes in what is new; how long to wait for more.
    async fn turn(&mut self) -> Result<Duration, Trouble> {
        let polled = self.feed.poll_once().await?;
        if self.published.elapsed() >= PUBLISH_EVERY {
            self.publish();
        }
        match polled {
            Polled::Level | Polled::Waits => Ok(POLL_EVERY),
            Polled::More => Ok(Duration::ZERO),
            Polled::Stale(why) => {
                if self.has_begun {
                    tracing::warn!(why, "live funnels begin anew");
                }
                self.begin().await?;
                Ok(Duration::ZERO)
            }
        }
    }

    async fn begin(&mut self) -> Result<(), Trouble> {
        // Receivers may have been told of windows that did not reach the store before the end; the clock is ahead of
        // all revisions of the past, because no window changes a thousand times a second.
        let now_ms = u64::try_from(now_ns() / 1_000_000).unwrap_or(0);
        let first_revision = next_revision(&self.store).await?.max(now_ms);
        let begins_at_ns = self.feed.begins_at_ns();
        let published = published_windows(&self.store, begins_at_ns, self.width_ns).await?;
        self.feed.begin(begins_at_ns, first_revision, &published)?;
        self.has_begun = true;
        Ok(())
    }

    fn publish(&mut self) {
        self.published = Instant::now();
        self.resend_what_was_lost();
        // What the store cannot take yet stays in the feed, where a later change takes its place.
        let waiting = self.publisher.counts().find(|(name, _)| *name == STORE);
        let waiting = waiting.map_or(0, |(_, counts)| counts.waiting);
        let room = WAITING_MAX.saturating_sub(usize::try_from(waiting).unwrap_or(usize::MAX));
        self.publisher.publish(self.feed.take_changes(room));
    }

    /// A sink that keeps copies and is back after a loss gets everything again: of what it missed, nothing may ever
    /// change any more.
    fn resend_what_was_lost(&mut self) {
        let mut is_back = false;
        for copy in &mut self.copies {
            let counts = self.publisher.counts().find(|(name, _)| *name == copy.name);
            let Some((_, counts)) = counts else { continue };
            let lost = counts.failed + counts.dropped;
            if lost > copy.lost {
                copy.lost = lost;
                copy.missing_since = Some(counts.published);
            }
            is_back |= copy
                .missing_since
                .is_some_and(|published| counts.published > published);
        }
        if is_back && self.resent.elapsed() >= RESEND_EVERY {
            tracing::info!("a sink is back after a loss: all windows are published again");
            self.resent = Instant::now();
            self.copies
                .iter_mut()
                .for_each(|copy| copy.missing_since = None);
            self.feed.touch_all();
        }
    }
}
