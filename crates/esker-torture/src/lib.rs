//! What fuzzers run: one function for each decoder of bytes from disk, one that damages the
//! directory of a database, one that takes bytes as operations. The program `esker-torture` and the
//! targets in `fuzz/` are two ways to feed them.

#![forbid(unsafe_code)]

pub mod fuzz;
