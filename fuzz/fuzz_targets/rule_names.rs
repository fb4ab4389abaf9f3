//! Runs the target `rule_names` of crates/targets.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_targets::run("rule_names", data));
