//! Tests of the whole engine through its public face.
//!
//! What several of them share: `random` (choices that a seed repeats), `state` (what a database
//! should hold), `reading` (what it does hold), `directory` (which files may be there).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod random;
mod state;

mod directory;
mod reading;

mod basics;
mod model;
