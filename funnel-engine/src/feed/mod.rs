//! Feeds live funnels from the store: every event once, from the first result window that is kept on.
//!
//! Owns: which events are read and in what pieces, the cursor, and when to begin anew. Everything is in memory: a new
//! process begins some result windows back and reads from there. Rows that change behind the cursor (a mutation, an
//! erasure, a partition that is gone) cannot be taken back one by one, so the feed says that it is stale, and whoever
//! drives it begins anew, with revisions higher than all before.
//!
//! Nothing is handed out before all that was there at the beginning is taken in: a result over a part of the events
//! would look like a loss.
//!
//! Refuses: sockets, and clocks other than the one passed in. It reads all tenants; whoever shows a result keeps to the
//! tenant in it. See docs/adr/0017-live-funnels.md.

mod compiled;
mod events;
mod figures;
mod past;
mod registered;

use std::{fmt, sync::Arc};

pub use compiled::Compiled;
use event_store::{PartitionHead, Slice, Store};
pub use figures::{FeedFigures, FunnelFigures};
pub use registered::Refused;
use tokio::runtime::Handle;

use self::{
    events::{Lies, event, lies},
    figures::sum,
    past::{Archive, ByUser, Past},
    registered::{Registered, register},
};
use crate::{
    definition::FunnelDefinition,
    event::Event,
    live::{HistoryError, LiveConfig, LiveError, LiveSet, Snapshot},
    tail::{Cursor, Follow, READ_WITHIN, SliceRows, TailError, within},
};

/// Rows of a slice, which is in memory as a whole while it is applied.
const SLICE_ROWS: SliceRows = SliceRows {
    least: 200_000,
    most: 400_000,
};

/// After so many rows a poll ends, so that its caller can look up.
const POLL_ROWS: u64 = 1_000_000;

/// How funnels are fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedSettings {
    /// How each funnel is kept. `begins_at_ns` and `first_revision` are set whenever the feed begins.
    pub live: LiveConfig,
    /// So many result windows before the current one are kept, too.
    pub windows_back: u32,
}

/// A result window that an earlier run has published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Name of the funnel.
    pub funnel: String,
    /// Whose shop; empty for none.
    pub tenant: String,
    /// Where it begins, nanoseconds since 1970 UTC.
    pub from_ns: i64,
}

/// What one poll came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled {
    /// All that the store had is taken in.
    Level,
    /// There is more to take in.
    More,
    /// Merges that began before rows kept their places have to end first.
    Waits,
    /// What was taken in is not what the store has, for this reason: begin anew.
    Stale(String),
}

/// From one beginning to the next.
#[derive(Debug)]
struct Run {
    follow: Follow,
    begins_at_ns: i64,
    is_level: bool,
    set: LiveSet,
}

