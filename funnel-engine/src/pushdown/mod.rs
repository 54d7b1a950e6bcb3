//! Funnels inside ClickHouse: what is asked there, and what the answer means.
//!
//! Owns: the statements, from rows of the store to figures, and the lists of who is behind a bar. Refuses, by JSON
//! path, every definition for which no statement is exact (`accept`); nothing is answered approximately.
//!
//! A statement is built from the inside out. `source` reads one table and gathers each subject's events as an array of
//! times and bit sets; `levels`, `gaps`, `attempts` or `unordered` find the attempt that counts (`window_funnel` only
//! how far it got); `summary` or `list` say what is wanted of it. Subjects are grouped in one SELECT over the table and
//! nothing else crosses from one subject to another before the summary, so on a cluster sharded by user each shard
//! gathers its own. docs/adr/0018-funnels-in-sql.md says why it is built this way.

mod accept;
mod attempts;
mod bits;
mod conditions;
mod firsts;
mod gaps;
mod last_steps;
mod levels;
mod list;
mod question;
mod results;
mod rows;
mod service;
mod source;
mod sql;
mod summary;
mod unordered;
mod ways;
mod window_funnel;

pub use accept::StatementKind;
use clickhouse::{Client, error::Error};
use event_store::{Scope, Store};
pub use last_steps::{LastStep, last_steps};
pub(crate) use list::members_on_clickhouse;
use question::Question;
use source::Source;

use crate::{
    answer::FunnelResult,
    calendar::Calendar,
    definition::{DefinitionError, FunnelDefinition},
    service::StepService,
};

/// A funnel that ClickHouse could not answer.
#[derive(Debug, thiserror::Error)]
pub enum PushdownError {
    /// The definition has a part that is not pushed down; another backend may answer it.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// It takes more memory than a statement may have: some user started very often within a window.
    #[error("the funnel is too much for the store; the columnar backend answers it: {0}")]
    TooMuch(#[source] Error),
    /// ClickHouse refused or is away.
    #[error("the store did not answer the funnel: {0}")]
    Store(#[source] Error),
}

impl From<Error> for PushdownError {
    fn from(error: Error) -> Self {
        if matches!(&error, Error::BadResponse(text) if text.starts_with(OUT_OF_MEMORY)) {
            Self::TooMuch(error)
        } else {
            Self::Store(error)
        }
    }
}

/// How the store begins to say so.
const OUT_OF_MEMORY: &str = "Code: 241.";
/// Most memory of one statement, bytes.
const MEMORY_BYTES_MAX: u64 = 4 << 30;

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
    let client = question.client(store);
    let buckets = question.buckets(&client).await?;
    let statements = question.statements(buckets.as_deref());
    let whole = statements.whole.query(&client);
    let values = async {
        match &statements.values {
            Some(values) => values.query(&client).fetch_all::<summary::Row>().await,
            None => Ok(Vec::new()),
        }
    };
    let service = service_in_store(store, scope, definition);
    let (mut rows, values, service) = tokio::try_join!(
        async { Ok(whole.fetch_all::<summary::Row>().await?) },
        async { Ok(values.await?) },
        service
    )?;
    rows.extend(values);
    let mut result = results::result(definition, &rows, buckets.as_deref())?;
    result.set_service(&service);
    Ok(result)
}

/// How the shop served each step, whoever asked. Every definition can be asked about.
pub(crate) async fn service_in_store(
    store: &Store,
    scope: &Scope,
    definition: &FunnelDefinition,
) -> Result<Vec<StepService>, PushdownError> {
    let statement = Source { definition, scope }.service();
    let row: service::Row = statement.query(&client(store)).fetch_one().await?;
    Ok(row.steps())
}

/// The kind of statement with which the store can answer a definition.
///
/// # Errors
/// The part that it cannot answer, by JSON path.
pub fn statement_kind(definition: &FunnelDefinition) -> Result<StatementKind, DefinitionError> {
    accept::kind(definition)
}

/// The statements that answer a definition for all tenants, with their values in place, to be read by people. Where a
/// trend has no time range, its buckets stand in as one.
///
/// # Errors
/// As [`statement_kind`].
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
    let statements = question.statements(buckets.as_deref());
    let all = [statements.whole]
        .into_iter()
        .chain(statements.values)
        .chain([question.source.service()]);
    Ok(all.map(|statement| statement.shown() + ";\n").collect())
}

/// A client with the settings that every statement here needs.
fn client(store: &Store) -> Client {
    let settings = [
        // A `Distributed` table whose sharding key is made of the grouping's columns is grouped on its shards alone.
        ("optimize_skip_unused_shards", "1".to_owned()),
        ("optimize_distributed_group_by_sharding_key", "1".to_owned()),
        ("max_memory_usage", MEMORY_BYTES_MAX.to_string()),
        ("max_query_size", STATEMENT_BYTES_MAX.to_string()),
        ("max_execution_time", SECONDS_MAX.to_string()),
    ];
    let settings = settings.into_iter();
    settings.fold(store.database(), |client, (name, value)| {
        client.with_setting(name, value)
    })
}
