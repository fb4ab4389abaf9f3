//! Runs the target `dead_letters` of crates/targets.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_targets::run("dead_letters", data));
