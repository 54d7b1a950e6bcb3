//! Why buyers drop off: drivers of one drop-off, and two periods compared.

use axum::{Json, extract::State};
use event_store::Scope;
use funnel_engine::{
    Bar, FunnelDefinition, TimeRange, Which, members,
    why::{Comparison, DriverOptions, DriverTable, Subject, Transition, drivers_in_store},
};
use jiff::Timestamp;
use serde::Deserialize;

use super::funnels::Asked;
use crate::{
    access::Viewer,
    answers::threads,
    extract::{Asking, Param},
    problem::Problem,
    server::App,
};

/// Subjects of each side whose requests are read for one table. With more the table is surer and the page slower.
const SUBJECTS_MAX: usize = 2_000;

/// `?from=&to=&with_from=&with_to=`, RFC 3339: the first period, and the one it is compared with.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Periods {
    from: Timestamp,
    to: Timestamp,
    with_from: Timestamp,
    with_to: Timestamp,
}

pub(super) async fn drivers(
    viewer: Viewer,
    State(app): State<App>,
    Param((slug, step)): Param<(String, usize)>,
    Asking(asked): Asking<Asked>,
) -> Result<Json<DriverTable>, Problem> {
    let definition = app.funnel(&slug)?.over(asked.time_range()?.as_ref());
    let table = driver_table(&app, &viewer.scope, &definition, step).await?;
    Ok(Json(table))
}

/// What sets those who dropped after a step apart from those who went on.
pub(crate) async fn driver_table(
    app: &App,
    scope: &Scope,
    definition: &FunnelDefinition,
    step: usize,
) -> Result<DriverTable, Problem> {
    let reached = step
        .checked_sub(1)
        .and_then(|index| definition.steps.get(index));
    let reached = reached.ok_or_else(|| Problem::not_found("step"))?;
    let mut subjects = Vec::new();
    for which in [Which::Dropped, Which::Converted] {
        let (bar, page) = (Bar { step, which }, (None, 10 * SUBJECTS_MAX));
        let found = members(&app.at_hand, scope, definition, bar, page, threads()).await?;
        subjects.extend(found.members.into_iter().filter_map(|member| {
            Some(Subject {
                started_at_ns: member.started_at_ns(),
                reached_at_ns: member.reached_at_ns(step)?,
                next_at_ns: member.next_at_ns(definition, step),
                tenant: member.tenant_id,
                user: member.user_id,
                session: member.session_id,
            })
        }));
    }
    let names = reached.event.names();
    let transition = Transition {
        step_events: names.map(|names| names.into_iter().map(str::to_owned).collect()),
        window_ns: definition.window.nanoseconds(),
        watch_ns: None,
    };
    let options = DriverOptions {
        subjects_max: SUBJECTS_MAX,
        ..DriverOptions::default()
    };
    Ok(drivers_in_store(&app.store, scope, &transition, &subjects, &options).await?)
}

pub(super) async fn compare(
    viewer: Viewer,
    State(app): State<App>,
    Param(slug): Param<String>,
    Asking(periods): Asking<Periods>,
) -> Result<Json<Comparison>, Problem> {
    let funnel = app.funnel(&slug)?;
    let range = |from: Timestamp, to: Timestamp| {
        let range = (from < to).then_some(TimeRange { from, to });
        range.ok_or_else(|| {
            let text = format!("{from} to {to} is no period.");
            Problem::bad_request(
                text,
                "`from` lies before `to`, and `with_from` before `with_to`.",
            )
        })
    };
    let (one, other) = (
        range(periods.from, periods.to)?,
        range(periods.with_from, periods.with_to)?,
    );
    let first = app
        .answers
        .latest(funnel, &viewer.scope, Some(&one))
        .await?;
    let second = app
        .answers
        .latest(funnel, &viewer.scope, Some(&other))
        .await?;
    let name = |range: &TimeRange| format!("{} to {}", range.from, range.to);
    let compared = Comparison::new((&name(&one), &first), (&name(&other), &second));
    Ok(Json(compared.map_err(|error| Problem::internal(&error))?))
}
