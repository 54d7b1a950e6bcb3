//! Where records come from: the kernel's ring, or a recording of it.

pub mod cgroup;
pub mod kernel;
pub mod listeners;
pub mod recording;

pub use kernel::{KernelSource, SourceError};
