//! The settings of a keyspace: its options with what follows from them, replaced whole when it is opened
//! with other options.
//!
//! What every write or read asks for stands apart, in atomics, so that none of them takes a lock for it.

use std::sync::Arc;
use std::time::Duration;

use esker_tree::{
    Fifo, Filter, Lazy, Leveled, LeveledByBytes, LeveledOptions, Merge, Policy, ReadContext,
    Simple, Tiered, TimeWindow, Universal, Upkeep,
};

use crate::error::{Error, Result};
use crate::expiry::millis_up;
use crate::key_order::user_code::{stored_filter, stored_merge};
use crate::keyspace_core::KeyspaceCore;
use crate::keyspace_core::looks::look_every;
use crate::keyspace_core::upkeep_notes::rules;
use crate::options::{CompactionPolicy, KeyspaceOptions};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{PoisonError, RwLock};

/// A memtable takes at most this part of the memory budget: one that fills and one that is flushed
/// are then half of it.
const MEMTABLE_SHARE: u64 = 4;

/// Smallest size that tables are aimed at, in bytes.
const TABLE_BYTES_MIN: u64 = 1 << 20;

/// Options of a keyspace with what follows from them.
pub(crate) struct Settings {
    pub(crate) options: KeyspaceOptions,
    /// The merge operator, for keys as they are stored.
    pub(crate) merge: Option<Merge>,
    /// The compaction filter, for keys as they are stored.
    pub(crate) filter: Option<Filter>,
    /// None if the tree is compacted on demand only.
    pub(crate) policy: Option<Box<dyn Policy>>,
    /// What on-demand compactions follow: down to the last level, whatever the automatic policy,
    /// but for one under which tables are of one age each.
    pub(crate) manual_policy: Box<dyn Policy>,
    /// What is compacted beside the policy.
    pub(crate) upkeep: Upkeep,
    /// How often time alone may give work, if it may.
    pub(crate) look_every: Option<Duration>,
    /// Size that tables are aimed at.
    pub(crate) table_bytes: u64,
    /// Size at which the memtable is switched.
    pub(crate) memtable_bytes: u64,
}

impl Settings {
    pub(crate) fn new(options: KeyspaceOptions, memory_budget_bytes: u64) -> Self {
        let memtable_bytes =
            options.memtable_bytes.min((memory_budget_bytes / MEMTABLE_SHARE).max(64 << 10));
        // Tables of one flush, but never so small that a tree has thousands of them.
        let table_bytes = memtable_bytes.max(TABLE_BYTES_MIN);
        let sizes = LeveledOptions { memtable_bytes, table_bytes, ..LeveledOptions::default() };
        let leveled = Leveled::new(sizes);
        let policy: Option<Box<dyn Policy>> = match options.compaction {
            CompactionPolicy::Leveled => Some(Box::new(leveled.clone())),
            CompactionPolicy::None => None,
            CompactionPolicy::Simple(simple) => Some(Box::new(Simple::new(simple, table_bytes))),
            CompactionPolicy::Tiered(tiered) => Some(Box::new(Tiered::new(tiered, table_bytes))),
            CompactionPolicy::LeveledByBytes(by_bytes) => {
                Some(Box::new(LeveledByBytes::new(by_bytes, table_bytes)))
            }
            CompactionPolicy::Universal(universal) => {
                Some(Box::new(Universal::new(universal, table_bytes)))
            }
            CompactionPolicy::Lazy(lazy) => Some(Box::new(Lazy::new(lazy, table_bytes))),
            CompactionPolicy::Fifo(fifo) => Some(Box::new(Fifo::new(fifo))),
            CompactionPolicy::TimeWindow(window) => {
                Some(Box::new(TimeWindow::new(window, table_bytes)))
            }
        };
        let manual_policy: Box<dyn Policy> = match options.compaction {
            CompactionPolicy::Fifo(fifo) => Box::new(Fifo::new(fifo)),
            CompactionPolicy::TimeWindow(window) => Box::new(TimeWindow::new(window, table_bytes)),
            _ => Box::new(leveled),
        };
        let look_every = look_every(&options);
        let upkeep = rules(&options, sizes);
        let merge = options.merge_operator.clone().map(|merge| stored_merge(&options.order, merge));
        let filter = options
            .compaction_filter
            .clone()
            .and_then(|filter| stored_filter(&options.order, filter));
        Self {
            options,
            merge,
            filter,
            policy,
            manual_policy,
            upkeep,
            look_every,
            table_bytes,
            memtable_bytes,
        }
    }

