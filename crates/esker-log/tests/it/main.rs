//! The log as those above it use it: on files in memory that can be cut, damaged and crashed.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod crash;
mod damage;
mod golden;
mod ordinary;
mod recycled;
mod room;
mod segment;
mod windows;
mod writer;
