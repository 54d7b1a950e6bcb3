//! Ordered funnels inside ClickHouse, and who stopped at a step.

mod statement;

use clickhouse::query::Query;
use event_store::{Scope, Store, TenantId};
use serde::Deserialize;

use crate::{
    answer::{FunnelResult, StepResult, TimeToConvert},
    definition::{DefinitionError, FunnelDefinition},
    figures::{Latency, Timing, bins},
    service::{FAILED_SUFFIX, StepService},
};

/// A funnel that ClickHouse could not answer.
#[derive(Debug, thiserror::Error)]
pub enum PushdownError {
    /// The definition has a part that is not pushed down; the reference backend may answer it.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// ClickHouse refused or is away.
    #[error("the store did not answer the funnel: {0}")]
    Store(#[from] clickhouse::error::Error),
}

#[derive(Debug, Deserialize, clickhouse::Row)]
struct Sums {
    counts: Vec<u64>,
    means: Vec<f64>,
    medians: Vec<f64>,
    p90s: Vec<f64>,
    bins: Vec<u64>,
    scanned: u64,
}

#[derive(Debug, Deserialize, clickhouse::Row)]
struct Service {
    means: Vec<f64>,
    p95s: Vec<f64>,
    errors: Vec<u64>,
}

/// A user whose furthest attempt ended at a step.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, clickhouse::Row)]
pub struct DroppedUser {
    /// Whose shop; empty when the events do not say.
    pub tenant_id: String,
    /// Who.
    pub user_id: String,
    /// When the step was reached, nanoseconds since 1970 UTC.
    #[serde(rename = "stopped_at")]
    pub stopped_at_ns: i64,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most this many.
    pub limit: u64,
    /// After this many.
    pub offset: u64,
}

/// Answers a funnel over the store's events of a scope.
///
/// # Errors
/// See [`PushdownError`].
pub async fn run_on_clickhouse(
    store: &Store,
    scope: &Scope,
    definition: &FunnelDefinition,
) -> Result<FunnelResult, PushdownError> {
    let question = Question::new(scope, definition)?;
    let client = store.database();
    let funnel = statement::funnel(question.steps.len(), question.window_ns);
    let sums = question.filter(question.names(client.query(&funnel)));
    let service = statement::service(question.steps.len());
    let service = question.failed_names(question.names(client.query(&service)));
    let (sums, service): (Sums, Service) =
        tokio::try_join!(sums.fetch_one(), question.filter(service).fetch_one())?;
    Ok(result(definition, &sums, &service))
}

/// Users who reached `step` (counted from 1) and no further, the latest first.
///
/// # Errors
/// See [`PushdownError`].
pub async fn dropped_users(
    store: &Store,
    scope: &Scope,
    definition: &FunnelDefinition,
    step: usize,
    page: Page,
) -> Result<Vec<DroppedUser>, PushdownError> {
    let question = Question::new(scope, definition)?;
    let dropped = statement::dropped(question.steps.len(), question.window_ns);
    let query = question.filter(question.names(store.database().query(&dropped)));
    Ok(query
        .bind(step)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all()
        .await?)
}

/// Whether the store can answer a definition.
///
/// # Errors
/// The part that it cannot, by JSON path.
pub fn require_pushdown(definition: &FunnelDefinition) -> Result<(), DefinitionError> {
    definition.require_supported()?;
    step_names(definition).map(drop)
}

/// What all statements of one definition bind.
struct Question<'a> {
    steps: Vec<Vec<&'a str>>,
    window_ns: i64,
    tenant: Option<&'a TenantId>,
    time_range: (i64, i64),
}

impl<'a> Question<'a> {
    fn new(scope: &'a Scope, definition: &'a FunnelDefinition) -> Result<Self, DefinitionError> {
        definition.require_supported()?;
        Ok(Self {
            steps: step_names(definition)?,
            window_ns: definition.window.nanoseconds(),
            tenant: scope.tenant(),
            time_range: time_range(definition),
        })
    }

