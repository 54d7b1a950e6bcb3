//! Which request caused which call, where the call carries no trace context: by process, thread and time.
//!
//! Owns the one question "whose child is this call" and its stated confidence. Refuses to guess: when two requests
//! could have caused a call, it has no parent. Pure logic in the order of the records; no clock of its own.
//!
//! A request can only have caused a call that began after it. It is a *candidate* when it began before the call and
//! had not ended when the call began. One candidate is the parent. Of several, the one answered by the thread that
//! made the call is, as long as that thread is known to do one thing at a time: a thread that answers another
//! request while its own call is under way serves many requests at once, and from then on threads prove nothing in
//! that process. What remains unknown is the work that no request waits for; the confidence leaves room for it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Bound,
};

use crate::clock::MonotonicNs;

/// A call is held for this long after its end, and ended requests are remembered for as long, nanoseconds.
pub const HOLD_NS_MAX: u64 = 30_000_000_000;
/// Calls held at once; the one held longest is resolved as it stands when another comes.
pub const HELD_CALLS_MAX: usize = 4_096;
/// Requests open at once; further ones are refused, and nothing is claimed for [`HOLD_NS_MAX`] after.
pub const OPEN_SPANS_MAX: usize = 65_536;
/// Ended requests remembered; calls that began before the end of a forgotten one get no parent.
pub const ENDED_SPANS_MAX: usize = 65_536;
/// Answers that wait for [`Stitcher::resolved`]; beyond that the oldest are dropped and counted.
pub const ANSWERS_MAX: usize = 65_536;
/// Processes followed.
const PROCESSES_MAX: usize = 4_096;
/// A process once seen to serve many requests with one thread is taken to do so for this long, nanoseconds.
const SHARED_NS: u64 = 600_000_000_000;

const ONLY: (f32, &str) = (0.9, "only request in flight");
const SAME_THREAD: (f32, &str) = (0.8, "same thread");

/// A request that a watched process began to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerSpan {
    /// Names the request until its end; unique among those that are open.
    pub key: u64,
    /// The process that serves it. When its worker is not known yet, any number that stands for all owners of the
    /// port, in their calls as well: threads are unique over processes, so the rules hold for such a group.
    pub pid: u32,
    /// First byte of the request.
    pub started: MonotonicNs,
}

/// A call without trace context that a watched process made and that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Names the call in its [`Resolved`].
    pub id: u64,
    /// The process that made it, or the number of its group.
    pub pid: u32,
    /// The thread that wrote its first byte, when the kernel saw it.
    pub thread: Option<u32>,
    /// First byte of the request.
    pub started: MonotonicNs,
    /// Last byte of the response.
    pub ended: MonotonicNs,
}

/// The request that caused a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Parent {
    /// Trace of the request.
    pub trace_id: String,
    /// Span of the request.
    pub span_id: String,
    /// How sure this is, 0 to 1.
    pub confidence: f32,
    /// By which rule.
    pub reason: &'static str,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The call's.
    pub id: u64,
    /// Absent when no request, or more than one, could have caused it.
    pub parent: Option<Parent>,
    /// Requests that could have caused it.
    pub candidates: u32,
}

/// Every bound that was hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StitchCounts {
    /// Requests not followed because too many were open, or too many processes.
    pub spans_refused: u64,
    /// Ended requests forgotten before their time. Usual above 2,000 requests a second, and of no consequence unless
    /// calls take as long as the remembered requests reach back.
    pub spans_crowded_out: u64,
    /// Calls resolved before their candidates had ended because too many were held.
    pub calls_crowded_out: u64,
    /// Calls resolved because their candidates did not end in time.
    pub calls_timed_out: u64,
    /// Answers dropped because nobody fetched them.
    pub answers_dropped: u64,
}

#[derive(Debug)]
struct Ended {
    started: MonotonicNs,
    at: MonotonicNs,
    thread: Option<u32>,
    trace_id: String,
    span_id: String,
}

#[derive(Debug)]
struct Held {
    call: Call,
    /// Candidates that have not ended.
    open: u32,
}

