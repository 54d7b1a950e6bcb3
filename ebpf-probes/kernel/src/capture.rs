//! Which segments become records.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_sk_fullsock,
        bpf_skb_load_bytes, bpf_tcp_sock,
    },
    programs::SkBuffContext,
};
use weir_abi::{
    ABI_VERSION, Counter, EGRESS, INGRESS, OPENER_BYTES, Opener, RecordHeader,
    SKIP_CHECK_BYTES_MIN, kind, tcp_flags, watch,
};

use crate::{
    PORTS, RECORDS, SKIPS, TASKS, TLS,
    counters::Counters,
    emit::{self, Nothing, Payload},
    packet::{self, Not, Segment},
    tls,
};

/// The local port of the kernel's own sockets, which send resets for connections that no socket stands for.
const KERNELS_OWN: u16 = 6;
/// That of a socket that is closed already, and sends its reset.
const CLOSED: u16 = 0;

/// Looks at one packet and, if its segment is wanted, sends a record.
#[inline(always)]
pub fn observe<const DIRECTION: u8>(ctx: &SkBuffContext) {
    let Some(counters) = Counters::of_this_cpu() else {
        return;
    };
    counters.add(Counter::PacketsSeen, 1);
    let (local, remote) = packet::socket_ports(ctx);
    let (server, client) = (bits(local) & watch::SERVER, bits(remote));
    // Whoever opens a connection to a watched port is of interest even where only servers are watched.
    if server == 0 && client == 0 && local != KERNELS_OWN && local != CLOSED {
        return;
    }
    let segment = match packet::segment(ctx) {
        Ok(segment) => segment,
        Err(Not::Tcp) => return counters.add(Counter::OtherProtocol, 1),
        Err(Not::Readable) => return counters.add(Counter::RefusedUnreadable, 1),
    };
    let (here, there) = if DIRECTION == INGRESS {
        (segment.flow.destination_port, segment.flow.source_port)
    } else {
        (segment.flow.source_port, segment.flow.destination_port)
    };
    let side = side_of(here, there);
    let opens = segment.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN;
    if DIRECTION == EGRESS && opens && client != 0 && TASKS.load() != 0 {
        send_opener(ctx, counters, &segment);
    }
    if side == 0 {
        return;
    }
    let turning_point = tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST;
    if segment.payload_bytes == 0 && segment.tcp_flags & turning_point == 0 {
        return;
    }
    counters.add(Counter::SegmentsWanted, 1);
    if segment.tcp_flags & tcp_flags::SYN != 0 {
        forget_skips(&segment, side);
    }
    send::<DIRECTION>(ctx, counters, &segment, side);
}

#[inline(always)]
fn bits(port: u16) -> u8 {
    PORTS.get(u32::from(port)).copied().unwrap_or(0)
}

#[inline(always)]
fn side_of(local: u16, remote: u16) -> u8 {
    if bits(local) & watch::SERVER != 0 {
        watch::SERVER
    } else if bits(remote) & watch::CLIENT != 0 {
        watch::CLIENT
    } else {
        0
    }
}

/// What a long segment gives under pressure: as much as any head that servers accept by default.
const PRESSED_BYTES: u32 = 16_384;

struct OfPacket<'a> {
    ctx: &'a SkBuffContext,
    offset: u32,
}

impl Payload for OfPacket<'_> {
    #[inline(always)]
    fn copy(&self, to: *mut u8, bytes: u32) -> bool {
        // SAFETY: `to` has room for `bytes`, which the caller has bounded.
        unsafe { bpf_skb_load_bytes(self.ctx.as_ptr().cast(), self.offset, to.cast(), bytes) == 0 }
    }
    const UNREADABLE: Counter = Counter::RefusedUnreadable;
}

#[inline(always)]
fn send<const DIRECTION: u8>(ctx: &SkBuffContext, counters: Counters, segment: &Segment, side: u8) {
    let mut header = RecordHeader {
        monotonic_ns: emit::now(),
        flow: segment.flow,
        sequence: segment.sequence,
        acknowledgement: segment.acknowledgement,
        payload_bytes: segment.payload_bytes,
        captured_bytes: 0,
        tcp_flags: segment.tcp_flags,
        direction: DIRECTION,
        side,
        version: ABI_VERSION,
        kind: kind::SEGMENT,
        reserved: [0; 7],
        task: 0,
        round_trip_us: 0,
        retransmits: 0,
    };
    if DIRECTION == EGRESS {
        if TASKS.load() != 0 {
            header.task = current_task();
        }
        health(ctx, &mut header);
    }
    if segment.payload_bytes == 0 {
        return emit::slot::<0>(ctx, counters, header, &Nothing);
    }
    let payload = OfPacket {
        ctx,
        offset: segment.payload_offset,
    };
    if DIRECTION == EGRESS && TLS.load() != 0 && TASKS.load() != 0 {
        tls::join(ctx, counters, &header, segment.payload_offset);
    }
    if skipped(&header) {
        counters.add(Counter::BytesSkipped, u64::from(segment.payload_bytes));
        return emit::slot::<0>(ctx, counters, header, &Nothing);
    }
    if segment.payload_bytes > PRESSED_BYTES && under_pressure() {
        counters.add(
            Counter::BytesCut,
            u64::from(segment.payload_bytes - PRESSED_BYTES),
        );
        return emit::slot::<{ PRESSED_BYTES as usize }>(ctx, counters, header, &payload);
    }
    emit::whole(ctx, counters, header, &payload);
}

