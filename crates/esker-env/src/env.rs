//! One bundle of everything outside, handed down from the top floor.

use std::sync::Arc;
use std::time::Duration;

use crate::{
    Clock, FileSystem, ManualClock, MemoryFileSystem, OsFileSystem, Random, SeededRandom,
    SystemClock, SystemRandom, SystemThreads, Threads,
};

/// The outside: cheap to clone, shared by every floor of one database.
#[derive(Clone, Debug)]
pub struct Env {
    /// Files.
    pub fs: Arc<dyn FileSystem>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Threads.
    pub threads: Arc<dyn Threads>,
    /// Random bytes.
    pub random: Arc<dyn Random>,
}

impl Env {
    /// The operating system: what a database in production uses.
    #[must_use]
    pub fn os() -> Self {
        Self {
            fs: Arc::new(OsFileSystem::new()),
            clock: Arc::new(SystemClock::new()),
            threads: Arc::new(SystemThreads),
            random: Arc::new(SystemRandom),
        }
    }

    /// Memory: files, a clock that stands still, and random numbers that `seed` repeats; threads
    /// are real. A test that wants to crash the files or turn the clock builds its own.
    #[must_use]
    pub fn memory(seed: u64) -> Self {
        Self {
            fs: Arc::new(MemoryFileSystem::new(seed)),
            // A moment in 2033: tests must not tell it from the present.
            clock: Arc::new(ManualClock::new(Duration::from_secs(2_000_000_000))),
            threads: Arc::new(SystemThreads),
            random: Arc::new(SeededRandom::new(seed)),
        }
    }
}