/// Serial number of a call, with its start in front so that the order is that of time.
type HeldKey = (MonotonicNs, u64);

#[derive(Debug, Default)]
struct Process {
    open: BTreeSet<(MonotonicNs, u64)>,
    /// In the order of their ends.
    ended: VecDeque<Ended>,
    held: BTreeMap<HeldKey, Held>,
    /// Latest end of a request that is forgotten: the candidates of calls from before are not all known.
    forgotten: Option<MonotonicNs>,
    /// Latest end of a request that got no answer: whoever served it may still be at it.
    abandoned: Option<MonotonicNs>,
    /// When a thread was last seen to serve several requests at once.
    shared: Option<MonotonicNs>,
}

/// The candidates of one call.
#[derive(Default)]
struct Candidates<'a> {
    total: u32,
    open: u32,
    /// The first found of those that have ended.
    ended: Option<&'a Ended>,
    /// Ended ones whose thread is not known.
    threadless: u32,
    /// Ended ones answered by the thread of the call, and one of them.
    same: u32,
    same_ended: Option<&'a Ended>,
}

impl Process {
    fn candidates(&self, call: &Call) -> Candidates<'_> {
        let mut found = Candidates::default();
        let until = self
            .ended
            .iter()
            .rev()
            .take_while(|span| span.at >= call.started);
        for span in until.filter(|span| span.started < call.started) {
            found.total += 1;
            found.ended = Some(span);
            match span.thread {
                None => found.threadless += 1,
                Some(thread) if Some(thread) == call.thread => {
                    found.same += 1;
                    found.same_ended = Some(span);
                }
                Some(_) => {}
            }
        }
        let open = self.open.range(..(call.started, 0)).count();
        found.open = u32::try_from(open).unwrap_or(u32::MAX);
        found.total = found.total.saturating_add(found.open);
        found
    }

    /// Notes a thread that answered a request while its own call was under way.
    fn watch_threads(&mut self, call: &Call) {
        let during = self
            .ended
            .iter()
            .rev()
            .take_while(|span| span.at > call.started);
        let answered_another = call.thread.is_some()
            && during
                .filter(|span| span.at < call.ended)
                .any(|span| span.thread == call.thread);
        if answered_another {
            self.shared = self.shared.max(Some(call.ended));
        }
    }

    fn threads_prove_nothing(&self, call: &Call) -> bool {
        call.thread.is_none()
            || self
                .shared
                .is_some_and(|at| call.ended.since(at) < SHARED_NS)
    }

    fn resolve(&self, call: &Call) -> Resolved {
        let found = self.candidates(call);
        let all_known = found.open == 0 && self.forgotten.is_none_or(|at| at < call.started);
        let threads_prove = !self.threads_prove_nothing(call);
        // Whoever served an abandoned request may have made the call, and its thread is the one thing that tells.
        let only_by_thread = threads_prove
            && self
                .abandoned
                .is_some_and(|at| at < call.started && call.started.since(at) < HOLD_NS_MAX);
        let proof = match found.total {
            _ if !all_known => None,
            1 if !only_by_thread => found.ended.map(|span| (span, ONLY)),
            _ if threads_prove && found.threadless == 0 && found.same == 1 => {
                found.same_ended.map(|span| (span, SAME_THREAD))
            }
            _ => None,
        };
        Resolved {
            id: call.id,
            parent: proof.map(|(span, (confidence, reason))| Parent {
                trace_id: span.trace_id.clone(),
                span_id: span.span_id.clone(),
                confidence,
                reason,
            }),
            candidates: found.total,
        }
    }

    fn is_idle(&self) -> bool {
        self.open.is_empty() && self.ended.is_empty() && self.held.is_empty()
    }
}

/// Finds the parents of calls.
#[derive(Debug, Default)]
pub struct Stitcher {
    processes: HashMap<u32, Process>,
    open: HashMap<u64, (u32, MonotonicNs)>,
    /// The process of every ended request, in the order in which ends were told.
    ended: VecDeque<u32>,
    /// Held calls in the order in which they came.
    held: BTreeMap<u64, (u32, MonotonicNs)>,
    serial: u64,
    /// Nothing is claimed for calls that began until then: a request is missing.
    blind_until: Option<MonotonicNs>,
    answers: VecDeque<Resolved>,
    counts: StitchCounts,
}

