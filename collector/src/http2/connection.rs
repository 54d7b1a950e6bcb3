//! One HTTP/2 connection: both directions with their decoders, and the streams between them.

use super::{
    block::{Block, OutOfStep},
    frames::{Cutter, Event, FrameSink},
    head::Head,
    hpack::{Decoder, Fields},
    streams::{Outlet, Streams},
};
use crate::{
    http::Side,
    ledger::Line,
    pairing::{InFlight, Surroundings},
    tcp::Piece,
};

#[derive(Debug)]
struct Direction {
    cutter: Cutter,
    hpack: Decoder,
}

/// Both directions of one HTTP/2 connection.
#[derive(Debug)]
pub struct Http2 {
    request: Direction,
    response: Direction,
    fields: Fields,
    streams: Streams,
}

impl Direction {
    fn new(side: Side, from_start: bool) -> Self {
        Self {
            cutter: Cutter::new(side, from_start),
            hpack: Decoder::new(from_start),
        }
    }
}

impl Http2 {
    /// A connection seen from the first byte of both directions, the client's preface included; or else one that is
    /// joined midway. Then frames are looked for at the start of each piece, and fields sent before are unknown.
    pub fn new(from_start: bool) -> Self {
        Self {
            request: Direction::new(Side::Request, from_start),
            response: Direction::new(Side::Response, from_start),
            fields: Fields::default(),
            streams: Streams::default(),
        }
    }

    /// A connection that `Upgrade: h2c` turned into HTTP/2: stream 1 answers `request`, and the client's preface comes
    /// next.
    pub fn upgraded(request: InFlight) -> Self {
        let mut connection = Self::new(true);
        connection.streams.adopt(1, request);
        connection
    }

    /// Takes the next stretch of one direction; exchanges that are complete are appended to `done`.
    pub fn feed(
        &mut self,
        side: Side,
        piece: Piece<'_>,
        around: &Surroundings<'_>,
        done: &mut Vec<InFlight>,
    ) {
        let Direction { cutter, hpack } = match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        };
        let mut digest = Digest {
            side,
            hpack,
            fields: &mut self.fields,
            streams: &mut self.streams,
            out: Outlet { around, done },
        };
        cutter.feed(piece, &mut digest);
    }

    /// The connection ended, or is no longer watched (`truncated`): hands out what is open, as aborted or as truncated.
    pub fn end(&mut self, truncated: bool, around: &Surroundings<'_>, done: &mut Vec<InFlight>) {
        self.streams.end(truncated, &mut Outlet { around, done });
    }

    /// Bytes that are certain to follow in this direction and of no interest.
    pub const fn uninteresting_bytes(&self, side: Side) -> u64 {
        match side {
            Side::Request => self.request.cutter.uninteresting_bytes(),
            Side::Response => self.response.cutter.uninteresting_bytes(),
        }
    }

    /// Requests without a complete response.
    pub fn outstanding(&self) -> usize {
        self.streams.outstanding()
    }
}

/// Passes what one direction brings on to the streams.
struct Digest<'a> {
    side: Side,
    hpack: &'a mut Decoder,
    fields: &'a mut Fields,
    streams: &'a mut Streams,
    out: Outlet<'a>,
}

impl Digest<'_> {
    /// A block that cannot be decoded; the table misses what was in it.
    fn unreadable(&mut self, block: Block, is_surely_one: bool) {
        self.out.around.ledger.add(Line::HeadsMalformed, 1);
        if is_surely_one && !block.is_promise {
            self.streams.block(self.side, block, None, &mut self.out);
        }
        self.hpack.distrust();
    }
}

