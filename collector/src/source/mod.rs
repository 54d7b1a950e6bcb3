//! Where records come from: the kernel's ring, or a recording of it.

pub mod cgroup;
mod drain;
pub mod kernel;
pub mod listen_queues;
pub mod listeners;
mod loading;
pub mod pins;
pub mod recording;
mod ring;
pub mod tls_probes;

pub use drain::RecordDrain;
pub use kernel::{AttachOptions, KernelSource, SourceError};
pub use loading::Switches;
