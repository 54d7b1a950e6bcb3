//! Kernel programs: two `cgroup_skb` hooks that copy the TCP payload of watched ports into one ring, and probes on
//! TLS libraries that add what those connections carry in plain text.
//!
//! Owns: finding the TCP segment in a packet, deciding whether it is wanted, copying it; joining a TLS session to
//! its connection. Refuses: parsing HTTP, touching traffic: the hooks always let the packet pass. Work per packet
//! is bounded: at most two port look-ups, one skip look-up and one copy.
#![no_std]
#![no_main]

mod capture;
mod counters;
mod emit;
mod packet;
mod tls;

use aya_ebpf::{
    Global,
    macros::{cgroup_skb, map},
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
    programs::SkBuffContext,
};
use tls::{Call, Session, SessionKey};
use weir_abi::{
    COUNTER_COUNT, EGRESS, FlowKey, INGRESS, RING_BYTES, SKIP_ENTRIES_MAX, Skip, TLS_PROCESSES_MAX,
    TLS_SESSIONS_MAX,
};

#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);
#[map]
static PORTS: Array<u8> = Array::with_max_entries(65_536, 0);
#[map]
static SKIPS: LruHashMap<FlowKey, Skip> = LruHashMap::with_max_entries(SKIP_ENTRIES_MAX, 0);
#[map]
static COUNTERS: PerCpuArray<[u64; COUNTER_COUNT as usize]> = PerCpuArray::with_max_entries(1, 0);
#[map]
static TLS_CALLS: LruHashMap<u64, Call> = LruHashMap::with_max_entries(TLS_SESSIONS_MAX, 0);
#[map]
static TLS_SESSIONS: LruHashMap<SessionKey, Session> =
    LruHashMap::with_max_entries(TLS_SESSIONS_MAX, 0);
#[map]
static TLS_WANTED: HashMap<u32, u8> = HashMap::with_max_entries(TLS_PROCESSES_MAX, 0);
#[map]
static TLS_HITS: LruHashMap<u32, u64> = LruHashMap::with_max_entries(TLS_PROCESSES_MAX, 0);

/// Set by the loader before the verifier looks; what is off costs nothing.
#[unsafe(no_mangle)]
static TASKS: Global<u32> = Global::new(1);
/// As above.
#[unsafe(no_mangle)]
static TLS: Global<u32> = Global::new(1);

const LET_PASS: i32 = 1;

/// Segments that arrive at local sockets.
#[cgroup_skb(ingress)]
pub fn weir_ingress(ctx: SkBuffContext) -> i32 {
    capture::observe::<INGRESS>(&ctx);
    LET_PASS
}

/// Segments that leave local sockets.
#[cgroup_skb(egress)]
pub fn weir_egress(ctx: SkBuffContext) -> i32 {
    capture::observe::<EGRESS>(&ctx);
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