impl Stitcher {
    /// A watched process began to serve a request. To be told at the request's first byte: what is told only when
    /// its head is whole may come after the calls that it caused.
    pub fn begin(&mut self, span: ServerSpan) {
        if self.open.contains_key(&span.key) {
            return;
        }
        if self.open.len() >= OPEN_SPANS_MAX || !self.has_room_for(span.pid) {
            self.counts.spans_refused += 1;
            let until = MonotonicNs(span.started.0.saturating_add(HOLD_NS_MAX));
            self.blind_until = self.blind_until.max(Some(until));
            return;
        }
        self.open.insert(span.key, (span.pid, span.started));
        let process = self.processes.entry(span.pid).or_default();
        process.open.insert((span.started, span.key));
        for (_, held) in process.held.range_mut(after(span.started)) {
            held.open += 1;
        }
    }

    /// A request was answered, by `responding_thread` when the kernel saw which one.
    pub fn end(
        &mut self,
        key: u64,
        ended: MonotonicNs,
        responding_thread: Option<u32>,
        trace_id: String,
        span_id: String,
    ) {
        if let Some((pid, started)) = self.open.remove(&key) {
            let span = Ended {
                started,
                at: ended,
                thread: responding_thread,
                trace_id,
                span_id,
            };
            self.close(pid, key, span);
        }
    }

    /// A request ended without a whole answer; the process may still be at work on it.
    pub fn abandon(&mut self, key: u64, ended: MonotonicNs, trace_id: String, span_id: String) {
        if let Some((pid, _)) = self.open.get(&key)
            && let Some(process) = self.processes.get_mut(pid)
        {
            process.abandoned = process.abandoned.max(Some(ended));
        }
        self.end(key, ended, None, trace_id, span_id);
    }

    /// A call without trace context is complete. Its [`Resolved`] comes once all candidates have ended.
    pub fn call(&mut self, call: Call) {
        let blind = self.is_blind_for(&call);
        let Some(process) = self.processes.get_mut(&call.pid) else {
            self.answer(Resolved {
                id: call.id,
                parent: None,
                candidates: 0,
            });
            return;
        };
        process.watch_threads(&call);
        let found = process.candidates(&call);
        let (total, open) = (found.total, found.open);
        self.serial += 1;
        let key = (call.started, self.serial);
        let is_settled = open == 0 || blind || (total > 1 && process.threads_prove_nothing(&call));
        process.held.insert(key, Held { call, open });
        self.held.insert(self.serial, (call.pid, call.started));
        if is_settled {
            self.settle(call.pid, key);
        } else if self.held.len() > HELD_CALLS_MAX
            && let Some((serial, (pid, started))) = self.held.pop_first()
        {
            self.counts.calls_crowded_out += 1;
            self.settle(pid, (started, serial));
        }
    }

    /// Hands out what is resolved, and at `now`, in the time of the records, gives up what has waited too long.
    pub fn resolved(&mut self, now: MonotonicNs, out: &mut Vec<Resolved>) {
        while let Some((serial, (pid, started))) = self.held.first_key_value() {
            let (pid, key) = (*pid, (*started, *serial));
            let held = self
                .processes
                .get(&pid)
                .and_then(|process| process.held.get(&key));
            if held.is_some_and(|held| now.since(held.call.ended) <= HOLD_NS_MAX) {
                break;
            }
            self.counts.calls_timed_out += 1;
            self.settle(pid, key);
        }
        while let Some(process) = self.ended.front().and_then(|pid| self.processes.get(pid))
            && process
                .ended
                .front()
                .is_none_or(|span| now.since(span.at) > HOLD_NS_MAX)
        {
            self.forget_first_ended();
        }
        out.extend(self.answers.drain(..));
    }

    /// The bounds that were hit, since the start.
    pub const fn counts(&self) -> StitchCounts {
        self.counts
    }

