//! HTTP/2 and gRPC from two gap-aware byte streams, by watching: frames, header blocks, streams.
//!
//! Owns: everything between the bytes of an HTTP/2 connection and its exchanges. Refuses: answering, and enforcing
//! the protocol; a peer's mistake is counted and followed as far as it makes sense. The way of a byte: `frames`
//! -> `block` -> `hpack` -> `head` -> `streams`, held together by [`Http2`].

mod block;
mod connection;
mod frame_head;
mod frames;
mod head;
mod hpack;
mod huffman;
mod streams;
mod table;
#[cfg(test)]
mod testing;

pub use connection::Http2;
pub(crate) use frame_head::looks_like_frames;
