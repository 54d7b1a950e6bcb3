//! Both directions of an HTTP/1.x connection, cut anywhere.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("http1_head", data));
