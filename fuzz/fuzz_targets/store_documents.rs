//! Runs the target `store_documents` of crates/targets.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_targets::run("store_documents", data));
