//! One funnel that is kept up to date as events arrive.

use super::{
    History, HistoryError, Judge, LiveCounts, Outcome,
    config::{LiveConfig, LiveError},
    judged::Bench,
    keeper::Keeper,
    plain::Rules,
    snapshot::{Labels, Snapshot, StepSnapshot},
    state::Subject,
    window::Changed,
};
use crate::{
    definition::{Count, FunnelDefinition, Occurrence, Order},
    shape::{Mark, Shape},
};

#[derive(Debug)]
enum Kept {
    Plain(Keeper<Rules>),
    Judged(Keeper<Bench>),
}

/// A registered funnel: takes marks in, gives snapshots of its result windows out.
///
/// The result of a window is the batch funnel over the attempts that start in it. A user who tries in two windows counts
/// in both, once in each; for totals, every entry counts in the window in which it starts.
#[derive(Debug)]
pub struct LiveFunnel {
    name: String,
    labels: Labels,
    config: LiveConfig,
    kept: Kept,
}

/// The same call to whichever machine keeps the funnel.
macro_rules! kept {
    ($self:ident, $keeper:ident => $call:expr) => {
        match $self.kept {
            Kept::Plain(ref $keeper) => $call,
            Kept::Judged(ref $keeper) => $call,
        }
    };
    (mut $self:ident, $keeper:ident => $call:expr) => {
        match $self.kept {
            Kept::Plain(ref mut $keeper) => $call,
            Kept::Judged(ref mut $keeper) => $call,
        }
    };
}

impl LiveFunnel {
    /// A funnel from its definition. `judge` is asked when one number per level does not describe what a subject did:
    /// with exclusions, gaps, optional steps, `strict`, `unordered` and totals. A breakdown and a trend are left out.
    ///
    /// # Errors
    /// Names what cannot be kept live: `clickhouse` order (it has levels but no attempts, so no entry times), an
    /// `occurrence` other than `any` (it needs all history), or a setting.
    pub fn new(
        definition: &FunnelDefinition,
        judge: Box<dyn Judge + Send>,
        config: LiveConfig,
    ) -> Result<Self, LiveError> {
        let shape = Shape::of(definition);
        let occurs = definition
            .steps
            .iter()
            .position(|step| step.occurrence != Occurrence::Any);
        if let Some(index) = occurs {
            return Err(LiveError::new(
                &format!("steps[{index}].occurrence"),
                "a live funnel does not know a user's first event; use `any`, or ask for the funnel in a batch",
            ));
        }
        let names = definition
            .steps
            .iter()
            .map(|step| step.name.clone())
            .collect();
        Self::of_shape(&definition.name, names, shape, judge, config)
    }

    /// A funnel from its rules.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_shape(
        name: &str,
        step_names: Vec<String>,
        shape: Shape,
        judge: Box<dyn Judge + Send>,
        config: LiveConfig,
    ) -> Result<Self, LiveError> {
        if shape.order == Order::Clickhouse {
            return Err(LiveError::new(
                "order",
                "`clickhouse` knows how far a user got but not when the attempt began; use `ordered` or `strict`",
            ));
        }
        config.check(shape.window_ns)?;
        let labels = Labels {
            names: step_names,
            optional: shape.optional,
        };
        let (steps, window_ns, count) = (shape.steps, shape.window_ns, shape.count);
        let kept = if is_plain(&shape) {
            let rules = Rules {
                steps,
                window_ns,
                tumbling: config.tumbling,
            };
            Kept::Plain(Keeper::new(rules, steps, window_ns, count, config))
        } else {
            let bench = Bench::new(shape, config.tumbling, judge);
            Kept::Judged(Keeper::new(bench, steps, window_ns, count, config))
        };
        Ok(Self {
            name: name.to_owned(),
            labels,
            config,
            kept,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is kept.
    pub const fn config(&self) -> &LiveConfig {
        &self.config
    }

    /// Takes in one event of a subject, in whatever order of time. Without `history`, an event that memory does not
    /// reach any more is left out and counted.
    ///
    /// # Errors
    /// When `history` cannot tell; nothing has changed then, and the call may be repeated.
    pub fn apply(
        &mut self,
        subject: &Subject<'_>,
        mark: Mark,
        history: Option<&mut dyn History>,
    ) -> Result<Outcome, HistoryError> {
        let name = &self.name;
        kept!(mut self, keeper => keeper.apply(name, subject, mark, history))
    }

    /// Tells of an event that is nothing to this funnel, but shows how far time has come.
    pub fn observe(&mut self, at_ns: i64) {
        kept!(mut self, keeper => {
            keeper.observe(at_ns);
        });
    }

    /// Tells what time it is; later events are believed only up to `ahead_ns` after it.
    pub fn set_now(&mut self, now_ns: i64) {
        kept!(mut self, keeper => keeper.set_now(now_ns));
    }

    /// Frees subjects whose windows are over; happens by itself when there is no room.
    pub fn sweep(&mut self) {
        kept!(mut self, keeper => keeper.sweep());
    }

    /// Events before this instant are late, nanoseconds since 1970 UTC; `i64::MIN` before the first event.
    pub fn watermark_ns(&self) -> i64 {
        kept!(self, keeper => keeper.watermark_ns())
    }

    /// What was taken in, left out and is held.
    pub fn counts(&self) -> LiveCounts {
        kept!(self, keeper => keeper.counts())
    }

    /// At most `limit` windows that changed or became final since they were last taken, each with a new revision.
    pub fn take_changes(&mut self, limit: usize) -> Vec<Snapshot> {
        let changed = kept!(mut self, keeper => keeper.take_changed(limit));
        let final_before = kept!(self, keeper => keeper.final_before());
        let snapshots = changed.into_iter().map(|(tenant, changed)| {
            let Changed {
                start,
                revision,
                counts,
            } = changed;
            Snapshot {
                funnel: self.name.clone(),
                tenant,
                from_ns: start,
                to_ns: self.config.tumbling.end(start),
                revision,
                is_final: start < final_before,
                steps: self.labels.steps(&counts),
            }
        });
        snapshots.collect()
    }

    /// Has every window that is kept published again, for a sink that lost what it had.
    pub fn touch_all(&mut self) {
        kept!(mut self, keeper => keeper.touch_all());
    }

    /// Has the window of a tenant that holds an instant published, also when nobody enters: it was published before, by
    /// an earlier run that may have seen events which are gone since. False when it cannot be kept.
    pub fn expect(&mut self, tenant: &str, at_ns: i64) -> bool {
        kept!(mut self, keeper => keeper.expect(tenant, at_ns))
    }

    /// The steps of the window of a tenant that holds an instant, as they stand now; `None` when nobody entered.
    pub fn steps_at(&self, tenant: &str, at_ns: i64) -> Option<Vec<StepSnapshot>> {
        let start = self.config.tumbling.start(at_ns);
        let counts = kept!(self, keeper => keeper.window(tenant, start))?;
        Some(self.labels.steps(counts))
    }
}

/// Whether one number per level describes what a subject did.
fn is_plain(shape: &Shape) -> bool {
    shape.order == Order::Ordered
        && shape.count != Count::Totals
        && shape.optional == 0
        && shape.exclusions.is_empty()
        && shape
            .within_ns
            .iter()
            .all(|within| *within >= shape.window_ns)
        && shape
            .not_before_ns
            .iter()
            .all(|not_before| *not_before == 0)
}
