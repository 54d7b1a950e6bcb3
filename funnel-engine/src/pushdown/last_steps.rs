//! In which session and trace the members of a list stopped.
//!
//! Owns: one statement over the events of the members of a page, whichever backend listed them. Refuses: saying who they
//! are.

use event_store::{Scope, Store};
use serde::Deserialize;

use super::{
    PushdownError,
    source::{Source, shifted},
    sql::Sql,
};
use crate::{
    definition::{Count, FunnelDefinition},
    members::Member,
};

/// Where a member's last event until they stopped came from, of those that a step accepts; of several at that instant,
/// the largest text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastStep {
    /// The last session that one of these events names.
    pub session_id: Option<String>,
    /// The last trace.
    pub trace_id: Option<String>,
}

#[derive(Debug, Deserialize, clickhouse::Row)]
struct Row {
    number: u64,
    last_session: String,
    last_trace: String,
}

/// The last steps of members of a list, in their order.
///
/// # Errors
/// When the store is away or refuses.
pub async fn last_steps(
    store: &Store,
    scope: &Scope,
    definition: &FunnelDefinition,
    members: &[Member],
) -> Result<Vec<LastStep>, PushdownError> {
    let mut found = vec![LastStep::default(); members.len()];
    if members.is_empty() {
        return Ok(found);
    }
    let statement = statement(&Source { definition, scope }, members);
    let rows: Vec<Row> = statement.query(&super::client(store)).fetch_all().await?;
    for row in rows {
        let text = |text: String| (!text.is_empty()).then_some(text);
        let place = usize::try_from(row.number).ok();
        if let Some(last) = place.and_then(|place| found.get_mut(place)) {
            *last = LastStep {
                session_id: text(row.last_session),
                trace_id: text(row.last_trace),
            };
        }
    }
    Ok(found)
}

fn statement(source: &Source<'_>, members: &[Member]) -> Sql {
    let texts = |of: fn(&Member) -> &str| Sql::texts(members.iter().map(of));
    let stops = members.iter().map(|member| shifted(member.stopped_at_ns()));
    let stops: Vec<String> = stops.map(|stop| format!("toUInt64({stop})")).collect();
    let (tenant, who, session) = source.keys_of_rows();
    let of_session = match source.definition.count {
        Count::Sessions => format!("{session} = m.session"),
        Count::Users | Count::Totals => "1".to_owned(),
    };
    let last = |column: &str| {
        let text = format!("ifNull(e.{column}, '')");
        format!("toValidUTF8(maxIf((x_at, {text}), {text} != '').2)")
    };
    let template = format!(
        "WITH {{}} SELECT m.number AS number, {} AS last_session, {} AS last_trace
        FROM {} AS e INNER JOIN (
            SELECT one.1 AS number, one.2 AS tenant, one.3 AS user, one.4 AS session, one.5 AS stop
            FROM (SELECT arrayJoin(arrayZip(range(toUInt64({})), {{}}, {{}}, {{}}, [{}])) AS one)) AS m
        ON {tenant} = m.tenant AND {who} = m.user
        WHERE {{}} AND {who} IN {{}} AND {of_session} AND x_considered AND x_fills != 0 AND x_at <= m.stop
        GROUP BY number",
        last("session_id"),
        last("trace_id"),
        source.table().name(),
        members.len(),
        stops.join(", "),
    );
    Sql::fill(
        &template,
        [
            Sql::join(source.facts(), ", "),
            texts(|member| &member.tenant_id),
            texts(|member| &member.user_id),
            texts(|member| member.session_id.as_deref().unwrap_or_default()),
            source.rows(),
            texts(|member| &member.user_id),
        ],
    )
}
