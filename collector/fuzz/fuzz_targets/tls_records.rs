//! Both directions of a TLS connection, cut anywhere.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("tls_records", data));
