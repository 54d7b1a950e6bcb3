//! Cuts one direction into frames: header blocks whole, DATA as byte counts, the rest passed over.
//!
//! Owns: the position in the stream. When it is lost (a hole where it matters, or bytes that cannot be a frame), it is
//! found again only at the start of a piece, because senders begin their writes with a frame. Refuses: decoding
//! header blocks and knowing streams.

use super::{
    block::{Assembly, Block, OutOfStep},
    frame_head::{FRAME_HEAD_BYTES, FrameHead, Kind, PREFACE, flag, looks_like_frames},
};
use crate::{clock::MonotonicNs, http::Side, tcp::Piece};

/// Everything else that happens in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Bytes of a DATA frame went over the wire.
    Data {
        stream: u32,
        bytes: u64,
        end_stream: bool,
        at: MonotonicNs,
    },
    /// The stream ends at once.
    Reset { stream: u32, at: MonotonicNs },
    /// The sender will not process streams above this one.
    GoAway { last_stream: u32 },
    /// Records were lost inside a DATA frame; the position is still known.
    DataLost { stream: u32 },
    /// The direction begins here after all.
    Start,
    /// The position is lost, and with it what the header blocks would have said.
    Lost,
    /// Bytes passed over while looking for a frame.
    Skipped(u64),
}

/// Receives the frames of one direction.
pub(super) trait FrameSink {
    /// A header block; `None` when it outgrew its limit.
    ///
    /// # Errors
    /// [`OutOfStep`] when the block makes no sense.
    fn block(&mut self, block: Block, bytes: Option<&[u8]>) -> Result<(), OutOfStep>;
    /// Everything else.
    fn event(&mut self, event: Event);
}

#[derive(Clone, Copy, Debug)]
enum State {
    Preface {
        seen: usize,
    },
    Head {
        bytes: [u8; FRAME_HEAD_BYTES],
        seen: usize,
        started: MonotonicNs,
    },
    /// Inside a payload of no interest.
    Passing {
        left: u64,
    },
    Data {
        stream: u32,
        end_stream: bool,
        left: u64,
    },
    /// Inside a payload that is read when it is whole.
    Keeping {
        head: FrameHead,
        left: usize,
    },
    Searching,
}

impl State {
    const NEXT_FRAME: Self = Self::Head {
        bytes: [0; FRAME_HEAD_BYTES],
        seen: 0,
        started: MonotonicNs(0),
    };

    const fn passing(left: u64) -> Self {
        if left == 0 {
            Self::NEXT_FRAME
        } else {
            Self::Passing { left }
        }
    }
}

/// The cutter of one direction.
#[derive(Debug)]
pub(super) struct Cutter {
    side: Side,
    state: State,
    /// The position was found by looking, not by following from the start.
    joined: bool,
    /// Since then nothing but the end of a block has come whose start was not seen.
    inside_unseen_block: bool,
    assembly: Assembly,
}

impl Cutter {
    /// A cutter at the start of the stream, or somewhere in it.
    pub(super) fn new(side: Side, from_start: bool) -> Self {
        let state = match side {
            _ if !from_start => State::Searching,
            Side::Request => State::Preface { seen: 0 },
            Side::Response => State::NEXT_FRAME,
        };
        Self {
            side,
            state,
            joined: !from_start,
            inside_unseen_block: !from_start,
            assembly: Assembly::default(),
        }
    }

    /// Bytes that are certain to follow and of no interest.
    pub(super) const fn uninteresting_bytes(&self) -> u64 {
        match self.state {
            State::Passing { left } | State::Data { left, .. } => left,
            State::Preface { .. }
            | State::Head { .. }
            | State::Keeping { .. }
            | State::Searching => 0,
        }
    }

    /// Takes the next stretch of the stream.
    pub(super) fn feed(&mut self, piece: Piece<'_>, sink: &mut impl FrameSink) {
        if piece.lost {
            self.hole(&piece, sink);
            self.bytes(piece.bytes, piece.at, sink);
        } else {
            self.bytes(piece.bytes, piece.at, sink);
            self.hole(&piece, sink);
        }
    }

