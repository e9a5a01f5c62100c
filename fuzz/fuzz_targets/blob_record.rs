//! Feeds the target `blob_record` of `esker_torture::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| esker_torture::fuzz::run("blob_record", bytes));
