//! Funnels as data: the list, an answer, the report's files.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use event_store::Scope;
use funnel_engine::{FunnelDefinition, FunnelResult, TimeRange};
use funnel_report::{Report, ReportFormat};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    access::Viewer,
    answers::Funnel,
    extract::{Asking, Param},
    problem::Problem,
    server::App,
};

/// `?from=&to=`, RFC 3339: instead of the definition's own time range.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Asked {
    pub(super) from: Option<Timestamp>,
    pub(super) to: Option<Timestamp>,
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