    fn bytes(&mut self, mut bytes: &[u8], at: MonotonicNs, sink: &mut impl FrameSink) {
        if matches!(self.state, State::Searching) {
            self.search(bytes, sink);
        }
        while !bytes.is_empty() {
            let step = match self.state {
                State::Searching => {
                    sink.event(Event::Skipped(bytes.len() as u64));
                    return;
                }
                State::Preface { seen } => self.preface(seen, &mut bytes),
                State::Head { .. } => self.head(&mut bytes, at, sink),
                State::Passing { left } => {
                    let passed = take(&mut bytes, left).len() as u64;
                    self.state = State::passing(left - passed);
                    Ok(())
                }
                State::Data { left, .. } => {
                    let passed = take(&mut bytes, left).len() as u64;
                    self.data(0, passed, at, sink);
                    Ok(())
                }
                State::Keeping { head, left } => self.keep(head, left, &mut bytes, at, sink),
            };
            if step.is_err() {
                self.lose(sink);
            }
        }
    }

    /// Bytes went over the wire that nobody saw. Only inside a payload of known length that is harmless.
    fn hole(&mut self, piece: &Piece<'_>, sink: &mut impl FrameSink) {
        let hole = piece.hole;
        match self.state {
            _ if hole == 0 && !piece.lost => {}
            State::Searching if piece.lost => {}
            State::Searching => sink.event(Event::Skipped(hole)),
            State::Passing { left } if (1..=left).contains(&hole) => {
                self.state = State::passing(left - hole);
            }
            State::Data { left, stream, .. } if (1..=left).contains(&hole) => {
                if piece.lost {
                    sink.event(Event::DataLost { stream });
                }
                self.data(0, hole, piece.at, sink);
            }
            State::Preface { .. }
            | State::Head { .. }
            | State::Passing { .. }
            | State::Data { .. }
            | State::Keeping { .. } => self.lose(sink),
        }
    }

    fn lose(&mut self, sink: &mut impl FrameSink) {
        self.state = State::Searching;
        self.joined = true;
        self.inside_unseen_block = true;
        self.assembly.clear();
        sink.event(Event::Lost);
    }

    fn search(&mut self, bytes: &[u8], sink: &mut impl FrameSink) {
        if self.side == Side::Request && bytes.starts_with(PREFACE) {
            *self = Self::new(self.side, true);
            sink.event(Event::Start);
        } else if looks_like_frames(self.side, bytes) {
            self.state = State::NEXT_FRAME;
        }
    }

    fn preface(&mut self, seen: usize, bytes: &mut &[u8]) -> Result<(), OutOfStep> {
        let rest = PREFACE.get(seen..).unwrap_or_default();
        let taken = take(bytes, rest.len() as u64);
        if !rest.starts_with(taken) {
            return Err(OutOfStep);
        }
        let seen = seen + taken.len();
        self.state = if seen == PREFACE.len() {
            State::NEXT_FRAME
        } else {
            State::Preface { seen }
        };
        Ok(())
    }

    fn head(
        &mut self,
        bytes: &mut &[u8],
        at: MonotonicNs,
        sink: &mut impl FrameSink,
    ) -> Result<(), OutOfStep> {
        let State::Head {
            bytes: head,
            seen,
            started,
        } = &mut self.state
        else {
            return Ok(());
        };
        if *seen == 0 {
            *started = at;
        }
        for byte in take(bytes, (FRAME_HEAD_BYTES - *seen) as u64) {
            if let Some(slot) = head.get_mut(*seen) {
                *slot = *byte;
            }
            *seen += 1;
        }
        if *seen < FRAME_HEAD_BYTES {
            return Ok(());
        }
        let (head, started) = (FrameHead::parse(*head), *started);
        self.begin(head, started, bytes, at, sink)
    }

