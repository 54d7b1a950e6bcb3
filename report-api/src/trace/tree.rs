//! Joining at read time: which span stands under which, and how much of the time was its own.
//!
//! A request seen by the kernel encloses what the service says about the same request. The service's answer
//! carries its span's id (`traceresponse`), which the collector keeps as `weir.service_span_id`; where it is missing,
//! the service's server span with the same name of service and the same parent is taken. The stored spans stay
//! as they came.

use std::collections::{BTreeMap, BTreeSet};

use event_store::SpanRow;
use serde::Serialize;

/// The scope name of spans that the collector makes.
const COLLECTOR_SCOPE: &str = "weir.collector";
/// Where the collector keeps the id of the service's own span.
const SERVICE_SPAN: &str = "weir.service_span_id";

/// Who reported a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Observed by the kernel probes.
    Kernel,
    /// Told by the service.
    Service,
}

/// A span in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// As it is stored.
    pub span: SpanRow,
    /// Who reported it.
    pub source: Source,
    /// The span above; none for a root.
    pub parent: Option<String>,
    /// Spans above it.
    pub depth: usize,
    /// Time that no child covers, ns.
    pub self_ns: u64,
}

/// The spans of one trace, each after its parent, siblings by time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// In order.
    pub nodes: Vec<Node>,
}

impl Tree {
    /// From the spans of one trace, in any order.
    pub fn new(spans: Vec<SpanRow>) -> Self {
        let mut by_id: BTreeMap<String, SpanRow> = BTreeMap::new();
        for span in spans {
            by_id.entry(span.span_id.clone()).or_insert(span);
        }
        let parents = parents(&by_id);
        let mut children: BTreeMap<Option<&str>, Vec<&SpanRow>> = BTreeMap::new();
        for span in by_id.values() {
            let parent = parents.get(span.span_id.as_str()).copied();
            children.entry(parent).or_default().push(span);
        }
        for siblings in children.values_mut() {
            siblings.sort_by_key(|span| (span.timestamp, std::cmp::Reverse(span.duration)));
        }
        let mut tree = Self::default();
        let mut placed = BTreeSet::new();
        let roots = children.get(&None).cloned().unwrap_or_default();
        tree.place(&roots, &children, &mut placed);
        // Spans that name each other as parents hang under no root; each such ring opens at its first span.
        let mut rest: Vec<&SpanRow> = by_id.values().collect();
        rest.sort_by_key(|span| span.timestamp);
        for span in rest {
            tree.place(&[span], &children, &mut placed);
        }
        tree
    }

    /// Depth first, without recursion: a trace may be as deep as it has spans.
    fn place<'a>(
        &mut self,
        roots: &[&'a SpanRow],
        children: &BTreeMap<Option<&'a str>, Vec<&'a SpanRow>>,
        placed: &mut BTreeSet<&'a str>,
    ) {
        let roots = roots.iter().rev();
        let mut open: Vec<(&SpanRow, Option<&str>, usize)> =
            roots.map(|span| (*span, None, 0)).collect();
        while let Some((span, parent, depth)) = open.pop() {
            let id = span.span_id.as_str();
            if !placed.insert(id) {
                continue;
            }
            self.push(span, parent, depth, children);
            let below = children.get(&Some(id)).into_iter().flatten().rev();
            open.extend(below.map(|child| (*child, Some(id), depth + 1)));
        }
    }

    fn push(
        &mut self,
        span: &SpanRow,
        parent: Option<&str>,
        depth: usize,
        children: &BTreeMap<Option<&str>, Vec<&SpanRow>>,
    ) {
        let below = children.get(&Some(span.span_id.as_str()));
        self.nodes.push(Node {
            span: span.clone(),
            source: source_of(span),
            parent: parent.map(str::to_owned),
            depth,
            self_ns: own_time(span, below.map_or(&[], Vec::as_slice)),
        });
    }

    /// First instant, and how long it all took, ns.
    pub fn extent(&self) -> (i64, u64) {
        let spans = || self.nodes.iter().map(|node| &node.span);
        let start = spans().map(|span| span.timestamp).min().unwrap_or(0);
        let end = spans().map(end_of).max().unwrap_or(0);
        (start, end.abs_diff(start))
    }
}

fn source_of(span: &SpanRow) -> Source {
    if span.scope_name == COLLECTOR_SCOPE {
        Source::Kernel
    } else {
        Source::Service
    }
}

