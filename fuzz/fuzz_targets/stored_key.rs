//! Feeds the target `stored_key` of `esker_torture::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| esker_torture::fuzz::run("stored_key", bytes));
