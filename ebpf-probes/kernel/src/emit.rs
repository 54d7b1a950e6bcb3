//! The way into the ring: reserve the smallest slot that holds the payload, write the header, copy, submit.

use aya_ebpf::{EbpfContext, helpers::bpf_ktime_get_ns};
use aya_log_ebpf::warn;
use weir_abi::{CAPTURE_BYTES_MAX, Counter, RECORD_HEADER_BYTES, RecordHeader};

use crate::{RECORDS, counters::Counters};

/// User space polls on a timer; one wake-up per record is what makes other tools slow.
const NO_WAKEUP: u64 = 1;

/// Where a payload is copied from.
pub trait Payload {
    /// Copies `bytes` (at least 1) to `to`; false when they cannot be read.
    fn copy(&self, to: *mut u8, bytes: u32) -> bool;
    /// What is counted when they cannot.
    const UNREADABLE: Counter;
}

/// Nothing to copy.
pub struct Nothing;

impl Payload for Nothing {
    #[inline(always)]
    fn copy(&self, _to: *mut u8, _bytes: u32) -> bool {
        true
    }
    const UNREADABLE: Counter = Counter::RefusedUnreadable;
}

/// Now, by the records' clock.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// Sends a record whose payload is copied as far as a record carries: a slot's size must be known to the verifier.
#[inline(always)]
pub fn whole(
    ctx: &impl EbpfContext,
    counters: Counters,
    header: RecordHeader,
    payload: &impl Payload,
) {
    match header.payload_bytes {
        0..=128 => slot::<128>(ctx, counters, header, payload),
        129..=256 => slot::<256>(ctx, counters, header, payload),
        257..=512 => slot::<512>(ctx, counters, header, payload),
        513..=1024 => slot::<1024>(ctx, counters, header, payload),
        1025..=4096 => slot::<4096>(ctx, counters, header, payload),
        4097..=16_384 => slot::<16_384>(ctx, counters, header, payload),
        16_385..=65_536 => slot::<65_536>(ctx, counters, header, payload),
        65_537..=131_072 => slot::<131_072>(ctx, counters, header, payload),
        _ => slot::<CAPTURE_BYTES_MAX>(ctx, counters, header, payload),
    }
}

/// Sends a record with at most `SLOT` bytes of its payload.
#[inline(always)]
pub fn slot<const SLOT: usize>(
    ctx: &impl EbpfContext,
    counters: Counters,
    mut header: RecordHeader,
    payload: &impl Payload,
) {
    let Some(mut slot) = RECORDS.reserve_bytes(RECORD_HEADER_BYTES + SLOT, 0) else {
        counters.add(Counter::RefusedRingFull, 1);
        if counters.get(Counter::RefusedRingFull) & 1023 == 1 {
            warn!(ctx, "the record ring is full, segments are being lost");
        }
        return;
    };
    header.captured_bytes = if SLOT == 0 {
        0
    } else {
        bounded::<SLOT>(header.payload_bytes)
    };
    let captured = header.captured_bytes;
    // SAFETY: the slot is RECORD_HEADER_BYTES + SLOT bytes long and 8-byte aligned by the ring.
    unsafe { slot.as_mut_ptr().cast::<RecordHeader>().write(header) };
    if SLOT > 0 {
        // SAFETY: the slot has SLOT bytes behind the header.
        let to = unsafe { slot.as_mut_ptr().add(RECORD_HEADER_BYTES) };
        if !payload.copy(to, captured) {
            slot.discard(NO_WAKEUP);
            counters.add(payload_unreadable(payload), 1);
            return;
        }
    }
    slot.submit(NO_WAKEUP);
    counters.add(Counter::RecordsSent, 1);
    counters.add(Counter::BytesCopied, u64::from(captured));
}

#[inline(always)]
const fn payload_unreadable<P: Payload>(_: &P) -> Counter {
    P::UNREADABLE
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