/// The parent of each span that has one in this trace, after joining.
fn parents(by_id: &BTreeMap<String, SpanRow>) -> BTreeMap<&str, &str> {
    let mut parents: BTreeMap<&str, &str> = BTreeMap::new();
    for span in by_id.values() {
        if let Some((parent, _)) = by_id.get_key_value(&span.parent_span_id)
            && *parent != span.span_id
        {
            parents.insert(&span.span_id, parent);
        }
    }
    let mut adopted = BTreeSet::new();
    for kernel in by_id
        .values()
        .filter(|span| is_server(span, Source::Kernel))
    {
        let told = |span: &&SpanRow| is_server(span, Source::Service);
        let named = kernel
            .span_attributes
            .iter()
            .find(|(name, _)| name == SERVICE_SPAN);
        let named = named.and_then(|(_, id)| by_id.get(id)).filter(told);
        let alike = || {
            by_id.values().filter(told).find(|span| {
                span.service_name == kernel.service_name
                    && span.parent_span_id == kernel.parent_span_id
                    && !adopted.contains(span.span_id.as_str())
            })
        };
        if let Some(service) = named.or_else(alike) {
            adopted.insert(service.span_id.as_str());
            parents.insert(&service.span_id, &kernel.span_id);
        }
    }
    parents
}

fn is_server(span: &SpanRow, source: Source) -> bool {
    span.span_kind == "Server" && source_of(span) == source
}

fn end_of(span: &SpanRow) -> i64 {
    span.timestamp.saturating_add_unsigned(span.duration)
}

/// The part of a span that none of its children covers; `children` are sorted by start.
fn own_time(span: &SpanRow, children: &[&SpanRow]) -> u64 {
    let (start, end) = (span.timestamp, end_of(span));
    let (mut covered, mut until) = (0, start);
    for child in children {
        let from = child.timestamp.max(until);
        let to = end_of(child).min(end);
        if to > from {
            covered += to.abs_diff(from);
            until = to;
        }
    }
    span.duration.saturating_sub(covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: &str, at: i64, duration: u64) -> SpanRow {
        SpanRow {
            span_id: id.to_owned(),
            parent_span_id: parent.to_owned(),
            timestamp: at,
            duration,
            service_name: "gateway".to_owned(),
            span_kind: "Server".to_owned(),
            ..SpanRow::default()
        }
    }

    fn kernel(id: &str, parent: &str, at: i64, duration: u64) -> SpanRow {
        SpanRow {
            scope_name: COLLECTOR_SCOPE.to_owned(),
            ..span(id, parent, at, duration)
        }
    }

    fn shape(spans: Vec<SpanRow>) -> Vec<(String, usize)> {
        let tree = Tree::new(spans);
        let nodes = tree.nodes.into_iter();
        nodes.map(|node| (node.span.span_id, node.depth)).collect()
    }

    fn at(id: &str, depth: usize) -> (String, usize) {
        (id.to_owned(), depth)
    }

    #[test]
    fn the_kernels_request_encloses_the_services_and_what_it_calls() {
        let mut outer = kernel("k1", "", 0, 100);
        outer.span_attributes = vec![(SERVICE_SPAN.to_owned(), "s1".to_owned())];
        let mut call = span("c", "s1", 20, 50);
        call.span_kind = "Client".to_owned();
        let inner_kernel = SpanRow {
            service_name: "orders".to_owned(),
            ..kernel("k2", "c", 25, 40)
        };
        let inner = SpanRow {
            service_name: "orders".to_owned(),
            ..span("s2", "c", 27, 30)
        };
        let spans = vec![inner, inner_kernel, call, span("s1", "", 5, 90), outer];
        assert_eq!(
            shape(spans),
            [
                at("k1", 0),
                at("s1", 1),
                at("c", 2),
                at("k2", 3),
                at("s2", 4)
            ]
        );
    }

    #[test]
    fn own_time_is_what_no_child_covers() {
        let spans = vec![
            span("a", "", 0, 100),
            span("b", "a", 10, 40),
            span("c", "a", 30, 40),
            span("d", "a", 90, 50),
        ];
        let tree = Tree::new(spans);
        let own: Vec<u64> = tree.nodes.iter().map(|node| node.self_ns).collect();
        assert_eq!(own, [30, 40, 40, 50], "10 to 70 and 90 to 100 are covered");
        assert_eq!(tree.extent(), (0, 140));
    }

    #[test]
    fn orphans_are_roots_repeats_are_one_and_rings_open_somewhere() {
        let spans = vec![
            span("a", "gone", 5, 1),
            span("a", "gone", 5, 1),
            span("x", "y", 1, 1),
            span("y", "x", 2, 1),
            span("z", "z", 3, 1),
        ];
        assert_eq!(
            shape(spans),
            [at("z", 0), at("a", 0), at("x", 0), at("y", 1)]
        );
        let deep: Vec<SpanRow> = (0..5_000)
            .map(|i| span(&format!("{i}"), &format!("{}", i - 1), i, 1))
            .collect();
        assert_eq!(
            Tree::new(deep).nodes.last().map(|node| node.depth),
            Some(4_999)
        );
        assert!(Tree::new(Vec::new()).nodes.is_empty());
    }
}
