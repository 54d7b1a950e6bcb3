//! W3C trace context: reading `traceparent`, and ids for exchanges that carry none.

/// A valid `traceparent` (or `traceresponse`, which has the same form).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// 32 lower-case hex digits, not all zero.
    pub trace_id: String,
    /// 16 lower-case hex digits, not all zero.
    pub span_id: String,
    /// Whether the caller records.
    pub sampled: bool,
}

impl TraceParent {
    /// Parses the header's value; anything invalid is `None`, as the standard asks.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.trim();
        let (version, trace_id, span_id, flags) = (
            text.get(..2)?,
            text.get(3..35)?,
            text.get(36..52)?,
            text.get(53..55)?,
        );
        let dashes = [2, 35, 52]
            .iter()
            .all(|at| text.as_bytes().get(*at) == Some(&b'-'));
        let tail_fits = match version {
            "ff" => false,
            "00" => text.len() == 55,
            _ => text.len() == 55 || text.as_bytes().get(55) == Some(&b'-'),
        };
        let sound = dashes
            && tail_fits
            && [version, trace_id, span_id, flags]
                .iter()
                .all(|part| is_lower_hex(part))
            && [trace_id, span_id]
                .iter()
                .all(|id| id.bytes().any(|byte| byte != b'0'));
        let flags = u8::from_str_radix(flags, 16).ok()?;
        sound.then(|| Self {
            trace_id: trace_id.to_owned(),
            span_id: span_id.to_owned(),
            sampled: flags & 1 == 1,
        })
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A trace id and a span id that depend only on what was observed, so that a replay gives the same: the trace on
/// `parts`, the span on `parts` and the end that saw it.
pub fn derive_ids(parts: &[&[u8]], end: u8) -> (String, String) {
    let mut seed = [0_u8; 96];
    let mut length = 0;
    for (slot, byte) in seed.iter_mut().zip(parts.iter().copied().flatten()) {
        *slot = *byte;
        length += 1;
    }
    let trace = cityhash_rs::cityhash_102_128(seed.get(..length).unwrap_or_default());
    // The trace, stirred once more with the end: 64 bits of it are the span.
    let mut stirred = [end; 17];
    let (head, _) = stirred.split_at_mut(16);
    head.copy_from_slice(&trace.to_le_bytes());
    let span = cityhash_rs::cityhash_102_128(&stirred).to_be_bytes();
    (
        hex(&trace.to_be_bytes()),
        hex(span.get(..8).unwrap_or_default()),
    )
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(*DIGITS.get(usize::from(half)).unwrap_or(&b'0'));
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0f)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_good_header_is_read_whole() {
        let parent = TraceParent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(parent.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.span_id, "00f067aa0ba902b7");
        assert!(parent.sampled);
    }

    #[test]
    fn invalid_headers_start_no_trace() {
        let bad = [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        ];
        for value in bad {
            assert_eq!(TraceParent::parse(value.as_bytes()), None, "{value}");
        }
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert!(TraceParent::parse(later.as_bytes()).is_some());
    }
}
