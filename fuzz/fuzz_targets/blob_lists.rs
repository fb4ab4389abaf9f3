//! Runs the target `blob_lists` of crates/targets.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_targets::run("blob_lists", data));
