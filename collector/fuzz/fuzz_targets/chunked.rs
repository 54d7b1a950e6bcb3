//! A chunked body beside a second, plain decoder of the same grammar.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("chunked", data));
