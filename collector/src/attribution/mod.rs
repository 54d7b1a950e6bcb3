//! Who is behind a port or a process, and which call caused which.
//!
//! Owns: reading `/proc`, finding services while they come and go, and the logic that joins calls. Refuses: packets;
//! the pipeline asks here for names.

pub mod cgroup_facts;
pub mod directory;
pub mod discovery;
pub mod process;
pub mod service_map;
pub mod stitch;
