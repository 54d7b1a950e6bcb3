//! The funnel page: the finding, the bars, all figures, and the report to take home.

use std::sync::Arc;

use axum::{extract::State, response::Html};
use funnel_engine::{BreakdownRow, FunnelResult, StepResult, TrendPoint, percent};
use funnel_report::{Report, ReportFormat, duration_label, grouped};
use jiff::Timestamp;

use super::{Page, PageProblem, funnel_url, html, words};
use crate::{
    access::PageViewer,
    answers::Funnel,
    api::Asked,
    extract::{Asking, Param},
    server::App,
};

/// Buckets of the trend that fit on a page; the API has all.
const BUCKETS_SHOWN: usize = 62;

#[derive(askama::Template)]
#[template(path = "funnel.html")]
struct FunnelPage {
    page: Page,
    title: String,
    period: String,
    live_url: String,
    downloads: Vec<Download>,
    funnel: FunnelView,
}

/// The part that changes while one looks at it.
#[derive(askama::Template)]
#[template(path = "funnel_body.html")]
pub(super) struct FunnelBody {
    pub(super) funnel: FunnelView,
}

struct Download {
    label: &'static str,
    url: String,
}

/// A funnel, in words and widths.
pub(super) struct FunnelView {
    finding: String,
    tiles: Vec<Tile>,
    steps: Vec<StepView>,
    histogram: Vec<Bar>,
    breakdown: Vec<ValueView>,
    breakdown_note: String,
    trend: Vec<TrendView>,
    updated: String,
    empty: bool,
}

/// The funnel of one value of the breakdown.
struct ValueView {
    value: String,
    counts: Vec<String>,
    width: String,
    conversion: String,
}

/// One bucket of the trend: a bar for who entered, and in it one for who converted.
struct TrendView {
    label: String,
    entered: String,
    converted: String,
    height: String,
    converted_height: String,
}

struct Tile {
    label: &'static str,
    value: String,
    note: String,
}

struct StepView {
    number: usize,
    name: String,
    count: String,
    width: String,
    lost_width: String,
    of_previous: String,
    of_start: String,
    drop_off: String,
    drop_share: String,
    drop_url: Option<String>,
    median_time: String,
    p90_time: String,
    latency_mean: String,
    latency_p95: String,
    errors: String,
    has_errors: bool,
}

struct Bar {
    label: String,
    count: String,
    height: String,
}

pub(super) async fn page(
    PageViewer(viewer): PageViewer,
    State(app): State<App>,
    Param(slug): Param<String>,
    Asking(asked): Asking<Asked>,
) -> Result<Html<String>, PageProblem> {
    let funnel = app.funnel(&slug)?;
    let result = app.answer(funnel, &viewer.scope, &asked).await?;
    let url = funnel_url(&slug);
    let period = asked.query();
    let api = format!("/api/v1/funnels/{slug}");
    let files = ReportFormat::ALL.map(|format| Download {
        label: format.label(),
        url: format!("{api}/report.{}{period}", format.extension()),
    });
    let json = Download {
        label: "JSON",
        url: format!("{api}{period}"),
    };
    html(&FunnelPage {
        page: Page::new(&app, &viewer, &funnel.definition.name, &slug),
        title: funnel.definition.name.clone(),
        period: asked.label(&funnel.definition),
        live_url: format!("{url}/live{period}"),
        downloads: files.into_iter().chain([json]).collect(),
        funnel: view(funnel, &asked, &result),
    })
}

/// The view of an answer for a period.
pub(super) fn view(funnel: &Funnel, asked: &Asked, result: &Arc<FunnelResult>) -> FunnelView {
    let report = Report::new(&funnel.definition.name, "", result);
    let first = result.steps.first().map_or(0, |step| step.count);
    let bins = result
        .time_to_convert_s
        .iter()
        .flat_map(|whole| &whole.histogram);
    let highest = bins.clone().map(|bin| bin.count).max().unwrap_or(0);
    let last = result.steps.len();
    FunnelView {
        finding: report.finding(),
        tiles: tiles(&report, result),
        steps: result
            .steps
            .iter()
            .map(|step| {
                let leads = step.step < last && step.drop_off > 0;
                let url = format!(
                    "{}/steps/{}{}",
                    funnel_url(&funnel.slug),
                    step.step,
                    asked.query()
                );
                step_view(step, first, leads.then_some(url))
            })
            .collect(),
        histogram: bins
            .map(|bin| Bar {
                label: duration_label(bin.from),
                count: grouped(bin.count),
                // The tallest bar leaves room for its number.
                height: words::width(bin.count * 85, highest * 100),
            })
            .collect(),
        breakdown: breakdown(result),
        breakdown_note: match result.breakdown_omitted {
            0 => String::new(),
            omitted => format!("and {} more", words::counted(omitted, "value", "values")),
        },
        trend: trend(result),
        updated: format!("Updated {}", Timestamp::now().strftime("%H:%M:%S UTC")),
        empty: first == 0,
    }
}