#[inline(always)]
pub fn current_task() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_pid_tgid() }
}

/// What the kernel knows about the socket's health.
#[inline(always)]
fn health(ctx: &SkBuffContext, header: &mut RecordHeader) {
    // SAFETY: the pointers come from the kernel and are compared with null before each use.
    unsafe {
        let socket = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return;
        }
        let socket = bpf_sk_fullsock(socket);
        if socket.is_null() {
            return;
        }
        let tcp = bpf_tcp_sock(socket);
        if tcp.is_null() {
            return;
        }
        // The kernel keeps eight times the value.
        header.round_trip_us = (*tcp).srtt_us >> 3;
        header.retransmits = (*tcp).total_retrans;
    }
}

struct OfOpener(Opener);

impl Payload for OfOpener {
    #[inline(always)]
    fn copy(&self, to: *mut u8, _bytes: u32) -> bool {
        // SAFETY: the slot has at least OPENER_BYTES behind the header, aligned to eight.
        unsafe { to.cast::<Opener>().write(self.0) };
        true
    }
    const UNREADABLE: Counter = Counter::RefusedUnreadable;
}

/// Connections are opened in the context of whoever opens them; a repeated SYN is not, but then the first was seen.
#[inline(always)]
fn send_opener(ctx: &SkBuffContext, counters: Counters, segment: &Segment) {
    let mut opener = Opener {
        command: [0; 16],
        cgroup: 0,
    };
    // SAFETY: the buffer is 16 bytes long, which is what the helper is told.
    unsafe { bpf_get_current_comm(opener.command.as_mut_ptr().cast(), 16) };
    // SAFETY: a helper without arguments.
    opener.cgroup = unsafe { bpf_get_current_cgroup_id() };
    let header = RecordHeader {
        monotonic_ns: emit::now(),
        flow: segment.flow,
        sequence: segment.sequence,
        acknowledgement: 0,
        payload_bytes: OPENER_BYTES as u32,
        captured_bytes: 0,
        tcp_flags: segment.tcp_flags,
        direction: EGRESS,
        side: watch::CLIENT,
        version: ABI_VERSION,
        kind: kind::OPENER,
        reserved: [0; 7],
        task: current_task(),
        round_trip_us: 0,
        retransmits: 0,
    };
    counters.add(Counter::SegmentsWanted, 1);
    emit::slot::<OPENER_BYTES>(ctx, counters, header, &OfOpener(opener));
}

/// Whether the ring is more than half full. Then long segments give their beginning only: a hole in a body
/// is harmless, and user space is about to say that it does not want that body anyway; a lost record is not.
#[inline(always)]
pub fn under_pressure() -> bool {
    const AVAILABLE_DATA: u64 = 0;
    const RING_SIZE: u64 = 1;
    RECORDS.query(AVAILABLE_DATA) > RECORDS.query(RING_SIZE) / 2
}

/// A new connection on old ports: what was said of the last one does not hold for it.
#[inline(always)]
fn forget_skips(segment: &Segment, side: u8) {
    // An entry that is not there is the usual case.
    let _ = SKIPS.remove(segment.flow.for_skips(kind::SEGMENT, side));
    if TLS.load() != 0 {
        let _ = SKIPS.remove(segment.flow.for_skips(kind::PLAINTEXT, side));
    }
}

/// True when user space has said that nothing before some later byte of this flow is of interest.
#[inline(always)]
pub fn skipped(header: &RecordHeader) -> bool {
    if header.payload_bytes < SKIP_CHECK_BYTES_MIN {
        return false;
    }
    let key = header.flow.for_skips(header.kind, header.side);
    // SAFETY: user space replaces the eight bytes whole; half of an old one would at worst copy too much or a hole
    // too many in a body.
    let skip = unsafe { SKIPS.get(key) };
    skip.is_some_and(|skip| skip.covers(header.sequence, header.payload_bytes))
}
