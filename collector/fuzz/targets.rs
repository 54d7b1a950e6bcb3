//! The bodies of the fuzz targets: bytes in; a failed assertion, or nothing.
//!
//! Included by path from every file of `fuzz_targets/` and from `collector/tests/corpus.rs`, which replays the
//! corpus without a fuzzer. Owns: what a target does with its input and what must hold. Refuses: choosing inputs.

#[path = "targets/chunked.rs"]
mod chunked;
#[path = "targets/h2.rs"]
mod h2;
#[path = "targets/http1.rs"]
mod http1;
#[path = "targets/input.rs"]
mod input;
#[path = "targets/record.rs"]
mod record;
#[path = "targets/spool.rs"]
mod spool;
#[path = "targets/tls_records.rs"]
mod tls_records;

/// A target: it takes any bytes, and panics when a property does not hold.
pub(crate) type Body = fn(&[u8]);

/// Every target by the name of its corpus folder.
pub(crate) const TARGETS: &[(&str, Body)] = &[
    ("http1_head", http1::run),
    ("chunked", chunked::run),
    ("hpack", h2::hpack),
    ("h2_frames", h2::frames),
    ("tls_records", tls_records::run),
    ("record", record::run),
    ("spool", spool::run),
];

/// Runs the target of that name on one input.
pub(crate) fn run(name: &str, data: &[u8]) {
    let body = TARGETS.iter().find(|(target, _)| *target == name);
    assert!(body.is_some(), "there is no target {name}");
    if let Some((_, body)) = body {
        body(data);
    }
}
