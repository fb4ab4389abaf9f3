//! Runs the target `vm_record` of crates/targets.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_targets::run("vm_record", data));