fn breakdown(result: &FunnelResult) -> Vec<ValueView> {
    let first = |steps: &[StepResult]| steps.first().map_or(0, |step| step.count);
    let most = result
        .breakdown
        .iter()
        .map(|row| first(&row.steps))
        .max()
        .unwrap_or(0);
    let view = |row: &BreakdownRow| ValueView {
        value: if row.value.is_empty() {
            "(none)".to_owned()
        } else {
            row.value.clone()
        },
        counts: row.steps.iter().map(|step| grouped(step.count)).collect(),
        width: words::width(first(&row.steps), most),
        conversion: percent(row.steps.last().and_then(|step| step.conversion_from_start)),
    };
    result.breakdown.iter().map(view).collect()
}

fn trend(result: &FunnelResult) -> Vec<TrendView> {
    let most = result
        .trend
        .iter()
        .map(|point| point.entered)
        .max()
        .unwrap_or(0);
    let view = |point: &TrendPoint| TrendView {
        // The day, and the hour where it says something.
        label: point
            .bucket
            .get(..16)
            .unwrap_or(&point.bucket)
            .replace('T', " ")
            .replace(" 00:00", ""),
        entered: grouped(point.entered),
        converted: grouped(point.converted),
        height: words::width(point.entered * 85, most * 100),
        converted_height: words::width(point.converted * 85, most * 100),
    };
    let skipped = result.trend.len().saturating_sub(BUCKETS_SHOWN);
    result.trend.iter().skip(skipped).map(view).collect()
}

fn tiles(report: &Report, result: &FunnelResult) -> Vec<Tile> {
    let (Some(first), Some(last)) = (result.steps.first(), result.steps.last()) else {
        return Vec::new();
    };
    let whole = result.time_to_convert_s.as_ref();
    let worst = report.worst();
    let failed: u64 = result.steps.iter().map(|step| step.errors).sum();
    let buyers = |count| words::counted(count, "buyer", "buyers");
    vec![
        Tile {
            label: "Conversion",
            value: percent(last.conversion_from_start),
            note: format!("{} of {}", grouped(last.count), buyers(first.count)),
        },
        Tile {
            label: "Median time to convert",
            value: words::or_dash(whole, |whole| words::seconds(whole.median)),
            note: words::or_dash(whole, |whole| {
                format!("90% within {}", words::seconds(whole.p90))
            }),
        },
        Tile {
            label: "Biggest loss",
            value: words::or_dash(worst, |(from, to)| format!("{} → {}", from.name, to.name)),
            note: words::or_dash(worst, |(from, _)| buyers(from.drop_off)),
        },
        Tile {
            label: "Failed attempts",
            value: grouped(failed),
            note: "refused or broken in the shop".to_owned(),
        },
    ]
}

fn step_view(step: &StepResult, first: u64, drop_url: Option<String>) -> StepView {
    let times = step.time_from_previous_s;
    StepView {
        number: step.step,
        name: step.name.clone(),
        count: grouped(step.count),
        width: words::width(step.count, first),
        lost_width: words::width(step.drop_off, first),
        of_previous: percent(step.conversion_from_previous),
        of_start: percent(step.conversion_from_start),
        drop_off: grouped(step.drop_off),
        drop_share: format!("{}%", tenths(step.drop_off, step.count)),
        drop_url,
        median_time: words::or_dash(times, |times| words::seconds(times.median)),
        p90_time: words::or_dash(times, |times| words::seconds(times.p90)),
        latency_mean: words::or_dash(step.latency_ms, |latency| words::milliseconds(latency.mean)),
        latency_p95: words::or_dash(step.latency_ms, |latency| words::milliseconds(latency.p95)),
        errors: grouped(step.errors),
        has_errors: step.errors > 0,
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn tenths(part: u64, whole: u64) -> String {
    format!("{:.1}", part as f64 * 100.0 / whole.max(1) as f64)
}
