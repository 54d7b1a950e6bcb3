//! The nine bytes in front of every frame (RFC 9113, 4.1), and how to tell them from anything else.

use crate::http::Side;

/// What a client sends first (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame header.
pub(super) const FRAME_HEAD_BYTES: usize = 9;
/// Longest DATA frame that is believed where the stream is joined; peers agree on 16 KiB unless they say otherwise.
const DATA_BYTES_PLAUSIBLE: u32 = 1 << 20;
/// The same for other frames.
const OTHER_BYTES_PLAUSIBLE: u32 = 1 << 14;
/// Every receiver takes frames up to this size.
const FULL_FRAME_BYTES: u32 = 1 << 14;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// Of an extension; receivers skip what they do not know.
    Extension,
}

impl Kind {
    const fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Extension,
        }
    }

    /// The flags that are defined for it.
    const fn flags(self) -> u8 {
        match self {
            Self::Data => flag::END_STREAM | flag::PADDED,
            Self::Headers => flag::END_STREAM | flag::END_HEADERS | flag::PADDED | flag::PRIORITY,
            Self::Settings | Self::Ping => flag::ACK,
            Self::PushPromise => flag::END_HEADERS | flag::PADDED,
            Self::Continuation => flag::END_HEADERS,
            Self::Priority | Self::Reset | Self::GoAway | Self::WindowUpdate => 0,
            Self::Extension => u8::MAX,
        }
    }
}

/// Bits of the flags byte.
pub(super) mod flag {
    pub(in crate::http2) const END_STREAM: u8 = 0x01;
    pub(in crate::http2) const ACK: u8 = 0x01;
    pub(in crate::http2) const END_HEADERS: u8 = 0x04;
    pub(in crate::http2) const PADDED: u8 = 0x08;
    pub(in crate::http2) const PRIORITY: u8 = 0x20;
}

/// A frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    /// Bytes of payload.
    pub(super) length: u32,
    pub(super) kind: Kind,
    flags: u8,
    /// 0 is the connection.
    pub(super) stream: u32,
    reserved_bit: bool,
}

impl FrameHead {
    pub(super) const fn parse(bytes: [u8; FRAME_HEAD_BYTES]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind: Kind::of(kind),
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
            reserved_bit: s0 & 0x80 != 0,
        }
    }

    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether the protocol allows it; a peer that receives another ends the connection.
    pub(super) const fn is_possible(&self, side: Side) -> bool {
        let from_client = matches!(side, Side::Request);
        let on_stream = self.stream != 0 && (!from_client || self.stream % 2 == 1);
        match self.kind {
            Kind::Data | Kind::Headers | Kind::Continuation => on_stream,
            Kind::Priority => self.stream != 0 && self.length == 5,
            Kind::Reset => self.stream != 0 && self.length == 4,
            Kind::Settings => self.stream == 0 && self.length.is_multiple_of(6),
            Kind::PushPromise => !from_client && self.stream % 2 == 1 && self.length >= 4,
            Kind::Ping => self.stream == 0 && self.length == 8,
            Kind::GoAway => self.stream == 0 && self.length >= 8,
            Kind::WindowUpdate => self.length == 4,
            Kind::Extension => true,
        }
    }

    /// Whether it is also what senders really send, so that other bytes are unlikely to look like it.
    pub(super) const fn is_plausible(&self, side: Side) -> bool {
        let length_max = match self.kind {
            Kind::Data => DATA_BYTES_PLAUSIBLE,
            Kind::Headers
            | Kind::Priority
            | Kind::Reset
            | Kind::Settings
            | Kind::PushPromise
            | Kind::Ping
            | Kind::GoAway
            | Kind::WindowUpdate
            | Kind::Continuation
            | Kind::Extension => OTHER_BYTES_PLAUSIBLE,
        };
        self.is_possible(side)
            && !self.reserved_bit
            && self.length <= length_max
            && self.flags & !self.kind.flags() == 0
    }
}

/// Whether a stretch of the stream starts with the client's preface, or with a frame: known at the start, and plausible
/// from frame to frame as far as the stretch reaches.
pub(crate) fn looks_like_frames(side: Side, bytes: &[u8]) -> bool {
    if side == Side::Request && bytes.starts_with(PREFACE) {
        return true;
    }
    let mut rest = bytes;
    let mut frames = 0_u32;
    while let Some(head) = rest.first_chunk() {
        let head = FrameHead::parse(*head);
        // A header read one byte too late often looks like HEADERS without flags; senders split only full frames.
        let is_telling = match head.kind {
            Kind::Extension => false,
            Kind::Headers => head.has(flag::END_HEADERS) || head.length >= FULL_FRAME_BYTES,
            Kind::Data
            | Kind::Priority
            | Kind::Reset
            | Kind::Settings
            | Kind::PushPromise
            | Kind::Ping
            | Kind::GoAway
            | Kind::WindowUpdate
            | Kind::Continuation => true,
        };
        if !head.is_plausible(side) || (frames == 0 && !is_telling) {
            return false;
        }
        frames += 1;
        let payload = usize::try_from(head.length).unwrap_or(usize::MAX);
        rest = rest
            .get(FRAME_HEAD_BYTES..)
            .and_then(|rest| rest.get(payload..))
            .unwrap_or_default();
    }
    frames > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::testing::{frame, headers};

    #[test]
    fn a_header_is_read_bit_by_bit() {
        let head = FrameHead::parse([1, 2, 3, 1, 0x25, 0x80, 0, 1, 3]);
        assert_eq!(head.length, 0x01_0203);
        assert_eq!((head.kind, head.stream), (Kind::Headers, 0x0103));
        assert!(head.has(flag::END_STREAM) && head.has(flag::END_HEADERS));
        assert!(head.has(flag::PRIORITY) && !head.has(flag::PADDED));
        assert!(head.is_possible(Side::Request));
        let is_plausible = |l1, flags, s0| {
            FrameHead::parse([0, l1, 3, 1, flags, s0, 0, 1, 3]).is_plausible(Side::Request)
        };
        assert!(is_plausible(2, 0x25, 0));
        assert!(!is_plausible(2, 0x25, 0x80), "the reserved bit");
        assert!(!is_plausible(2, 0x45, 0), "a flag that is none");
        assert!(!is_plausible(0x50, 0x25, 0), "a long head");
    }

    #[test]
    fn other_bytes_do_not_look_like_frames() {
        let others: [&[u8]; 8] = [
            b"",
            b"\0\0\x04\x03\0\0\0\0",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            // A gRPC message, and zeros.
            b"\0\0\0\0\x05\x0a\x03abc",
            &[0; 64],
            // A whole RST_STREAM, but then no frame.
            b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\0GET / HTTP/1.1",
            // From a client, streams are odd.
            b"\0\0\x04\0\0\0\0\0\x02",
        ];
        for bytes in others {
            assert!(!looks_like_frames(Side::Request, bytes), "{bytes:?}");
        }
        let mut bytes = headers(1, b"\x82", true);
        bytes.extend(frame(0x10, 0x77, 0, b"u=3"));
        bytes.extend(frame(0, 0, 1, &[9; 5_000]));
        assert!(looks_like_frames(Side::Request, &bytes));
        assert!(looks_like_frames(Side::Request, &bytes[..500]));
        assert!(!looks_like_frames(Side::Request, &bytes[1..]));
        assert!(looks_like_frames(Side::Request, PREFACE));
        assert!(!looks_like_frames(Side::Response, PREFACE));
    }
}