/// See the module.
pub struct Feed {
    store: Store,
    settings: FeedSettings,
    funnels: Arc<[Registered]>,
    properties: Arc<[String]>,
    now_ns: Box<dyn Fn() -> i64 + Send + Sync>,
    run: Option<Run>,
    figures: FeedFigures,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("funnels", &self.funnels.len())
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

impl Feed {
    /// A feed of those definitions that can be kept live, and why the others cannot. `now_ns` tells the time,
    /// nanoseconds since 1970 UTC. Nothing is read before [`Self::begin`].
    pub fn new(
        store: Store,
        definitions: impl IntoIterator<Item = FunnelDefinition>,
        settings: FeedSettings,
        now_ns: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> (Self, Vec<Refused>) {
        let mut funnels = Vec::new();
        let mut properties = Vec::new();
        let mut refused = Vec::new();
        let mut trial = LiveSet::new();
        for definition in definitions {
            let funnel = Registered::new(definition);
            let registered = funnel
                .check(&properties)
                .and_then(|more| register(&mut trial, &funnel, settings.live).map(|()| more));
            match registered {
                Ok(more) => {
                    properties.extend(more);
                    funnels.push(funnel);
                }
                Err(error) => refused.push(Refused {
                    funnel: funnel.definition.name.clone(),
                    error,
                }),
            }
        }
        let feed = Self {
            store,
            settings,
            funnels: funnels.into(),
            properties: properties.into(),
            now_ns: Box::new(now_ns),
            run: None,
            figures: FeedFigures::default(),
        };
        (feed, refused)
    }

    /// How many funnels are fed.
    pub fn len(&self) -> usize {
        self.funnels.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.funnels.is_empty()
    }

    /// The first instant that matters if the feed begins now, nanoseconds since 1970 UTC.
    pub fn begins_at_ns(&self) -> i64 {
        let tumbling = self.settings.live.tumbling;
        let back = i64::from(self.settings.windows_back).saturating_mul(tumbling.width_ns());
        let begins_at_ns = tumbling.start((self.now_ns)().saturating_sub(back));
        begins_at_ns.max(0)
    }

    /// Forgets all and begins, at `begins_at_ns`. `first_revision` must be higher than all revisions published before;
    /// windows that were published are published again, also if nobody is found in them any more.
    ///
    /// # Errors
    /// None that `new` has not found already.
    pub fn begin(
        &mut self,
        begins_at_ns: i64,
        first_revision: u64,
        published: &[Published],
    ) -> Result<(), LiveError> {
        let config = LiveConfig {
            begins_at_ns,
            first_revision,
            ..self.settings.live
        };
        let mut set = LiveSet::new();
        for funnel in self.funnels.iter() {
            register(&mut set, funnel, config)?;
        }
        for window in published {
            // One of a funnel that is not kept any more, or of before the beginning, stays as it is.
            let is_kept = set.expect(&window.funnel, &window.tenant, window.from_ns);
            tracing::trace!(?window, is_kept, "published before");
        }
        self.run = Some(Run {
            follow: Follow::new(self.store.clone(), Cursor::default(), SLICE_ROWS),
            begins_at_ns,
            is_level: false,
            set,
        });
        self.figures.begun += 1;
        Ok(())
    }

    /// Takes in what is new, some million rows at most. After a poll that was dropped the next one says that it is
    /// stale.
    ///
    /// # Errors
    /// When the store is away, or its table cannot be tailed; the next poll goes on where this one stopped.
    pub async fn poll_once(&mut self) -> Result<Polled, TailError> {
        let now_ns = (self.now_ns)();
        let Some(mut run) = self.run.take() else {
            return Ok(Polled::Stale("the feed has not begun".to_owned()));
        };
        let polled = self.poll(&mut run, now_ns).await;
        // A stale run is of no use any more; neither is one that was dropped while events were applied.
        if !matches!(polled, Ok(Polled::Stale(_))) {
            self.run = Some(run);
        }
        polled
    }

    async fn poll(&mut self, run: &mut Run, now_ns: i64) -> Result<Polled, TailError> {
        run.set.set_now(now_ns);
        let table = run.follow.table().await?;
        if let Some(stale) = run.follow.of_another(&table).pop() {
            return Ok(Polled::Stale(stale.why.to_owned()));
        }
        if run.follow.accept(table) > 0 {
            return Ok(Polled::Waits);
        }
        let mut heads = run.follow.heads().await?;
        heads.retain(|head| lies(&head.partition, run.begins_at_ns) != Lies::Before);
        if let Some(stale) = run.follow.stale(&heads).pop() {
            return Ok(Polled::Stale(format!("{}: {}", stale.partition, stale.why)));
        }
        self.figures.lag_rows = run.follow.unread(&heads);
        let mut rows = 0;
        for head in &heads {
            for slice in run.follow.plan(head).await? {
                if let Err(error) = self.read(run, &slice, head, now_ns).await? {
                    return Ok(Polled::Stale(error.to_string()));
                }
                let unread = run.follow.unread(&heads);
                rows += self.figures.lag_rows.saturating_sub(unread);
                self.figures.lag_rows = unread;
                if rows >= POLL_ROWS && unread > 0 {
                    return Ok(Polled::More);
                }
            }
            if let Some(stale) = run.follow.check(head).await? {
                return Ok(Polled::Stale(format!("{}: {}", stale.partition, stale.why)));
            }
        }
        run.is_level = true;
        Ok(Polled::Level)
    }

    /// Reads a slice whole, then applies it.
    async fn read(
        &mut self,
        run: &mut Run,
        slice: &Slice,
        head: &PartitionHead,
        now_ns: i64,
    ) -> Result<Result<(), HistoryError>, TailError> {
        let properties: Vec<&str> = self.properties.iter().map(String::as_str).collect();
        let mut events = Vec::new();
        let mut sink = |row: event_store::TailEvent<'_>| events.push(event(&row, &self.properties));
        let reading = self
            .store
            .tail_events(slice, run.begins_at_ns, &properties, &mut sink);
        let read = within(READ_WITHIN, reading).await?;
        // What was left out on the way counts, too: the cursor has to say what the store has.
        let rows = if lies(&slice.partition, run.begins_at_ns) == Lies::Across {
            within(READ_WITHIN, self.store.tail_count(slice)).await?
        } else {
            read.rows
        };
        self.figures.read = sum(self.figures.read, read);
        // In order of time as far as it goes: most subjects then get their events in order, which costs least.
        events.sort_by_key(|event| event.at_ns);
        let archive = Archive {
            store: self.store.clone(),
            runtime: Handle::current(),
            funnels: Arc::clone(&self.funnels),
            properties: Arc::clone(&self.properties),
            slices: run.follow.cursor().slices(),
            until_ns: now_ns.saturating_add(self.settings.live.ahead_ns.saturating_add(1)),
        };
        let set = std::mem::take(&mut run.set);
        let applying = tokio::task::spawn_blocking(move || apply(set, &events, &archive));
        let (set, applied) = match applying.await {
            Ok(applied) => applied,
            Err(ended) => return Ok(Err(HistoryError(ended.to_string()))),
        };
        run.set = set;
        run.follow.advance(slice, rows, head);
        Ok(applied)
    }

    /// At most `limit` windows that changed or became final since they were last taken; none before all that was there
    /// at the beginning is taken in.
    pub fn take_changes(&mut self, limit: usize) -> Vec<Snapshot> {
        self.level_set()
            .map_or_else(Vec::new, |set| set.take_changes(limit))
    }

    /// Has every window that is kept published again, for a sink that lost some.
    pub fn touch_all(&mut self) {
        if let Some(set) = self.level_set() {
            set.touch_all();
        }
    }

    fn level_set(&mut self) -> Option<&mut LiveSet> {
        let run = self.run.as_mut().filter(|run| run.is_level)?;
        Some(&mut run.set)
    }

    /// What was done.
    pub fn figures(&self) -> FeedFigures {
        let funnels = self.run.iter().flat_map(|run| run.set.funnels());
        FeedFigures {
            is_level: self.run.as_ref().is_some_and(|run| run.is_level),
            funnels: funnels.map(FunnelFigures::of).collect(),
            ..self.figures.clone()
        }
    }
}

/// Applies events; blocks when some have to be looked up.
fn apply(
    mut set: LiveSet,
    events: &[Event],
    archive: &Archive,
) -> (LiveSet, Result<(), HistoryError>) {
    let mut by_user = ByUser::default();
    for (index, event) in events.iter().enumerate() {
        let mut past = Past {
            archive,
            applied: events.get(..index).unwrap_or_default(),
            by_user: &mut by_user,
        };
        if let Err(error) = set.apply(event, Some(&mut past)) {
            return (set, Err(error));
        }
    }
    (set, Ok(()))
}
