//! Which segments become records, and the copy.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_ktime_get_ns, generated::bpf_skb_load_bytes},
    programs::SkBuffContext,
};
use aya_log_ebpf::warn;
use weir_abi::{
    ABI_VERSION, CAPTURE_BYTES_MAX, Counter, INGRESS, RECORD_HEADER_BYTES, RING_BYTES,
    RecordHeader, SKIP_CHECK_BYTES_MIN, tcp_flags, watch,
};

use crate::{
    COUNTERS, PORTS, RECORDS, SKIPS,
    packet::{self, Segment},
};

/// User space polls on a timer; one wake-up per record is what makes other tools slow.
const NO_WAKEUP: u64 = 1;

/// Looks at one packet and, if its segment is wanted, sends a record.
#[inline(always)]
pub fn observe(ctx: &SkBuffContext, direction: u8) {
    count(Counter::PacketsSeen, 1);
    let Some(ip_bytes) = packet::ip_header_bytes(ctx) else {
        count(Counter::OtherProtocol, 1);
        return;
    };
    let Some((source, destination)) = packet::ports(ctx, ip_bytes) else {
        return;
    };
    let (local, remote) = if direction == INGRESS {
        (destination, source)
    } else {
        (source, destination)
    };
    let side = side_of(local, remote);
    if side == 0 {
        return;
    }
    let Some(segment) = packet::segment(ctx, ip_bytes) else {
        count(Counter::RefusedUnreadable, 1);
        return;
    };
    let turning_point = tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST;
    if segment.payload_bytes == 0 && segment.tcp_flags & turning_point == 0 {
        return;
    }
    count(Counter::SegmentsWanted, 1);
    send(ctx, &segment, direction, side);
}

#[inline(always)]
fn side_of(local: u16, remote: u16) -> u8 {
    let bits = |port: u16| PORTS.get(u32::from(port)).copied().unwrap_or(0);
    if bits(local) & watch::SERVER != 0 {
        watch::SERVER
    } else if bits(remote) & watch::CLIENT != 0 {
        watch::CLIENT
    } else {
        0
    }
}

/// Chooses the smallest slot that holds the payload: a slot's size must be known to the verifier.
#[inline(always)]
fn send(ctx: &SkBuffContext, segment: &Segment, direction: u8, side: u8) {
    if segment.payload_bytes == 0 || skipped(segment) {
        count(Counter::BytesSkipped, u64::from(segment.payload_bytes));
        return emit::<0>(ctx, segment, direction, side);
    }
    if segment.payload_bytes > SKIP_CHECK_BYTES_MIN && under_pressure() {
        return emit::<4096>(ctx, segment, direction, side);
    }
    match segment.payload_bytes {
        0..=256 => emit::<256>(ctx, segment, direction, side),
        257..=1024 => emit::<1024>(ctx, segment, direction, side),
        1025..=4096 => emit::<4096>(ctx, segment, direction, side),
        4097..=16_384 => emit::<16_384>(ctx, segment, direction, side),
        _ => emit::<CAPTURE_BYTES_MAX>(ctx, segment, direction, side),
    }
}

/// Whether the ring is more than half full. Then long segments give their beginning only: a hole in a body
/// is harmless, and user space is about to say that it does not want that body anyway; a lost record is not.
#[inline(always)]
fn under_pressure() -> bool {
    const AVAILABLE_DATA: u64 = 0;
    RECORDS.query(AVAILABLE_DATA) > u64::from(RING_BYTES / 2)
}

/// True when user space has said that nothing before some later byte of this flow is of interest.
#[inline(always)]
fn skipped(segment: &Segment) -> bool {
    if segment.payload_bytes < SKIP_CHECK_BYTES_MIN {
        return false;
    }
    // SAFETY: the value is a plain u32 that user space replaces whole; a torn read cannot happen.
    let Some(until) = (unsafe { SKIPS.get(&segment.flow) }) else {
        return false;
    };
    let end = segment.sequence.wrapping_add(segment.payload_bytes);
    // Sequence numbers wrap: "end is not past until" is a signed comparison of the distance.
    (until.wrapping_sub(end) as i32) >= 0
}

#[inline(always)]
fn emit<const SLOT: usize>(ctx: &SkBuffContext, segment: &Segment, direction: u8, side: u8) {
    let Some(mut slot) = RECORDS.reserve_bytes(RECORD_HEADER_BYTES + SLOT, 0) else {
        count(Counter::RefusedRingFull, 1);
        if every_1024th(Counter::RefusedRingFull) {
            warn!(ctx, "the record ring is full, segments are being lost");
        }
        return;
    };
    let captured = if SLOT == 0 {
        0
    } else {
        bounded::<SLOT>(segment.payload_bytes)
    };
    let header = RecordHeader {
        // SAFETY: a helper without arguments.
        monotonic_ns: unsafe { bpf_ktime_get_ns() },
        flow: segment.flow,
        sequence: segment.sequence,
        acknowledgement: segment.acknowledgement,
        payload_bytes: segment.payload_bytes,
        captured_bytes: captured,
        tcp_flags: segment.tcp_flags,
        direction,
        side,
        version: ABI_VERSION,
        reserved: 0,
    };
    // SAFETY: the slot is RECORD_HEADER_BYTES + SLOT bytes long and 8-byte aligned by the ring.
    unsafe { slot.as_mut_ptr().cast::<RecordHeader>().write(header) };
    if SLOT > 0 {
        // SAFETY: `captured` is in 1..=SLOT and the slot has SLOT bytes behind the header.
        let failed = unsafe {
            let to = slot.as_mut_ptr().add(RECORD_HEADER_BYTES);
            bpf_skb_load_bytes(
                ctx.as_ptr().cast(),
                segment.payload_offset,
                to.cast(),
                captured,
            )
        };
        if failed != 0 {
            slot.discard(NO_WAKEUP);
            count(Counter::RefusedUnreadable, 1);
            return;
        }
    }
    slot.submit(NO_WAKEUP);
    count(Counter::RecordsSent, 1);
    count(Counter::BytesCopied, u64::from(captured));
}

/// Clamps a length into `1..=SLOT` in a way the verifier can follow: the compiler must not see that
/// the caller has already compared it, or it drops the very bounds the verifier needs.
#[inline(always)]
fn bounded<const SLOT: usize>(payload_bytes: u32) -> u32 {
    let bytes = core::hint::black_box(u64::from(payload_bytes));
    let bytes = if bytes > SLOT as u64 {
        SLOT as u64
    } else {
        bytes
    };
    if bytes == 0 { 1 } else { bytes as u32 }
}

#[inline(always)]
fn count(counter: Counter, by: u64) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot belongs to this CPU, and programs on one CPU do not interleave here.
        unsafe { *slot += by };
    }
}

#[inline(always)]
fn every_1024th(counter: Counter) -> bool {
    COUNTERS.get(counter as u32).is_some_and(|n| n & 1023 == 1)
}
