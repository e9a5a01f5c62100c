//! The memory budget: how many bytes a database may use, and who uses how many.
//!
//! Every large piece of memory is charged here, under its [`Owner`], as long as it lives. A charge
//! never fails and never waits: an owner that can shrink (the block cache) checks what the others
//! have taken and makes room, and the write path slows writers down. So the sum can exceed the
//! total for a moment; [`Budget::used_total`] shows by how much.

use std::fmt;
use std::sync::Arc;

use crate::sync::{AtomicU64, Ordering};

/// Who holds memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Owner {
    /// Memtables, active and immutable.
    Memtables,
    /// Data blocks of tables.
    BlockCache,
    /// Index partitions and the top-level index of open tables.
    Indexes,
    /// Filter partitions of tables.
    Filters,
    /// Buffers of the log.
    Log,
    /// Buffers of cursors that outlive one call.
    Iterators,
    /// Buffers of flushes and compactions.
    Compaction,
}

impl Owner {
    /// Every owner.
    pub const ALL: [Self; 7] = [
        Self::Memtables,
        Self::BlockCache,
        Self::Indexes,
        Self::Filters,
        Self::Log,
        Self::Iterators,
        Self::Compaction,
    ];
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memtables => "memtables",
            Self::BlockCache => "block-cache",
            Self::Indexes => "indexes",
            Self::Filters => "filters",
            Self::Log => "log",
            Self::Iterators => "iterators",
            Self::Compaction => "compaction",
        })
    }
}

/// A number of bytes, and the charges against it.
#[derive(Debug)]
pub struct Budget {
    total: u64,
    /// Bytes in use by each owner, in the order of [`Owner::ALL`]. Counters only: nothing is
    /// published through them, so every access is relaxed.
    used: [AtomicU64; Owner::ALL.len()],
}

impl Budget {
    /// A budget of `total_bytes`, nothing of it used.
    #[must_use]
    pub fn new(total_bytes: u64) -> Arc<Self> {
        Arc::new(Self { total: total_bytes, used: std::array::from_fn(|_| AtomicU64::new(0)) })
    }

    /// Charges `bytes` to `owner` until the result is dropped.
    #[must_use]
    pub fn charge(self: &Arc<Self>, owner: Owner, bytes: u64) -> Charge {
        self.add(owner, bytes);
        Charge { budget: Arc::clone(self), owner, bytes }
    }

    /// Bytes that `owner` uses.
    #[must_use]
    pub fn used(&self, owner: Owner) -> u64 {
        self.counter(owner).load(Ordering::Relaxed)
    }

    /// Bytes that all owners use together.
    #[must_use]
    pub fn used_total(&self) -> u64 {
        self.used.iter().map(|used| used.load(Ordering::Relaxed)).sum()
    }

    /// The total, in bytes.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn add(&self, owner: Owner, bytes: u64) {
        self.counter(owner).fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, owner: Owner, bytes: u64) {
        let before = self.counter(owner).fetch_sub(bytes, Ordering::Relaxed);
        assert!(bytes <= before, "{owner} gives back {bytes} bytes and holds {before}");
    }

    fn counter(&self, owner: Owner) -> &AtomicU64 {
        &self.used[owner as usize]
    }
}

/// Bytes charged to one owner of a [`Budget`]; released when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    owner: Owner,
    bytes: u64,
}

impl Charge {
    /// Changes the charge to `bytes`.
    pub fn set(&mut self, bytes: u64) {
        if bytes > self.bytes {
            self.budget.add(self.owner, bytes - self.bytes);
        } else {
            self.budget.subtract(self.owner, self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// How many bytes are charged.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.subtract(self.owner, self.bytes);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn charges_follow_set_and_end_with_drop() {
        let budget = Budget::new(1_000);
        let mut charge = budget.charge(Owner::Memtables, 100);
        let other = budget.charge(Owner::Log, 7);
        charge.set(400);
        assert_eq!((budget.used(Owner::Memtables), budget.used_total()), (400, 407));
        charge.set(1);
        assert_eq!((charge.bytes(), budget.used_total()), (1, 8));
        drop(charge);
        assert_eq!((budget.used(Owner::Memtables), budget.used(Owner::Log)), (0, 7));
        drop(other);
        assert_eq!(budget.used_total(), 0);
    }
}
