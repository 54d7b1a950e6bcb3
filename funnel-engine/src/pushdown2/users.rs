//! Who is behind a bar: the subjects that reached a step, went on from it, or stopped there.
//!
//! Owns: the list, page by page. A page begins after the last subject of the one before it, so pages neither repeat
//! nor skip anybody while events arrive, as long as the definition's time range has ended; together they are the bar.

use event_store::{Scope, Store};
use serde::{Deserialize, Serialize};

use super::{
    PushdownError, Question,
    source::{Detail, at_ns, shifted},
    sql::Sql,
};
use crate::{
    definition::{Count, DefinitionError, FunnelDefinition, Order},
    tally::Steps,
};

/// Most subjects of one page.
pub const PAGE_MAX: u64 = 1_000;

/// Which of a step's subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// All who reached it: the step's `count`.
    Entered,
    /// Who went on to the next step that may not be skipped; at the last such step, and at one that may be skipped, all.
    Converted,
    /// Who did not: the step's `drop_off`.
    Dropped,
}

/// Where a page begins: after this subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageCursor {
    /// When it stopped, nanoseconds since 1970 UTC.
    pub stopped_at_ns: i64,
    /// Whose shop.
    pub tenant: String,
    /// Who.
    pub user: String,
    /// Which session, where sessions are counted; otherwise empty.
    pub session: String,
}

/// A subject of a funnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunnelSubject {
    /// Whose shop; empty when the events do not say.
    pub tenant: String,
    /// Who.
    pub user: String,
    /// The session counted; where users are, that of their last step event until they stopped.
    pub session: Option<String>,
    /// The trace of their last step event until they stopped.
    pub trace_id: Option<String>,
    /// The highest step of the attempt that counts, from 1.
    pub level: usize,
    /// When it was reached, nanoseconds since 1970 UTC.
    pub stopped_at_ns: i64,
    /// When each step was filled; by position in `unordered` funnels.
    pub times_ns: Vec<Option<i64>>,
}

impl FunnelSubject {
    /// The cursor of the page that begins after this subject, of a list over `definition`.
    pub fn cursor(&self, definition: &FunnelDefinition) -> PageCursor {
        let session = self.session.clone().filter(|_| definition.count == Count::Sessions);
        PageCursor {
            stopped_at_ns: self.stopped_at_ns,
            tenant: self.tenant.clone(),
            user: self.user.clone(),
            session: session.unwrap_or_default(),
        }
    }
}

#[derive(Debug, Deserialize, clickhouse::Row)]
struct Row {
    tenant: String,
    user: String,
    own_session: String,
    last_session: String,
    last_trace: String,
    level: u8,
    times: Vec<u64>,
    stopped: u64,
}

/// A page of at most `limit` (1 to [`PAGE_MAX`]) subjects, those that stopped last first.
///
/// # Errors
/// See [`PushdownError`]; `clickhouse` order is refused, because `windowFunnel` does not say when.
pub async fn funnel_subjects(
    store: &Store,
    scope: &Scope,
    definition: &FunnelDefinition,
    (step, who): (usize, Who),
    after: Option<&PageCursor>,
    limit: u64,
) -> Result<Vec<FunnelSubject>, PushdownError> {
    let statement = statement(&Question::new(scope, definition)?, step, who, after, limit)?;
    let rows: Vec<Row> = statement.query(&super::client(store)).fetch_all().await?;
    let of_session = definition.count == Count::Sessions;
    let subject = |row: Row| {
        let text = |text: String| (!text.is_empty()).then_some(text);
        FunnelSubject {
            tenant: row.tenant,
            user: row.user,
            session: if of_session { Some(row.own_session) } else { text(row.last_session) },
            trace_id: text(row.last_trace),
            level: row.level.into(),
            stopped_at_ns: at_ns(row.stopped),
            times_ns: row.times.iter().map(|time| (*time != 0).then(|| at_ns(*time))).collect(),
        }
    };
    Ok(rows.into_iter().map(subject).collect())
}

fn statement(
    question: &Question<'_>,
    step: usize,
    who: Who,
    after: Option<&PageCursor>,
    limit: u64,
) -> Result<Sql, DefinitionError> {
    let definition = question.definition();
    if definition.order == Order::Clickhouse {
        return Err(DefinitionError::at(
            "order",
            "`windowFunnel` does not say when anybody stopped: ask for the list in another order",
        ));
    }
    let session = match definition.count {
        Count::Sessions => "session",
        Count::Users | Count::Totals => "''",
    };
    let keys = question.source.keys();
    let attempts = question.attempts(&format!("{keys}, seen"), Detail::Traces, false, None);
    let page = match after {
        None => Sql::raw("1"),
        Some(cursor) => Sql::fill(
            &format!(
                "(stopped < {at} OR (stopped = {at} AND (tenant, who, own_session) > ({{}}, {{}}, {{}})))",
                at = shifted(cursor.stopped_at_ns)
            ),
            [&cursor.tenant, &cursor.user, &cursor.session].map(Sql::text),
        ),
    };
    let last = |part: usize| {
        format!(
            "arraySort(arrayMap(one -> (one.1, one.3.{part}), arrayFilter(one -> one.1 <= times[level] AND one.3.{part} != '', seen)))[-1].2"
        )
    };
    let template = format!(
        "SELECT CAST(tenant, 'String') AS tenant, toValidUTF8(who) AS user, toValidUTF8(own_session) AS own_session, {} AS last_session, {} AS last_trace, level, times, stopped
        FROM (SELECT tenant, who, CAST({session}, 'String') AS own_session, seen, level, times, times[level] AS stopped FROM ({{}}))
        WHERE level > 0 AND {} AND {{}} ORDER BY stopped DESC, tenant, who, own_session LIMIT {}",
        last(1),
        last(2),
        reached(definition, step, who),
        limit.clamp(1, PAGE_MAX)
    );
    Ok(Sql::fill(&template, [attempts, page]))
}

/// The condition on `level` and `times`.
fn reached(definition: &FunnelDefinition, step: usize, who: Who) -> String {
    let steps = Steps::of(definition);
    let is_optional = |step: usize| steps.optional.get(step - 1).copied().unwrap_or(false);
    if !(1..=definition.steps.len()).contains(&step) {
        return "0".to_owned();
    }
    let next = (step + 1..=definition.steps.len()).find(|next| !is_optional(*next));
    match (who, next) {
        (Who::Entered | Who::Converted, _) if is_optional(step) => format!("times[{step}] != 0"),
        (Who::Dropped, _) if is_optional(step) => "0".to_owned(),
        (Who::Entered, _) | (Who::Converted, None) => format!("level >= {step}"),
        (Who::Converted, Some(next)) => format!("level >= {next}"),
        (Who::Dropped, Some(next)) => format!("level >= {step} AND level < {next}"),
        (Who::Dropped, None) => "0".to_owned(),
    }
}
