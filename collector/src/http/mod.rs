//! HTTP/1.x from a gap-aware byte stream: heads, body framing, messages.

mod body;
mod head;
mod message;

pub use body::{ChunkState, Framing};
pub use head::{Header, RequestLine, Start, StatusLine};
pub use message::{Decoder, MessageEvent, MessageSink, Side};
