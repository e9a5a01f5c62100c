//! Feeds the target `range_tombstones` of `esker_torture::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| esker_torture::fuzz::run("range_tombstones", bytes));
