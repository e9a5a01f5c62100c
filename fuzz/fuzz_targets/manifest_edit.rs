//! Feeds the target `manifest_edit` of `esker_torture::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| esker_torture::fuzz::run("manifest_edit", bytes));
