//! Feeds the target `keyspace_options` of `esker_torture::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| esker_torture::fuzz::run("keyspace_options", bytes));
