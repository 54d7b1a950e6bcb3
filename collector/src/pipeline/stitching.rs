//! Calls without trace context: held until it is known which request caused them, then handed out with its trace.
//!
//! Owns: exchanges that wait, and the order in which chains of them are let go (a call that waits may itself be the
//! cause of another). Which request it was is decided in `attribution/stitch.rs`.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::{
    attribution::stitch::{Call, HELD_CALLS_MAX, Parent, Resolved, ServerSpan, Stitcher},
    clock::MonotonicNs,
    exchange::{Exchange, Outcome},
};

/// With more requests open in the calling service than this, nothing is claimed: hardly ever would just one be left,
/// and comparing all with all is what would cost most.
const OPEN_MAX: u32 = 64;

/// Calls whose final trace is remembered for calls that they caused.
const SETTLED_MAX: usize = 16_384;

/// One end of an exchange, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    /// Stands for all processes of the calling service.
    pub(super) group: u32,
    pub(super) thread: Option<u32>,
}

/// What goes with an exchange that is complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completed {
    /// As told to [`Stitching::begin`].
    pub(super) key: u64,
    pub(super) started: MonotonicNs,
    pub(super) ended: MonotonicNs,
    /// Of the service that answered.
    pub(super) group: Option<u32>,
    pub(super) answering_thread: Option<u32>,
    pub(super) caller: Option<Caller>,
    /// The request named its cause itself.
    pub(super) has_context: bool,
}

#[derive(Debug, Default)]
pub(super) struct Stitching {
    stitcher: Stitcher,
    /// Services that were seen to call a watched one; only their requests can be causes.
    calling: HashSet<u32>,
    held: HashMap<u64, Exchange>,
    by_span: HashMap<String, u64>,
    /// Requests open per service.
    open: HashMap<u32, u32>,
    is_off: bool,
    /// Traces of calls that were handed out with another than their own, newest last.
    settled: HashMap<String, String>,
    settled_by_age: VecDeque<String>,
    /// Calls whose cause is known, but waits itself.
    behind: HashMap<u64, Vec<(u64, Parent)>>,
    next: u64,
    resolved: Vec<Resolved>,
}

impl Stitching {
    /// Holds nothing from now on.
    pub(super) fn switch_off(&mut self) {
        self.is_off = true;
    }

    /// A service was seen to open a connection to a watched one.
    pub(super) fn calls(&mut self, group: u32) {
        self.calling.insert(group);
    }

    /// Whether requests of a service are of interest.
    pub(super) fn follows(&self, group: u32) -> bool {
        !self.is_off && self.calling.contains(&group)
    }

    /// A request was received.
    pub(super) fn begin(&mut self, group: u32, key: u64, started: MonotonicNs) {
        *self.open.entry(group).or_default() += 1;
        self.stitcher.begin(ServerSpan {
            key,
            pid: group,
            started,
        });
    }

    /// An exchange is complete: it is handed out, or held when its cause is to be found.
    pub(super) fn complete(
        &mut self,
        exchange: Exchange,
        with: &Completed,
        out: &mut Vec<Exchange>,
    ) {
        if with.group.is_some_and(|group| self.follows(group))
            && let (Some(trace_id), Some(span_id)) = (&exchange.trace_id, &exchange.span_id)
        {
            let (trace_id, span_id) = (trace_id.clone(), span_id.clone());
            let open = with.group.and_then(|group| self.open.get_mut(&group));
            if let Some(open) = open {
                *open = open.saturating_sub(1);
            }
            match exchange.outcome {
                Outcome::Ok | Outcome::Error => {
                    let thread = with.answering_thread;
                    self.stitcher
                        .end(with.key, with.ended, thread, trace_id, span_id);
                }
                Outcome::Aborted | Outcome::Truncated => {
                    self.stitcher
                        .abandon(with.key, with.ended, trace_id, span_id);
                }
            }
        }
        let caller = with
            .caller
            .filter(|_| self.held.len() < HELD_CALLS_MAX)
            .filter(|caller| !with.has_context && self.follows(caller.group))
            .filter(|caller| {
                self.open
                    .get(&caller.group)
                    .is_none_or(|open| *open <= OPEN_MAX)
            });
        let Some(caller) = caller else {
            out.push(exchange);
            return;
        };
        self.next += 1;
        let id = self.next;
        if let Some(span_id) = &exchange.span_id {
            self.by_span.insert(span_id.clone(), id);
        }
        self.held.insert(id, exchange);
        self.stitcher.call(Call {
            id,
            pid: caller.group,
            thread: caller.thread,
            started: with.started,
            ended: with.ended,
        });
    }

