//! TLS: the handshake read from the wire, and the plain text that probes add.

pub mod handshake;
pub mod hello;
pub(crate) mod layer;
pub mod records;

pub(crate) use layer::TlsLayer;
