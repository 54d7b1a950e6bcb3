//! Funnels inside ClickHouse: what is asked there, and what the answer means.
//!
//! Owns: the statements, from rows of the store to figures, and the lists of who is behind a bar. Refuses, by JSON
//! path, every definition for which no statement is exact (`accept`); nothing is answered approximately.
//!
//! A statement is built from the inside out. `source` reads one table and gathers each subject's events as an array of
//! times and bit sets; `levels`, `gaps`, `attempts` or `unordered` find the attempt that counts (`window_funnel` only
//! how far it got); `summary` or `users` say what is wanted of it. Subjects are grouped in one SELECT over the table and
//! nothing else crosses from one subject to another before the summary, so on a cluster sharded by user each shard
//! gathers its own.

mod accept;
mod attempts;
mod conditions;
mod firsts;
mod gaps;
mod levels;
mod service;
mod source;
mod sql;
mod summary;
mod unordered;
mod users;
mod ways;
mod window_funnel;

use accept::Method;
use attempts::Instant;
use clickhouse::Client;
use event_store::{Scope, Store};
use serde::Deserialize;
use source::{Detail, Source, at_ns, shifted};
use sql::Sql;
use summary::{Rows, summary};
pub use users::{FunnelSubject, PAGE_MAX, PageCursor, Who, funnel_subjects};

use crate::{
    answer::{BreakdownRow, FunnelResult, StepResult, TimeToConvert, TrendPoint, named, set_counts},
    calendar::Calendar,
    definition::{Attribution, DefinitionError, FunnelDefinition},
    figures::bins,
    shape::Shape,
    tally::{self, Steps},
};

/// A funnel that ClickHouse could not answer.
#[derive(Debug, thiserror::Error)]
pub enum PushdownError {
    /// The definition has a part that is not pushed down; another backend may answer it.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// ClickHouse refused or is away.
    #[error("the store did not answer the funnel: {0}")]
    Store(#[from] clickhouse::error::Error),
}

/// The store gives up after this.
const SECONDS_MAX: u32 = 600;
/// Longest statement, bytes: 64 steps of 100 names, lists of 10,000 values, 10,000 buckets.
const STATEMENT_BYTES_MAX: u32 = 64 << 20;

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
    let client = client(store);
    let buckets = question.buckets(&client).await?;
    let [whole, values] = question.statements(buckets.as_deref());
    let values = async {
        match &values {
            Some(values) => values.query(&client).fetch_all::<summary::Row>().await,
            None => Ok(Vec::new()),
        }
    };
    let whole = whole.unwrap_or_default().query(&client);
    let service = question.source.service().query(&client);
    let (mut rows, values, service) = tokio::try_join!(
        whole.fetch_all::<summary::Row>(),
        values,
        service.fetch_all::<service::Row>()
    )?;
    rows.extend(values);
    let mut result = question.result(&rows, buckets.as_deref())?;
    if let Some(service) = service.first() {
        result.set_service(&service.steps());
    }
    Ok(result)
}

/// Whether the store can answer a definition.
///
/// # Errors
/// The part that it cannot, by JSON path.
pub fn require_pushdown(definition: &FunnelDefinition) -> Result<(), DefinitionError> {
    accept::method(definition).map(drop)
}

/// The statements that answer a definition for all tenants, with their values in place, to be read by people. Where a
/// trend has no time range, its buckets stand in as one.
///
/// # Errors
/// As [`require_pushdown`].
pub fn explain_clickhouse(definition: &FunnelDefinition) -> Result<String, DefinitionError> {
    let question = Question::new(&Scope::Operator, definition)?;
    let buckets = match (&definition.trend, &definition.time_range) {
        (None, _) => None,
        (Some(_), None) => Some(vec![0]),
        (Some(trend), Some(_)) => {
            let (from, to) = definition.time_range_ns();
            Some(Calendar::new(trend).buckets(from, to - 1)?)
        }
    };
    let statements = question.statements(buckets.as_deref()).into_iter().flatten();
    let all = statements.chain([question.source.service()]);
    Ok(all.map(|statement| statement.shown() + ";\n").collect())
}

