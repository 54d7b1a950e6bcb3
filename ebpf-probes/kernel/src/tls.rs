//! Plain text from TLS libraries: probes on the functions that read and write, and the join of a session to the
//! connection that carries it.
//!
//! The join: a thread that is inside a TLS call (or has just come out of one, where the library only fills a buffer
//! that the program then sends) and sends a TLS record on a watched connection tells which connection its session
//! uses. The first join of a session holds until it is freed.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{bpf_probe_read_user, bpf_skb_load_bytes},
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext, SkBuffContext},
};
use weir_abi::{ABI_VERSION, Counter, EGRESS, FlowKey, INGRESS, RecordHeader, kind, watch};

use crate::{
    TLS_CALLS, TLS_HITS, TLS_SESSIONS, TLS_WANTED,
    capture::{current_task, skipped, under_pressure},
    counters::Counters,
    emit::{self, Nothing, Payload},
};

/// What a thread does, or did last, with TLS.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    session: u64,
    buffer: u64,
    /// Where the function puts the number of bytes; zero where it returns it.
    count_at: u64,
    /// Bytes to be written; zero in a call that does not write.
    to_write: u64,
    state: u64,
}

/// Plain bytes of a session older than the probes that are recorded before its connection is known.
const OLD_BYTES_MAX: u32 = 65_536;

/// Inside the function.
const INSIDE: u64 = 1;
/// Returned, and the thread has sent nothing since.
const RETURNED: u64 = 2;
/// Returned, and what it sent since has been looked at.
const DONE: u64 = 3;

/// A session of a process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SessionKey {
    session: u64,
    process: u64,
}

/// What is known of it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Session {
    /// As its segments leave.
    flow: FlowKey,
    joined: u8,
    side: u8,
    /// It began before the probes did.
    old: u8,
    reserved: u8,
    /// Plain bytes so far, modulo 2^32.
    read: u32,
    written: u32,
}

const NO_FLOW: FlowKey = FlowKey {
    source_address: [0; 16],
    destination_address: [0; 16],
    source_port: 0,
    destination_port: 0,
};

const fn process_of(task: u64) -> u32 {
    (task >> 32) as u32
}

#[inline(always)]
fn enter(session: u64, buffer: u64, count_at: u64, to_write: u64) {
    let task = current_task();
    let process = process_of(task);
    if let Some(counters) = Counters::of_this_cpu() {
        counters.add(Counter::TlsCalls, 1);
    }
    match TLS_HITS.get_ptr_mut(process) {
        // SAFETY: the map keeps the entry alive for this run; a lost increment between CPUs is a lost tick of a gauge.
        Some(hits) => unsafe { *hits += 1 },
        None => {
            let _ = TLS_HITS.insert(process, 1, 0);
        }
    }
    let call = Call {
        session,
        buffer,
        count_at,
        to_write,
        state: INSIDE,
    };
    // A full table costs this call's plain text, which then shows as a gap.
    let _ = TLS_CALLS.insert(task, call, 0);
}

/// Notes the return and hands out what the thread had entered with.
#[inline(always)]
fn leave() -> Option<(u64, Call)> {
    let task = current_task();
    let call = TLS_CALLS.get_ptr_mut(task)?;
    // SAFETY: the entry belongs to this thread, which is here and nowhere else.
    let entered = unsafe { *call };
    // SAFETY: as above.
    unsafe { (*call).state = RETURNED };
    Some((task, entered))
}

#[uprobe]
pub fn tls_write(ctx: ProbeContext) -> u32 {
    let to_write = ctx.arg::<u64>(2).unwrap_or(0) & 0x7fff_ffff;
    enter(
        ctx.arg(0).unwrap_or(0),
        ctx.arg(1).unwrap_or(0),
        0,
        to_write,
    );
    0
}

#[uprobe]
pub fn tls_read(ctx: ProbeContext) -> u32 {
    enter(ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0), 0, 0);
    0
}

#[uprobe]
pub fn tls_write_ex(ctx: ProbeContext) -> u32 {
    enter(
        ctx.arg(0).unwrap_or(0),
        ctx.arg(1).unwrap_or(0),
        ctx.arg(3).unwrap_or(0),
        ctx.arg(2).unwrap_or(0),
    );
    0
}

#[uprobe]
pub fn tls_read_ex(ctx: ProbeContext) -> u32 {
    enter(
        ctx.arg(0).unwrap_or(0),
        ctx.arg(1).unwrap_or(0),
        ctx.arg(3).unwrap_or(0),
        0,
    );
    0
}

#[uretprobe]
pub fn tls_write_done(ctx: RetProbeContext) -> u32 {
    returned::<EGRESS>(&ctx);
    0
}

#[uretprobe]
pub fn tls_write_ex_done(ctx: RetProbeContext) -> u32 {
    returned_ex::<EGRESS>(&ctx);
    0
}