    fn has_room_for(&mut self, pid: u32) -> bool {
        if self.processes.len() >= PROCESSES_MAX && !self.processes.contains_key(&pid) {
            self.processes.retain(|_, process| !process.is_idle());
        }
        self.processes.len() < PROCESSES_MAX || self.processes.contains_key(&pid)
    }

    fn close(&mut self, pid: u32, key: u64, span: Ended) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        process.open.remove(&(span.started, key));
        let mut settled = Vec::new();
        for (key, held) in process.held.range_mut(after(span.started)) {
            held.open = held.open.saturating_sub(1);
            if held.open == 0 {
                settled.push(*key);
            }
        }
        // Ends are told nearly in order, so this looks at the last few only.
        let before = process.ended.iter().rposition(|other| other.at <= span.at);
        process.ended.insert(before.map_or(0, |at| at + 1), span);
        self.ended.push_back(pid);
        for key in settled {
            self.settle(pid, key);
        }
        if self.ended.len() > ENDED_SPANS_MAX {
            self.counts.spans_crowded_out += 1;
            self.forget_first_ended();
        }
    }

    fn settle(&mut self, pid: u32, key: HeldKey) {
        self.held.remove(&key.1);
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let Some(held) = process.held.remove(&key) else {
            return;
        };
        let mut resolved = process.resolve(&held.call);
        if self.is_blind_for(&held.call) {
            resolved.parent = None;
        }
        self.answer(resolved);
    }

    fn is_blind_for(&self, call: &Call) -> bool {
        self.blind_until.is_some_and(|until| call.started <= until)
    }

    fn answer(&mut self, resolved: Resolved) {
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.pop_front();
            self.counts.answers_dropped += 1;
        }
        self.answers.push_back(resolved);
    }

    fn forget_first_ended(&mut self) {
        let Some(pid) = self.ended.pop_front() else {
            return;
        };
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let forgotten = process.ended.pop_front().map(|span| span.at);
        process.forgotten = process.forgotten.max(forgotten);
        if process.is_idle() && process.shared.is_none() {
            self.processes.remove(&pid);
        }
    }
}

