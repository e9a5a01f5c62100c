//! Feeds the target `warm_list` of `esker_torture::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| esker_torture::fuzz::run("warm_list", bytes));
