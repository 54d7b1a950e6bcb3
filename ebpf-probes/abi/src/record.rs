//! The record header and the key of a one-way flow.

/// Bytes of a [`RecordHeader`] as it lies in the ring; the captured payload follows at once.
pub const RECORD_HEADER_BYTES: usize = 88;

/// One TCP segment of a watched connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RecordHeader {
    /// When the hook ran, nanoseconds of `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
    /// Sender and receiver of this segment.
    pub flow: FlowKey,
    /// TCP sequence number of the first payload byte (of the SYN itself for a SYN).
    pub sequence: u32,
    /// TCP acknowledgement number; meaningful when the ACK flag is set.
    pub acknowledgement: u32,
    /// Payload bytes of the segment.
    pub payload_bytes: u32,
    /// How many of them, from the first, follow this header.
    pub captured_bytes: u32,
    /// TCP flag bits, see [`crate::tcp_flags`].
    pub tcp_flags: u8,
    /// [`crate::INGRESS`] or [`crate::EGRESS`].
    pub direction: u8,
    /// Which side we sit on: one of the bits of [`crate::watch`].
    pub side: u8,
    /// [`crate::ABI_VERSION`].
    pub version: u8,
    /// One of [`crate::kind`].
    pub kind: u8,
    /// Zero; keeps the next field aligned without hidden padding.
    pub reserved: [u8; 7],
    /// Process (upper half) and thread (lower half) that sends, zero when unknown. Only of what leaves.
    pub task: u64,
    /// The kernel's smoothed round-trip time of the socket, microseconds; zero when unknown.
    pub round_trip_us: u32,
    /// Segments that the socket has sent again so far.
    pub retransmits: u32,
}

/// Addresses and ports of one direction of a connection. Key of the skip map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct FlowKey {
    /// Sender's address, IPv4 mapped into IPv6.
    pub source_address: [u8; 16],
    /// Receiver's address, IPv4 mapped into IPv6.
    pub destination_address: [u8; 16],
    /// Sender's port, host order.
    pub source_port: u16,
    /// Receiver's port, host order.
    pub destination_port: u16,
}

const _: () = assert!(size_of::<RecordHeader>() == RECORD_HEADER_BYTES);
const _: () = assert!(size_of::<FlowKey>() == 36);
const _: () = assert!(size_of::<Opener>() == OPENER_BYTES);

/// A stretch of a flow that need not be copied. Value of the skip map. Sequence numbers wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Skip {
    /// First byte of it.
    pub from: u32,
    /// First byte wanted again.
    pub until: u32,
}

impl Skip {
    /// Whether a segment lies inside. A stretch left over from an earlier connection on the same ports begins elsewhere.
    #[must_use]
    pub const fn covers(&self, sequence: u32, bytes: u32) -> bool {
        let end = sequence.wrapping_add(bytes);
        sequence.wrapping_sub(self.from).cast_signed() >= 0
            && self.until.wrapping_sub(end).cast_signed() >= 0
    }
}

/// Bytes of an [`Opener`].
pub const OPENER_BYTES: usize = 24;

/// Who opens a connection: payload of a record of [`crate::kind::OPENER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Opener {
    /// Command name of the process, NUL-padded.
    pub command: [u8; 16],
    /// Its cgroup (version 2), the inode number of the directory.
    pub cgroup: u64,
}

impl Opener {
    /// Reads an opener; `None` when it is too short.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            command: take(bytes, 0)?,
            cgroup: u64::from_le_bytes(take(bytes, 16)?),
        })
    }
}

impl FlowKey {
    /// The stand-in for a TLS session whose connection is not known: its process and its address in there.
    #[must_use]
    pub fn of_session(session: u64, process: u32) -> Self {
        let mut source_address = [0; 16];
        let mut destination_address = [0; 16];
        let (address, _) = source_address.split_at_mut(8);
        address.copy_from_slice(&session.to_le_bytes());
        let (id, _) = destination_address.split_at_mut(4);
        id.copy_from_slice(&process.to_le_bytes());
        Self {
            source_address,
            destination_address,
            source_port: 0,
            destination_port: 0,
        }
    }

    /// The key's bytes, as the kernel writes them.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            source_address: take(bytes, 0)?,
            destination_address: take(bytes, 16)?,
            source_port: u16::from_le_bytes(take(bytes, 32)?),
            destination_port: u16::from_le_bytes(take(bytes, 34)?),
        })
    }

    /// Key of this flow in the skip map: the same flow is seen at both ends, and on the wire and in plain text, and
    /// what one of these four has no use for another may still want. No address starts like the changed ones.
    #[must_use]
    pub const fn for_skips(mut self, kind: u8, side: u8) -> Self {
        if kind != crate::kind::SEGMENT {
            self.source_address[0] ^= 0x80;
        }
        if side == crate::watch::CLIENT {
            self.source_address[0] ^= 0x40;
        }
        self
    }

    /// The same connection seen in the other direction.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            source_address: self.destination_address,
            destination_address: self.source_address,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

