//! Puts the segments of one direction in order, each byte once.
//!
//! Shapes: a segment is `(sequence, payload length, captured prefix)`. What comes out is a sequence of
//! [`Piece`]s: bytes, followed by a hole of bytes that went over the wire but were not captured. A hole
//! is a value, not an error: bodies are mostly holes. Sequence numbers wrap; every comparison is by
//! signed distance.

use std::collections::VecDeque;

use crate::{
    clock::MonotonicNs,
    limits::{REORDER_AGE_NS_MAX, REORDER_BYTES_MAX, REORDER_SEGMENTS_MAX},
};

/// The next stretch of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Captured bytes, possibly none.
    pub bytes: &'a [u8],
    /// Bytes after them that were on the wire but not captured.
    pub hole: u64,
    /// True when records were lost in front of this piece; `hole` of that piece is the loss.
    pub lost: bool,
    /// When the segment was seen.
    pub at: MonotonicNs,
}

#[derive(Debug)]
struct Held {
    sequence: u32,
    payload_bytes: u32,
    captured: Vec<u8>,
    at: MonotonicNs,
}

/// One direction of one connection.
#[derive(Debug, Default)]
pub struct Reassembler {
    next: Option<u32>,
    held: VecDeque<Held>,
    held_bytes: usize,
    fin_at: Option<u32>,
    duplicate_segments: u64,
}

