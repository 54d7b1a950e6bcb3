//! From packet to TCP segment. At `cgroup_skb` the data starts at the IP header, and the kernel has made sure that
//! the headers lie in the linear part, where they can be read without a helper.

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

/// Why there is no segment.
pub enum Not {
    /// Neither IPv4 nor IPv6 with TCP directly inside (extension headers, fragments after the first, UDP).
    Tcp,
    /// The headers do not fit into what can be read.
    Readable,
}

const TCP: u8 = 6;
const IPV6_HEADER_BYTES: usize = 40;

/// The fields of an IPv4 header that matter, as they lie on the wire.
#[repr(C)]
struct Ipv4 {
    version_and_length: u8,
    service: u8,
    total: [u8; 2],
    id: [u8; 2],
    fragment: [u8; 2],
    lifetime: u8,
    protocol: u8,
    checksum: [u8; 2],
    source: [u8; 4],
    destination: [u8; 4],
}

#[repr(C)]
struct Ipv6 {
    flow_label: [u8; 4],
    payload: [u8; 2],
    next: u8,
    hops: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

/// The one extension header that precedes TCP in practice: the kernel's own, for segments above 64 KiB.
#[repr(C)]
struct HopByHop {
    next: u8,
    /// In units of eight bytes, the first not counted.
    further: u8,
    options: [u8; 6],
}

const HOP_BY_HOP: u8 = 0;

#[repr(C)]
struct Tcp {
    source_port: [u8; 2],
    destination_port: [u8; 2],
    sequence: [u8; 4],
    acknowledgement: [u8; 4],
    data_offset: u8,
    flags: u8,
}

/// Local and remote port of the socket, host order. The remote one is zero at a listening socket.
#[inline(always)]
pub fn socket_ports(ctx: &SkBuffContext) -> (u16, u16) {
    // SAFETY: the context is valid for the run of the program, and the kernel sets the socket for this hook.
    let (local, remote) = unsafe { ((*ctx.skb.skb).local_port, (*ctx.skb.skb).remote_port) };
    (local as u16, u32::from_be(remote) as u16)
}

/// A header at a place of the packet, if all of it can be read.
#[inline(always)]
fn header<'a, T>(at: usize, end: usize) -> Option<&'a T> {
    if at + size_of::<T>() > end {
        return None;
    }
    // SAFETY: the bounds were compared just now, and the types have alignment 1 and no invalid values.
    Some(unsafe { &*(at as *const T) })
}

/// The whole segment.
#[inline(always)]
pub fn segment(ctx: &SkBuffContext) -> Result<Segment, Not> {
    // SAFETY: the context is valid for the run of the program.
    let (start, end) = unsafe { ((*ctx.skb.skb).data, (*ctx.skb.skb).data_end) };
    let (start, end) = (start as usize, end as usize);
    // Both kinds of header are at least this long, and a bound of a single byte is one the verifier cannot follow.
    let ip = header::<Ipv4>(start, end).ok_or(Not::Readable)?;
    match ip.version_and_length >> 4 {
        4 => {
            let fragment = u16::from_be_bytes(ip.fragment) & 0x1fff;
            if ip.protocol != TCP || fragment != 0 {
                return Err(Not::Tcp);
            }
            let ip_bytes = (usize::from(ip.version_and_length) & 0x0f) * 4;
            let tcp = header::<Tcp>(start + ip_bytes, end).ok_or(Not::Readable)?;
            from_headers(
                ctx,
                tcp,
                ip_bytes,
                mapped(ip.source),
                mapped(ip.destination),
            )
        }
        6 => {
            let ip = header::<Ipv6>(start, end).ok_or(Not::Readable)?;
            let mut ip_bytes = IPV6_HEADER_BYTES;
            let mut next = ip.next;
            if next == HOP_BY_HOP {
                let hop =
                    header::<HopByHop>(start + IPV6_HEADER_BYTES, end).ok_or(Not::Readable)?;
                if hop.further != 0 {
                    return Err(Not::Tcp);
                }
                next = hop.next;
                ip_bytes += size_of::<HopByHop>();
            }
            if next != TCP {
                return Err(Not::Tcp);
            }
            let tcp = header::<Tcp>(start + ip_bytes, end).ok_or(Not::Readable)?;
            from_headers(ctx, tcp, ip_bytes, ip.source, ip.destination)
        }
        _ => Err(Not::Tcp),
    }
}

#[inline(always)]
fn from_headers(
    ctx: &SkBuffContext,
    tcp: &Tcp,
    ip_bytes: usize,
    source_address: [u8; 16],
    destination_address: [u8; 16],
) -> Result<Segment, Not> {
    let payload_offset = ip_bytes as u32 + u32::from(tcp.data_offset >> 4) * 4;
    Ok(Segment {
        flow: FlowKey {
            source_address,
            destination_address,
            source_port: u16::from_be_bytes(tcp.source_port),
            destination_port: u16::from_be_bytes(tcp.destination_port),
        },
        sequence: u32::from_be_bytes(tcp.sequence),
        acknowledgement: u32::from_be_bytes(tcp.acknowledgement),
        tcp_flags: tcp.flags,
        payload_offset,
        payload_bytes: ctx.len().checked_sub(payload_offset).ok_or(Not::Readable)?,
    })
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