/// A client with the settings that every statement here needs.
fn client(store: &Store) -> Client {
    let settings = [
        // Rows lie by tenant, user and time, so a subject is finished before the next begins.
        ("optimize_aggregation_in_order", "1".to_owned()),
        // A `Distributed` table whose sharding key is made of the grouping's columns is grouped on its shards alone.
        ("optimize_skip_unused_shards", "1".to_owned()),
        ("optimize_distributed_group_by_sharding_key", "1".to_owned()),
        ("max_query_size", STATEMENT_BYTES_MAX.to_string()),
        ("max_execution_time", SECONDS_MAX.to_string()),
    ];
    let settings = settings.into_iter();
    settings.fold(store.database(), |client, (name, value)| client.with_setting(name, value))
}

/// A definition that is accepted, and whose data it is asked of.
struct Question<'a> {
    source: Source<'a>,
    method: Method,
    shape: Shape,
}

/// First and last time of an event that can enter a trend.
#[derive(Debug, Deserialize, clickhouse::Row)]
struct Span {
    first: u64,
    last: u64,
}

impl<'a> Question<'a> {
    fn new(scope: &'a Scope, definition: &'a FunnelDefinition) -> Result<Self, DefinitionError> {
        Ok(Self {
            method: accept::method(definition)?,
            source: Source { definition, scope },
            shape: Shape::of(definition),
        })
    }

    const fn definition(&self) -> &'a FunnelDefinition {
        self.source.definition
    }

    /// The attempt that counts of each subject: the columns `carry`, `level`, `times`, and `moves` for a trend.
    fn attempts(&self, carry: &str, detail: Detail, per_value: bool, trend: Option<(usize, usize)>) -> Sql {
        let subjects = || self.source.subjects(detail, per_value);
        let shape = &self.shape;
        match self.method {
            Method::WindowFunnel => window_funnel::attempts(&self.source, shape, detail, per_value),
            Method::Levels => levels::attempts(shape, carry, trend, subjects()),
            Method::Gaps => gaps::attempts(shape, carry, trend, subjects()),
            Method::Automaton { shares } => {
                attempts::attempts(Instant { shape, shares }, carry, trend, subjects())
            }
            Method::Unordered { shares } => unordered::attempts(shape, shares, carry, trend, subjects()),
        }
    }

    /// The summary of the whole, with the values where both come from the same attempts, and that of the values.
    fn statements(&self, buckets: Option<&[i64]>) -> [Option<Sql>; 2] {
        let definition = self.definition();
        let trend = definition.trend.as_ref().map(|trend| (trend.from_step, trend.to_step));
        let attribution = definition.breakdown.as_ref().map(|breakdown| breakdown.attribution);
        let whole = |rows, carry, detail| {
            let attempts = self.attempts(carry, detail, false, trend);
            Some(summary(definition, rows, buckets, attempts))
        };
        match attribution {
            None => [whole(Rows::Total, "scanned", Detail::None), None],
            Some(Attribution::FirstTouch | Attribution::LastTouch | Attribution::Step(_)) => {
                [whole(Rows::TotalAndValues, "scanned, seen", Detail::Values), None]
            }
            Some(Attribution::AllSteps) => {
                let attempts = self.attempts("scanned, value", Detail::None, true, None);
                let values = summary(definition, Rows::Values, None, attempts);
                [whole(Rows::Total, "scanned", Detail::None), Some(values)]
            }
        }
    }

    /// The buckets of the trend: those of the time range, else those from the first to the last event that can enter.
    async fn buckets(&self, client: &Client) -> Result<Option<Vec<i64>>, PushdownError> {
        let Some(trend) = &self.definition().trend else {
            return Ok(None);
        };
        let span = if self.definition().time_range.is_some() {
            let (from, to) = self.definition().time_range_ns();
            (from, to - 1)
        } else {
            let span: Span = self.source.span(trend.from_step).query(client).fetch_one().await?;
            if span.first == 0 {
                return Ok(Some(vec![0]));
            }
            (at_ns(span.first), at_ns(span.last))
        };
        Ok(Some(Calendar::new(trend).buckets(span.0, span.1)?))
    }

    fn result(&self, rows: &[summary::Row], buckets: Option<&[i64]>) -> Result<FunnelResult, DefinitionError> {
        let definition = self.definition();
        let nothing = FunnelDefinition { trend: None, ..definition.clone() };
        let mut result = FunnelResult::of(&nothing, tally::Sums::of(&nothing), "clickhouse")?;
        let (total, values): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.is_total == 1);
        if let Some(total) = total.first() {
            result.steps = self.steps(total);
            result.events_scanned = total.scanned;
            result.time_to_convert_s = summary::timing(&total.whole).map(|timing| TimeToConvert {
                mean: timing.mean,
                median: timing.median,
                p90: timing.p90,
                histogram: bins(&binned(&total.bins)),
            });
        }
        if let (Some(trend), Some(buckets)) = (&definition.trend, buckets) {
            let points = points(&Calendar::new(trend), buckets, total.first().copied());
            result.trend = trimmed(points, definition.time_range.is_some());
        }
        let found = values.first().map_or(0, |row| row.rows);
        let of_values = found.saturating_sub(u64::from(found > 0 && values_share_a_statement(definition)));
        result.breakdown_omitted = of_values.saturating_sub(values.len() as u64);
        let row = |row: &&summary::Row| BreakdownRow {
            value: row.label.clone(),
            steps: self.steps(row),
        };
        result.breakdown = values.iter().map(row).collect();
        Ok(result)
    }

    fn steps(&self, row: &summary::Row) -> Vec<StepResult> {
        let mut results = named(self.definition());
        for (step, gap) in results.iter_mut().zip(&row.gaps) {
            step.time_from_previous_s = summary::timing(gap);
        }
        set_counts(&mut results, &Steps::of(self.definition()), &row.counts);
        results
    }
}