    /// The header of a frame is complete; `bytes` is what follows it.
    fn begin(
        &mut self,
        head: FrameHead,
        started: MonotonicNs,
        bytes: &mut &[u8],
        at: MonotonicNs,
        sink: &mut impl FrameSink,
    ) -> Result<(), OutOfStep> {
        let fits = head.is_possible(self.side) && (!self.joined || head.is_plausible(self.side));
        if !fits || !self.is_in_turn(&head) {
            return Err(OutOfStep);
        }
        self.inside_unseen_block &= head.kind == Kind::Continuation;
        let left = u64::from(head.length);
        match head.kind {
            Kind::Data => {
                self.state = State::Data {
                    stream: head.stream,
                    end_stream: head.has(flag::END_STREAM),
                    left,
                };
                let passed = take(bytes, left).len() as u64;
                self.data(FRAME_HEAD_BYTES as u64, passed, at, sink);
                Ok(())
            }
            Kind::Headers | Kind::PushPromise => {
                self.assembly.open(head, started);
                self.begin_keeping(head, bytes, at, sink)
            }
            Kind::Continuation if self.assembly.open_stream().is_none() => {
                self.state = State::passing(left);
                Ok(())
            }
            Kind::Continuation | Kind::GoAway => self.begin_keeping(head, bytes, at, sink),
            Kind::Priority
            | Kind::Reset
            | Kind::Settings
            | Kind::Ping
            | Kind::WindowUpdate
            | Kind::Extension => {
                if head.kind == Kind::Reset {
                    let stream = head.stream;
                    sink.event(Event::Reset { stream, at });
                }
                self.state = State::passing(left);
                Ok(())
            }
        }
    }

    /// Nothing may come between the frames of one block.
    fn is_in_turn(&self, head: &FrameHead) -> bool {
        let is_continuation = head.kind == Kind::Continuation;
        match self.assembly.open_stream() {
            Some(stream) => is_continuation && stream == head.stream,
            None => !is_continuation || self.inside_unseen_block,
        }
    }

    /// Bytes of the current DATA frame have passed: of its header, and of its payload.
    fn data(&mut self, of_head: u64, of_payload: u64, at: MonotonicNs, sink: &mut impl FrameSink) {
        let State::Data {
            stream,
            end_stream,
            left,
        } = self.state
        else {
            return;
        };
        let left = left - of_payload;
        sink.event(Event::Data {
            stream,
            bytes: of_head + of_payload,
            end_stream: end_stream && left == 0,
            at,
        });
        self.state = if left == 0 {
            State::NEXT_FRAME
        } else {
            State::Data {
                stream,
                end_stream,
                left,
            }
        };
    }

    fn begin_keeping(
        &mut self,
        head: FrameHead,
        bytes: &mut &[u8],
        at: MonotonicNs,
        sink: &mut impl FrameSink,
    ) -> Result<(), OutOfStep> {
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        self.assembly.expect(length);
        self.keep(head, length, bytes, at, sink)
    }

    /// Takes what is there of a payload that is read when it is whole.
    fn keep(
        &mut self,
        head: FrameHead,
        left: usize,
        bytes: &mut &[u8],
        at: MonotonicNs,
        sink: &mut impl FrameSink,
    ) -> Result<(), OutOfStep> {
        let taken = take(bytes, left as u64);
        let left = left - taken.len();
        // Usually all of it lies here, and is read where it lies.
        let in_place = (left == 0 && self.assembly.is_empty()).then_some(taken);
        if in_place.is_none() {
            self.assembly.keep(taken);
        }
        if left > 0 {
            self.state = State::Keeping { head, left };
            return Ok(());
        }
        self.state = State::NEXT_FRAME;
        if head.kind == Kind::GoAway {
            if let Some(last_stream) = self.assembly.last_stream(in_place) {
                sink.event(Event::GoAway { last_stream });
            }
            return Ok(());
        }
        self.assembly
            .complete(head, in_place, at, |block, bytes| sink.block(block, bytes))
    }
}

