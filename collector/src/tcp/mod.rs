//! From segments to one gap-aware byte stream per direction.

mod reassembly;

pub use reassembly::{Piece, Reassembler};
