//! Runs the target `jit_policy` of crates/targets.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_targets::run("jit_policy", data));
