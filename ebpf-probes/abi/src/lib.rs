//! The border between kernel and user space: every byte that crosses it is laid out here.
//!
//! Owns: the record header, the flow key, the configuration value, the counter indices and the
//! capture limits. Refuses: dependencies, allocation, policy. Integers are little-endian, ports are
//! in host order, addresses are 16 bytes (IPv4 as `::ffff:a.b.c.d`), times are nanoseconds of
//! `CLOCK_MONOTONIC`.
#![no_std]

mod counters;
mod record;

pub use counters::{COUNTER_COUNT, Counter};
pub use record::{FlowKey, OPENER_BYTES, Opener, RECORD_HEADER_BYTES, RecordHeader, Skip};

/// Version of these layouts; a recorded capture carries it, and readers refuse any other.
pub const ABI_VERSION: u8 = 2;

/// The most payload bytes one record carries; what a longer segment holds beyond is a counted hole.
pub const CAPTURE_BYTES_MAX: usize = 524_288;

/// Segments with at most this many payload bytes are always copied whole, without asking whether
/// user space wants them: the look-up would cost more than the copy.
pub const SKIP_CHECK_BYTES_MIN: u32 = 4_096;

/// Bytes of the ring shared by all CPUs (a power of two, a multiple of the page size). Three seconds of 10,000
/// exchanges of a kilobyte fit in, which is what a restart of the collector may take.
pub const RING_BYTES: u32 = 64 * 1024 * 1024;

/// TLS sessions whose connection is remembered, and threads inside a TLS call.
pub const TLS_SESSIONS_MAX: u32 = 65_536;

/// Processes whose TLS calls are counted one by one.
pub const TLS_PROCESSES_MAX: u32 = 4_096;

/// Bodies that user space has told the kernel not to copy, at most.
pub const SKIP_ENTRIES_MAX: u32 = 16_384;

/// TCP flag bits as they stand in the header and in [`RecordHeader::tcp_flags`].
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// First segment of a connection; its sequence number is one before the first byte.
    pub const SYN: u8 = 0x02;
    /// The connection is torn down at once.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
}

/// [`RecordHeader::direction`]: the segment arrived at a local socket.
pub const INGRESS: u8 = 0;
/// [`RecordHeader::direction`]: the segment left a local socket.
pub const EGRESS: u8 = 1;

/// Bits of a watched port's entry in the `PORTS` map.
pub mod watch {
    /// Capture connections whose local end has this port (we sit beside the server).
    pub const SERVER: u8 = 1;
    /// Capture connections whose remote end has this port (we sit beside the client).
    pub const CLIENT: u8 = 2;
}

/// [`RecordHeader::kind`].
pub mod kind {
    /// A TCP segment as it is on the wire.
    pub const SEGMENT: u8 = 0;
    /// A local socket sends its first SYN to a watched port; the payload is an [`crate::Opener`].
    pub const OPENER: u8 = 1;
    /// Bytes that a process read or wrote through TLS, on the connection that `flow` names; `sequence` counts
    /// the plain bytes of this direction.
    pub const PLAINTEXT: u8 = 2;
    /// The same, before it is known which connection carries them: `flow` is made of the process and the
    /// address of its session, see [`crate::FlowKey::of_session`].
    pub const PLAINTEXT_UNJOINED: u8 = 3;
    /// The session named by the payload (a [`crate::FlowKey`] as above) is carried by the connection `flow`.
    pub const JOIN: u8 = 4;
}

/// Names of the maps and programs inside the object.
pub mod names {
    /// Ring buffer of records.
    pub const RING: &str = "RECORDS";
    /// `port -> watch bits`, 65,536 entries.
    pub const PORTS: &str = "PORTS";
    /// `FlowKey::for_skips -> Skip`, least recently used goes first.
    pub const SKIPS: &str = "SKIPS";
    /// One entry of per-CPU counters, indexed by [`crate::Counter`].
    pub const COUNTERS: &str = "COUNTERS";
    /// Read-only global: 1 when the kernel lets these programs ask for the current task (6.16 and later).
    pub const TASKS: &str = "TASKS";
    /// `process id -> 1`: their TLS sessions are recorded even before the connection is known.
    pub const TLS_WANTED: &str = "TLS_WANTED";
    /// `process id -> calls of TLS functions seen`.
    pub const TLS_HITS: &str = "TLS_HITS";
    /// Read-only global: 1 when TLS sessions are to be joined to their connections.
    pub const TLS: &str = "TLS";
    /// `(process, session) -> connection and bytes so far`.
    pub const TLS_SESSIONS: &str = "TLS_SESSIONS";
    /// `thread -> the TLS call it is in, or came out of`.
    pub const TLS_CALLS: &str = "TLS_CALLS";
    /// The probes of one TLS library: function, and the programs at its entry and return.
    pub const TLS_PROBES: &[(&str, &str, Option<&str>)] = &[
        ("SSL_write", "tls_write", Some("tls_write_done")),
        ("SSL_write_ex", "tls_write_ex", Some("tls_write_ex_done")),
        ("SSL_read", "tls_read", Some("tls_read_done")),
        ("SSL_read_ex", "tls_read_ex", Some("tls_read_ex_done")),
        (
            "SSL_do_handshake",
            "tls_handshake",
            Some("tls_handshake_done"),
        ),
        ("SSL_free", "tls_free", None),
    ];
    /// Program on the way in.
    pub const INGRESS: &str = "weir_ingress";
    /// Program on the way out.
    pub const EGRESS: &str = "weir_egress";
}
