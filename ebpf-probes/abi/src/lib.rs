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
pub use record::{FlowKey, RECORD_HEADER_BYTES, RecordHeader};

/// Version of these layouts; a recorded capture carries it, and readers refuse any other.
pub const ABI_VERSION: u8 = 1;

/// The most payload bytes one record carries; what a longer segment holds beyond is a counted hole.
pub const CAPTURE_BYTES_MAX: usize = 65_536;

/// Segments with at most this many payload bytes are always copied whole, without asking whether
/// user space wants them: the look-up would cost more than the copy.
pub const SKIP_CHECK_BYTES_MIN: u32 = 4_096;

/// Bytes of the ring shared by all CPUs (a power of two, a multiple of the page size).
pub const RING_BYTES: u32 = 16 * 1024 * 1024;

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

/// Names of the maps and programs inside the object.
pub mod names {
    /// Ring buffer of records.
    pub const RING: &str = "RECORDS";
    /// `port -> watch bits`, 65,536 entries.
    pub const PORTS: &str = "PORTS";
    /// `FlowKey -> first sequence number wanted again` (u32), least recently used goes first.
    pub const SKIPS: &str = "SKIPS";
    /// Per-CPU counters, indexed by [`crate::Counter`].
    pub const COUNTERS: &str = "COUNTERS";
    /// Program on the way in.
    pub const INGRESS: &str = "weir_ingress";
    /// Program on the way out.
    pub const EGRESS: &str = "weir_egress";
}
