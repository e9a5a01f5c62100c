//! Tests of the whole engine that are built once more for shuttle and for the sanitizers: a program of their own,
//! since those builds begin from nothing, and the other tests take a minute.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "shared with the other tests, which use more of it")]
#[path = "../it/random.rs"]
mod random;
#[cfg(shuttle)]
#[expect(dead_code, reason = "shared with the other tests, which use more of it")]
#[path = "../it/referenced.rs"]
mod referenced;
#[path = "../it/watchdog.rs"]
mod watchdog;

mod concurrency;
#[cfg(shuttle)]
mod shuttle;
