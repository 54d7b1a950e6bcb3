//! Who is behind a bar, page by page.
//!
//! Owns: the statement over the attempts that count. What the order of a list is, and who belongs on it, is decided in
//! `members` for all backends.

use std::cmp::Reverse;

use event_store::{Scope, Store};
use serde::Deserialize;

use super::{
    PushdownError,
    question::Question,
    source::{Detail, at_ns, shifted},
    sql::Sql,
};
use crate::{
    definition::{Count, FunnelDefinition},
    members::{Bar, ListCursor, Member, Reach},
};

#[derive(Debug, Deserialize, clickhouse::Row)]
struct Row {
    tenant: String,
    user: String,
    own_session: String,
    level: u8,
    times: Vec<u64>,
}

/// At most `limit` members of a list, from the cursor on. Not for `clickhouse` order, which knows no times.
pub(crate) async fn members_on_clickhouse(
    store: &Store,
    scope: &Scope,
    definition: &FunnelDefinition,
    bar: Bar,
    after: Option<&ListCursor>,
    limit: usize,
) -> Result<Vec<Member>, PushdownError> {
    let question = Question::new(scope, definition)?;
    let statement = statement(&question, bar, after, limit);
    let rows: Vec<Row> = statement.query(&question.client(store)).fetch_all().await?;
    let of_session = definition.count == Count::Sessions;
    let time = |time: &u64| (*time != 0).then(|| at_ns(*time));
    let member = |row: Row| Member {
        tenant_id: row.tenant,
        user_id: row.user,
        session_id: of_session.then_some(row.own_session),
        level: row.level.into(),
        times_ns: row.times.iter().map(time).collect(),
    };
    Ok(rows.into_iter().map(member).collect())
}

fn statement(question: &Question<'_>, bar: Bar, after: Option<&ListCursor>, limit: usize) -> Sql {
    let definition = question.definition();
    let session = match definition.count {
        Count::Sessions => "session",
        Count::Users | Count::Totals => "''",
    };
    let reached = match bar.reach(definition) {
        Reach::Levels(levels) => format!("level BETWEEN {} AND {}", levels.start(), levels.end()),
        Reach::Step(step) => format!("times[{step}] != 0"),
        Reach::Nothing => "0".to_owned(),
    };
    let page = after.map_or_else(
        || Sql::raw("1"),
        |cursor| {
            let Reverse(stopped_at_ns) = cursor.stopped_at_ns;
            let at = shifted(stopped_at_ns);
            Sql::fill(
                &format!(
                    "(stopped < {at} OR (stopped = {at} AND (tenant, user, own_session) > ({{}}, {{}}, {{}})))"
                ),
                [&cursor.tenant_id, &cursor.user_id, &cursor.session_id].map(Sql::text),
            )
        },
    );
    // Sorted by what is shown, so that a cursor means the same here.
    let template = format!(
        "SELECT tenant, user, own_session, level, times
        FROM (SELECT CAST(tenant, 'String') AS tenant, toValidUTF8(who) AS user, toValidUTF8({session}) AS own_session,
            level, times, times[level] AS stopped FROM ({{}}))
        WHERE level > 0 AND {reached} AND {{}} ORDER BY stopped DESC, tenant, user, own_session LIMIT {limit}"
    );
    let attempts = question.attempts(question.source.keys(), Detail::None, None);
    Sql::fill(&template, [attempts, page])
}