/// Whether the row of all subjects is counted among the rows of the values.
fn values_share_a_statement(definition: &FunnelDefinition) -> bool {
    let breakdown = definition.breakdown.as_ref();
    breakdown.is_some_and(|breakdown| breakdown.attribution != Attribution::AllSteps)
}

/// Counts in the order of the bins.
fn binned((edges, counts): &(Vec<i64>, Vec<u64>)) -> Vec<u64> {
    let of_edge = |edge: i64| {
        let found = edges.iter().zip(counts).find(|(at, _)| **at == edge);
        found.map_or(0, |(_, count)| *count)
    };
    crate::figures::bin_edges_ns().into_iter().map(of_edge).collect()
}

fn points(calendar: &Calendar, buckets: &[i64], total: Option<&summary::Row>) -> Vec<TrendPoint> {
    let of = |counts: Option<&(Vec<u64>, Vec<u64>)>, start: i64| {
        let (starts, counts) = counts?;
        let found = starts.binary_search(&shifted(start)).ok()?;
        counts.get(found).copied()
    };
    let point = |start: &i64| TrendPoint {
        bucket: calendar.label(*start),
        entered: of(total.map(|row| &row.entered), *start).unwrap_or(0),
        converted: of(total.map(|row| &row.converted), *start).unwrap_or(0),
    };
    buckets.iter().map(point).collect()
}

/// Without a time range, the trend runs from the first to the last bucket that anybody entered.
fn trimmed(mut points: Vec<TrendPoint>, is_fixed: bool) -> Vec<TrendPoint> {
    if !is_fixed {
        let is_entered = |point: &TrendPoint| point.entered > 0;
        let first = points.iter().position(is_entered).unwrap_or(points.len());
        let end = points.iter().rposition(is_entered).map_or(first, |last| last + 1);
        points.truncate(end);
        points.drain(..first);
    }
    points
}
