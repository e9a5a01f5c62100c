//! The settings of a keyspace: its options and values derived from them, replaced as a whole when
//! it is opened with other options.
//!
//! What every write or read needs is kept separately, in atomics, so that none of them takes a
//! lock.

use std::sync::Arc;
use std::time::Duration;

use esker_tree::{
    Busy, Fifo, Filter, Lazy, Leveled, LeveledByBytes, LeveledOptions, Merge, Never, Plan, Policy,
    RangeRequest, ReadContext, Shape, Simple, Tiered, TimeWindow, Universal, Upkeep,
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

/// A memtable takes at most one part in this many of the memory budget: one that fills and one that
/// is flushed then take half of it.
const MEMTABLE_SHARE: u64 = 4;

/// Smallest target size of tables, in bytes.
const TABLE_BYTES_MIN: u64 = 1 << 20;

/// Options of a keyspace, with values derived from them.
pub(crate) struct Settings {
    pub(crate) options: KeyspaceOptions,
    /// The merge operator, adapted to stored keys.
    pub(crate) merge: Option<Merge>,
    /// The compaction filter, adapted to stored keys.
    pub(crate) filter: Option<Filter>,
    /// None if the tree is compacted on demand only.
    pub(crate) policy: Option<Box<dyn Policy>>,
    /// What is compacted beside the policy.
    pub(crate) upkeep: Upkeep,
    /// How often to check for work that time alone makes due, if it can.
    pub(crate) look_every: Option<Duration>,
    /// Target size of tables.
    pub(crate) table_bytes: u64,
    /// Size at which the memtable is switched.
    pub(crate) memtable_bytes: u64,
}

impl Settings {
    pub(crate) fn new(options: KeyspaceOptions, memory_budget_bytes: u64) -> Self {
        let memtable_bytes =
            options.memtable_bytes.min((memory_budget_bytes / MEMTABLE_SHARE).max(64 << 10));
        // The size of a flushed table, but never so small that a tree has thousands of them.
        let table_bytes = memtable_bytes.max(TABLE_BYTES_MIN);
        let sizes = LeveledOptions { memtable_bytes, table_bytes, ..LeveledOptions::default() };
        let policy: Option<Box<dyn Policy>> = match options.compaction {
            CompactionPolicy::Leveled => Some(Box::new(Leveled::new(sizes))),
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
        let look_every = look_every(&options);
        let upkeep = rules(&options, sizes);
        let merge = options.merge_operator.clone().map(|merge| stored_merge(&options.order, merge));
        let filter = options
            .compaction_filter
            .clone()
            .and_then(|filter| stored_filter(&options.order, filter));
        Self { options, merge, filter, policy, upkeep, look_every, table_bytes, memtable_bytes }
    }

    /// The next plan of a compaction on demand: down to the last level, unless the policy keeps ages
    /// apart.
    pub(crate) fn plan_range(
        &self,
        shape: &Shape,
        busy: &Busy,
        request: &RangeRequest,
    ) -> Option<Plan> {
        match &self.policy {
            Some(policy) => policy.plan_range(shape, busy, request),
            None => Never::new(self.table_bytes).plan_range(shape, busy, request),
        }
    }

    fn default_ttl_millis(&self) -> u64 {
        self.options.default_ttl.map_or(0, millis_up)
    }
}

/// The present settings of a keyspace.
pub(super) struct CurrentSettings {
    whole: RwLock<Arc<Settings>>,
    // Copied from `whole`, and only changed with it. All are counter only: nothing depends on their
    // order, except for `merges`.
    is_logged: AtomicBool,
    /// Whether there is a merge operator. Only ever changes to true: a writer that comes too early
    /// is refused.
    merges: AtomicBool,
    memtable_bytes: AtomicU64,
    /// Whether to switch the memtable early when it has many tombstones.
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
        // Last: a writer that sees it writes operands, and their readers need the operator.
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

    /// Number of tombstones at which the memtable is switched before it is full.
    pub(crate) fn tombstone_limit(&self) -> u64 {
        if self.settings.sheds_tombstones.load(Ordering::Relaxed) {
            self.upkeep.tombstone_limit()
        } else {
            u64::MAX
        }
    }

    /// Time after which a put expires that does not name an expiry.
    pub(crate) fn default_ttl(&self) -> Option<Duration> {
        let millis = self.settings.default_ttl_millis.load(Ordering::Relaxed);
        (millis != 0).then_some(Duration::from_millis(millis))
    }

    /// Refuses operands if there is no merge operator, not even by name.
    pub(crate) fn check_merges(&self) -> Result<()> {
        if self.settings.merges.load(Ordering::Relaxed) {
            return Ok(());
        }
        let what = format!("the keyspace {:?} has no merge operator", &*self.name());
        Err(Error::invalid_input(what))
    }

    /// The context that gives the entries of the keyspace their meaning, at a time in milliseconds
    /// since the epoch.
    ///
    /// # Cost
    /// Without a merge operator none; with one, as of [`KeyspaceCore::view`].
    pub(crate) fn read_context(&self, now_millis: u64) -> ReadContext {
        // The caller has taken its view already: if that has an operand, its writer saw the
        // operator, so this load does too.
        if !self.settings.merges.load(Ordering::Relaxed) {
            return ReadContext { now_millis, ..ReadContext::default() };
        }
        let settings = self.settings.whole.read().unwrap_or_else(PoisonError::into_inner);
        ReadContext { merge: settings.merge.clone(), now_millis, ..ReadContext::default() }
    }
}