/// Takes up to `count` bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], count: u64) -> &'a [u8] {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    bytes
        .split_off(..count.min(bytes.len()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::testing::{data, frame, headers};
    use proptest::prelude::*;

    /// Stream, end of stream, promise, wire bytes, and the block itself.
    type Seen = (u32, bool, bool, u64, Option<Vec<u8>>);

    /// Writes down what it is told; DATA of one stream is added up, so that segments do not show.
    #[derive(Debug, Default, PartialEq)]
    struct Log {
        blocks: Vec<Seen>,
        events: Vec<Event>,
    }

    impl FrameSink for Log {
        fn block(&mut self, block: Block, bytes: Option<&[u8]>) -> Result<(), OutOfStep> {
            self.blocks.push((
                block.stream,
                block.end_stream,
                block.is_promise,
                block.wire_bytes,
                bytes.map(<[u8]>::to_vec),
            ));
            Ok(())
        }

        fn event(&mut self, event: Event) {
            if let (
                Some(Event::Data {
                    stream: same,
                    bytes: sum,
                    end_stream: end,
                    ..
                }),
                Event::Data {
                    stream,
                    bytes,
                    end_stream,
                    ..
                },
            ) = (self.events.last_mut(), event)
                && *same == stream
            {
                *sum += bytes;
                *end |= end_stream;
                return;
            }
            self.events.push(event);
        }
    }

    fn piece(bytes: &[u8], hole: u64) -> Piece<'_> {
        Piece {
            bytes,
            hole,
            lost: false,
            at: MonotonicNs(7),
        }
    }

    fn cut(side: Side, from_start: bool, pieces: &[(&[u8], u64)]) -> Log {
        let (mut cutter, mut log) = (Cutter::new(side, from_start), Log::default());
        for (bytes, hole) in pieces {
            cutter.feed(piece(bytes, *hole), &mut log);
        }
        log
    }

    fn of_data(stream: u32, bytes: u64, end_stream: bool) -> Event {
        Event::Data {
            stream,
            bytes,
            end_stream,
            at: MonotonicNs(7),
        }
    }

    /// Every kind of frame that matters, padded, with priority and in parts.
    fn every_shape() -> Vec<u8> {
        let mut bytes = frame(4, 0, 0, &[0, 1, 0, 0, 16, 0]);
        // HEADERS with padding and priority, closed by CONTINUATION; a PING cannot come between.
        bytes.extend(frame(
            1,
            0x01 | 0x08 | 0x20,
            3,
            b"\x04\0\0\0\0\x10AB\0\0\0\0",
        ));
        bytes.extend(frame(9, 0, 3, b"CD"));
        bytes.extend(frame(9, 0, 3, b""));
        bytes.extend(frame(9, 4, 3, b"EF"));
        bytes.extend(frame(6, 1, 0, &[5; 8]));
        bytes.extend(frame(0, 0x08, 5, b"\x02data\0\0"));
        bytes.extend(frame(0, 0x01, 5, b""));
        bytes.extend(frame(5, 0x04 | 0x08, 7, b"\x01\0\0\0\x02push\0"));
        bytes.extend(frame(1, 0x04, 9, b""));
        bytes.extend(frame(2, 0, 11, &[0; 5]));
        bytes.extend(frame(0xee, 0xff, 12, b"of an extension"));
        bytes.extend(frame(8, 0, 0, &[0, 0, 1, 0]));
        bytes.extend(frame(3, 0, 13, &[0, 0, 0, 8]));
        bytes.extend(frame(7, 0, 0, b"\x80\0\0\x2a\0\0\0\0bye"));
        bytes
    }

    fn what_it_holds() -> Log {
        Log {
            blocks: vec![
                (
                    3,
                    true,
                    false,
                    9 + 12 + 9 + 2 + 9 + 9 + 2,
                    Some(b"ABCDEF".to_vec()),
                ),
                (7, false, true, 9 + 10, Some(b"push".to_vec())),
                (9, false, false, 9, Some(vec![])),
            ],
            events: vec![
                of_data(5, 9 + 7 + 9, true),
                Event::Reset {
                    stream: 13,
                    at: MonotonicNs(7),
                },
                Event::GoAway { last_stream: 42 },
            ],
        }
    }

    #[test]
    fn every_shape_is_cut_in_one_piece_and_byte_by_byte() {
        let bytes = every_shape();
        assert_eq!(cut(Side::Response, true, &[(&bytes, 0)]), what_it_holds());
        let single: Vec<(&[u8], u64)> = bytes.chunks(1).map(|byte| (byte, 0)).collect();
        assert_eq!(cut(Side::Response, true, &single), what_it_holds());
    }

    #[test]
    fn the_preface_comes_first() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(data(1, b"abc", true));
        let log = cut(Side::Request, true, &[(&bytes[..9], 0), (&bytes[9..], 0)]);
        assert_eq!(log.events, [of_data(1, 12, true)]);
        let log = cut(Side::Request, true, &[(b"PRI * HTTP/1.1", 0)]);
        assert_eq!(log.events, [Event::Lost]);
        // A direction that was thought to be running turns out to begin here.
        let log = cut(Side::Request, false, &[(b"xyz", 0), (&bytes, 0)]);
        assert_eq!(
            log.events,
            [Event::Skipped(3), Event::Start, of_data(1, 12, true)]
        );
    }

    #[test]
    fn holes_are_harmless_inside_payloads_only() {
        let mut bytes = data(1, &[7; 100], false);
        bytes.extend(data(3, &[7; 100], true));
        // From within the first payload to its end, and from within the second to its end.
        let log = cut(
            Side::Response,
            true,
            &[(&bytes[..50], 59), (&bytes[109..120], 50), (&[], 48)],
        );
        assert_eq!(log.events, [of_data(1, 109, false), of_data(3, 109, true)]);
        // One byte further, and the next header is gone.
        let log = cut(
            Side::Response,
            true,
            &[(&bytes[..50], 60), (&bytes[110..], 0), (&bytes[109..], 5)],
        );
        assert_eq!(
            log.events,
            [
                of_data(1, 50, false),
                Event::Lost,
                Event::Skipped(108),
                of_data(3, 109, true),
                Event::Lost,
            ]
        );
        let ping = frame(6, 0, 0, &[0; 8]);
        let log = cut(Side::Response, true, &[(&ping[..10], 7), (&ping[..9], 9)]);
        assert_eq!(log.events, [Event::Lost]);
        let block = headers(1, b"0123456789", true);
        let log = cut(Side::Response, true, &[(&block[..14], 5), (&block, 0)]);
        assert_eq!(log.events, [Event::Lost]);
        assert_eq!(log.blocks.len(), 1);
    }

    #[test]
    fn loss_inside_data_keeps_the_position() {
        let bytes = data(1, &[7; 100], true);
        let (mut cutter, mut log) = (Cutter::new(Side::Response, true), Log::default());
        cutter.feed(piece(&bytes[..20], 0), &mut log);
        let lost = Piece {
            lost: true,
            ..piece(&[], 80)
        };
        cutter.feed(lost, &mut log);
        cutter.feed(piece(&bytes[100..], 0), &mut log);
        assert_eq!(
            log.events,
            [
                of_data(1, 20, false),
                Event::DataLost { stream: 1 },
                of_data(1, 89, true)
            ]
        );
        cutter.feed(lost, &mut log);
        assert_eq!(log.events.last(), Some(&Event::Lost));
        // The loss lies in front of the bytes.
        let with_bytes = Piece {
            lost: true,
            ..piece(&bytes, 80)
        };
        cutter.feed(with_bytes, &mut log);
        assert_eq!(log.events.last(), Some(&of_data(1, 109, true)));
    }

    #[test]
    fn a_late_start_inside_a_block_passes_over_the_rest_of_it() {
        let mut bytes = frame(9, 0, 1, b"EF");
        bytes.extend(frame(9, 4, 1, b"GH"));
        bytes.extend(headers(3, b"IJ", true));
        let log = cut(Side::Response, false, &[(&bytes, 0)]);
        assert_eq!(log.blocks, [(3, true, false, 11, Some(b"IJ".to_vec()))]);
        assert_eq!(log.events, []);
        bytes.extend(frame(9, 4, 3, b"KL"));
        let log = cut(Side::Response, false, &[(&bytes, 0)]);
        let wanted = [Event::Lost, Event::Skipped(2)];
        assert_eq!(log.events, wanted, "this one continues nothing");
    }

    #[test]
    fn what_no_peer_may_send_is_out_of_step() {
        let mut interrupted = frame(1, 0, 1, b"A");
        interrupted.extend(frame(6, 0, 0, &[0; 8]));
        let cases = [
            frame(0, 0, 0, b"data of the connection"),
            frame(9, 4, 1, b"continues nothing"),
            frame(4, 0, 0, b"12345"),
            frame(3, 0, 1, b"12345"),
            frame(1, 0x0c, 1, b"\x05abcd"),
            frame(1, 0x24, 1, b"abcd"),
            frame(1, 0x0c, 1, b""),
            interrupted,
        ];
        for bytes in cases {
            let log = cut(Side::Response, true, &[(&bytes, 0)]);
            assert_eq!(log.events.first(), Some(&Event::Lost), "{bytes:?}");
            assert_eq!(log.blocks, []);
        }
    }

    #[test]
    fn a_block_beyond_the_limit_is_passed_over_however_it_is_cut() {
        let mut bytes = frame(1, 0x01, 1, &vec![b'a'; 60_000]);
        bytes.extend(frame(9, 0, 1, &vec![b'b'; 6_000]));
        bytes.extend(frame(9, 4, 1, b"c"));
        bytes.extend(headers(3, b"d", false));
        let wanted = [
            (1, true, false, 60_000 + 6_000 + 1 + 3 * 9, None),
            (3, false, false, 10, Some(b"d".to_vec())),
        ];
        for size in [1, 1_000, 60_009, 1 << 20] {
            let pieces: Vec<(&[u8], u64)> = bytes.chunks(size).map(|chunk| (chunk, 0)).collect();
            let log = cut(Side::Response, true, &pieces);
            assert_eq!(log.blocks, wanted, "{size}");
            assert_eq!(log.events, []);
        }
    }

    #[test]
    fn the_rest_of_a_payload_is_of_no_interest() {
        let (mut cutter, mut log) = (Cutter::new(Side::Response, true), Log::default());
        cutter.feed(
            piece(&data(1, &vec![0; 50_000], false)[..1_009], 0),
            &mut log,
        );
        assert_eq!(cutter.uninteresting_bytes(), 49_000);
        cutter.feed(piece(&[], 49_000), &mut log);
        assert_eq!(cutter.uninteresting_bytes(), 0);
    }

    proptest! {
        #[test]
        fn any_segmentation_gives_the_same(cuts in proptest::collection::vec(1_usize..40, 1..60)) {
            let bytes = every_shape();
            let (mut rest, mut pieces) = (bytes.as_slice(), Vec::new());
            for size in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*size).min(rest.len()));
                pieces.push((piece, 0));
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(cut(Side::Response, true, &pieces), what_it_holds());
        }

        #[test]
        fn any_bytes_are_followed_or_refused(
            pieces in proptest::collection::vec(
                (proptest::collection::vec(prop_oneof![0_u8..10, any::<u8>()], 0..80), 0_u64..30, any::<bool>()), 0..20),
            from_start in any::<bool>(),
            is_request in any::<bool>(),
        ) {
            let side = if is_request { Side::Request } else { Side::Response };
            let (mut cutter, mut log) = (Cutter::new(side, from_start), Log::default());
            for (bytes, hole, lost) in &pieces {
                cutter.feed(Piece { lost: *lost, ..piece(bytes, *hole) }, &mut log);
                prop_assert!(cutter.assembly.is_bounded());
            }
        }
    }
}
