//! From packet to TCP segment. At `cgroup_skb` the data starts at the IP header.

use aya_ebpf::programs::SkBuffContext;
use weir_abi::FlowKey;

/// Where the payload lies and what the headers say.
pub struct Segment {
    pub flow: FlowKey,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub tcp_flags: u8,
    pub payload_offset: u32,
    pub payload_bytes: u32,
}

const TCP: u8 = 6;
const IPV6_HEADER_BYTES: u32 = 40;

/// The fixed part of a TCP header, as it lies on the wire (network byte order).
#[repr(C)]
struct TcpHeader {
    source_port: u16,
    destination_port: u16,
    sequence: u32,
    acknowledgement: u32,
    data_offset: u8,
    flags: u8,
}

/// Length of the IP header, or `None` when TCP does not follow it directly (extension headers,
/// fragments after the first, other protocols).
#[inline(always)]
pub fn ip_header_bytes(ctx: &SkBuffContext) -> Option<u32> {
    let first: u8 = ctx.load(0).ok()?;
    match first >> 4 {
        4 => {
            let protocol: u8 = ctx.load(9).ok()?;
            let fragment: u16 = ctx.load(6).ok()?;
            let offset = u16::from_be(fragment) & 0x1fff;
            (protocol == TCP && offset == 0).then_some(u32::from(first & 0x0f) * 4)
        }
        6 => {
            let next: u8 = ctx.load(6).ok()?;
            (next == TCP).then_some(IPV6_HEADER_BYTES)
        }
        _ => None,
    }
}

/// Source and destination port, host order: all that most packets are ever asked for.
#[inline(always)]
pub fn ports(ctx: &SkBuffContext, ip_bytes: u32) -> Option<(u16, u16)> {
    let both: [u8; 4] = ctx.load(ip_bytes as usize).ok()?;
    Some((
        u16::from_be_bytes([both[0], both[1]]),
        u16::from_be_bytes([both[2], both[3]]),
    ))
}

/// The whole segment.
#[inline(always)]
pub fn segment(ctx: &SkBuffContext, ip_bytes: u32) -> Option<Segment> {
    let tcp: TcpHeader = ctx.load(ip_bytes as usize).ok()?;
    let payload_offset = ip_bytes + u32::from(tcp.data_offset >> 4) * 4;
    let (source_address, destination_address) = addresses(ctx, ip_bytes)?;
    Some(Segment {
        flow: FlowKey {
            source_address,
            destination_address,
            source_port: u16::from_be(tcp.source_port),
            destination_port: u16::from_be(tcp.destination_port),
        },
        sequence: u32::from_be(tcp.sequence),
        acknowledgement: u32::from_be(tcp.acknowledgement),
        tcp_flags: tcp.flags,
        payload_offset,
        payload_bytes: ctx.len().checked_sub(payload_offset)?,
    })
}

#[inline(always)]
fn addresses(ctx: &SkBuffContext, ip_bytes: u32) -> Option<([u8; 16], [u8; 16])> {
    let first: u8 = ctx.load(0).ok()?;
    if first >> 4 == 6 && ip_bytes == IPV6_HEADER_BYTES {
        return Some((ctx.load(8).ok()?, ctx.load(24).ok()?));
    }
    Some((mapped(ctx.load(12).ok()?), mapped(ctx.load(16).ok()?)))
}

#[inline(always)]
fn mapped(v4: [u8; 4]) -> [u8; 16] {
    let mut out = [0_u8; 16];
    out[10] = 0xff;
    out[11] = 0xff;
    out[12] = v4[0];
    out[13] = v4[1];
    out[14] = v4[2];
    out[15] = v4[3];
    out
}
