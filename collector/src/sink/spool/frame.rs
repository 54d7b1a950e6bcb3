//! The byte layouts of the spool, without I/O: a batch as a frame, and the mark of what has been delivered.
//!
//! A frame is a header of 32 bytes and a payload. The header holds, little-endian: magic u32, version u32, payload
//! length u32, row count u32, position u64, CRC-32 of the payload, CRC-32 of the header so far. The payload is the
//! rows in postcard, which does not describe itself: a change of [`ExchangeRow`] needs another [`VERSION`]. The
//! header has a checksum of its own so that the length of a frame with a damaged payload can be trusted and the
//! frames behind it stay readable. No frame is searched for by its magic, because rows carry text of strangers.

use std::io::{self, Write as _};

use event_store::ExchangeRow;

/// Bytes of a frame's header.
pub(super) const HEADER_BYTES: usize = 32;
/// Bytes of a mark.
pub(super) const MARK_BYTES: usize = 44;

const FRAME_MAGIC: [u8; 4] = *b"WSF1";
const MARK_MAGIC: [u8; 4] = *b"WSM1";
const VERSION: u32 = 1;

/// What a frame says about itself; its checksum has been verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the payload.
    pub(super) payload_bytes: u32,
    /// Rows in it.
    pub(super) rows: u32,
    /// The caller's own.
    pub(super) position: u64,
    /// CRC-32 of the header, and through it of the payload: differs when the batch differs.
    pub(super) crc: u32,
    version: u32,
    payload_crc: u32,
}

impl Header {
    /// Reads a header; none when it is short, foreign or damaged.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = verified::<HEADER_BYTES>(bytes, FRAME_MAGIC)?;
        let (version, payload_bytes) = (take_u32(&mut rest)?, take_u32(&mut rest)?);
        let (rows, position) = (take_u32(&mut rest)?, take_u64(&mut rest)?);
        let (payload_crc, crc) = (take_u32(&mut rest)?, take_u32(&mut rest)?);
        Some(Self {
            payload_bytes,
            rows,
            position,
            crc,
            version,
            payload_crc,
        })
    }

    /// Bytes of the whole frame.
    pub(super) fn frame_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.payload_bytes)
    }

    /// Whether a payload of this checksum is the one that was written, in a version that this code reads.
    pub(super) fn accepts(&self, payload_crc: u32) -> bool {
        self.version == VERSION && self.payload_crc == payload_crc
    }

    /// The rows of the payload; none when it is not the one that was written.
    pub(super) fn rows(&self, payload: &[u8]) -> Option<Vec<ExchangeRow>> {
        if !self.accepts(crc32fast::hash(payload)) {
            return None;
        }
        let (rows, rest) = postcard::take_from_bytes::<Vec<ExchangeRow>>(payload).ok()?;
        (rest.is_empty() && rows.len() as u64 == u64::from(self.rows)).then_some(rows)
    }
}

/// The frame of a batch.
///
/// # Errors
/// When the batch has over four billion rows or bytes.
pub(super) fn encode(rows: &[ExchangeRow], position: u64) -> io::Result<(Header, Vec<u8>)> {
    let mut frame =
        postcard::to_extend(rows, vec![0_u8; HEADER_BYTES]).map_err(io::Error::other)?;
    let (head, payload) = frame
        .split_first_chunk_mut::<HEADER_BYTES>()
        .ok_or(io::ErrorKind::InvalidData)?;
    let mut header = Header {
        payload_bytes: u32::try_from(payload.len()).map_err(io::Error::other)?,
        rows: u32::try_from(rows.len()).map_err(io::Error::other)?,
        position,
        crc: 0,
        version: VERSION,
        payload_crc: crc32fast::hash(payload),
    };
    (*head, header.crc) = sealed(
        FRAME_MAGIC,
        &[
            &header.version.to_le_bytes(),
            &header.payload_bytes.to_le_bytes(),
            &header.rows.to_le_bytes(),
            &header.position.to_le_bytes(),
            &header.payload_crc.to_le_bytes(),
        ],
    )?;
    Ok((header, frame))
}

/// Where a frame begins. Ordered as frames were appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Number of the segment.
    pub(super) segment: u64,
    /// Byte in it.
    pub(super) offset: u64,
}

/// How far batches have been delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Counts the marks; the highest one holds.
    pub(super) sequence: u64,
    /// Everything before it has been delivered or given up.
    pub(super) place: Place,
    /// The caller's position in the newest batch before it.
    pub(super) position: Option<u64>,
}

impl Mark {
    /// Its bytes.
    ///
    /// # Errors
    /// Never with the layout as it is; the type is that of the writer beneath.
    pub(super) fn encode(&self) -> io::Result<[u8; MARK_BYTES]> {
        let (bytes, _) = sealed::<MARK_BYTES>(
            MARK_MAGIC,
            &[
                &u32::from(self.position.is_some()).to_le_bytes(),
                &self.sequence.to_le_bytes(),
                &self.place.segment.to_le_bytes(),
                &self.place.offset.to_le_bytes(),
                &self.position.unwrap_or_default().to_le_bytes(),
            ],
        )?;
        Ok(bytes)
    }

