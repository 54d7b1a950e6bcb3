//! Dictionary files: texts in the order of their codes, in frames that are only ever appended.
//!
//! ```text
//! CRC-32 of the rest of the frame  u32
//! code of the first text           u32
//! number of texts                  u32
//! bytes before compression         u32
//! bytes after compression          u32
//! zstd: lengths as u16, then the texts
//! ```
//! The manifest notes how long the file is and the *chain*, a checksum over the checksums of all its frames: bytes
//! behind that length are of an append that did not come to its end, and are cut off.

use super::{
    error::SegmentError,
    wire::{Input, Sheet},
};

/// Longest text of a dictionary: its length is stored in 16 bits.
pub(super) const TEXT_BYTES_MAX: usize = u16::MAX as usize;
const FRAME_TEXTS_MAX: usize = 65_536;
/// A frame is closed by the text that passes this.
const FRAME_BYTES: usize = 1 << 20;
const FRAME_RAW_MAX: usize = FRAME_BYTES + TEXT_BYTES_MAX + 2 * FRAME_TEXTS_MAX;
const HEAD_BYTES: usize = 20;
/// Ids hold no repetitions for higher levels to find: those are slower, and no smaller.
const LEVEL: i32 = 1;

/// How much of a dictionary file counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) bytes: u64,
    pub(super) texts: u32,
    pub(super) frames: u32,
    pub(super) chain: u32,
}

/// Frames of the texts, which follow those of `extent`; `extent` is moved on.
pub(super) fn encode<'a, I: Iterator<Item = &'a str>>(
    extent: &mut Extent,
    texts: I,
) -> Result<Vec<u8>, SegmentError> {
    let mut out = Vec::new();
    let mut frame = Frame::default();
    for text in texts {
        frame.push(text)?;
        if frame.count as usize >= FRAME_TEXTS_MAX || frame.texts.len() >= FRAME_BYTES {
            frame.write(extent, &mut out)?;
        }
    }
    frame.write(extent, &mut out)?;
    Ok(out)
}

#[derive(Default)]
struct Frame {
    count: u32,
    lengths: Sheet,
    texts: Vec<u8>,
}

impl Frame {
    fn push(&mut self, text: &str) -> Result<(), SegmentError> {
        let length = u16::try_from(text.len()).map_err(|error| {
            SegmentError::limit(format!("a text of {TEXT_BYTES_MAX} bytes ({error})"))
        })?;
        self.lengths.u16(length);
        self.texts.extend(text.as_bytes());
        self.count += 1;
        Ok(())
    }

    fn write(&mut self, extent: &mut Extent, out: &mut Vec<u8>) -> Result<(), SegmentError> {
        if self.count == 0 {
            return Ok(());
        }
        let mut raw = std::mem::take(&mut self.lengths).0;
        raw.append(&mut self.texts);
        let packed = zstd::bulk::compress(&raw, LEVEL).map_err(|error| {
            SegmentError::limit(format!("a dictionary frame that zstd can take ({error})"))
        })?;
        let mut body = Sheet::default();
        body.u32(extent.texts);
        body.u32(self.count);
        body.u32(u32::try_from(raw.len()).unwrap_or(u32::MAX));
        body.u32(u32::try_from(packed.len()).unwrap_or(u32::MAX));
        body.0.extend(packed);
        let crc = crc32fast::hash(&body.0);
        out.extend(crc.to_le_bytes());
        extent.bytes += 4 + body.0.len() as u64;
        out.append(&mut body.0);
        extent.texts = extent.texts.saturating_add(self.count);
        extent.frames = extent.frames.saturating_add(1);
        extent.chain = link(extent.chain, crc);
        self.count = 0;
        Ok(())
    }
}

fn link(chain: u32, crc: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&chain.to_le_bytes());
    hasher.update(&crc.to_le_bytes());
    hasher.finalize()
}

