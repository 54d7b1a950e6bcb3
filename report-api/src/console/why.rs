//! What sets those who left at a step apart from those who went on.

use axum::{extract::State, response::Html};
use funnel_engine::why::{Driver, Finding, Side};
use funnel_report::grouped;

use super::{Page, PageProblem, funnel_url, html, words};
use crate::{
    access::PageViewer,
    api::{Asked, driver_table},
    extract::{Asking, Param},
    problem::Problem,
    server::App,
};

/// Rows of the page; the API has all.
const ROWS_MAX: usize = 40;

#[derive(askama::Template)]
#[template(path = "why.html")]
struct WhyPage {
    page: Page,
    step_name: String,
    buyers_url: String,
    dropped: String,
    converted: String,
    sampled: String,
    compared: String,
    drivers: Vec<Row>,
    note: String,
    correction: String,
}

struct Row {
    label: String,
    finding: &'static str,
    class: &'static str,
    left: String,
    went_on: String,
    odds: String,
    p: String,
    cost: String,
}

pub(super) async fn page(
    PageViewer(viewer): PageViewer,
    State(app): State<App>,
    Param((slug, step)): Param<(String, usize)>,
    Asking(asked): Asking<Asked>,
) -> Result<Html<String>, PageProblem> {
    let definition = app.funnel(&slug)?.over(asked.time_range()?.as_ref());
    let here = step
        .checked_sub(1)
        .and_then(|index| definition.steps.get(index));
    let here = here.ok_or_else(|| Problem::not_found("step"))?;
    let table = driver_table(&app, &viewer.scope, &definition, step).await?;
    let is_sample = |side: &Side| side.sampled < side.total;
    let sampled = if is_sample(&table.dropped) || is_sample(&table.converted) {
        format!(
            "The requests of {} and {} of them were looked at.",
            grouped(table.dropped.sampled),
            grouped(table.converted.sampled)
        )
    } else {
        String::new()
    };
    html(&WhyPage {
        page: Page::new(
            &app,
            &viewer,
            &format!("Why buyers left after {}", here.name),
            &slug,
        ),
        step_name: here.name.clone(),
        buyers_url: format!("{}/steps/{step}{}", funnel_url(&slug), asked.query()),
        dropped: grouped(table.dropped.total),
        converted: grouped(table.converted.total),
        sampled,
        compared: grouped(table.compared),
        drivers: table.drivers.iter().take(ROWS_MAX).map(row).collect(),
        note: table.note,
        correction: table.correction,
    })
}

fn row(driver: &Driver) -> Row {
    let (finding, class) = match driver.finding {
        Finding::DropsMore => ("leave more", "bad"),
        Finding::DropsLess => ("leave less", "ok"),
        Finding::WatchedLonger => ("seen longer", "none"),
        Finding::NotTold => ("may be chance", "none"),
    };
    let lost = &driver.lost_conversions;
    Row {
        label: driver.label.clone(),
        finding,
        class,
        left: grouped(driver.counts.dropped_with),
        went_on: grouped(driver.counts.converted_with),
        odds: words::or_dash(driver.odds_ratio.as_ref(), |odds| {
            format!("{:.2} ({:.2} to {:.2})", odds.value, odds.low, odds.high)
        }),
        p: if driver.p_corrected < 0.001 {
            "< 0.001".to_owned()
        } else {
            format!("{:.3}", driver.p_corrected)
        },
        cost: format!("{:.0} ({:.0} to {:.0})", lost.estimate, lost.low, lost.high),
    }
}
