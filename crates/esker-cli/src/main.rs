//! The program `esker`: a key-value database from the command line.

fn main() {}