impl FrameSink for Digest<'_> {
    fn block(&mut self, block: Block, bytes: Option<&[u8]>) -> Result<(), OutOfStep> {
        let Some(bytes) = bytes else {
            self.unreadable(block, true);
            return Ok(());
        };
        if self.hpack.decode(bytes, self.fields).is_err() {
            // Where we joined late, other bytes may have looked like a block: they found no exchange.
            self.unreadable(block, self.hpack.is_complete());
            return Err(OutOfStep);
        }
        if !block.is_promise {
            let head = Head::read(self.fields.iter(bytes));
            self.streams
                .block(self.side, block, Some(&head), &mut self.out);
        }
        Ok(())
    }

    fn event(&mut self, event: Event) {
        let side = self.side;
        match event {
            Event::Data {
                stream,
                bytes,
                end_stream,
                at,
            } => self
                .streams
                .data(side, stream, bytes, end_stream, at, &mut self.out),
            Event::Reset { stream, at } => self.streams.reset(side, stream, at, &mut self.out),
            // A client's speaks of streams that the server opens.
            Event::GoAway { .. } if side == Side::Request => {}
            Event::GoAway { last_stream } => self.streams.go_away(last_stream, &mut self.out),
            Event::DataLost { stream } => self.streams.lost_of(stream),
            Event::Start => *self.hpack = Decoder::new(true),
            Event::Lost => {
                self.hpack.distrust();
                self.streams.lost(side);
            }
            Event::Skipped(bytes) => self.out.around.ledger.add(Line::BytesSkipped, bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::MonotonicNs,
        exchange::{Outcome, Protocol},
        facts::FactRules,
        http2::{
            frame_head::PREFACE,
            streams::STREAMS_MAX,
            testing::{data, frame, headers, kept, plain},
        },
        ledger::Ledger,
        pairing::Task,
    };
    use proptest::prelude::*;

    /// A connection whose clock advances by one with every piece.
    struct Watch {
        http2: Http2,
        rules: FactRules,
        ledger: Ledger,
        done: Vec<InFlight>,
        task: Option<Task>,
        now: u64,
    }

    impl Watch {
        fn new(http2: Http2) -> Self {
            Self {
                http2,
                rules: FactRules {
                    tenant: vec!["request.header:x-tenant".parse().unwrap()],
                    user: vec!["response.header:x-user".parse().unwrap()],
                    ..FactRules::default()
                },
                ledger: Ledger::default(),
                done: Vec::new(),
                task: None,
                now: 0,
            }
        }

        fn from_start() -> Self {
            let mut watch = Self::new(Http2::new(true));
            watch.client(PREFACE);
            watch
        }

        fn piece(&mut self, side: Side, bytes: &[u8], hole: u64, lost: bool) {
            self.now += 1;
            let piece = Piece {
                bytes,
                hole,
                lost,
                at: MonotonicNs(self.now),
            };
            let around = Surroundings::new(&self.rules, &self.ledger, self.task);
            self.http2.feed(side, piece, &around, &mut self.done);
        }

        fn client(&mut self, bytes: &[u8]) {
            self.piece(Side::Request, bytes, 0, false);
        }

        fn server(&mut self, bytes: &[u8]) {
            self.piece(Side::Response, bytes, 0, false);
        }

        fn end(&mut self, truncated: bool) {
            let around = Surroundings::new(&self.rules, &self.ledger, self.task);
            self.http2.end(truncated, &around, &mut self.done);
        }

        /// Outcome, path and status of what has been handed out since the last call.
        fn taken(&mut self) -> Vec<(Outcome, Option<String>, Option<u16>)> {
            let seen = |exchange: InFlight| (exchange.outcome(), exchange.path, exchange.status);
            self.done.drain(..).map(seen).collect()
        }

        fn count(&self, line: Line) -> u64 {
            self.ledger.get(line)
        }
    }

    fn get(stream: u32, path: &str) -> Vec<u8> {
        let fields = [(":method", "GET"), (":path", path), (":authority", "shop")];
        headers(stream, &plain(&fields), true)
    }

    fn post(stream: u32, path: &str) -> Vec<u8> {
        let fields = [(":method", "POST"), (":path", path)];
        headers(stream, &plain(&fields), false)
    }

    fn answer(stream: u32, status: &str, end_stream: bool) -> Vec<u8> {
        headers(stream, &plain(&[(":status", status)]), end_stream)
    }

    fn seen(outcome: Outcome, path: &str, status: u16) -> (Outcome, Option<String>, Option<u16>) {
        (outcome, Some(path.to_owned()), Some(status))
    }

    fn unanswered(outcome: Outcome, path: &str) -> (Outcome, Option<String>, Option<u16>) {
        (outcome, Some(path.to_owned()), None)
    }

    #[test]
    fn one_exchange_is_seen_whole() {
        let mut watch = Watch::from_start();
        let request = [
            (":method", "POST"),
            (":path", "/pay?card=4111"),
            (":authority", "shop.example"),
            ("x-tenant", "t1"),
        ];
        let request = headers(1, &plain(&request), false);
        watch.client(&request[..20]);
        watch.client(&request[20..]);
        watch.client(&data(1, b"amount", true));
        watch.server(&answer(1, "103", false));
        watch.server(&headers(
            1,
            &plain(&[(":status", "201"), ("x-user", "u1")]),
            false,
        ));
        assert_eq!(watch.http2.outstanding(), 1);
        watch.server(&data(1, b"thanks!", true));
        assert_eq!(watch.http2.outstanding(), 0);
        let exchange = watch.done.pop().unwrap();
        assert_eq!(exchange.outcome(), Outcome::Ok);
        assert_eq!(exchange.protocol, Protocol::H2);
        assert_eq!(exchange.method.as_deref(), Some("POST"));
        assert_eq!(exchange.path.as_deref(), Some("/pay"));
        assert_eq!((exchange.status, exchange.grpc_status), (Some(201), None));
        assert_eq!(exchange.request_facts.host.as_deref(), Some("shop.example"));
        assert_eq!(exchange.request_facts.tenant.as_deref(), Some("t1"));
        assert_eq!(exchange.response_facts.user.as_deref(), Some("u1"));
        assert_eq!(exchange.request_bytes, request.len() as u64 + 9 + 6);
        let interim = answer(1, "103", false).len() as u64;
        let head = 9 + plain(&[(":status", "201"), ("x-user", "u1")]).len() as u64;
        assert_eq!(exchange.response_bytes, interim + head + 9 + 7);
        assert_eq!(exchange.started, MonotonicNs(2));
        assert_eq!(exchange.response_started, Some(MonotonicNs(6)));
        assert_eq!(exchange.ended(), MonotonicNs(7));
        assert_eq!(watch.count(Line::Exchanges), 1);
    }

    #[test]
    fn streams_interleave() {
        let mut watch = Watch::from_start();
        watch.client(&[post(1, "/a"), get(3, "/b"), get(5, "/c")].concat());
        watch.server(&[answer(5, "200", false), answer(3, "404", false)].concat());
        watch.server(&[data(3, b"x", false), data(5, b"y", true)].concat());
        watch.client(&data(1, b"body", true));
        watch.server(&[answer(1, "503", true), data(3, b"z", true)].concat());
        assert_eq!(
            watch.taken(),
            [
                seen(Outcome::Ok, "/c", 200),
                seen(Outcome::Error, "/a", 503),
                seen(Outcome::Ok, "/b", 404)
            ]
        );
    }

    #[test]
    fn trailers_end_a_request_and_are_nothing_else() {
        let mut watch = Watch::from_start();
        let trailers = headers(1, &plain(&[("digest", "abc")]), true);
        watch.client(&[post(1, "/a"), data(1, b"x", false), trailers.clone()].concat());
        watch.server(&answer(1, "200", true));
        // The stream is gone; trailers on it are late and found nothing.
        watch.client(&trailers);
        watch.end(false);
        let bytes = (post(1, "/a").len() + 10 + trailers.len()) as u64;
        assert_eq!(watch.done[0].request_bytes, bytes);
        assert_eq!(watch.taken(), [seen(Outcome::Ok, "/a", 200)]);
    }

    #[test]
    fn an_early_answer_waits_for_the_end_of_the_request() {
        let mut watch = Watch::from_start();
        watch.client(&post(1, "/a"));
        watch.server(&answer(1, "200", true));
        assert_eq!((watch.taken(), watch.http2.outstanding()), (vec![], 0));
        watch.client(&data(1, b"rest", true));
        assert_eq!(watch.taken(), [seen(Outcome::Ok, "/a", 200)]);
    }

    #[test]
    fn who_sends_is_noted_with_the_first_head_that_tells() {
        let (client, server) = (Task::of_record(7 << 32 | 1), Task::of_record(8 << 32 | 1));
        for (first, second, wanted) in [(client, server, client), (None, server, server)] {
            let mut watch = Watch::from_start();
            watch.task = first;
            watch.client(&get(1, "/a"));
            watch.task = second;
            watch.server(&answer(1, "200", false));
            watch.task = None;
            watch.server(&data(1, b"", true));
            assert_eq!(watch.done[0].task, wanted);
        }
    }

    #[test]
    fn grpc_says_how_it_ended_in_the_trailers() {
        let mut watch = Watch::from_start();
        let call = |stream, path| {
            let fields = [
                (":method", "POST"),
                (":path", path),
                ("content-type", "application/grpc"),
            ];
            headers(stream, &plain(&fields), false)
        };
        let status = |stream, value| headers(stream, &plain(&[("grpc-status", value)]), true);
        watch.client(&[call(1, "/s/M"), data(1, b"\0\0\0\0\0", true)].concat());
        watch.server(&[answer(1, "200", false), data(1, b"\0\0\0\0\0", false)].concat());
        watch.server(&status(1, "5"));
        // Trailers only: the response is one block.
        let only = plain(&[(":status", "200"), ("grpc-status", "12")]);
        watch.client(&[call(3, "/s/N"), data(3, b"", true)].concat());
        watch.server(&headers(3, &only, true));
        let got: Vec<_> = watch
            .done
            .iter()
            .map(|e| (e.protocol, e.status, e.grpc_status, e.outcome()))
            .collect();
        assert_eq!(
            got,
            [
                (Protocol::Grpc, Some(200), Some(5), Outcome::Ok),
                (Protocol::Grpc, Some(200), Some(12), Outcome::Error)
            ]
        );
    }

    #[test]
    fn a_reset_ends_the_stream() {
        let mut watch = Watch::from_start();
        let reset = |stream| frame(3, 0, stream, &[0, 0, 0, 8]);
        watch.client(&[get(1, "/slow"), post(3, "/large"), get(5, "/x")].concat());
        // The client gives up; what the server still sends is nobody's.
        watch.server(&answer(1, "200", false));
        watch.client(&reset(1));
        watch.server(&[data(1, b"late", false), data(1, b"er", true)].concat());
        // The server has answered and wants no more of the upload.
        watch.server(&[answer(3, "413", true), reset(3)].concat());
        watch.client(&data(3, b"on its way", true));
        watch.server(&reset(5));
        assert_eq!(
            watch.taken(),
            [
                seen(Outcome::Aborted, "/slow", 200),
                seen(Outcome::Ok, "/large", 413),
                unanswered(Outcome::Aborted, "/x")
            ]
        );
        assert_eq!(watch.count(Line::ExchangesAborted), 2);
        assert_eq!(watch.count(Line::ResponsesOrphaned), 0);
    }

    #[test]
    fn streams_above_the_last_of_goaway_are_aborted() {
        let mut watch = Watch::from_start();
        watch.client(&[get(1, "/a"), get(3, "/b"), get(5, "/c")].concat());
        let go_away = |last: u32| frame(7, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
        watch.server(&go_away(u32::MAX >> 1));
        // The client's concerns streams of the server.
        watch.client(&go_away(0));
        assert_eq!(watch.taken(), []);
        watch.server(&go_away(3));
        assert_eq!(watch.taken(), [unanswered(Outcome::Aborted, "/c")]);
        watch.server(&[answer(1, "200", true), answer(3, "200", true)].concat());
        assert_eq!(watch.taken().len(), 2);
    }

    #[test]
    fn the_end_of_the_connection_is_the_end_of_all_streams() {
        for (truncated, outcome) in [(false, Outcome::Aborted), (true, Outcome::Truncated)] {
            let mut watch = Watch::from_start();
            watch.client(&[get(1, "/a"), post(3, "/b")].concat());
            watch.server(&answer(1, "200", false));
            watch.end(truncated);
            assert_eq!(
                watch.taken(),
                [seen(outcome, "/a", 200), unanswered(outcome, "/b")]
            );
            watch.end(truncated);
            assert_eq!(watch.taken(), []);
        }
    }

    #[test]
    fn a_pushed_block_keeps_the_table_right_and_is_no_exchange() {
        let mut watch = Watch::from_start();
        watch.client(&get(1, "/a"));
        let promised = [&2_u32.to_be_bytes()[..], &kept(&[(":path", "/pushed")])].concat();
        watch.server(&frame(5, 4, 1, &promised));
        watch.server(&[answer(2, "200", false), data(2, b"x", true)].concat());
        // 62 is now the status, 63 the promised path.
        let block = [kept(&[(":status", "207")]), vec![0xbf]].concat();
        watch.server(&headers(1, &block, true));
        assert_eq!(watch.taken(), [seen(Outcome::Ok, "/a", 207)]);
        assert_eq!(watch.count(Line::HeadsMalformed), 0);
        assert_eq!(watch.count(Line::ResponsesOrphaned), 0);
    }

    #[test]
    fn joined_midway_what_is_unknown_is_null_and_the_rest_is_right() {
        let mut watch = Watch::new(Http2::new(false));
        watch.client(b"the end of some request body");
        // The answer to a request that nobody saw, in three frames.
        watch.server(&[answer(7, "200", false), data(7, b"x", false)].concat());
        watch.server(&headers(7, &plain(&[("grpc-status", "0")]), true));
        assert_eq!(watch.count(Line::ResponsesOrphaned), 1);
        // Method from the static table, path and content type from what was sent before.
        watch.client(&headers(9, &[0x83, 0xbe, 0xbf], true));
        let grpc = kept(&[(":status", "200"), ("content-type", "application/grpc")]);
        watch.server(&headers(9, &grpc, true));
        let exchange = watch.done.pop().unwrap();
        assert_eq!(
            (exchange.method.as_deref(), exchange.path.as_deref()),
            (Some("POST"), None)
        );
        assert_eq!(exchange.protocol, Protocol::Grpc);
        assert_eq!(
            (exchange.outcome(), exchange.status),
            (Outcome::Ok, Some(200))
        );
        // From here on the newest entries are known.
        watch.client(&headers(11, &kept(&[(":path", "/new")]), true));
        watch.client(&headers(13, &[0x82, 0xbe], true));
        watch.server(&headers(11, &[0xc0], true));
        watch.server(&headers(13, &[0xbf], true));
        assert_eq!(
            watch.taken(),
            [
                // An unknown status cannot be told from an error.
                unanswered(Outcome::Truncated, "/new"),
                seen(Outcome::Ok, "/new", 200)
            ]
        );
        assert_eq!(watch.count(Line::HeadsMalformed), 0);
        assert_eq!(watch.count(Line::BytesSkipped), 28);
    }

    #[test]
    fn a_connection_thought_to_be_running_may_begin_after_all() {
        let mut watch = Watch::new(Http2::new(false));
        watch.client(&[PREFACE.to_vec(), get(1, "/a")].concat());
        watch.server(&answer(1, "200", true));
        assert_eq!(watch.taken(), [seen(Outcome::Ok, "/a", 200)]);
        // So nothing was sent before, and an index beyond the table is an error.
        watch.client(&headers(3, &[0x82, 0xbe], true));
        assert_eq!(watch.count(Line::HeadsMalformed), 1);
    }

    #[test]
    fn times_are_those_of_the_first_and_last_byte() {
        let mut watch = Watch::from_start();
        let request = post(1, "/a");
        for byte in request.chunks(10) {
            watch.client(byte);
        }
        watch.end(false);
        let pieces = request.len().div_ceil(10) as u64;
        assert_eq!(watch.done[0].started, MonotonicNs(2));
        assert_eq!(watch.done[0].ended(), MonotonicNs(1 + pieces));
    }

    #[test]
    fn after_a_loss_open_streams_are_truncated_and_the_table_is_forgotten() {
        let mut watch = Watch::from_start();
        let path = kept(&[(":path", "/kept")]);
        watch.client(&[headers(1, &path, true), post(3, "/upload")].concat());
        watch.piece(Side::Request, &[], 500, true);
        watch.client(b"in the middle of something");
        watch.client(&headers(5, &[0x82, 0xbe], true));
        // The request of 1 had been seen whole before; the end of 3 may have been among what is lost.
        for stream in [1, 3, 5] {
            watch.server(&answer(stream, "200", true));
        }
        assert_eq!(
            watch.taken(),
            [
                seen(Outcome::Ok, "/kept", 200),
                seen(Outcome::Truncated, "/upload", 200),
                (Outcome::Ok, None, Some(200))
            ]
        );
        watch.client(&get(7, "/a"));
        watch.piece(Side::Response, &answer(7, "200", true)[..4], 7, false);
        watch.server(&answer(7, "200", true));
        assert_eq!(watch.taken(), [seen(Outcome::Truncated, "/a", 200)]);
    }

    #[test]
    fn a_loss_inside_a_body_truncates_only_its_own_exchange() {
        let mut watch = Watch::from_start();
        watch.client(&[get(1, "/a"), get(3, "/b")].concat());
        watch.server(&answer(1, "200", false));
        watch.server(&data(1, &[0; 100], true)[..19]);
        watch.piece(Side::Response, &[], 90, true);
        watch.server(&answer(3, "200", true));
        assert_eq!(
            watch.done[0].response_bytes,
            answer(1, "200", false).len() as u64 + 109
        );
        assert_eq!(
            watch.taken(),
            [
                seen(Outcome::Truncated, "/a", 200),
                seen(Outcome::Ok, "/b", 200)
            ]
        );
    }

    #[test]
    fn a_malformed_block_truncates_and_is_counted() {
        let mut watch = Watch::from_start();
        watch.client(&get(1, "/a"));
        watch.client(&headers(3, &[0x80], true));
        watch.client(&get(5, "/b"));
        watch.server(&[answer(1, "200", true), answer(3, "400", true)].concat());
        watch.server(&headers(5, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff], true));
        watch.end(false);
        assert_eq!(
            watch.taken(),
            [
                seen(Outcome::Ok, "/a", 200),
                (Outcome::Truncated, None, Some(400)),
                unanswered(Outcome::Truncated, "/b")
            ]
        );
        assert_eq!(watch.count(Line::HeadsMalformed), 2);
    }

    #[test]
    fn a_block_beyond_the_limit_truncates_only_its_own_exchange() {
        let mut watch = Watch::from_start();
        watch.client(&post(1, "/a"));
        let mut large = frame(1, 0, 3, &vec![0; 40_000]);
        large.extend(frame(9, 4, 3, &vec![0; 40_000]));
        watch.client(&[large.clone(), data(3, b"x", true), data(1, b"y", true)].concat());
        watch.server(&[answer(3, "431", true), answer(1, "200", true)].concat());
        assert_eq!(watch.done[0].request_bytes, large.len() as u64 + 10);
        assert_eq!(
            watch.taken(),
            [
                (Outcome::Truncated, None, Some(431)),
                seen(Outcome::Ok, "/a", 200)
            ]
        );
        assert_eq!(watch.count(Line::HeadsMalformed), 1);
    }

    #[test]
    fn streams_have_a_bound() {
        let mut watch = Watch::from_start();
        let bound = u32::try_from(STREAMS_MAX).unwrap();
        for stream in 0..bound + 2 {
            watch.client(&get(2 * stream + 1, "/a"));
        }
        assert_eq!(watch.http2.outstanding(), STREAMS_MAX);
        assert_eq!(watch.count(Line::RequestsBeyondDepth), 2);
        watch.server(&answer(2 * bound + 1, "200", true));
        assert_eq!(watch.count(Line::ResponsesOrphaned), 0);
        // After a loss nobody knows which of them still live: they make room.
        watch.piece(Side::Response, &[], 100, true);
        watch.client(&get(2 * bound + 5, "/b"));
        assert_eq!(watch.http2.outstanding(), 1);
        assert_eq!(watch.count(Line::ExchangesTruncated), u64::from(bound));
        assert_eq!(watch.count(Line::RequestsBeyondDepth), 2);
    }

    #[test]
    fn what_a_loss_left_open_does_not_stay_for_ever() {
        let mut watch = Watch::from_start();
        watch.client(&get(1, "/a"));
        watch.piece(Side::Response, &[], 100, true);
        watch.client(&get(3, "/b"));
        assert_eq!(watch.taken(), []);
        watch.now += 61_000_000_000;
        watch.client(&get(5, "/c"));
        assert_eq!(watch.taken(), [unanswered(Outcome::Truncated, "/a")]);
        assert_eq!(watch.http2.outstanding(), 2);
    }

    #[test]
    fn an_upgraded_connection_answers_its_first_request_on_stream_one() {
        let request = InFlight {
            method: Some("GET".to_owned()),
            path: Some("/first".to_owned()),
            request_bytes: 100,
            ..InFlight::default()
        };
        let mut watch = Watch::new(Http2::upgraded(request));
        assert_eq!(watch.http2.outstanding(), 1);
        watch.server(&frame(4, 0, 0, &[]));
        watch.server(&answer(1, "200", false));
        watch.client(PREFACE);
        watch.client(&[frame(4, 0, 0, &[]), get(3, "/second")].concat());
        watch.server(&[data(1, b"hello", true), answer(3, "204", true)].concat());
        assert_eq!(watch.done[0].protocol, Protocol::H2);
        assert_eq!(watch.done[0].request_bytes, 100);
        assert_eq!(
            watch.taken(),
            [
                seen(Outcome::Ok, "/first", 200),
                seen(Outcome::Ok, "/second", 204)
            ]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_followed_or_refused(
            pieces in proptest::collection::vec((any::<bool>(), pieces_like_frames(), 0_u64..20, 0_u8..9), 0..30),
            from_start in any::<bool>(),
            truncated in any::<bool>(),
        ) {
            let mut watch = if from_start { Watch::from_start() } else { Watch::new(Http2::new(false)) };
            for (is_request, bytes, hole, lost) in pieces {
                let side = if is_request { Side::Request } else { Side::Response };
                let hole = if lost < 2 { hole } else { 0 };
                watch.piece(side, &bytes, hole, lost == 0);
            }
            let open = watch.http2.outstanding();
            prop_assert!(open <= STREAMS_MAX);
            let before = watch.done.len();
            watch.end(truncated);
            prop_assert!(watch.done.len() - before >= open);
            prop_assert_eq!(watch.count(Line::Exchanges), watch.done.len() as u64);
        }
    }

    /// Frames with any content, so that the depths are reached, and now and then any bytes at all.
    fn pieces_like_frames() -> impl Strategy<Value = Vec<u8>> {
        let payload = proptest::collection::vec(any::<u8>(), 0..40);
        let framed = (0_u8..11, any::<u8>(), 0_u32..12, payload.clone())
            .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload));
        let known =
            (0_u32..12, any::<bool>(), 0_u8..4).prop_map(|(stream, end, form)| match form {
                0 => answer(stream, "200", end),
                1 => headers(stream, &[0x82, 0xbe], end),
                2 => data(stream, b"abc", end),
                _ => post(stream, "/p"),
            });
        let many = prop_oneof![4 => known, 2 => framed, 1 => payload];
        proptest::collection::vec(many, 1..5).prop_map(|frames| frames.concat())
    }
}