/// The held calls that began after an instant.
const fn after(at: MonotonicNs) -> (Bound<HeldKey>, Bound<HeldKey>) {
    (Bound::Excluded((at, u64::MAX)), Bound::Unbounded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;
    const NONE: [&str; 0] = [];

    /// A stitcher whose records are written down in milliseconds.
    #[derive(Default)]
    struct Story(Stitcher);

    impl Story {
        fn begin(&mut self, key: u64, at: u64) -> &mut Self {
            self.0.begin(ServerSpan {
                key,
                pid: 1,
                started: MonotonicNs(at * MS),
            });
            self
        }

        fn end(&mut self, key: u64, at: u64, thread: Option<u32>) -> &mut Self {
            let (trace, span) = (format!("t{key}"), format!("s{key}"));
            self.0.end(key, MonotonicNs(at * MS), thread, trace, span);
            self
        }

        fn abandon(&mut self, key: u64, at: u64) -> &mut Self {
            let (trace, span) = (format!("t{key}"), format!("s{key}"));
            self.0.abandon(key, MonotonicNs(at * MS), trace, span);
            self
        }

        fn call(&mut self, id: u64, thread: Option<u32>, started: u64, ended: u64) -> &mut Self {
            self.0.call(Call {
                id,
                pid: 1,
                thread,
                started: MonotonicNs(started * MS),
                ended: MonotonicNs(ended * MS),
            });
            self
        }

        /// All that is resolved, as `call: parent's span and confidence of candidates`.
        fn told(&mut self, now: u64) -> Vec<String> {
            let mut out = Vec::new();
            self.0.resolved(MonotonicNs(now * MS), &mut out);
            out.into_iter()
                .map(|resolved| {
                    let parent = resolved.parent.map_or_else(
                        || "none".to_owned(),
                        |it| format!("{} {}", it.span_id, it.confidence),
                    );
                    format!("{}: {parent} of {}", resolved.id, resolved.candidates)
                })
                .collect()
        }
    }

    #[test]
    fn a_lone_request_is_the_parent_once_it_has_ended() {
        let mut story = Story::default();
        story.begin(1, 10).call(7, None, 11, 12);
        assert_eq!(story.told(12), NONE);
        story.end(1, 13, None);
        assert_eq!(story.told(13), ["7: s1 0.9 of 1"]);
    }

    #[test]
    fn a_call_outside_of_any_request_has_no_parent() {
        let mut story = Story::default();
        story.call(1, None, 5, 6).begin(1, 10);
        story.call(2, None, 9, 11).call(3, None, 10, 11);
        story.end(1, 12, None).call(4, None, 13, 14);
        let none: Vec<_> = (1..=4).map(|id| format!("{id}: none of 0")).collect();
        assert_eq!(story.told(14), none);
    }

    #[test]
    fn a_request_that_begins_during_the_call_did_not_cause_it() {
        let mut story = Story::default();
        story.begin(1, 10).begin(2, 12).call(7, None, 11, 13);
        story.end(1, 14, None);
        assert_eq!(story.told(14), ["7: s1 0.9 of 1"]);
    }

    #[test]
    fn a_call_that_outlives_its_request_is_still_its_child() {
        let mut story = Story::default();
        story.begin(1, 10).end(1, 12, Some(3));
        story.begin(2, 13).call(7, Some(3), 11, 20);
        assert_eq!(story.told(20), ["7: s1 0.9 of 1"]);
    }

    #[test]
    fn of_several_the_one_answered_by_the_thread_of_the_call_is_the_parent() {
        let mut story = Story::default();
        story.begin(1, 10).begin(2, 10).begin(3, 10);
        story.call(7, Some(42), 11, 12).call(8, None, 11, 12);
        assert_eq!(
            story.told(12),
            ["8: none of 3"],
            "without a thread, nothing to wait for"
        );
        story.end(1, 13, Some(41)).end(2, 14, Some(42));
        assert_eq!(story.told(14), NONE);
        story.end(3, 15, Some(43));
        assert_eq!(story.told(15), ["7: s2 0.8 of 3"]);
    }

    #[test]
    fn nothing_is_claimed_when_threads_leave_a_doubt() {
        let doubts: [[Option<u32>; 2]; 3] =
            [[Some(42), Some(42)], [Some(42), None], [Some(41), Some(43)]];
        for threads in doubts {
            let mut story = Story::default();
            story.begin(1, 10).begin(2, 10).call(7, Some(42), 11, 12);
            story.end(1, 13, threads[0]).end(2, 14, threads[1]);
            assert_eq!(story.told(14), ["7: none of 2"], "{threads:?}");
        }
    }

    #[test]
    fn a_thread_that_answers_during_its_own_call_proves_nothing() {
        let mut story = Story::default();
        story.begin(1, 10).begin(2, 10).begin(3, 10);
        story.end(1, 12, Some(42)).call(7, Some(42), 11, 13);
        story.end(2, 14, Some(42)).end(3, 15, Some(43));
        assert_eq!(story.told(15), ["7: none of 3"]);
        // It is remembered for the next.
        story.begin(4, 20).begin(5, 20).call(8, Some(42), 21, 22);
        assert_eq!(story.told(22), ["8: none of 2"]);
    }

    #[test]
    fn beside_an_abandoned_request_the_thread_must_agree() {
        let mut story = Story::default();
        story.begin(1, 10).abandon(1, 11);
        story
            .begin(2, 12)
            .call(7, Some(42), 13, 14)
            .call(8, Some(43), 13, 14);
        story.end(2, 15, Some(42));
        assert_eq!(story.told(15), ["7: s2 0.8 of 1", "8: none of 1"]);
        // Long after, nobody is at work on it any more.
        story.begin(3, 31_000).call(9, Some(43), 31_001, 31_002);
        story.end(3, 31_003, Some(42));
        assert_eq!(story.told(31_003), ["9: s3 0.9 of 1"]);
    }

    #[test]
    fn processes_do_not_mix() {
        let mut story = Story::default();
        story.0.begin(ServerSpan {
            key: 1,
            pid: 2,
            started: MonotonicNs(0),
        });
        story.call(7, None, 1, 2);
        assert_eq!(story.told(2), ["7: none of 0"]);
    }

    #[test]
    fn a_call_is_given_up_after_the_time_limit() {
        let mut story = Story::default();
        story.begin(1, 10).call(7, None, 11, 12);
        assert_eq!(story.told(30_012), NONE);
        assert_eq!(story.told(30_013), ["7: none of 1"]);
        assert_eq!(story.0.counts().calls_timed_out, 1);
        story.end(1, 30_014, None);
        assert_eq!(story.told(90_000), NONE);
        assert!(story.0.processes.is_empty(), "nothing is left behind");
    }

    #[test]
    fn a_call_whose_candidates_may_be_forgotten_gets_no_parent() {
        let mut story = Story::default();
        story.begin(1, 10).begin(2, 10).end(1, 12, None);
        assert_eq!(story.told(40_000), NONE, "the first request is forgotten");
        story.call(7, None, 11, 40_001).call(8, None, 13, 40_001);
        story.end(2, 40_002, None);
        assert_eq!(story.told(40_002), ["7: none of 1", "8: s2 0.9 of 1"]);
    }

    #[test]
    fn held_calls_are_bounded() {
        let mut story = Story::default();
        story.begin(1, 10);
        for id in 0..HELD_CALLS_MAX as u64 + 2 {
            story.call(id, None, 11, 12);
        }
        assert_eq!(story.told(12), ["0: none of 1", "1: none of 1"]);
        assert_eq!(story.0.counts().calls_crowded_out, 2);
        story.end(1, 13, None);
        assert_eq!(story.told(13).len(), HELD_CALLS_MAX);
    }

    #[test]
    fn open_requests_are_bounded_and_a_refused_one_forbids_claims() {
        let mut story = Story::default();
        for key in 0..=OPEN_SPANS_MAX as u64 {
            story.begin(key, 10);
        }
        assert_eq!(story.0.counts().spans_refused, 1);
        for key in 1..OPEN_SPANS_MAX as u64 {
            story.end(key, 11, None);
        }
        story.call(7, None, 12, 13).end(0, 14, None);
        assert_eq!(story.told(14), ["7: none of 1"]);
        assert_eq!(story.0.ended.len(), ENDED_SPANS_MAX);
    }

    #[test]
    fn ended_requests_are_bounded() {
        let mut story = Story::default();
        for key in 0..ENDED_SPANS_MAX as u64 + 3 {
            story.begin(key, 10).end(key, 11 + key / 1_000, None);
        }
        assert_eq!(story.0.ended.len(), ENDED_SPANS_MAX);
        assert_eq!(story.0.counts().spans_crowded_out, 3);
    }

    /// How a simulated service runs its requests.
    #[derive(Clone, Copy, Debug)]
    enum Model {
        /// As many threads; each serves one request at a time, the others wait for one.
        ThreadPerRequest(u64),
        /// One thread, all requests at once.
        OneThread,
        /// As many threads; every step of a request runs on any of them.
        Migrating(u64),
    }

    #[derive(Clone, Debug)]
    enum Record {
        Begin(ServerSpan),
        End(u64, MonotonicNs, u32),
        Abandon(u64, MonotonicNs),
        Call(Call),
    }

    /// Records with the truth behind them.
    struct Simulated {
        records: Vec<Record>,
        /// Per call: its request, and how many requests were in flight when it began.
        truth: Vec<(u64, u32)>,
    }

    struct Dice(u64);

    impl Dice {
        /// A number from `1` to `most`, from a well-known mixing function.
        fn roll(&mut self, most: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (mixed ^ (mixed >> 31)) % most + 1
        }
    }

    /// Requests that arrive up to `gap_us` apart, with 0 to 3 calls of up to 4 ms each; one in `abandoned` loses its
    /// client on the way (0: none).
    fn simulate(model: Model, seed: u64, requests: u64, gap_us: u64, abandoned: u64) -> Simulated {
        let mut dice = Dice(seed);
        let mut free_at = [0; 64];
        let (mut arrival, mut timed, mut spans, mut calls) =
            (0, Vec::new(), Vec::new(), Vec::new());
        for key in 0..requests {
            arrival += dice.roll(gap_us * 1_000);
            let (mut now, mut thread) = match model {
                Model::ThreadPerRequest(threads) => {
                    let free = (0..threads).zip(free_at).min_by_key(|(_, at)| *at);
                    let (thread, at) = free.unwrap();
                    (arrival.max(at), thread)
                }
                Model::OneThread | Model::Migrating(_) => (arrival, 0),
            };
            for _ in 1..dice.roll(4) {
                now += dice.roll(MS);
                if let Model::Migrating(threads) = model {
                    thread = dice.roll(threads);
                }
                let call = Call {
                    id: calls.len() as u64,
                    pid: 1,
                    thread: u32::try_from(thread).ok(),
                    started: MonotonicNs(now),
                    ended: MonotonicNs(now + dice.roll(4 * MS)),
                };
                now = call.ended.0;
                calls.push((key, call.started.0));
                timed.push((now, Record::Call(call)));
            }
            now += dice.roll(MS);
            if let Model::Migrating(threads) = model {
                thread = dice.roll(threads);
            }
            if let Some(free_at) = free_at.get_mut(usize::try_from(thread).unwrap()) {
                *free_at = now;
            }
            let begun = ServerSpan {
                key,
                pid: 1,
                started: MonotonicNs(arrival),
            };
            timed.push((arrival, Record::Begin(begun)));
            if abandoned > 0 && dice.roll(abandoned) == 1 {
                let lost = arrival + dice.roll(now - arrival);
                timed.push((lost, Record::Abandon(key, MonotonicNs(lost))));
                spans.push((arrival, lost));
            } else {
                let thread = u32::try_from(thread).unwrap();
                timed.push((now, Record::End(key, MonotonicNs(now), thread)));
                spans.push((arrival, now));
            }
        }
        timed.sort_by_key(|(at, _)| *at);
        let in_flight = |at: u64| {
            spans
                .iter()
                .filter(|span| span.0 < at && span.1 >= at)
                .count()
        };
        Simulated {
            records: timed.into_iter().map(|(_, record)| record).collect(),
            truth: calls
                .iter()
                .map(|(key, started)| (*key, u32::try_from(in_flight(*started)).unwrap()))
                .collect(),
        }
    }

    /// Replays the records and fetches the answers after every `fetch_every`th.
    fn replay(simulated: &Simulated, fetch_every: usize) -> Vec<Resolved> {
        let (mut stitcher, mut out) = (Stitcher::default(), Vec::new());
        let ids = |key: u64| (format!("trace{key}"), key.to_string());
        for (nth, record) in simulated.records.iter().enumerate() {
            let now = match record.clone() {
                Record::Begin(span) => {
                    stitcher.begin(span);
                    span.started
                }
                Record::End(key, at, thread) => {
                    stitcher.end(key, at, Some(thread), ids(key).0, ids(key).1);
                    at
                }
                Record::Abandon(key, at) => {
                    stitcher.abandon(key, at, ids(key).0, ids(key).1);
                    at
                }
                Record::Call(call) => {
                    stitcher.call(call);
                    call.ended
                }
            };
            if nth % fetch_every == 0 {
                stitcher.resolved(now, &mut out);
            }
        }
        stitcher.resolved(MonotonicNs(u64::MAX), &mut out);
        assert!(stitcher.held.is_empty());
        out.sort_by_key(|resolved| resolved.id);
        out
    }

    /// Claims that are right, claims that are wrong, calls without a parent.
    fn judge(simulated: &Simulated, answers: &[Resolved]) -> (usize, usize, usize) {
        assert_eq!(
            answers.len(),
            simulated.truth.len(),
            "every call is answered once"
        );
        let (mut right, mut wrong) = (0, 0);
        for (answer, (parent, _)) in answers.iter().zip(&simulated.truth) {
            if let Some(claimed) = &answer.parent {
                let is_right = claimed.span_id == parent.to_string();
                right += usize::from(is_right);
                wrong += usize::from(!is_right);
            }
        }
        (right, wrong, answers.len() - right - wrong)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_claim_is_wrong_where_each_request_has_a_thread(
            seed: u64, threads in 1_u64..40, gap_us in 100_u64..20_000,
        ) {
            let simulated = simulate(Model::ThreadPerRequest(threads), seed, 300, gap_us, 0);
            let (_, wrong, _) = judge(&simulated, &replay(&simulated, 1));
            prop_assert_eq!(wrong, 0);
        }

        #[test]
        fn one_thread_for_all_claims_only_lone_requests(seed: u64, gap_us in 100_u64..40_000) {
            let simulated = simulate(Model::OneThread, seed, 300, gap_us, 0);
            let answers = replay(&simulated, 1);
            prop_assert_eq!(judge(&simulated, &answers).1, 0);
            for (answer, (_, in_flight)) in answers.iter().zip(&simulated.truth) {
                prop_assert_eq!(answer.candidates, *in_flight);
                prop_assert_eq!(answer.parent.is_some(), *in_flight == 1);
            }
        }

        #[test]
        fn answers_do_not_depend_on_when_they_are_fetched(
            seed: u64, threads in 1_u64..20, fetch_every in 2_usize..1_000,
        ) {
            for model in [Model::ThreadPerRequest(threads), Model::Migrating(threads)] {
                let simulated = simulate(model, seed, 200, 1_000, 10);
                prop_assert_eq!(replay(&simulated, 1), replay(&simulated, fetch_every));
            }
        }
    }

    /// Over some seeds: right claims, wrong claims and requests in flight at a call, each per thousand calls.
    fn rates(model: Model, gap_us: u64, abandoned: u64) -> (usize, usize, usize) {
        let (mut right, mut wrong, mut calls, mut in_flight) = (0, 0, 0, 0);
        for seed in 0..4 {
            let simulated = simulate(model, seed, 600, gap_us, abandoned);
            let judged = judge(&simulated, &replay(&simulated, 10));
            right += judged.0;
            wrong += judged.1;
            calls += simulated.truth.len();
            in_flight += simulated
                .truth
                .iter()
                .map(|truth| truth.1 as usize)
                .sum::<usize>();
        }
        let [right, wrong, in_flight] =
            [right, wrong, in_flight].map(|count| (count * 1_000).div_ceil(calls));
        println!(
            "{model:?}, one in {abandoned} abandoned; per thousand: {in_flight} in flight, {right} right, {wrong} wrong"
        );
        (right, wrong, in_flight)
    }

    /// How much is resolved, so that a change of the rules shows what it costs. `--nocapture` prints the table.
    #[test]
    fn claims_are_many_where_they_can_be_and_keep_their_confidence_everywhere() {
        let gaps_us = [40_000, 10_000, 3_000, 1_000];
        let models = [
            Model::ThreadPerRequest(64),
            Model::OneThread,
            Model::Migrating(8),
        ];
        for gap_us in gaps_us {
            let (right, wrong, _) = rates(models[0], gap_us, 0);
            assert_eq!((right, wrong), (1_000, 0));
        }
        for (gap_us, least) in gaps_us.into_iter().zip([850, 500, 30, 0]) {
            for model in [models[1], models[2]] {
                let (right, wrong, _) = rates(model, gap_us, 0);
                assert!(right >= least && wrong <= 5, "{model:?}: {right} {wrong}");
            }
        }
        for model in models {
            for gap_us in gaps_us {
                let (right, wrong, _) = rates(model, gap_us, 20);
                let claimed = right + wrong;
                assert!(
                    claimed < 10 || wrong * 10 <= claimed,
                    "{model:?}: {right} {wrong}"
                );
            }
        }
        // More requests than threads: a waiting request will be answered by the thread that made the call, too.
        let (right, wrong, in_flight) = rates(Model::ThreadPerRequest(8), 1_000, 0);
        assert!(in_flight > 16_000 && right < 500 && wrong == 0);
    }
}
