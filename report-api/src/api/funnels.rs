//! Funnels as data: the list, an answer, the report's files, and who stopped at a step.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use event_store::{LastExchangeRow, Scope};
use funnel_engine::{FunnelDefinition, FunnelResult, Page, TimeRange, Which, members};
use funnel_report::{Report, ReportFormat};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    access::Viewer,
    answers::{Funnel, threads},
    extract::{Asking, Param},
    problem::Problem,
    server::App,
};

/// Users of one page of a list.
pub(crate) const PAGE_MAX: u64 = 100;

/// `?from=&to=`, RFC 3339: instead of the definition's own time range.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Asked {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

/// `?limit=&offset=`, and the period as in [`Asked`].
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Part {
    pub(crate) limit: Option<u64>,
    pub(crate) offset: Option<u64>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl Part {
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            from: self.from,
            to: self.to,
        }
    }
}

/// A user who is counted at a step, and what they did last.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Buyer {
    pub(crate) tenant: String,
    pub(crate) user: String,
    pub(crate) stopped_at: Timestamp,
    pub(crate) went_on_at: Option<Timestamp>,
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) last_request: Option<String>,
    pub(crate) last_status: Option<u16>,
    pub(crate) last_duration_ms: Option<f64>,
    pub(crate) session: Option<String>,
    pub(crate) trace_id: Option<String>,
}

impl App {
    pub(crate) fn funnel(&self, slug: &str) -> Result<&Funnel, Problem> {
        let mut funnels = self.funnels.iter();
        funnels
            .find(|funnel| funnel.slug == slug)
            .ok_or_else(|| Problem::not_found("funnel"))
    }

    /// The answer for the period asked for, or for the definition's own.
    pub(crate) async fn answer(
        &self,
        funnel: &Funnel,
        scope: &Scope,
        asked: &Asked,
    ) -> Result<Arc<FunnelResult>, Problem> {
        let range = asked.time_range()?;
        self.answers.latest(funnel, scope, range.as_ref()).await
    }
}

impl Asked {
    pub(crate) fn time_range(&self) -> Result<Option<TimeRange>, Problem> {
        let hint =
            "Write both as RFC 3339, for instance 2026-01-01T00:00:00Z; `from` lies before `to`.";
        match (self.from, self.to) {
            (None, None) => Ok(None),
            (Some(from), Some(to)) if from < to => Ok(Some(TimeRange { from, to })),
            _ => Err(Problem::bad_request(
                "`from` and `to` are no period.".to_owned(),
                hint,
            )),
        }
    }

    /// As a query string, with its question mark; empty for the definition's own range.
    pub(crate) fn query(&self) -> String {
        match (self.from, self.to) {
            (Some(from), Some(to)) => format!("?from={from}&to={to}"),
            _ => String::new(),
        }
    }

    /// For readers.
    pub(crate) fn label(&self, definition: &FunnelDefinition) -> String {
        let own = definition.time_range.as_ref();
        let range = self
            .from
            .zip(self.to)
            .or_else(|| own.map(|range| (range.from, range.to)));
        range.map_or_else(
            || "All events so far, UTC".to_owned(),
            |(from, to)| {
                let day = |at: Timestamp| at.strftime("%b %-d, %Y %H:%M").to_string();
                format!("{} to {} UTC", day(from), day(to))
            },
        )
    }
}

pub(super) async fn list(_: Viewer, State(app): State<App>) -> Json<Value> {
    let one = |funnel: &Funnel| json!({ "slug": funnel.slug, "definition": funnel.definition });
    Json(json!({ "funnels": app.funnels.iter().map(one).collect::<Vec<_>>() }))
}

pub(super) async fn answer(
    viewer: Viewer,
    State(app): State<App>,
    Param(slug): Param<String>,
    Asking(asked): Asking<Asked>,
) -> Result<Json<FunnelResult>, Problem> {
    let result = app
        .answer(app.funnel(&slug)?, &viewer.scope, &asked)
        .await?;
    Ok(Json(FunnelResult::clone(&result)))
}

pub(super) async fn run(
    viewer: Viewer,
    State(app): State<App>,
    body: String,
) -> Result<Json<FunnelResult>, Problem> {
    let definition = FunnelDefinition::parse(&body)?;
    Ok(Json(app.answers.ask(&definition, &viewer.scope).await?))
}

