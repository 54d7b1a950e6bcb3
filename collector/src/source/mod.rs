//! Where records come from: the kernel's ring, or a recording of it.

pub mod cgroup;
pub mod kernel;
pub mod listeners;
mod loading;
pub mod pins;
pub mod recording;

pub use kernel::{AttachOptions, KernelSource, SourceError};
pub use loading::Switches;
