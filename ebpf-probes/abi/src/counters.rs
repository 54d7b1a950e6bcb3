//! What the kernel programs count, per CPU.

/// Index into the per-CPU counters; `records_sent + refused_*` accounts for every segment and TLS call wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Packets the hook was called for.
    PacketsSeen = 0,
    /// Segments of watched connections that carry payload or open or end the connection.
    SegmentsWanted = 1,
    /// Records handed to the ring.
    RecordsSent = 2,
    /// Payload bytes copied into records.
    BytesCopied = 3,
    /// Payload bytes not copied because user space had said it does not need them.
    BytesSkipped = 4,
    /// Segments lost because the ring had no room.
    RefusedRingFull = 5,
    /// Segments lost because the payload could not be read from the packet.
    RefusedUnreadable = 6,
    /// Packets that are neither IPv4 nor IPv6 with TCP directly inside; nothing is expected of them.
    OtherProtocol = 7,
    /// Calls of TLS functions.
    TlsCalls = 8,
    /// Plain bytes read or written by sessions whose connection is not watched or not known.
    TlsBytesUnwanted = 9,
    /// Plain bytes lost because the process's memory could not be read.
    RefusedTlsUnreadable = 10,
    /// Payload bytes not copied because the ring was more than half full.
    BytesCut = 11,
}

/// Number of counters: the length of the one per-CPU value.
pub const COUNTER_COUNT: u32 = 12;

impl Counter {
    /// Every counter with the name it has in metrics.
    pub const ALL: [(Self, &'static str); COUNTER_COUNT as usize] = [
        (Self::PacketsSeen, "packets_seen"),
        (Self::SegmentsWanted, "segments_wanted"),
        (Self::RecordsSent, "records_sent"),
        (Self::BytesCopied, "bytes_copied"),
        (Self::BytesSkipped, "bytes_skipped"),
        (Self::RefusedRingFull, "refused_ring_full"),
        (Self::RefusedUnreadable, "refused_unreadable"),
        (Self::OtherProtocol, "other_protocol"),
        (Self::TlsCalls, "tls_calls"),
        (Self::TlsBytesUnwanted, "tls_bytes_unwanted"),
        (Self::RefusedTlsUnreadable, "refused_tls_unreadable"),
        (Self::BytesCut, "bytes_cut_under_pressure"),
    ];
}
