//! Runs the target `headers_and_paths` of crates/targets.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_targets::run("headers_and_paths", data));