#[uretprobe]
pub fn tls_read_done(ctx: RetProbeContext) -> u32 {
    returned::<INGRESS>(&ctx);
    0
}

#[uretprobe]
pub fn tls_read_ex_done(ctx: RetProbeContext) -> u32 {
    returned_ex::<INGRESS>(&ctx);
    0
}

/// A handshake begins (or goes on): from here a session is known not to be older than the probes.
#[uprobe]
pub fn tls_handshake(ctx: ProbeContext) -> u32 {
    let session: u64 = ctx.arg(0).unwrap_or(0);
    enter(session, 0, 0, 0);
    let key = SessionKey {
        session,
        process: u64::from(process_of(current_task())),
    };
    if TLS_SESSIONS.get_ptr_mut(key).is_none() {
        let _ = TLS_SESSIONS.insert(key, fresh(), 0);
    }
    0
}

#[uretprobe]
pub fn tls_handshake_done(_ctx: RetProbeContext) -> u32 {
    leave();
    0
}

/// The address may be used for another session next.
#[uprobe]
pub fn tls_free(ctx: ProbeContext) -> u32 {
    let key = SessionKey {
        session: ctx.arg(0).unwrap_or(0),
        process: u64::from(process_of(current_task())),
    };
    let _ = TLS_SESSIONS.remove(key);
    0
}

const fn fresh() -> Session {
    Session {
        flow: NO_FLOW,
        joined: 0,
        side: 0,
        old: 0,
        reserved: 0,
        read: 0,
        written: 0,
    }
}

#[inline(always)]
fn returned<const DIRECTION: u8>(ctx: &RetProbeContext) {
    let Some((task, call)) = leave() else { return };
    let count = ctx.ret::<u64>() as i32;
    if count > 0 {
        plaintext::<DIRECTION>(ctx, task, &call, count as u32);
    }
}

#[inline(always)]
fn returned_ex<const DIRECTION: u8>(ctx: &RetProbeContext) {
    let Some((task, call)) = leave() else { return };
    if ctx.ret::<u64>() as i32 != 1 {
        return;
    }
    let mut count = 0_u64;
    // SAFETY: the destination is eight bytes long; a bad source address is an error, not a fault.
    let failed = unsafe {
        bpf_probe_read_user(
            (&raw mut count).cast(),
            8,
            call.count_at as *const core::ffi::c_void,
        )
    };
    if failed == 0 && count > 0 && count <= u64::from(u32::MAX) {
        plaintext::<DIRECTION>(ctx, task, &call, count as u32);
    }
}

struct OfProcess(u64);

impl Payload for OfProcess {
    #[inline(always)]
    fn copy(&self, to: *mut u8, bytes: u32) -> bool {
        // SAFETY: `to` has room for `bytes`, which the caller has bounded.
        unsafe { bpf_probe_read_user(to.cast(), bytes, self.0 as *const core::ffi::c_void) == 0 }
    }
    const UNREADABLE: Counter = Counter::RefusedTlsUnreadable;
}

#[inline(always)]
fn plaintext<const DIRECTION: u8>(ctx: &RetProbeContext, task: u64, call: &Call, count: u32) {
    let Some(counters) = Counters::of_this_cpu() else {
        return;
    };
    let process = process_of(task);
    let key = SessionKey {
        session: call.session,
        process: u64::from(process),
    };
    let Some(session) = session_of(key, process) else {
        return counters.add(Counter::TlsBytesUnwanted, u64::from(count));
    };
    // SAFETY: a session is used by one thread at a time; that is the library's own rule.
    let session = unsafe { &mut *session };
    let unjoined = session.joined == 0;
    let leaving = if unjoined {
        FlowKey::of_session(call.session, process)
    } else {
        session.flow
    };
    let offset = if DIRECTION == EGRESS {
        &mut session.written
    } else {
        &mut session.read
    };
    let header = RecordHeader {
        monotonic_ns: emit::now(),
        flow: if DIRECTION == EGRESS || unjoined {
            leaving
        } else {
            leaving.reversed()
        },
        sequence: *offset,
        acknowledgement: 0,
        payload_bytes: count,
        captured_bytes: 0,
        tcp_flags: 0,
        direction: DIRECTION,
        side: if unjoined {
            watch::SERVER
        } else {
            session.side
        },
        version: ABI_VERSION,
        kind: if unjoined {
            kind::PLAINTEXT_UNJOINED
        } else {
            kind::PLAINTEXT
        },
        reserved: [0; 7],
        task,
        round_trip_us: 0,
        retransmits: 0,
    };
    *offset = offset.wrapping_add(count);
    // A session that is older than the probes and has carried this much without a watched connection has another.
    if unjoined && session.read.wrapping_add(session.written) > OLD_BYTES_MAX {
        session.old = 0;
    }
    counters.add(Counter::SegmentsWanted, 1);
    if skipped(&header) {
        counters.add(Counter::BytesSkipped, u64::from(count));
        return emit::slot::<0>(ctx, counters, header, &Nothing);
    }
    let payload = OfProcess(call.buffer);
    if under_pressure() {
        return emit::slot::<1024>(ctx, counters, header, &payload);
    }
    match count {
        0..=512 => emit::slot::<512>(ctx, counters, header, &payload),
        513..=4096 => emit::slot::<4096>(ctx, counters, header, &payload),
        _ => emit::slot::<16_384>(ctx, counters, header, &payload),
    }
}

