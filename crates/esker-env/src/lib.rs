//! Floor 1 of Esker: all contact with the outside world.
//!
//! File system, clock, random numbers and threads, each behind a trait with at least two real
//! implementations: the operating system, and memory. Everything above this floor reaches the
//! outside only through an [`Env`]; lints and a check of `xtask` ban the ways around it.
//!
//! Three file systems are for tests, of Esker and of other programs: [`MemoryFileSystem`] loses power,
//! [`FaultFileSystem`] fails, and [`TraceFileSystem`] asserts the order of writes, syncs and renames.
//!
//! Does not know what the files contain, beyond the vocabulary of floor 0.
//!
//! Unsafe code is confined to `window.rs`; UNSAFE.md says why.

#![deny(unsafe_code)]

mod clock;
mod env;
mod error;
mod fault;
mod fs;
mod memory;
mod os;
mod random;
mod threads;
mod trace;
mod window;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod testing;

pub use clock::{Clock, ManualClock, SystemClock};
pub use env::Env;
pub use error::{FileError, IoError, UnsupportedFormat};
pub use fault::{Event, Fault, FaultFileSystem, Operation, Rule, When};
pub use fs::{Advice, DirEntry, File, FileExt, FileLock, FileSystem, LockError, LockMode, Space};
pub use memory::{CrashPolicy, MemoryFileSystem};
pub use os::OsFileSystem;
pub use random::{Random, SeededRandom, SystemRandom};
pub use threads::{JoinHandle, SystemThreads, Threads};
pub use trace::{Change, Order, Pending, TraceFileSystem, Violation};
pub use window::{FileWindow, HUGE_PAGE_BYTES, PAGE_BYTES};
