//! Traces: spans seen by the kernel and spans told by the services, as one tree.

mod tree;

pub use tree::{Node, Source, Tree};