    fn names(&self, query: Query) -> Query {
        self.steps
            .iter()
            .fold(query, |query, names| query.bind(names))
    }

    fn failed_names(&self, query: Query) -> Query {
        let failed = |names: &Vec<&str>| -> Vec<String> {
            let names = names.iter();
            names.map(|name| format!("{name}{FAILED_SUFFIX}")).collect()
        };
        let steps = self.steps.iter();
        steps.fold(query, |query, names| query.bind(failed(names)))
    }

    fn filter(&self, query: Query) -> Query {
        let (from, to) = self.time_range;
        query
            .bind(self.tenant.is_none())
            .bind(self.tenant.map_or("", TenantId::as_str))
            .bind(from)
            .bind(to)
    }
}

/// The event names of each step; steps must not share any, because then one event could fill two.
fn step_names(definition: &FunnelDefinition) -> Result<Vec<Vec<&str>>, DefinitionError> {
    let refused = |path: String, what: &str| DefinitionError {
        path,
        message: format!("{what} is not pushed down to ClickHouse; use the reference backend"),
    };
    if !definition.conditions.is_empty() {
        return Err(refused("where".to_owned(), "a global condition"));
    }
    let mut steps: Vec<Vec<&str>> = Vec::new();
    for (index, step) in definition.steps.iter().enumerate() {
        if !step.conditions.is_empty() || step.within.is_some() || step.not_before.is_some() {
            return Err(refused(
                format!("steps[{index}]"),
                "a condition or gap limit of a step",
            ));
        }
        let names = step
            .event
            .names()
            .ok_or_else(|| refused(format!("steps[{index}].event"), "any event"))?;
        if names
            .iter()
            .any(|name| steps.iter().flatten().any(|earlier| earlier == name))
        {
            return Err(refused(
                format!("steps[{index}].event"),
                "an event that an earlier step has too",
            ));
        }
        steps.push(names);
    }
    Ok(steps)
}

fn time_range(definition: &FunnelDefinition) -> (i64, i64) {
    // The store's times lie between 1970 and 2262; a range may be wider.
    let nanoseconds = |at: &jiff::Timestamp| {
        i64::try_from(at.as_nanosecond().clamp(0, i64::MAX.into())).unwrap_or(i64::MAX)
    };
    definition
        .time_range
        .as_ref()
        .map_or((0, i64::MAX), |range| {
            (nanoseconds(&range.from), nanoseconds(&range.to))
        })
}

fn result(definition: &FunnelDefinition, sums: &Sums, service: &Service) -> FunnelResult {
    let timing = |index: usize| -> Option<Timing> {
        let (mean, median, p90) = (
            sums.means.get(index)?,
            sums.medians.get(index)?,
            sums.p90s.get(index)?,
        );
        mean.is_finite().then_some(Timing {
            mean: *mean,
            median: *median,
            p90: *p90,
        })
    };
    let names: Vec<String> = definition
        .steps
        .iter()
        .map(|step| step.name.clone())
        .collect();
    let mut result = FunnelResult::from_attempts(&names, &[], sums.scanned, "clickhouse");
    result.set_counts(&sums.counts);
    let later = result.steps.iter_mut().enumerate().skip(1);
    later.for_each(|(index, step): (usize, &mut StepResult)| {
        step.time_from_previous_s = timing(index);
    });
    // The first slot of the timing columns holds the whole way.
    result.time_to_convert_s = timing(0).map(|timing| TimeToConvert {
        median: timing.median,
        p90: timing.p90,
        histogram: bins(&sums.bins),
    });
    let figures = service.means.iter().zip(&service.p95s).zip(&service.errors);
    let figures = figures.map(|((mean, p95), errors)| StepService {
        latency_ms: mean.is_finite().then_some(Latency {
            mean: *mean,
            p95: *p95,
        }),
        errors: *errors,
    });
    result.set_service(&figures.collect::<Vec<_>>());
    result
}
