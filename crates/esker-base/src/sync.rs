//! The locks, condition variables, atomics, and thread-locals that identify threads, for all floors
//! of the engine: those of std.
//!
//! Two builds replace them, under the same names, so that a test can control schedules: the feature
//! `baton`, with those of `baton.rs`, where one thread runs at a time and a seed picks the next;
//! and `--cfg shuttle`, with those of the model checker shuttle. Any other build has std's own
//! types, and pays nothing. Errors of poisoned locks are std's in all of them.
//!
//! Knows nothing of what is guarded. `cargo run -p xtask -- tidy` ensures that the engine takes its
//! locks from here. The floor that reaches the outside world uses std's: its locks are never held
//! while another thread is allowed to run.

#[cfg(all(not(feature = "baton"), not(shuttle)))]
mod chosen {
    pub use std::sync::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, WaitTimeoutResult,
    };

    /// Atomics.
    pub mod atomic {
        pub use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    }

    pub use std::thread_local;
}

#[cfg(all(feature = "baton", not(shuttle)))]
mod chosen {
    pub use crate::baton::condvar::{Condvar, WaitTimeoutResult};
    pub use crate::baton::locks::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

    /// Atomics.
    pub mod atomic {
        pub use crate::baton::atomics::{AtomicBool, AtomicU64, AtomicUsize};
        pub use std::sync::atomic::Ordering;
    }

    // Baton's threads are threads of the system.
    pub use std::thread_local;
}

#[cfg(shuttle)]
mod chosen {
    pub use shuttle::sync::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, WaitTimeoutResult,
    };

    /// Atomics.
    pub mod atomic {
        pub use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    }

    // All of shuttle's threads share one thread of the system.
    pub use shuttle::thread_local;
}

pub use chosen::*;
pub use std::sync::{LockResult, PoisonError, TryLockError};
