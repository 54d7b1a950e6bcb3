//! `http1_head`: a request stream and a response stream through the HTTP/1.x decoder.
//!
//! What must hold: nothing is reported that is no message (methods and names are tokens, values are lines), no byte
//! counts twice, time runs forward, and cutting the streams elsewhere changes nothing up to the first trouble.
//! After it, only the first byte of a segment is trusted, so cuts matter by design.

use std::collections::VecDeque;

use collector::{
    clock::MonotonicNs,
    http::{Decoder, Framing, Header, MessageEvent, MessageSink, RequestLine, Side, StatusLine},
    tcp::Piece,
};

use super::input::{Cuts, both_ways};

/// What the decoder told, without what depends on cuts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Request(String, String, Fields),
    Response(u16, Framing, Fields),
    /// Bytes of the current message; neighbours are added up.
    Bytes(u64),
    End,
    /// The stream could not be followed any further.
    Trouble,
}

type Fields = Vec<(String, Vec<u8>)>;

/// Writes down what a decoder tells, and checks each word of it.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) told: Vec<Told>,
    /// Methods that the next responses answer.
    methods: VecDeque<String>,
    now: u64,
    ended: u64,
    bytes: u64,
}

impl Notes {
    pub(super) fn answering(methods: VecDeque<String>) -> Self {
        Self {
            methods,
            ..Self::default()
        }
    }

    fn methods(&self) -> VecDeque<String> {
        let method = |told: &Told| match told {
            Told::Request(method, ..) => Some(method.clone()),
            Told::Response(..) | Told::Bytes(_) | Told::End | Told::Trouble => None,
        };
        self.told.iter().filter_map(method).collect()
    }

    fn tell(&mut self, told: Told) {
        match (self.told.last_mut(), told) {
            (Some(Told::Trouble), _) => {}
            (Some(Told::Bytes(sum)), Told::Bytes(more)) => *sum += more,
            (_, told) => self.told.push(told),
        }
    }

    fn check_head(&self, headers: &[Header<'_>], started: MonotonicNs) -> Fields {
        assert!(
            (self.ended..=self.now).contains(&started.0),
            "a message starts at {started:?}, after the last one's end at {} and not after now, {}",
            self.ended,
            self.now
        );
        for header in headers {
            assert!(is_token(header.name), "a field's name: {:?}", header.name);
            let is_line = header
                .value
                .iter()
                .all(|byte| !matches!(byte, 0 | b'\r' | b'\n'));
            assert!(is_line, "a field's value: {:?}", header.value);
        }
        let kept = headers
            .iter()
            .map(|header| (header.name.to_owned(), header.value.to_vec()));
        kept.collect()
    }
}

fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

impl MessageSink for Notes {
    fn request(&mut self, line: RequestLine<'_>, headers: &[Header<'_>], started: MonotonicNs) {
        assert!(is_token(line.method), "a method: {:?}", line.method);
        let is_target = line.target.bytes().all(|byte| byte > b' ' && byte != 0x7f);
        assert!(
            is_target && !line.target.is_empty(),
            "a target: {:?}",
            line.target
        );
        assert!(line.minor_version <= 1);
        let fields = self.check_head(headers, started);
        self.tell(Told::Request(
            line.method.to_owned(),
            line.target.to_owned(),
            fields,
        ));
    }

    fn response(
        &mut self,
        line: StatusLine,
        headers: &[Header<'_>],
        started: MonotonicNs,
    ) -> Framing {
        assert!((100..1000).contains(&line.code), "a status: {}", line.code);
        let fields = self.check_head(headers, started);
        let method = self.methods.front().map(String::as_str);
        let framing = Framing::of_response(line.code, method, headers);
        if line.code >= 200 || line.code == 101 {
            self.methods.pop_front();
        }
        self.tell(Told::Response(line.code, framing.clone(), fields));
        framing
    }

    fn event(&mut self, event: MessageEvent) {
        match event {
            MessageEvent::Bytes(count, at) => {
                assert!(at.0 <= self.now, "bytes of the future");
                self.bytes += count;
                self.tell(Told::Bytes(count));
            }
            MessageEvent::End(at) => {
                assert!((self.ended..=self.now).contains(&at.0), "an end at {at:?}");
                self.ended = at.0;
                self.tell(Told::End);
            }
            MessageEvent::Skipped(count) => {
                self.bytes += count;
                self.tell(Told::Trouble);
            }
            MessageEvent::Lost
            | MessageEvent::Foreign
            | MessageEvent::HeadCut
            | MessageEvent::Malformed(_)
            | MessageEvent::Oversized(_) => self.tell(Told::Trouble),
        }
    }
}

/// Captured bytes, and how many bytes of a hole come after them.
pub(super) type Stretch<'a> = (&'a [u8], u64);

/// Feeds one direction.
pub(super) fn decode(side: Side, pieces: &[Stretch<'_>], mut notes: Notes) -> Notes {
    let mut decoder = Decoder::new(side, true);
    let mut fed = 0;
    for (at, &(bytes, hole)) in (0_u64..).zip(pieces) {
        notes.now = at;
        fed += bytes.len() as u64 + hole;
        let piece = Piece {
            bytes,
            hole,
            lost: false,
            at: MonotonicNs(at),
        };
        decoder.feed(piece, &mut notes);
        assert!(notes.bytes <= fed, "{} bytes counted of {fed}", notes.bytes);
    }
    notes
}

/// The pieces of a stream, all captured.
pub(super) fn whole_stretches<'a>(cuts: Cuts<'_>, stream: &'a [u8]) -> Vec<Stretch<'a>> {
    cuts.pieces(stream).map(|piece| (piece, 0)).collect()
}

/// The target.
pub(super) fn run(data: &[u8]) {
    let (cuts, streams) = Cuts::split(data);
    let (requests, responses) = both_ways(streams);
    let follow = |cuts: Cuts<'_>| {
        let pieces = whole_stretches(cuts, requests);
        let requests = decode(Side::Request, &pieces, Notes::default());
        let pieces = whole_stretches(cuts, responses);
        let responses = decode(
            Side::Response,
            &pieces,
            Notes::answering(requests.methods()),
        );
        (requests.told, responses.told)
    };
    let (whole, cut) = (follow(Cuts::NONE), follow(cuts));
    assert_eq!(whole.0, cut.0, "requests change with the cuts");
    assert_eq!(whole.1, cut.1, "responses change with the cuts");
}
