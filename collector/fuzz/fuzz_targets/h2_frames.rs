//! Both directions of an HTTP/2 connection, cut anywhere.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("h2_frames", data));
