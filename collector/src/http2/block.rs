//! Header blocks from the frames that carry them: HEADERS or `PUSH_PROMISE`, and CONTINUATION.
//!
//! Owns: the payloads that are read when they are whole, up to a bound, and where the block lies in them. Refuses:
//! decoding it.

use std::ops::Range;

use super::frame_head::{FRAME_HEAD_BYTES, FrameHead, Kind, flag};
use crate::clock::MonotonicNs;

/// Bytes of a header block kept for decoding, padding included.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// Room that a direction keeps between blocks that come in parts.
const ROOM_BYTES_KEPT: usize = 4 * 1024;

/// The bytes cannot be what they were taken for.
#[derive(Debug)]
pub(super) struct OutOfStep;

/// A whole header block, as far as framing tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) end_stream: bool,
    /// Of a `PUSH_PROMISE`: it changes the table and is nobody's message.
    pub(super) is_promise: bool,
    /// Bytes of its frames, headers included.
    pub(super) wire_bytes: u64,
    /// First byte of the first frame.
    pub(super) started: MonotonicNs,
    /// Last byte of the last frame.
    pub(super) ended: MonotonicNs,
}

/// The block that is being put together, if any, and the payload that is being kept.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    open: Option<Block>,
    /// Where the block's first fragment lies in the first payload.
    first: Range<usize>,
    kept: Vec<u8>,
    /// More came than is kept.
    overflow: bool,
}

impl Assembly {
    /// The stream whose block waits for a CONTINUATION.
    pub(super) fn open_stream(&self) -> Option<u32> {
        self.open.map(|block| block.stream)
    }

    /// A HEADERS or `PUSH_PROMISE` frame begins a block.
    pub(super) fn open(&mut self, head: FrameHead, started: MonotonicNs) {
        self.open = Some(Block {
            stream: head.stream,
            end_stream: head.kind == Kind::Headers && head.has(flag::END_STREAM),
            is_promise: head.kind == Kind::PushPromise,
            wire_bytes: 0,
            started,
            ended: started,
        });
    }

    /// A payload of `length` bytes comes next.
    pub(super) fn expect(&mut self, length: usize) {
        if self.kept.len().saturating_add(length) > BLOCK_BYTES_MAX {
            self.overflow = true;
            self.kept = Vec::new();
        }
    }

    /// Whether a payload that lies in one piece can be read there, because nothing is kept in front of it.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty() && !self.overflow
    }

    /// Keeps a part of the payload.
    pub(super) fn keep(&mut self, part: &[u8]) {
        if !self.overflow {
            self.kept.extend_from_slice(part);
        }
    }

    /// The payload of `head` is whole: `payload` when it lies in one piece, else kept. When the block is complete with
    /// it, `read` gets it, or `None` when it outgrew its limit.
    ///
    /// # Errors
    /// [`OutOfStep`] when the payload contradicts itself, or from `read`.
    pub(super) fn complete(
        &mut self,
        head: FrameHead,
        payload: Option<&[u8]>,
        at: MonotonicNs,
        read: impl FnOnce(Block, Option<&[u8]>) -> Result<(), OutOfStep>,
    ) -> Result<(), OutOfStep> {
        let is_first = head.kind != Kind::Continuation;
        if is_first && !self.overflow {
            self.first = fragment(head, payload.unwrap_or(&self.kept)).ok_or(OutOfStep)?;
        }
        let Some(block) = &mut self.open else {
            return Err(OutOfStep);
        };
        block.wire_bytes += u64::from(head.length) + FRAME_HEAD_BYTES as u64;
        block.ended = at;
        let block = *block;
        if !head.has(flag::END_HEADERS) {
            self.keep(payload.unwrap_or_default());
            if is_first {
                // Padding lies between this fragment and the next.
                self.kept.truncate(self.first.end);
            }
            return Ok(());
        }
        let whole = payload.unwrap_or(&self.kept);
        let end = if is_first {
            self.first.end
        } else {
            whole.len()
        };
        let bytes = whole.get(self.first.start..end).filter(|_| !self.overflow);
        let result = read(block, bytes);
        self.clear();
        result
    }

    /// The payload of a GOAWAY is whole, given or kept as in [`Self::complete`]: the last stream it tells.
    pub(super) fn last_stream(&mut self, payload: Option<&[u8]>) -> Option<u32> {
        let bytes = payload.unwrap_or(&self.kept).first_chunk().copied();
        self.clear();
        Some(u32::from_be_bytes(bytes?) & 0x7fff_ffff)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.open = None;
        self.overflow = false;
        self.kept.clear();
        self.kept.shrink_to(ROOM_BYTES_KEPT);
    }
}

/// Where the block fragment lies in the payload of HEADERS or `PUSH_PROMISE`: behind the padding's length, the priority
/// or the promised stream, and before the padding.
fn fragment(head: FrameHead, payload: &[u8]) -> Option<Range<usize>> {
    let is_padded = head.has(flag::PADDED);
    let padding = if is_padded {
        usize::from(*payload.first()?)
    } else {
        0
    };
    let other = if head.kind == Kind::PushPromise {
        4
    } else if head.has(flag::PRIORITY) {
        5
    } else {
        0
    };
    let start = usize::from(is_padded) + other;
    let end = payload.len().checked_sub(padding)?;
    (start <= end).then_some(start..end)
}

#[cfg(test)]
impl Assembly {
    pub(super) fn is_bounded(&self) -> bool {
        self.kept.len() <= BLOCK_BYTES_MAX
    }
}
