//! Feeds the target `merge_operands` of `esker_torture::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| esker_torture::fuzz::run("merge_operands", bytes));
