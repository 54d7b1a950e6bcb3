//! One trace as data: its spans in tree order.

use axum::{Json, extract::State};
use event_store::Scope;
use serde_json::{Value, json};

use crate::{
    access::Viewer,
    extract::Param,
    problem::Problem,
    server::App,
    trace::{Node, Tree},
};

/// Spans read of one trace; a longer one is cut, and says so.
const SPANS_MAX: u64 = 2_000;

pub(super) async fn trace(
    viewer: Viewer,
    State(app): State<App>,
    Param(trace_id): Param<String>,
) -> Result<Json<Value>, Problem> {
    let (tree, cut) = read_trace(&app, &viewer.scope, &trace_id).await?;
    let spans: Vec<Value> = tree.nodes.iter().map(span).collect();
    Ok(Json(
        json!({ "trace_id": trace_id, "cut": cut, "spans": spans }),
    ))
}

/// The tree, and whether spans beyond the limit were left out.
pub(crate) async fn read_trace(
    app: &App,
    scope: &Scope,
    trace_id: &str,
) -> Result<(Tree, bool), Problem> {
    let is_id = trace_id.len() == 32 && trace_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id {
        return Err(Problem::bad_request(
            "A trace id has 32 hexadecimal digits.".to_owned(),
            "Copy it whole.",
        ));
    }
    let trace_id = trace_id.to_ascii_lowercase();
    let spans = app.store.trace(scope, &trace_id, SPANS_MAX).await?;
    if spans.is_empty() {
        return Err(Problem::not_found("trace"));
    }
    let cut = spans.len() as u64 >= SPANS_MAX;
    Ok((Tree::new(spans), cut))
}

fn span(node: &Node) -> Value {
    let span = &node.span;
    let attributes: serde_json::Map<String, Value> = span
        .span_attributes
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into()))
        .collect();
    json!({
        "span_id": span.span_id, "parent_span_id": node.parent, "depth": node.depth, "source": node.source,
        "service": span.service_name, "name": span.span_name, "kind": span.span_kind,
        "start": super::lists::timestamp(span.timestamp), "duration_ns": span.duration, "self_ns": node.self_ns,
        "status": span.status_code, "attributes": attributes,
    })
}
