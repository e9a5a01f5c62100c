//! The read view: what a reader of one keyspace pins, its memtables and the version of its tables.

use std::sync::{Arc, OnceLock};

use esker_base::LogId;
use esker_cache::{Budget, Charge, Owner};
use esker_memtable::Memtable;
use esker_tree::Version;

use crate::keyspace_core::write_times::WriteTimes;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, PoisonError};

/// Memtables and version at one moment. Never edited in place: a change installs a new one.
pub(crate) struct ReadView {
    /// Takes the writes.
    pub(crate) active: Arc<WriteBuffer>,
    /// Waiting to be flushed, newest first.
    pub(crate) immutables: Vec<Arc<WriteBuffer>>,
    /// The tables.
    pub(crate) version: Arc<Version>,
}

impl ReadView {
    /// Active and immutable memtables, newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(&self.immutables).map(|buffer| &buffer.memtable)
    }

    /// Whether there are entries only in memory: in no table, and in no log.
    pub(crate) fn has_unlogged(&self) -> bool {
        let mut buffers = std::iter::once(&self.active).chain(&self.immutables);
        buffers.any(|buffer| buffer.has_unlogged.load(Ordering::Relaxed))
    }

    /// The log segment that holds the oldest entry which is in memory only.
    pub(crate) fn oldest_log(&self) -> Option<LogId> {
        let buffers = std::iter::once(&self.active).chain(&self.immutables);
        buffers.filter_map(|buffer| buffer.oldest_log()).min()
    }
}

/// A memtable with what the engine must know about it: its oldest log segment, and its memory.
pub(crate) struct WriteBuffer {
    pub(crate) memtable: Arc<Memtable>,
    /// Segment of the first logged entry. Set before the entry is published.
    log: OnceLock<LogId>,
    /// Some entries are in no log. Counter only: it is read when nobody writes.
    has_unlogged: AtomicBool,
    pub(crate) times: WriteTimes,
    /// Charged to the budget in steps, so that a put rarely touches it. Lock order: last.
    charge: Mutex<Charge>,
    /// What `charge` holds; read without the lock. Counter only.
    charged_bytes: AtomicU64,
}

impl WriteBuffer {
    /// Minimum charge of a memtable that is not empty.
    const CHARGE_STEP_BYTES: u64 = 16 << 10;

    pub(crate) fn new(budget: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            memtable: Arc::new(Memtable::new()),
            log: OnceLock::new(),
            has_unlogged: AtomicBool::new(false),
            times: WriteTimes::default(),
            charge: Mutex::new(budget.charge(Owner::Memtables, 0)),
            charged_bytes: AtomicU64::new(0),
        })
    }

    /// What the budget is charged for it.
    pub(crate) fn charged_bytes(&self) -> u64 {
        self.charged_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn oldest_log(&self) -> Option<LogId> {
        self.log.get().copied()
    }

    /// Notes that entries come from `log`; the first call counts.
    pub(crate) fn note_log(&self, log: LogId) {
        self.log.get_or_init(|| log);
    }

    /// Notes that there are entries which are in no log.
    pub(crate) fn note_unlogged(&self) {
        self.has_unlogged.store(true, Ordering::Relaxed);
    }

    /// Updates the budget's charge to about what the memtable takes; returns whether it has grown.
    /// A memtable grows by chunks, each as large as all earlier ones together.
    pub(crate) fn update_charge(&self) -> bool {
        let size = self.memtable.reserved_bytes();
        if size < self.charged_bytes.load(Ordering::Relaxed) + Self::CHARGE_STEP_BYTES {
            return false;
        }
        self.charged_bytes.store(size, Ordering::Relaxed);
        self.charge.lock().unwrap_or_else(PoisonError::into_inner).set(size);
        true
    }
}
