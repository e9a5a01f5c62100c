//! Locks, condition variables, atomics, and what a thread has to itself where it says which thread it is,
//! as every floor of the engine takes them: those of std.
//!
//! Two builds put others in their place, under the same names, so that a test can choose what
//! happens when: the feature `baton` those of `baton`, on which one thread runs at a time, the next
//! one picked by a seed; and `--cfg shuttle` those of the model checker shuttle. Any other build has
//! std's own types, and pays nothing. Errors of poisoned locks are std's in all of them.
//!
//! Knows nothing of what is guarded. `cargo run -p xtask -- tidy` sees to it that the engine has its
//! locks from here. The floor that reaches the outside keeps std's: what it guards is never held while
//! anybody else runs.

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

    // Its threads are those of the system.
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

    // All its threads are one of the system.
    pub use shuttle::thread_local;
}

pub use chosen::*;
pub use std::sync::{LockResult, PoisonError, TryLockError};