/// Reads the texts of a file that must be exactly `extent`.
pub(super) fn decode(
    bytes: &[u8],
    extent: Extent,
    mut take: impl FnMut(&str) -> Result<(), SegmentError>,
) -> Result<(), SegmentError> {
    let mut input = Input::new(bytes, "dictionary");
    let mut found = Extent::default();
    while !input.is_empty() {
        let mut head = input;
        let crc = head.u32()?;
        let (first, count) = (head.u32()?, head.u32()?);
        let (raw, packed) = (head.u32()? as usize, head.u32()? as usize);
        let body = HEAD_BYTES
            .checked_add(packed)
            .ok_or_else(|| input.short())?;
        let frame = input.bytes(body)?;
        if crc32fast::hash(frame.get(4..).unwrap_or_default()) != crc {
            return Err(SegmentError::corrupt("checksum of a dictionary frame"));
        }
        if first != found.texts || count as usize > FRAME_TEXTS_MAX || raw > FRAME_RAW_MAX {
            return Err(SegmentError::corrupt("head of a dictionary frame"));
        }
        let packed = frame.get(HEAD_BYTES..).unwrap_or_default();
        let raw = zstd::bulk::decompress(packed, raw).map_err(|error| {
            SegmentError::corrupt(format!("compression of a dictionary frame: {error}"))
        })?;
        read_texts(&raw, count as usize, &mut take)?;
        found.bytes += body as u64;
        found.texts = found.texts.saturating_add(count);
        found.frames = found.frames.saturating_add(1);
        found.chain = link(found.chain, crc);
    }
    if found != extent {
        return Err(SegmentError::corrupt(
            "the dictionary is not the one that the manifest names",
        ));
    }
    Ok(())
}

fn read_texts(
    raw: &[u8],
    count: usize,
    take: &mut impl FnMut(&str) -> Result<(), SegmentError>,
) -> Result<(), SegmentError> {
    let mut texts = Input::new(raw, "dictionary frame");
    let mut lengths = Input::new(texts.bytes(count * 2)?, "lengths of a dictionary frame");
    while !lengths.is_empty() {
        let text = texts.bytes(usize::from(lengths.u16()?))?;
        let text = str::from_utf8(text).map_err(|error| {
            SegmentError::corrupt(format!("a dictionary text is no UTF-8: {error}"))
        })?;
        take(text)?;
    }
    texts.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], extent: Extent) -> Result<Vec<String>, SegmentError> {
        let mut texts = Vec::new();
        decode(bytes, extent, |text| {
            texts.push(text.to_owned());
            Ok(())
        })?;
        Ok(texts)
    }

    #[test]
    fn appends_of_any_size_come_back_in_order() {
        let long = "x".repeat(TEXT_BYTES_MAX);
        let mut all: Vec<String> = (0..70_000).map(|id| format!("u{id}")).collect();
        all.extend([String::new(), long, "ü".to_owned()]);
        let (mut bytes, mut extent) = (Vec::new(), Extent::default());
        for part in [&all[..1], &all[1..1], &all[1..5], &all[5..]] {
            bytes.extend(encode(&mut extent, part.iter().map(String::as_str)).unwrap());
        }
        assert_eq!(extent.bytes, bytes.len() as u64);
        assert_eq!(extent.frames, 4);
        assert_eq!(read(&bytes, extent).unwrap(), all);
    }

    #[test]
    fn a_text_that_is_too_long_is_refused() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        assert!(encode(&mut Extent::default(), [&*long].into_iter()).is_err());
    }

    #[test]
    fn every_bit_flip_every_cut_and_every_exchange_is_found() {
        let mut extent = Extent::default();
        let first = encode(&mut extent, ["a", "bc"].into_iter()).unwrap();
        let second = encode(&mut extent, ["de", "f"].into_iter()).unwrap();
        let bytes = [&*first, &*second].concat();
        assert!(read(&bytes, extent).is_ok());
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bytes, extent).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length], extent).is_err(), "cut at {length}");
        }
        assert!(read(&[&*second, &*first].concat(), extent).is_err());
        let mut other = Extent::default();
        let same_shape = encode(&mut other, ["a", "bd"].into_iter()).unwrap();
        assert!(read(&[&*same_shape, &*second].concat(), extent).is_err());
    }

    #[test]
    fn texts_that_are_not_utf8_are_refused() {
        let mut extent = Extent::default();
        let raw = [1, 0, 0xff];
        let packed = zstd::bulk::compress(&raw, 1).unwrap();
        let mut body = Sheet::default();
        for number in [0, 1, 3, u32::try_from(packed.len()).unwrap()] {
            body.u32(number);
        }
        body.0.extend(packed);
        let crc = crc32fast::hash(&body.0);
        let bytes = [&crc.to_le_bytes()[..], &body.0].concat();
        extent.bytes = bytes.len() as u64;
        (extent.texts, extent.frames, extent.chain) = (1, 1, link(0, crc));
        assert!(
            matches!(read(&bytes, extent), Err(SegmentError::Corrupt { what }) if what.contains("UTF-8"))
        );
    }
}
