//! Bodies on the wire: HTTP content encodings, and ClickHouse's own compressed blocks.
//!
//! A block is: 16 bytes `CityHash128` of what follows, one method byte (0x82 is LZ4), the compressed size with
//! these 9 bytes included and the plain size (both u32 little-endian), then the data.

use std::io::Read as _;

use cityhash_rs::cityhash_102_128;

const HEADER_BYTES: usize = 9;
const LZ4: u8 = 0x82;
const NONE: u8 = 0x02;
const BLOCK_BYTES: usize = 1 << 20;
/// A plain block larger than this is refused; ClickHouse's own limit is 1 GiB.
const BLOCK_BYTES_MAX: usize = 256 << 20;

/// A body that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// An encoding that is not spoken here.
    #[error("content encoding `{0}` is not supported; use gzip, deflate, lz4 or none")]
    Encoding(String),
    /// Broken data.
    #[error("the body does not decompress: {0}")]
    Broken(String),
}

/// Undoes `Content-Encoding`.
///
/// # Errors
/// An unknown encoding or broken data.
pub(super) fn decode_content(body: Vec<u8>, encoding: Option<&str>) -> Result<Vec<u8>, WireError> {
    let mut plain = Vec::new();
    let read = match encoding.unwrap_or("identity") {
        "" | "identity" => return Ok(body),
        "gzip" => flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut plain),
        "deflate" => flate2::read::ZlibDecoder::new(body.as_slice()).read_to_end(&mut plain),
        "lz4" => lz4_flex::frame::FrameDecoder::new(body.as_slice()).read_to_end(&mut plain),
        other => return Err(WireError::Encoding(other.to_owned())),
    };
    read.map_err(|error| WireError::Broken(error.to_string()))?;
    Ok(plain)
}

/// Undoes ClickHouse's blocks (`decompress=1`).
///
/// # Errors
/// Broken data, a wrong checksum, or a method other than LZ4 and none.
pub(super) fn decode_blocks(mut body: &[u8]) -> Result<Vec<u8>, WireError> {
    let broken = |why: &str| WireError::Broken(why.to_owned());
    let mut plain = Vec::new();
    while !body.is_empty() {
        let (checksum, rest) = body
            .split_first_chunk::<16>()
            .ok_or_else(|| broken("a block is cut"))?;
        let (header, _) = rest
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or_else(|| broken("a block is cut"))?;
        let [method, c0, c1, c2, c3, p0, p1, p2, p3] = *header;
        let compressed = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
        let size = u32::from_le_bytes([p0, p1, p2, p3]) as usize;
        let block = rest
            .get(..compressed)
            .ok_or_else(|| broken("a block is cut"))?;
        let data = block
            .get(HEADER_BYTES..)
            .ok_or_else(|| broken("a block is shorter than its header"))?;
        if size > BLOCK_BYTES_MAX {
            return Err(broken("a block is too large"));
        }
        if checksum_of(block) != *checksum {
            return Err(broken("a checksum does not match"));
        }
        match method {
            LZ4 => plain.extend(
                lz4_flex::block::decompress(data, size)
                    .map_err(|error| WireError::Broken(error.to_string()))?,
            ),
            NONE => plain.extend_from_slice(data),
            _ => {
                return Err(broken(
                    "a block is compressed with something other than LZ4",
                ));
            }
        }
        body = rest.get(compressed..).unwrap_or_default();
    }
    Ok(plain)
}

/// Cuts a body into ClickHouse's LZ4 blocks (`compress=1`).
pub(super) fn encode_blocks(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() / 2);
    for chunk in body.chunks(BLOCK_BYTES) {
        let data = lz4_flex::block::compress(chunk);
        let mut block = Vec::with_capacity(data.len() + HEADER_BYTES);
        block.push(LZ4);
        let size = u32::try_from(data.len() + HEADER_BYTES).unwrap_or(u32::MAX);
        block.extend_from_slice(&size.to_le_bytes());
        block.extend_from_slice(&u32::try_from(chunk.len()).unwrap_or(u32::MAX).to_le_bytes());
        block.extend_from_slice(&data);
        out.extend_from_slice(&checksum_of(&block));
        out.extend_from_slice(&block);
    }
    out
}

/// The hash's high half comes first on the wire.
fn checksum_of(block: &[u8]) -> [u8; 16] {
    let hash = cityhash_102_128(block);
    hash.rotate_right(64).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_survive_the_way_there_and_back() {
        let body: Vec<u8> = (0..3_000_000_u32)
            .map(|n| u8::try_from(n % 251).unwrap())
            .collect();
        let wire = encode_blocks(&body);
        assert!(wire.len() < body.len());
        assert_eq!(decode_blocks(&wire).unwrap(), body);
    }

    #[test]
    fn damage_is_noticed() {
        let mut wire = encode_blocks(b"hello hello hello");
        *wire.last_mut().unwrap() ^= 1;
        assert!(decode_blocks(&wire).is_err());
        assert!(decode_blocks(b"short").is_err());
        assert!(decode_content(vec![1], Some("br")).is_err());
    }
}