/// `a - b` on the circle of sequence numbers.
const fn distance(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

impl Reassembler {
    /// The direction starts here: `sequence` is that of the SYN.
    pub fn start(&mut self, syn_sequence: u32) {
        self.next = Some(syn_sequence.wrapping_add(1));
    }

    /// Whether a SYN or a segment has fixed the position.
    pub const fn is_started(&self) -> bool {
        self.next.is_some()
    }

    /// Sequence number of the next byte expected.
    pub const fn position(&self) -> Option<u32> {
        self.next
    }

    /// Segments seen again, wholly or in part.
    pub const fn duplicate_segments(&self) -> u64 {
        self.duplicate_segments
    }

    /// The sender has no more data after `sequence`.
    pub fn finish_at(&mut self, sequence: u32) {
        self.fin_at.get_or_insert(sequence);
    }

    /// Everything up to the end of the stream has been passed on.
    pub fn is_finished(&self) -> bool {
        matches!((self.fin_at, self.next), (Some(fin), Some(next)) if distance(next, fin) >= 0)
    }

    /// Takes one segment and passes on whatever is now in order.
    pub fn push(
        &mut self,
        sequence: u32,
        payload_bytes: u32,
        captured: &[u8],
        at: MonotonicNs,
        mut pass: impl FnMut(Piece<'_>),
    ) {
        let next = *self.next.get_or_insert(sequence);
        if distance(sequence, next) <= 0 {
            self.advance(sequence, payload_bytes, captured, at, &mut pass);
            self.release(&mut pass);
        } else {
            self.hold(Held {
                sequence,
                payload_bytes,
                captured: captured.to_vec(),
                at,
            });
            self.give_up_if_hopeless(at, &mut pass);
        }
    }

    /// Passes on everything held, counting what is missing as lost. For the end of a connection.
    pub fn flush(&mut self, mut pass: impl FnMut(Piece<'_>)) {
        while !self.held.is_empty() {
            self.jump_over_loss(&mut pass);
        }
    }

    fn advance(
        &mut self,
        sequence: u32,
        payload_bytes: u32,
        captured: &[u8],
        at: MonotonicNs,
        pass: &mut impl FnMut(Piece<'_>),
    ) {
        let Some(next) = self.next else { return };
        let already = distance(next, sequence).unsigned_abs();
        if already > 0 {
            self.duplicate_segments += 1;
        }
        if already >= payload_bytes {
            return;
        }
        let bytes = captured.get(already as usize..).unwrap_or_default();
        let fresh = payload_bytes - already;
        self.next = Some(next.wrapping_add(fresh));
        let hole = u64::from(fresh).saturating_sub(bytes.len() as u64);
        pass(Piece {
            bytes,
            hole,
            lost: false,
            at,
        });
    }

    fn release(&mut self, pass: &mut impl FnMut(Piece<'_>)) {
        while let Some(next) = self.next {
            if self
                .held
                .front()
                .is_none_or(|held| distance(held.sequence, next) > 0)
            {
                return;
            }
            let Some(held) = self.held.pop_front() else {
                return;
            };
            self.held_bytes = self.held_bytes.saturating_sub(held.captured.len());
            self.advance(
                held.sequence,
                held.payload_bytes,
                &held.captured,
                held.at,
                pass,
            );
        }
    }

    fn hold(&mut self, segment: Held) {
        let after = self
            .held
            .iter()
            .rposition(|held| distance(held.sequence, segment.sequence) <= 0);
        self.held_bytes += segment.captured.len();
        self.held
            .insert(after.map_or(0, |index| index + 1), segment);
    }

    fn give_up_if_hopeless(&mut self, now: MonotonicNs, pass: &mut impl FnMut(Piece<'_>)) {
        while let Some(oldest) = self.held.iter().map(|held| held.at).min() {
            let hopeless = self.held.len() > REORDER_SEGMENTS_MAX
                || self.held_bytes > REORDER_BYTES_MAX
                || now.since(oldest) > REORDER_AGE_NS_MAX;
            if !hopeless {
                return;
            }
            self.jump_over_loss(pass);
        }
    }

    fn jump_over_loss(&mut self, pass: &mut impl FnMut(Piece<'_>)) {
        let (Some(next), Some(front)) = (self.next, self.held.front()) else {
            return;
        };
        let missing = distance(front.sequence, next).max(0).unsigned_abs();
        let (at, sequence) = (front.at, front.sequence);
        if missing > 0 {
            self.next = Some(sequence);
            pass(Piece {
                bytes: &[],
                hole: u64::from(missing),
                lost: true,
                at,
            });
        }
        self.release(pass);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn collect(reassembler: &mut Reassembler, segments: &[(u32, &[u8])]) -> (Vec<u8>, u64) {
        let (mut out, mut lost) = (Vec::new(), 0);
        for (at, (sequence, bytes)) in (0_u64..).zip(segments) {
            let length = u32::try_from(bytes.len()).unwrap();
            reassembler.push(*sequence, length, bytes, MonotonicNs(at), |piece| {
                out.extend_from_slice(piece.bytes);
                lost += piece.hole;
            });
        }
        reassembler.flush(|piece| {
            out.extend_from_slice(piece.bytes);
            lost += piece.hole;
        });
        (out, lost)
    }

    #[test]
    fn reordered_and_repeated_segments_give_the_stream_once() {
        let mut reassembler = Reassembler::default();
        reassembler.start(99);
        let segments: [(u32, &[u8]); 5] = [
            (100, b"GET"),
            (105, b"HT"),
            (100, b"GET"),
            (103, b" /"),
            (104, b"/HTTP"),
        ];
        let (out, lost) = collect(&mut reassembler, &segments);
        assert_eq!((out.as_slice(), lost), (b"GET /HTTP".as_slice(), 0));
    }

    #[test]
    fn sequence_numbers_wrap() {
        let mut reassembler = Reassembler::default();
        reassembler.start(u32::MAX - 2);
        let (out, lost) = collect(&mut reassembler, &[(1, b"cd"), (u32::MAX - 1, b"ab!")]);
        assert_eq!((out.as_slice(), lost), (b"ab!cd".as_slice(), 0));
    }

    #[test]
    fn a_hole_that_never_fills_is_given_up_by_age() {
        let mut reassembler = Reassembler::default();
        reassembler.start(0);
        let mut seen = Vec::new();
        reassembler.push(11, 2, b"xy", MonotonicNs(0), |_| {
            unreachable!("nothing in order")
        });
        reassembler.push(13, 1, b"z", MonotonicNs(REORDER_AGE_NS_MAX + 1), |piece| {
            seen.push((piece.bytes.to_vec(), piece.hole, piece.lost));
        });
        assert_eq!(
            seen,
            [
                (vec![], 10, true),
                (b"xy".to_vec(), 0, false),
                (b"z".to_vec(), 0, false)
            ]
        );
    }

    #[test]
    fn uncaptured_tails_are_holes_not_losses() {
        let mut reassembler = Reassembler::default();
        let mut pieces = Vec::new();
        reassembler.push(5, 1000, b"head", MonotonicNs(1), |p| {
            pieces.push((p.bytes.len(), p.hole, p.lost));
        });
        assert_eq!(pieces, [(4, 996, false)]);
        assert_eq!(reassembler.position(), Some(1005));
    }

    proptest! {
        #[test]
        fn any_cut_order_and_repetition_gives_the_same_stream(
            data in proptest::collection::vec(any::<u8>(), 1..400),
            start in any::<u32>(),
            cuts in proptest::collection::vec((0_usize..400, 1_usize..80), 0..60),
            rotate in 0_usize..40,
        ) {
            let mut segments: Vec<(u32, &[u8])> = data.chunks(37).enumerate()
                .map(|(i, chunk)| (start.wrapping_add(1 + u32::try_from(i * 37).unwrap()), chunk)).collect();
            for (from, length) in cuts {
                let from = from % data.len();
                let to = (from + length).min(data.len());
                segments.push((start.wrapping_add(1 + u32::try_from(from).unwrap()), &data[from..to]));
            }
            let middle = rotate % segments.len();
            segments.rotate_left(middle);
            let mut reassembler = Reassembler::default();
            reassembler.start(start);
            let (out, lost) = collect(&mut reassembler, &segments);
            prop_assert_eq!(out, data);
            prop_assert_eq!(lost, 0);
        }
    }
}