pub(super) async fn report(
    viewer: Viewer,
    State(app): State<App>,
    Param((slug, file)): Param<(String, String)>,
    Asking(asked): Asking<Asked>,
) -> Result<Response, Problem> {
    report_file(&app, &viewer, &slug, &file, &asked).await
}

/// `report.pdf` and so on.
pub(crate) async fn report_file(
    app: &App,
    viewer: &Viewer,
    slug: &str,
    file: &str,
    asked: &Asked,
) -> Result<Response, Problem> {
    let extension = file.strip_prefix("report.").unwrap_or_default();
    let format =
        ReportFormat::from_extension(extension).ok_or_else(|| Problem::not_found("report"))?;
    let funnel = app.funnel(slug)?;
    let result = app.answer(funnel, &viewer.scope, asked).await?;
    let definition = &funnel.definition;
    let period = format!("{}, {}", viewer.scope_label(), asked.label(definition));
    let report = Report::new(&definition.name, &period, &result);
    // Setting pages takes a tenth of a second of pure computing, so only so many at a time.
    let _turn = app.renders.acquire().await;
    let rendered = tokio::task::spawn_blocking(move || format.render(&report)).await;
    let bytes = rendered.map_err(|error| {
        tracing::error!(%error, "rendering a report ended early");
        Problem::busy()
    })??;
    let name = format!("attachment; filename=\"{slug}.{extension}\"");
    let headers = [
        (header::CONTENT_TYPE, format.media_type().to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, bytes).into_response())
}

pub(super) async fn dropped_users(
    viewer: Viewer,
    State(app): State<App>,
    Param((slug, step)): Param<(String, usize)>,
    Asking(part): Asking<Part>,
) -> Result<Json<Value>, Problem> {
    users(&viewer, &app, (&slug, step), Which::Dropped, &part).await
}

pub(super) async fn converted_users(
    viewer: Viewer,
    State(app): State<App>,
    Param((slug, step)): Param<(String, usize)>,
    Asking(part): Asking<Part>,
) -> Result<Json<Value>, Problem> {
    users(&viewer, &app, (&slug, step), Which::Converted, &part).await
}

async fn users(
    viewer: &Viewer,
    app: &App,
    (slug, step): (&str, usize),
    which: Which,
    part: &Part,
) -> Result<Json<Value>, Problem> {
    let page = Page {
        limit: part.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX),
        offset: part.offset.unwrap_or(0),
    };
    let definition = app.funnel(slug)?.over(part.asked().time_range()?.as_ref());
    let users = buyers(app, &viewer.scope, &definition, (step, which), page).await?;
    Ok(Json(
        json!({ "step": step, "offset": page.offset, "users": users }),
    ))
}

/// Who is behind the bar of a step or behind its drop-off, the latest first, each with their last exchange.
pub(crate) async fn buyers(
    app: &App,
    scope: &Scope,
    definition: &FunnelDefinition,
    (step, which): (usize, Which),
    page: Page,
) -> Result<Vec<Buyer>, Problem> {
    if !(1..=definition.steps.len()).contains(&step) {
        return Err(Problem::not_found("step"));
    }
    let users = members(
        &app.store,
        scope,
        definition,
        (step, which),
        page,
        threads(),
    )
    .await?;
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let names = users
        .iter()
        .map(|user| (user.tenant_id.as_str(), user.user_id.as_str()));
    let last = app
        .store
        .last_exchanges(scope, &names.collect::<Vec<_>>())
        .await?;
    let last: BTreeMap<(&str, &str), &LastExchangeRow> = last
        .iter()
        .map(|row| ((row.tenant.as_str(), row.user.as_str()), row))
        .collect();
    let joined = users.iter().map(|user| {
        let last = last.get(&(user.tenant_id.as_str(), user.user_id.as_str()));
        Buyer {
            tenant: user.tenant_id.clone(),
            user: user.user_id.clone(),
            stopped_at: timestamp(user.reached_at_ns),
            went_on_at: user.next_at_ns.map(timestamp),
            last_seen: last.map(|row| timestamp(row.at)),
            last_request: last.and_then(|row| request(row)),
            last_status: last.and_then(|row| row.last_status),
            last_duration_ms: last.map(|row| milliseconds(row.last_duration_ns)),
            session: last.and_then(|row| row.last_session_id.clone()),
            trace_id: last.and_then(|row| row.last_trace_id.clone()),
        }
    });
    Ok(joined.collect())
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