    /// Hands out calls whose cause has been decided.
    pub(super) fn resolve(&mut self, now: MonotonicNs, out: &mut Vec<Exchange>) {
        if self.held.is_empty() {
            return;
        }
        let mut resolved = std::mem::take(&mut self.resolved);
        self.stitcher.resolved(now, &mut resolved);
        for answer in resolved.drain(..) {
            match answer.parent {
                Some(parent) => self.settle(answer.id, parent, out),
                None => self.let_go(answer.id, answer.candidates, out),
            }
        }
        self.resolved = resolved;
    }

    /// Hands out everything as it stands.
    pub(super) fn finish(&mut self, out: &mut Vec<Exchange>) {
        let mut ids: Vec<u64> = self.held.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.let_go(id, 0, out);
        }
    }

    fn let_go(&mut self, id: u64, candidates: u32, out: &mut Vec<Exchange>) {
        let Some(mut exchange) = self.take(id) else {
            return;
        };
        if candidates > 1 {
            let attributes = &mut exchange.attributes;
            attributes.insert("stitch_candidates".to_owned(), candidates.to_string());
        }
        self.hand_out(id, exchange, out);
    }

    fn settle(&mut self, id: u64, parent: Parent, out: &mut Vec<Exchange>) {
        if let Some(cause) = self.by_span.get(&parent.span_id)
            && *cause != id
        {
            self.behind.entry(*cause).or_default().push((id, parent));
            return;
        }
        let Some(mut exchange) = self.take(id) else {
            return;
        };
        // The cause may have been a call itself, and have got its trace since.
        let trace_id = self.settled.get(&parent.span_id).cloned();
        exchange.trace_id = Some(trace_id.unwrap_or(parent.trace_id));
        self.remember(&exchange);
        exchange.parent_span_id = Some(parent.span_id);
        let attributes = &mut exchange.attributes;
        attributes.insert("stitched_by".to_owned(), parent.reason.to_owned());
        let confidence = format!("{:.2}", parent.confidence);
        attributes.insert("stitch_confidence".to_owned(), confidence);
        self.hand_out(id, exchange, out);
    }

    fn remember(&mut self, exchange: &Exchange) {
        let (Some(span_id), Some(trace_id)) = (&exchange.span_id, &exchange.trace_id) else {
            return;
        };
        if self.settled_by_age.len() >= SETTLED_MAX
            && let Some(oldest) = self.settled_by_age.pop_front()
        {
            self.settled.remove(&oldest);
        }
        self.settled.insert(span_id.clone(), trace_id.clone());
        self.settled_by_age.push_back(span_id.clone());
    }

    fn take(&mut self, id: u64) -> Option<Exchange> {
        let exchange = self.held.remove(&id)?;
        if let Some(span_id) = &exchange.span_id {
            self.by_span.remove(span_id);
        }
        Some(exchange)
    }

    fn hand_out(&mut self, id: u64, exchange: Exchange, out: &mut Vec<Exchange>) {
        let trace_id = exchange.trace_id.clone();
        out.push(exchange);
        for (behind, parent) in self.behind.remove(&id).unwrap_or_default() {
            let trace_id = trace_id.clone().unwrap_or_default();
            self.settle(behind, Parent { trace_id, ..parent }, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::UnixNanos, exchange::Role};
    use std::{collections::BTreeMap, net::IpAddr};

    fn exchange(name: &str) -> Exchange {
        let address: IpAddr = "127.0.0.1".parse().unwrap();
        Exchange {
            timestamp: UnixNanos(0),
            duration_ns: 1,
            ttfb_ns: None,
            role: Role::Server,
            service: None,
            pid: None,
            process: None,
            method: None,
            path: Some(format!("/{name}")),
            route: None,
            host: None,
            status_code: Some(200),
            protocol: "http/1.1",
            tls: false,
            request_bytes: 0,
            response_bytes: 0,
            client_address: address,
            client_port: 1,
            server_address: address,
            server_port: 2,
            tenant_id: None,
            user_id: None,
            session_id: None,
            trace_id: Some(format!("trace-{name}")),
            span_id: Some(format!("span-{name}")),
            parent_span_id: None,
            event: None,
            outcome: Outcome::Ok,
            attributes: BTreeMap::new(),
        }
    }

    /// The services, by the number that stands for their processes: the gateway calls the cart, the cart the stock.
    const GATEWAY: u32 = 10;
    const CART: u32 = 20;
    const STOCK: u32 = 30;

    struct Story {
        stitching: Stitching,
        out: Vec<Exchange>,
    }

    impl Story {
        fn begin() -> Self {
            let mut stitching = Stitching::default();
            stitching.calls(GATEWAY);
            stitching.calls(CART);
            Self {
                stitching,
                out: Vec::new(),
            }
        }

        fn starts(&mut self, at: u64, service: u32, key: u64) {
            self.stitching.begin(service, key, MonotonicNs(at));
        }

        fn ends(&mut self, (from, to): (u64, u64), name: &str, key: u64, with: (u32, Option<u32>)) {
            let (service, caller) = with;
            let completed = Completed {
                key,
                started: MonotonicNs(from),
                ended: MonotonicNs(to),
                group: Some(service),
                answering_thread: Some(service + 1),
                caller: caller.map(|group| Caller {
                    group,
                    thread: Some(group + 1),
                }),
                has_context: false,
            };
            self.stitching
                .complete(exchange(name), &completed, &mut self.out);
            self.stitching.resolve(MonotonicNs(to), &mut self.out);
        }

        fn told(&self) -> Vec<(&str, &str, Option<&str>)> {
            self.out
                .iter()
                .map(|exchange| {
                    (
                        exchange.path.as_deref().unwrap(),
                        exchange.trace_id.as_deref().unwrap(),
                        exchange.parent_span_id.as_deref(),
                    )
                })
                .collect()
        }
    }

    #[test]
    fn a_chain_of_calls_becomes_one_trace_once_the_first_request_has_ended() {
        let mut story = Story::begin();
        story.starts(1, GATEWAY, 1);
        story.starts(2, CART, 2);
        story.ends((3, 4), "stock", 3, (STOCK, Some(CART)));
        story.ends((2, 5), "cart", 2, (CART, Some(GATEWAY)));
        assert!(story.out.is_empty(), "both wait for their causes");
        story.ends((1, 6), "gateway", 1, (GATEWAY, None));
        assert_eq!(
            story.told(),
            [
                ("/gateway", "trace-gateway", None),
                ("/cart", "trace-gateway", Some("span-gateway")),
                ("/stock", "trace-gateway", Some("span-cart")),
            ]
        );
        let confidence = &story.out[1].attributes["stitch_confidence"];
        assert_eq!(confidence, "0.90");
    }

    #[test]
    fn where_two_requests_could_have_caused_it_nothing_is_claimed() {
        let mut story = Story::begin();
        story.starts(1, GATEWAY, 1);
        story.starts(1, GATEWAY, 2);
        story.ends((2, 3), "cart", 9, (CART, Some(GATEWAY)));
        // Both are answered by the thread that made the call, so that threads prove nothing either.
        story.ends((1, 4), "one", 1, (GATEWAY, None));
        story.ends((1, 5), "other", 2, (GATEWAY, None));
        let cart = story
            .out
            .iter()
            .find(|one| one.path.as_deref() == Some("/cart"));
        let cart = cart.unwrap();
        assert_eq!(cart.trace_id.as_deref(), Some("trace-cart"), "its own");
        assert_eq!(cart.parent_span_id, None);
        assert_eq!(cart.attributes["stitch_candidates"], "2");
    }

    #[test]
    fn switched_off_everything_is_handed_out_at_once() {
        let mut story = Story::begin();
        story.stitching.switch_off();
        story.starts(1, GATEWAY, 1);
        story.ends((2, 3), "cart", 9, (CART, Some(GATEWAY)));
        assert_eq!(story.told(), [("/cart", "trace-cart", None)]);
    }
}