    fn default_ttl_millis(&self) -> u64 {
        self.options.default_ttl.map_or(0, millis_up)
    }
}

/// The settings that a keyspace has now.
pub(super) struct CurrentSettings {
    whole: RwLock<Arc<Settings>>,
    // Of `whole`, and changed with it alone. Counter only, all of them: nothing is read by their order
    // but for `merges`.
    is_logged: AtomicBool,
    /// Whether there is a merge operator. Changes only to true: a writer that comes too early is refused.
    merges: AtomicBool,
    memtable_bytes: AtomicU64,
    /// Whether many tombstones are a reason to switch the memtable.
    sheds_tombstones: AtomicBool,
    /// 0 for never.
    default_ttl_millis: AtomicU64,
}

impl CurrentSettings {
    pub(super) fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let current = Self {
            whole: RwLock::new(Arc::clone(&settings)),
            is_logged: AtomicBool::new(false),
            merges: AtomicBool::new(false),
            memtable_bytes: AtomicU64::new(0),
            sheds_tombstones: AtomicBool::new(false),
            default_ttl_millis: AtomicU64::new(0),
        };
        current.set(settings);
        current
    }

    fn set(&self, settings: Arc<Settings>) {
        let merges = settings.options.merge_operator.is_some();
        self.is_logged.store(settings.options.log, Ordering::Relaxed);
        self.memtable_bytes.store(settings.memtable_bytes, Ordering::Relaxed);
        self.sheds_tombstones.store(settings.upkeep.frees_space, Ordering::Relaxed);
        self.default_ttl_millis.store(settings.default_ttl_millis(), Ordering::Relaxed);
        *self.whole.write().unwrap_or_else(PoisonError::into_inner) = settings;
        // Last: a writer who finds it writes operands, whose readers need the operator.
        self.merges.store(merges, Ordering::Relaxed);
    }
}

impl KeyspaceCore {
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.whole.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_settings(&self, settings: Settings) {
        self.settings.set(Arc::new(settings));
    }

    /// Whether its writes go to the log.
    pub(crate) fn is_logged(&self) -> bool {
        self.settings.is_logged.load(Ordering::Relaxed)
    }

    /// Size at which the memtable is switched.
    pub(crate) fn memtable_bytes(&self) -> u64 {
        self.settings.memtable_bytes.load(Ordering::Relaxed)
    }

    /// Tombstones at which the memtable is switched though it is not full.
    pub(crate) fn tombstone_limit(&self) -> u64 {
        if self.settings.sheds_tombstones.load(Ordering::Relaxed) {
            self.upkeep.tombstone_limit()
        } else {
            u64::MAX
        }
    }

    /// After how long a put expires that does not say when.
    pub(crate) fn default_ttl(&self) -> Option<Duration> {
        let millis = self.settings.default_ttl_millis.load(Ordering::Relaxed);
        (millis != 0).then_some(Duration::from_millis(millis))
    }

    /// Refuses operands where there is no merge operator, not even by name.
    pub(crate) fn check_merges(&self) -> Result<()> {
        if self.settings.merges.load(Ordering::Relaxed) {
            return Ok(());
        }
        let what = format!("the keyspace {:?} has no merge operator", &*self.name());
        Err(Error::invalid_input(what))
    }

    /// What gives the entries of the keyspace their meaning at a time in milliseconds since the
    /// epoch.
    ///
    /// # Cost
    /// Without a merge operator none; with one, as of [`KeyspaceCore::view`].
    pub(crate) fn read_context(&self, now_millis: u64) -> ReadContext {
        // Whoever asks has its view: had it an operand, written by one who found an operator, this
        // finds it too.
        if !self.settings.merges.load(Ordering::Relaxed) {
            return ReadContext { now_millis, ..ReadContext::default() };
        }
        let settings = self.settings.whole.read().unwrap_or_else(PoisonError::into_inner);
        ReadContext { merge: settings.merge.clone(), now_millis, ..ReadContext::default() }
    }
}
