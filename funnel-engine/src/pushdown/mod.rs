//! Ordered funnels inside ClickHouse, and who stopped at a step.

mod statement;

use clickhouse::query::Query;
use event_store::{Scope, Store, TenantId};
use serde::Deserialize;

use crate::{
    answer::{FunnelResult, StepResult, TimeToConvert, set_counts},
    ask::{Member, Page, Which},
    definition::{Count, DefinitionError, FunnelDefinition, Occurrence, Order},
    figures::{Latency, Timing, bins},
    service::{FAILED_SUFFIX, StepService},
    tally,
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

impl Service {
    fn into_steps(self) -> Vec<StepService> {
        let figures = self.means.into_iter().zip(self.p95s).zip(self.errors);
        let step = |((mean, p95), errors): ((f64, f64), u64)| StepService {
            latency_ms: mean.is_finite().then_some(Latency { mean, p95 }),
            errors,
        };
        figures.map(step).collect()
    }
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
    Ok(result(definition, &sums, service)?)
}

/// How the shop served each step, whoever asked; `None` where steps have conditions or share names, which the
/// statement does not tell apart.
pub(crate) async fn service_in_store(
    store: &Store,
    scope: &Scope,
    definition: &FunnelDefinition,
) -> Result<Option<Vec<StepService>>, PushdownError> {
    let Ok(steps) = step_names(definition) else {
        return Ok(None);
    };
    let question = Question {
        steps,
        window_ns: definition.window.nanoseconds(),
        tenant: scope.tenant(),
        time_range: time_range(definition),
    };
    let statement = statement::service(question.steps.len());
    let query = question.failed_names(question.names(store.database().query(&statement)));
    let service: Service = question.filter(query).fetch_one().await?;
    Ok(Some(service.into_steps()))
}

/// Who is behind the bar of a step (counted from 1), or behind its drop-off: the latest first.
pub(crate) async fn members_on_clickhouse(
    store: &Store,
    scope: &Scope,
    definition: &FunnelDefinition,
    (step, which): (usize, Which),
    page: Page,
) -> Result<Vec<Member>, PushdownError> {
    let question = Question::new(scope, definition)?;
    let steps = question.steps.len();
    let members = statement::members(steps, question.window_ns, step);
    let query = question.filter(question.names(store.database().query(&members)));
    let (least, most) = match which {
        Which::Dropped if step < steps => (step, step),
        // Nobody drops at the last step.
        Which::Dropped => (1, 0),
        Which::Converted => ((step + 1).min(steps), steps),
    };
    let query = query
        .bind(least)
        .bind(most)
        .bind(page.limit)
        .bind(page.offset);
    Ok(query.fetch_all().await?)
}

/// Whether the store can answer a definition.
///
/// # Errors
/// The part that it cannot, by JSON path.
pub fn require_pushdown(definition: &FunnelDefinition) -> Result<(), DefinitionError> {
    require_shape(definition)?;
    step_names(definition).map(drop)
}

/// The statement that answers a definition for all tenants, with its parameters written out for reading.
///
/// # Errors
/// The part that the store cannot answer, by JSON path.
pub fn explain_clickhouse(definition: &FunnelDefinition) -> Result<String, DefinitionError> {
    let question = Question::new(&Scope::Operator, definition)?;
    let statement = statement::funnel(question.steps.len(), question.window_ns);
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let names = question.steps.iter().map(|names| {
        let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        format!("[{}]", names.join(", "))
    });
    let (from, to) = question.time_range;
    let filter = ["1".to_owned(), quoted(""), from.to_string(), to.to_string()];
    let mut parameters = names.chain(filter);
    let mut text = String::new();
    for part in statement.split_inclusive('?') {
        text.push_str(part.strip_suffix('?').unwrap_or(part));
        if part.ends_with('?') {
            text.push_str(&parameters.next().unwrap_or_default());
        }
    }
    Ok(text)
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
        require_shape(definition)?;
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

/// Refuses the parts that no statement is written for.
fn require_shape(definition: &FunnelDefinition) -> Result<(), DefinitionError> {
    let refused = |path: &str| {
        Err(DefinitionError {
            path: path.to_owned(),
            message: "is not pushed down to ClickHouse; the columnar backend answers it".to_owned(),
        })
    };
    if definition.order != Order::Ordered {
        return refused("order");
    }
    if definition.count != Count::Users {
        return refused("count");
    }
    for (index, step) in definition.steps.iter().enumerate() {
        if step.optional {
            return refused(&format!("steps[{index}].optional"));
        }
        if step.occurrence != Occurrence::Any {
            return refused(&format!("steps[{index}].occurrence"));
        }
        if step.http.is_some() {
            return refused(&format!("steps[{index}].http"));
        }
    }
    match (
        definition.exclusions.is_empty(),
        &definition.breakdown,
        &definition.trend,
    ) {
        (false, _, _) => refused("exclusions"),
        (_, Some(_), _) => refused("breakdown"),
        (_, _, Some(_)) => refused("trend"),
        _ => Ok(()),
    }
}

/// The event names of each step; steps must not share any, because then one event could fill two.
fn step_names(definition: &FunnelDefinition) -> Result<Vec<Vec<&str>>, DefinitionError> {
    let refused = |path: String, what: &str| DefinitionError {
        path,
        message: format!(
            "{what} is not pushed down to ClickHouse; the columnar backend answers it"
        ),
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

fn result(
    definition: &FunnelDefinition,
    sums: &Sums,
    service: Service,
) -> Result<FunnelResult, DefinitionError> {
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
    let nothing = tally::Sums::of(definition);
    let mut result = FunnelResult::of(definition, nothing, "clickhouse")?;
    result.events_scanned = sums.scanned;
    set_counts(
        &mut result.steps,
        &tally::Steps::of(definition),
        &sums.counts,
    );
    let later = result.steps.iter_mut().enumerate().skip(1);
    later.for_each(|(index, step): (usize, &mut StepResult)| {
        step.time_from_previous_s = timing(index);
    });
    // The first slot of the timing columns holds the whole way.
    result.time_to_convert_s = timing(0).map(|timing| TimeToConvert {
        mean: timing.mean,
        median: timing.median,
        p90: timing.p90,
        histogram: bins(&sums.bins),
    });
    result.set_service(&service.into_steps());
    Ok(result)
}
