//! One trace as a waterfall: what the kernel saw and what the services told, in one tree.

use std::collections::BTreeMap;

use axum::{extract::State, response::Html};
use funnel_engine::percent;
use funnel_report::grouped;

use super::{Page, PageProblem, html, words};
use crate::{
    access::PageViewer,
    api::read_trace,
    extract::Param,
    server::App,
    trace::{Node, Source, Tree},
};

/// Colours of the style sheet.
const COLOURS: usize = 8;
/// Indentations of the style sheet; deeper spans stand under these.
const DEPTH_MAX: usize = 12;

#[derive(askama::Template)]
#[template(path = "trace.html")]
struct TracePage {
    page: Page,
    trace_id: String,
    root: String,
    started: String,
    duration: String,
    span_count: String,
    kernel_count: String,
    service_count: String,
    error_count: String,
    has_errors: bool,
    services: Vec<Service>,
    ticks: Vec<Tick>,
    spans: Vec<SpanView>,
    waterfall_note: String,
}

struct Service {
    name: String,
    color: usize,
    share: String,
    width: String,
}

struct Tick {
    x: String,
    label: String,
}

struct SpanView {
    depth: usize,
    name: String,
    service: String,
    color: usize,
    source: &'static str,
    kind: String,
    x: String,
    width: String,
    duration: String,
    offset: String,
    error: bool,
    status: String,
    attributes: Vec<(String, String)>,
}

pub(super) async fn page(
    PageViewer(viewer): PageViewer,
    State(app): State<App>,
    Param(trace_id): Param<String>,
) -> Result<Html<String>, PageProblem> {
    let (tree, cut) = read_trace(&app, &viewer.scope, &trace_id).await?;
    let (start, whole) = tree.extent();
    let root = tree.nodes.first().map(|node| node.span.span_name.clone());
    let (services, colours) = services(&tree);
    let of = |source| {
        tree.nodes
            .iter()
            .filter(|node| node.source == source)
            .count() as u64
    };
    let errors = tree.nodes.iter().filter(|node| failed(node)).count() as u64;
    let spans = tree
        .nodes
        .iter()
        .map(|node| span_view(node, start, whole, &colours));
    html(&TracePage {
        page: Page::new(&app, &viewer, &format!("Trace {trace_id}"), ""),
        trace_id,
        root: root.unwrap_or_default(),
        started: crate::api::timestamp(start)
            .strftime("%b %-d, %Y %H:%M:%S%.3f UTC")
            .to_string(),
        duration: words::nanoseconds(whole),
        span_count: grouped(tree.nodes.len() as u64),
        kernel_count: grouped(of(Source::Kernel)),
        service_count: grouped(of(Source::Service)),
        error_count: grouped(errors),
        has_errors: errors > 0,
        services,
        ticks: ticks(whole),
        spans: spans.collect(),
        waterfall_note: note(&tree, cut),
    })
}

/// What a reader should know about this trace.
fn note(tree: &Tree, cut: bool) -> String {
    let mut text = String::from(
        "Kernel spans are measured where the bytes enter and leave each process; service spans are what the services themselves reported, matched by trace id.",
    );
    let mut roots = tree.nodes.iter().filter(|node| node.depth == 0);
    if roots.any(|root| !root.span.parent_span_id.is_empty()) {
        text.push_str(" Some spans name a parent that is not here: services send theirs some seconds late, and callers outside may send none.");
    }
    if cut {
        text.push_str(" This trace has more spans than are shown; the first 2,000 by time are.");
    }
    text
}

fn failed(node: &Node) -> bool {
    matches!(
        node.span.status_code.as_str(),
        "Error" | "STATUS_CODE_ERROR"
    )
}

/// Services by their share of the time, and the colour of each.
fn services(tree: &Tree) -> (Vec<Service>, BTreeMap<String, usize>) {
    let mut own: BTreeMap<&str, u64> = BTreeMap::new();
    for node in &tree.nodes {
        *own.entry(&node.span.service_name).or_default() += node.self_ns;
    }
    let whole: u64 = own.values().sum();
    let mut by_share: Vec<(&str, u64)> = own.into_iter().collect();
    by_share.sort_by_key(|(_, own)| std::cmp::Reverse(*own));
    let colour = |index: usize| index % COLOURS;
    let services = by_share
        .iter()
        .enumerate()
        .map(|(index, (name, own))| Service {
            name: (*name).to_owned(),
            color: colour(index),
            share: percent(share(*own, whole)),
            width: words::width(*own, whole),
        });
    let colours = by_share.iter().enumerate();
    let colours = colours.map(|(index, (name, _))| ((*name).to_owned(), colour(index)));
    (services.collect(), colours.collect())
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn span_view(node: &Node, start: i64, whole: u64, colours: &BTreeMap<String, usize>) -> SpanView {
    let span = &node.span;
    let offset = span.timestamp.abs_diff(start);
    let http = span
        .span_attributes
        .iter()
        .find(|(name, _)| name == "http.response.status_code");
    let status = http.map_or(span.status_code.as_str(), |(_, status)| status);
    let mut attributes = span.span_attributes.clone();
    attributes.sort();
    SpanView {
        depth: node.depth.min(DEPTH_MAX),
        name: span.span_name.clone(),
        service: span.service_name.clone(),
        color: colours.get(&span.service_name).copied().unwrap_or(0),
        source: match node.source {
            Source::Kernel => "kernel",
            Source::Service => "service",
        },
        kind: span.span_kind.to_lowercase(),
        x: words::width(offset, whole),
        width: words::width(span.duration.max(whole / 500), whole),
        duration: words::nanoseconds(span.duration),
        offset: words::nanoseconds(offset),
        error: failed(node),
        status: status.to_owned(),
        attributes,
    }
}

/// Four to eight round marks: steps of 1, 2 or 5 times a power of ten nanoseconds.
fn ticks(whole: u64) -> Vec<Tick> {
    let powers = (0..=18_u32).map(|exponent| 10_u64.pow(exponent));
    let mut steps = powers.flat_map(|power| [1, 2, 5].map(|factor| power.saturating_mul(factor)));
    let step = steps.find(|step| whole / step <= 5).unwrap_or(u64::MAX);
    let marks = (0..=5_u64).map(|index| index.saturating_mul(step));
    marks
        .take_while(|mark| *mark <= whole)
        .map(|mark| Tick {
            x: words::width(mark, whole),
            label: label(mark),
        })
        .collect()
}

/// A mark's time, as short as it is round.
#[expect(clippy::cast_precision_loss, reason = "marks are round")]
fn label(ns: u64) -> String {
    match ns {
        0 => "0".to_owned(),
        1..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{} ms", ns as f64 / 1e6),
        _ => format!("{} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use event_store::SpanRow;

    use super::*;

    #[test]
    fn a_parent_that_is_missing_is_explained() {
        let span = |id: &str, parent: &str| SpanRow {
            span_id: id.to_owned(),
            parent_span_id: parent.to_owned(),
            ..SpanRow::default()
        };
        let whole = Tree::new(vec![span("a", ""), span("b", "a")]);
        let late = Tree::new(vec![span("b", "a")]);
        assert!(!note(&whole, false).contains("not here"));
        assert!(note(&late, false).contains("not here"));
        assert!(note(&whole, true).contains("first 2,000"));
    }
}
