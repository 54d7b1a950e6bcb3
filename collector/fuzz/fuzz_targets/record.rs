//! Kernel records, made up and arbitrary, through the whole pipeline.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("record", data));
