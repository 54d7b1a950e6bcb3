//! Who stopped at a step: the way from a drop-off to traces.

use axum::{extract::State, response::Html};
use funnel_engine::{Bar, Count, Which};
use funnel_report::grouped;

use super::{Page, PageProblem, funnel_url, html, words};
use crate::{
    access::PageViewer,
    api::{Buyer as Dropped, Part, buyers},
    extract::{Asking, Param},
    problem::Problem,
    server::App,
};

#[derive(askama::Template)]
#[template(path = "dropped.html")]
struct DroppedPage {
    page: Page,
    funnel_title: String,
    funnel_url: String,
    step_name: String,
    next_name: String,
    total: String,
    shown: String,
    of: String,
    buyers: Vec<Buyer>,
    next_url: Option<String>,
    why_url: String,
}

struct Buyer {
    user: String,
    /// Where sessions are counted.
    session: Option<String>,
    tenant: String,
    last_seen: String,
    last_request: String,
    status: String,
    status_class: &'static str,
    duration: String,
    trace_url: Option<String>,
    trace_short: String,
}

pub(super) async fn page(
    PageViewer(viewer): PageViewer,
    State(app): State<App>,
    Param((slug, step)): Param<(String, usize)>,
    Asking(part): Asking<Part>,
) -> Result<Html<String>, PageProblem> {
    let funnel = app.funnel(&slug)?;
    let (asked, before) = (part.asked(), part.seen.unwrap_or(0));
    let result = app.answer(funnel, &viewer.scope, &asked).await?;
    let here = step
        .checked_sub(1)
        .and_then(|index| result.steps.get(index));
    let next = result.steps.iter().skip(step).find(|step| !step.optional);
    let (Some(here), Some(next)) = (here, next) else {
        return Err(Problem::not_found("step").into());
    };
    let definition = funnel.over(asked.time_range()?.as_ref());
    let bar = Bar {
        step,
        which: Which::Dropped,
    };
    let list = buyers(&app, &viewer.scope, &definition, bar, &part).await?;
    let seen = before.saturating_add(list.buyers.len() as u64);
    let by_session = definition.count == Count::Sessions;
    let url = funnel_url(&slug);
    html(&DroppedPage {
        page: Page::new(&app, &viewer, &format!("Stopped at {}", here.name), &slug),
        funnel_title: funnel.definition.name.clone(),
        step_name: here.name.clone(),
        next_name: next.name.clone(),
        total: grouped(here.drop_off),
        shown: match (before, list.buyers.len()) {
            (_, 0) => "none".to_owned(),
            (0, _) => grouped(seen),
            (before, _) => format!("{} to {}", grouped(before.saturating_add(1)), grouped(seen)),
        },
        of: grouped(here.count),
        buyers: list
            .buyers
            .iter()
            .map(|one| buyer(one, by_session))
            .collect(),
        next_url: list.next.map(|next| {
            let period = asked.query();
            let joint = if period.is_empty() { '?' } else { '&' };
            format!("{url}/steps/{step}{period}{joint}after={next}&seen={seen}")
        }),
        why_url: format!("{url}/steps/{step}/why{}", asked.query()),
        funnel_url: format!("{url}{}", asked.query()),
    })
}

fn buyer(user: &Dropped, by_session: bool) -> Buyer {
    let trace = user.trace_id.as_ref();
    Buyer {
        user: user.user.clone(),
        session: user.session.clone().filter(|_| by_session),
        tenant: user.tenant.clone(),
        last_seen: words::instant(user.last_seen.unwrap_or(user.stopped_at)),
        last_request: words::or_dash(user.last_request.clone(), |request| request),
        status: words::or_dash(user.last_status, |status| status.to_string()),
        status_class: match user.last_status {
            Some(0..400) => "ok",
            Some(400..500) => "warn",
            Some(_) => "bad",
            None => "none",
        },
        duration: words::or_dash(user.last_duration_ms, words::milliseconds),
        trace_url: trace.map(|id| format!("/console/traces/{id}")),
        trace_short: trace.map_or_else(String::new, |id| id.chars().take(8).collect()),
    }
}
