//! Runs the target `arm_ids` of crates/targets.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_targets::run("arm_ids", data));
