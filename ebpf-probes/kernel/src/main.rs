//! Kernel programs: two `cgroup_skb` hooks that copy the TCP payload of watched ports into one ring.
//!
//! Owns: finding the TCP segment in a packet, deciding whether it is wanted, copying it. Refuses:
//! parsing HTTP, keeping state per connection, touching traffic: both programs always let the packet
//! pass. Work per packet is bounded: at most two port look-ups, one skip look-up and one copy.
#![no_std]
#![no_main]

mod capture;
mod packet;

use aya_ebpf::{
    macros::{cgroup_skb, map},
    maps::{Array, LruHashMap, PerCpuArray, RingBuf},
    programs::SkBuffContext,
};
use weir_abi::{COUNTER_COUNT, EGRESS, FlowKey, INGRESS, RING_BYTES, SKIP_ENTRIES_MAX};

#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);
#[map]
static PORTS: Array<u8> = Array::with_max_entries(65_536, 0);
#[map]
static SKIPS: LruHashMap<FlowKey, u32> = LruHashMap::with_max_entries(SKIP_ENTRIES_MAX, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT, 0);

const LET_PASS: i32 = 1;

/// Segments that arrive at local sockets.
#[cgroup_skb(ingress)]
pub fn weir_ingress(ctx: SkBuffContext) -> i32 {
    capture::observe(&ctx, INGRESS);
    LET_PASS
}

/// Segments that leave local sockets.
#[cgroup_skb(egress)]
pub fn weir_egress(ctx: SkBuffContext) -> i32 {
    capture::observe(&ctx, EGRESS);
    LET_PASS
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
