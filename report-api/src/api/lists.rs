//! Who is behind a bar: members of a funnel's step, page by page, each with their last exchange.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use event_store::{LastExchangeRow, Scope, Whose};
use funnel_engine::{
    Bar, Count, FunnelDefinition, LastStep, ListCursor, Member, Which, last_steps, members,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::funnels::Asked;
use crate::{
    access::Viewer,
    answers::threads,
    extract::{Asking, Param},
    problem::Problem,
    server::App,
};

/// Members on one page of a list.
pub(crate) const PAGE_MAX: usize = 100;

/// `?limit=&after=`, and the period as in [`Asked`].
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Part {
    limit: Option<usize>,
    /// `next` of the page before.
    after: Option<String>,
    /// How many the pages before showed; for readers only.
    pub(crate) seen: Option<u64>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

/// One who is counted at a step, and what they did last.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Buyer {
    pub(crate) tenant: String,
    pub(crate) user: String,
    /// The session that is counted; where users are, that of the last exchange or step.
    pub(crate) session: Option<String>,
    /// That of the last exchange, or of the last step where that one is not kept any more.
    pub(crate) trace_id: Option<String>,
    pub(crate) reached_at: Option<Timestamp>,
    pub(crate) went_on_at: Option<Timestamp>,
    pub(crate) stopped_at: Timestamp,
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) last_request: Option<String>,
    pub(crate) last_status: Option<u16>,
    pub(crate) last_duration_ms: Option<f64>,
}

/// A page of a list, and where the next one begins.
#[derive(Clone, Debug)]
pub(crate) struct Buyers {
    pub(crate) buyers: Vec<Buyer>,
    pub(crate) next: Option<String>,
}

impl Part {
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            from: self.from,
            to: self.to,
        }
    }

    fn cursor(&self) -> Result<Option<ListCursor>, Problem> {
        let read = |text: &String| {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        let Some(after) = &self.after else {
            return Ok(None);
        };
        read(after).map(Some).ok_or_else(|| {
            Problem::bad_request(
                "`after` is no place of a list.".to_owned(),
                "Take `next` of the page before as it is.",
            )
        })
    }
}

pub(super) async fn dropped(
    viewer: Viewer,
    State(app): State<App>,
    Param((slug, step)): Param<(String, usize)>,
    Asking(part): Asking<Part>,
) -> Result<Json<Value>, Problem> {
    list(&viewer, &app, &slug, (step, Which::Dropped), &part).await
}

pub(super) async fn converted(
    viewer: Viewer,
    State(app): State<App>,
    Param((slug, step)): Param<(String, usize)>,
    Asking(part): Asking<Part>,
) -> Result<Json<Value>, Problem> {
    list(&viewer, &app, &slug, (step, Which::Converted), &part).await
}

async fn list(
    viewer: &Viewer,
    app: &App,
    slug: &str,
    (step, which): (usize, Which),
    part: &Part,
) -> Result<Json<Value>, Problem> {
    let definition = app.funnel(slug)?.over(part.asked().time_range()?.as_ref());
    let bar = Bar { step, which };
    let page = buyers(app, &viewer.scope, &definition, bar, part).await?;
    Ok(Json(
        json!({ "step": step, "users": page.buyers, "next": page.next }),
    ))
}

/// Who is behind the bar of a step or behind its drop-off, those who stopped last first, each with their last exchange.
pub(crate) async fn buyers(
    app: &App,
    scope: &Scope,
    definition: &FunnelDefinition,
    bar: Bar,
    part: &Part,
) -> Result<Buyers, Problem> {
    if !(1..=definition.steps.len()).contains(&bar.step) {
        return Err(Problem::not_found("step"));
    }
    let limit = part.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    let after = part.cursor()?;
    let page = (after.as_ref(), limit);
    let page = members(&app.at_hand, scope, definition, bar, page, threads()).await?;
    let next = page.next.as_ref().map(serde_json::to_vec).transpose();
    let next = next.map_err(|error| Problem::internal(&error))?;
    let steps = last_steps(&app.store, scope, definition, &page.members).await?;
    let last = last_exchanges(app, scope, definition, &page.members).await?;
    let all = page.members.into_iter().zip(steps);
    let buyer = |(member, step): (Member, LastStep)| {
        let last = last.get(&key(&member));
        Buyer {
            reached_at: member.reached_at_ns(bar.step).map(timestamp),
            went_on_at: member.next_at_ns(definition, bar.step).map(timestamp),
            stopped_at: timestamp(member.stopped_at_ns()),
            last_seen: last.map(|row| timestamp(row.at)),
            last_request: last.and_then(request),
            last_status: last.and_then(|row| row.last_status),
            last_duration_ms: last.map(|row| milliseconds(row.last_duration_ns)),
            session: member
                .session_id
                .or_else(|| last.and_then(|row| row.last_session_id.clone()))
                .or(step.session_id),
            trace_id: last
                .and_then(|row| row.last_trace_id.clone())
                .or(step.trace_id),
            tenant: member.tenant_id,
            user: member.user_id,
        }
    };
    Ok(Buyers {
        buyers: all.map(buyer).collect(),
        next: next.map(|bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes)),
    })
}

/// Tenant, user, and the session where sessions are counted.
type Key = (String, String, Option<String>);

fn key(member: &Member) -> Key {
    (
        member.tenant_id.clone(),
        member.user_id.clone(),
        member.session_id.clone(),
    )
}

async fn last_exchanges(
    app: &App,
    scope: &Scope,
    definition: &FunnelDefinition,
    members: &[Member],
) -> Result<BTreeMap<Key, LastExchangeRow>, Problem> {
    if members.is_empty() {
        return Ok(BTreeMap::new());
    }
    let users = members
        .iter()
        .map(|member| (member.tenant_id.as_str(), member.user_id.as_str()));
    let of_sessions = definition.count == Count::Sessions;
    let rows = if of_sessions {
        let sessions = members.iter().map(|member| member.session_id.as_deref());
        let sessions = users.zip(sessions);
        let sessions: Vec<(&str, &str, &str)> = sessions
            .map(|((tenant, user), session)| (tenant, user, session.unwrap_or_default()))
            .collect();
        app.store
            .last_exchanges(scope, Whose::Sessions(&sessions))
            .await?
    } else {
        let users: Vec<(&str, &str)> = users.collect();
        app.store
            .last_exchanges(scope, Whose::Users(&users))
            .await?
    };
    let keyed = rows.into_iter().map(|row| {
        let session = row.last_session_id.clone().filter(|_| of_sessions);
        ((row.tenant.clone(), row.user.clone(), session), row)
    });
    Ok(keyed.collect())
}

fn request(row: &LastExchangeRow) -> Option<String> {
    let method = row.last_method.as_deref()?;
    Some(format!(
        "{method} {}",
        row.last_route.as_deref().unwrap_or("")
    ))
}

/// A time of the store; one out of range shows as 1970.
pub(crate) fn timestamp(ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(ns.into()).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}