impl RecordHeader {
    /// Splits a record into header and captured payload. `None` when it is shorter than it says or of
    /// another version: such a record is counted as corrupt, never guessed at.
    pub fn parse(record: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = record.split_first_chunk::<RECORD_HEADER_BYTES>()?;
        let header = Self {
            monotonic_ns: u64::from_le_bytes(take(head, 0)?),
            flow: FlowKey {
                source_address: take(head, 8)?,
                destination_address: take(head, 24)?,
                source_port: u16::from_le_bytes(take(head, 40)?),
                destination_port: u16::from_le_bytes(take(head, 42)?),
            },
            sequence: u32::from_le_bytes(take(head, 44)?),
            acknowledgement: u32::from_le_bytes(take(head, 48)?),
            payload_bytes: u32::from_le_bytes(take(head, 52)?),
            captured_bytes: u32::from_le_bytes(take(head, 56)?),
            tcp_flags: *head.get(60)?,
            direction: *head.get(61)?,
            side: *head.get(62)?,
            version: *head.get(63)?,
            kind: *head.get(64)?,
            reserved: take(head, 65)?,
            task: u64::from_le_bytes(take(head, 72)?),
            round_trip_us: u32::from_le_bytes(take(head, 80)?),
            retransmits: u32::from_le_bytes(take(head, 84)?),
        };
        let captured = rest.get(..usize::try_from(header.captured_bytes).ok()?)?;
        let sound =
            header.version == crate::ABI_VERSION && header.captured_bytes <= header.payload_bytes;
        sound.then_some((header, captured))
    }

    /// The header's bytes, as the kernel writes them. Used by recordings and tests.
    pub fn to_bytes(&self) -> [u8; RECORD_HEADER_BYTES] {
        let mut out = [0_u8; RECORD_HEADER_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(slot) = out.get_mut(at..at + bytes.len()) {
                slot.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        put(&self.monotonic_ns.to_le_bytes());
        put(&self.flow.source_address);
        put(&self.flow.destination_address);
        put(&self.flow.source_port.to_le_bytes());
        put(&self.flow.destination_port.to_le_bytes());
        put(&self.sequence.to_le_bytes());
        put(&self.acknowledgement.to_le_bytes());
        put(&self.payload_bytes.to_le_bytes());
        put(&self.captured_bytes.to_le_bytes());
        put(&[self.tcp_flags, self.direction, self.side, self.version]);
        put(&[self.kind]);
        put(&self.reserved);
        put(&self.task.to_le_bytes());
        put(&self.round_trip_us.to_le_bytes());
        put(&self.retransmits.to_le_bytes());
        out
    }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::{FlowKey, RECORD_HEADER_BYTES, RecordHeader};
    use core::mem::offset_of;

    fn sample() -> RecordHeader {
        RecordHeader {
            monotonic_ns: 0x0102_0304_0506_0708,
            flow: FlowKey {
                source_address: core::array::from_fn(|i| u8::try_from(i).unwrap()),
                destination_address: [0xee; 16],
                source_port: 80,
                destination_port: 40_001,
            },
            sequence: 7,
            acknowledgement: 9,
            payload_bytes: 3,
            captured_bytes: 2,
            tcp_flags: 0x18,
            direction: 1,
            side: 1,
            version: crate::ABI_VERSION,
            kind: crate::kind::PLAINTEXT,
            reserved: [0; 7],
            task: 0x0a0b_0c0d_0102_0304,
            round_trip_us: 77,
            retransmits: 3,
        }
    }

    #[test]
    fn a_skip_covers_what_lies_inside_it_also_where_numbers_wrap() {
        let skip = super::Skip {
            from: u32::MAX - 9,
            until: 90,
        };
        assert!(skip.covers(u32::MAX - 9, 100));
        assert!(skip.covers(0, 90));
        assert!(!skip.covers(0, 91), "wanted again");
        assert!(!skip.covers(u32::MAX - 10, 20), "before it");
        assert!(!skip.covers(5_000_000, 10), "another connection");
    }

    #[test]
    fn offsets_are_the_ones_the_reader_uses() {
        assert_eq!(offset_of!(RecordHeader, flow), 8);
        assert_eq!(offset_of!(RecordHeader, sequence), 44);
        assert_eq!(offset_of!(RecordHeader, captured_bytes), 56);
        assert_eq!(offset_of!(RecordHeader, tcp_flags), 60);
        assert_eq!(offset_of!(RecordHeader, kind), 64);
        assert_eq!(offset_of!(RecordHeader, task), 72);
        assert_eq!(offset_of!(RecordHeader, retransmits), 84);
    }

    #[test]
    fn a_record_survives_writing_and_reading() {
        let mut bytes = [0_u8; RECORD_HEADER_BYTES + 4];
        bytes[..RECORD_HEADER_BYTES].copy_from_slice(&sample().to_bytes());
        bytes[RECORD_HEADER_BYTES..].copy_from_slice(b"GE??");
        let (header, captured) = RecordHeader::parse(&bytes).unwrap();
        assert_eq!(header, sample());
        assert_eq!(captured, b"GE");
    }

    #[test]
    fn short_foreign_or_lying_records_are_refused() {
        let bytes = sample().to_bytes();
        assert!(RecordHeader::parse(&bytes).is_none(), "payload missing");
        assert!(RecordHeader::parse(&bytes[..40]).is_none(), "header cut");
        let mut foreign = [0_u8; RECORD_HEADER_BYTES + 2];
        foreign[..RECORD_HEADER_BYTES].copy_from_slice(&bytes);
        foreign[63] = 99;
        assert!(RecordHeader::parse(&foreign).is_none(), "other version");
    }
}