    /// Reads a mark; none when it is short or damaged.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = verified::<MARK_BYTES>(bytes, MARK_MAGIC)?;
        let has_position = take_u32(&mut rest)? == 1;
        let sequence = take_u64(&mut rest)?;
        let (segment, offset) = (take_u64(&mut rest)?, take_u64(&mut rest)?);
        let position = take_u64(&mut rest)?;
        Some(Self {
            sequence,
            place: Place { segment, offset },
            position: has_position.then_some(position),
        })
    }
}

/// Magic, fields and their CRC-32 in a record of `N` bytes.
fn sealed<const N: usize>(magic: [u8; 4], fields: &[&[u8]]) -> io::Result<([u8; N], u32)> {
    let mut bytes = [0; N];
    let (body, end) = bytes
        .split_last_chunk_mut::<4>()
        .ok_or(io::ErrorKind::InvalidInput)?;
    let mut rest: &mut [u8] = body;
    rest.write_all(&magic)?;
    for field in fields {
        rest.write_all(field)?;
    }
    let crc = crc32fast::hash(body);
    *end = crc.to_le_bytes();
    Ok((bytes, crc))
}

/// The fields of a record of `N` bytes, its CRC-32 last, when magic and CRC-32 are right.
fn verified<const N: usize>(bytes: &[u8], magic: [u8; 4]) -> Option<&[u8]> {
    let record = bytes.get(..N)?;
    let (body, crc) = record.split_last_chunk::<4>()?;
    if crc32fast::hash(body).to_le_bytes() != *crc {
        return None;
    }
    record.strip_prefix(&magic)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u32::from_le_bytes(*head))
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u64::from_le_bytes(*head))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::row, *};

    #[test]
    fn the_layout_of_the_rows_has_not_changed() {
        // By hand, after the postcard specification: varints, zigzag for signed, a byte for Option and bool, and
        // lengths before text. When this fails, change VERSION in frame.rs together with these bytes.
        let expected: Vec<u8> = [
            &[1][..],                  // rows
            &[0x80, 0x20],             // timestamp 2048
            &[2, 0],                   // duration_ns, ttfb_ns
            b"\x06server\x01\x01s",    // role, service
            &[1, 0xac, 2, 0, 0],       // pid 300, process, method
            b"\x01\x02/p\x00\x00",     // path, route, host
            &[1, 0xc8, 1],             // status_code 200
            b"\x08http/1.1\x01",       // protocol, tls
            &[1, 0x80, 1],             // request_bytes, response_bytes 128
            b"\x03::1\x01\x03::1\x50", // addresses and ports
            &[0; 7],                   // tenant_id to event
            b"\x02ok\x01\x01k\x01v",   // outcome, attributes
        ]
        .concat();
        let (header, frame) = encode(&[row(2_048, "/p")], 5).unwrap();
        assert_eq!(frame[HEADER_BYTES..], expected);
        assert_eq!(header.frame_bytes(), frame.len() as u64);
        assert_eq!(frame[..8], *b"WSF1\x01\0\0\0");
        assert_eq!(frame[8..12], [67, 0, 0, 0]);
        assert_eq!(frame[12..24], *b"\x01\0\0\0\x05\0\0\0\0\0\0\0");
        assert_eq!(Header::parse(&frame), Some(header));
        // A payload of another version, sound as it is, is not guessed at.
        let mut other = frame.clone();
        other[4] = 2;
        let crc = crc32fast::hash(&other[..28]).to_le_bytes();
        other[28..32].copy_from_slice(&crc);
        let header = Header::parse(&other).unwrap();
        assert_eq!(header.rows(&expected), None);
        assert_eq!(header.frame_bytes(), frame.len() as u64);
    }

    fn any_row() -> impl Strategy<Value = ExchangeRow> {
        let text = || proptest::option::of(".{0,12}");
        let numbers = (
            any::<i64>(),
            any::<(u64, Option<u64>, Option<u32>, Option<u16>)>(),
            any::<(bool, u64, u64, u16, u16)>(),
        );
        let texts = (
            proptest::collection::vec(".{0,40}", 5),
            proptest::collection::vec(text(), 13),
            proptest::collection::vec((".{0,8}", ".{0,80}"), 0..4),
        );
        (numbers, texts).prop_map(|((timestamp, a, b), (must, may, attributes))| {
            let (mut must, mut may) = (must.into_iter(), may.into_iter());
            let mut must = || must.next().unwrap();
            let mut may = || may.next().unwrap();
            ExchangeRow {
                timestamp,
                duration_ns: a.0,
                ttfb_ns: a.1,
                role: must(),
                service: may(),
                pid: a.2,
                process: may(),
                method: may(),
                path: may(),
                route: may(),
                host: may(),
                status_code: a.3,
                protocol: must(),
                tls: b.0,
                request_bytes: b.1,
                response_bytes: b.2,
                client_address: must(),
                client_port: b.3,
                server_address: must(),
                server_port: b.4,
                tenant_id: may(),
                user_id: may(),
                session_id: may(),
                trace_id: may(),
                span_id: may(),
                parent_span_id: may(),
                event: may(),
                outcome: must(),
                attributes,
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_row_comes_back_as_it_was(rows in prop::collection::vec(any_row(), 0..5), position: u64) {
            let (header, frame) = encode(&rows, position).unwrap();
            prop_assert_eq!(Header::parse(&frame), Some(header));
            prop_assert_eq!(header.position, position);
            prop_assert_eq!(header.rows(&frame[HEADER_BYTES..]), Some(rows));
        }
    }
}