/// The session's state; a session without one is older than the probes, and is of interest only where user space
/// has named the process.
#[inline(always)]
fn session_of(key: SessionKey, process: u32) -> Option<*mut Session> {
    if let Some(session) = TLS_SESSIONS.get_ptr_mut(key) {
        // SAFETY: the map keeps the entry alive for this run.
        let (joined, old) = unsafe { ((*session).joined, (*session).old) };
        // A session that began under our eyes and has no watched connection is not ours.
        return (joined != 0 || old != 0).then_some(session);
    }
    // SAFETY: the value is one byte.
    unsafe { TLS_WANTED.get(process) }?;
    let mut session = fresh();
    session.old = 1;
    TLS_SESSIONS.insert(key, session, 0).ok()?;
    TLS_SESSIONS.get_ptr_mut(key)
}

/// Called for every segment that leaves a watched connection.
#[inline(always)]
pub fn join(ctx: &SkBuffContext, counters: Counters, header: &RecordHeader, payload_offset: u32) {
    let mut start = [0_u8; 5];
    // SAFETY: five bytes into a buffer of five; a shorter payload is an error.
    let failed = unsafe {
        bpf_skb_load_bytes(
            ctx.as_ptr().cast(),
            payload_offset,
            start.as_mut_ptr().cast(),
            5,
        )
    };
    let is_record = start[0] >= HANDSHAKE && start[0] <= APPLICATION_DATA && start[1] == 3;
    if failed != 0 || !is_record {
        return;
    }
    let Some(call) = TLS_CALLS.get_ptr_mut(header.task) else {
        return;
    };
    // SAFETY: the entry belongs to this thread.
    let seen = unsafe { *call };
    if seen.state == DONE || !is_of_this_call(&seen, &start) {
        return;
    }
    if seen.state == RETURNED {
        // SAFETY: as above.
        unsafe { (*call).state = DONE };
    }
    let process = process_of(header.task);
    let key = SessionKey {
        session: seen.session,
        process: u64::from(process),
    };
    if let Some(session) = TLS_SESSIONS.get_ptr_mut(key) {
        // SAFETY: the map keeps the entry alive for this run.
        let session = unsafe { &mut *session };
        if session.joined != 0 {
            return;
        }
        session.joined = 1;
        session.flow = header.flow;
        session.side = header.side;
    } else if start[0] == HANDSHAKE {
        // Data never founds a session: what a closed one had left to send may leave after it was freed.
        let mut session = fresh();
        session.joined = 1;
        session.flow = header.flow;
        session.side = header.side;
        if TLS_SESSIONS.insert(key, session, 0).is_err() {
            return;
        }
    } else {
        return;
    }
    let mut joined = *header;
    joined.kind = kind::JOIN;
    joined.payload_bytes = size_of::<FlowKey>() as u32;
    counters.add(Counter::SegmentsWanted, 1);
    let stand_in = OfSession(FlowKey::of_session(seen.session, process));
    emit::slot::<{ size_of::<FlowKey>() }>(ctx, counters, joined, &stand_in);
}

/// Whether a thread's call can have made this record. Softirqs borrow the thread that happens to run, and may send
/// what another process has waiting: so data must fit the length being written, and nothing else makes data.
#[inline(always)]
fn is_of_this_call(call: &Call, record: &[u8; 5]) -> bool {
    /// What the ciphers add to a record: tag, nonce, padding.
    const ADDED: core::ops::RangeInclusive<u64> = 16..=96;
    const RECORD_BYTES_MAX: u64 = 16_384;
    if record[0] == HANDSHAKE {
        return call.to_write == 0;
    }
    let bytes = u64::from(record[3]) << 8 | u64::from(record[4]);
    let plain = if call.to_write > RECORD_BYTES_MAX {
        RECORD_BYTES_MAX
    } else {
        call.to_write
    };
    plain > 0 && bytes >= plain + *ADDED.start() && bytes <= plain + *ADDED.end()
}

/// Content types of records.
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

struct OfSession(FlowKey);

impl Payload for OfSession {
    #[inline(always)]
    fn copy(&self, to: *mut u8, _bytes: u32) -> bool {
        // SAFETY: the slot has exactly the key's size behind the header.
        unsafe { to.cast::<FlowKey>().write_unaligned(self.0) };
        true
    }
    const UNREADABLE: Counter = Counter::RefusedUnreadable;
}
