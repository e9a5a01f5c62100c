//! One keyspace inside the engine: its name, its settings, and the state that its readers and
//! writers share.

pub(crate) mod described;
pub(crate) mod looks;
pub(crate) mod read_view;
mod settings;
mod stored_key;
pub(crate) mod upkeep_notes;
pub(crate) mod write_times;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_base::KeyspaceId;
use esker_cache::Budget;
use esker_tree::{Busy, Version};

use crate::error::{Error, ErrorKind, Result};
use crate::key_order::KeyspaceOrder;
use crate::keyspace_core::looks::Looks;
use crate::keyspace_core::read_view::{ReadView, WriteBuffer};
use crate::keyspace_core::settings::CurrentSettings;
use crate::keyspace_core::upkeep_notes::{UpkeepNotes, WriteMark};
use crate::running::JobKind;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError, RwLock};

pub(crate) use crate::keyspace_core::settings::Settings;

/// The inside of a keyspace. Lives as long as there is a handle to it or a job on it.
pub(crate) struct KeyspaceCore {
    pub(crate) id: KeyspaceId,
    /// Fixed when the keyspace is created.
    pub(crate) order: KeyspaceOrder,
    /// Changed by a rename.
    name: RwLock<Arc<str>>,
    settings: CurrentSettings,
    /// What readers see; replaced as a whole, never edited in place. Locked for writing only for
    /// the moment of the exchange, by the commit leader (switch) or under the ledger's lock (new
    /// version).
    view: RwLock<Arc<ReadView>>,
    /// How many times `view` was replaced. Release after the exchange pairs with Acquire in
    /// [`KeyspaceCore::view_with_seqno`].
    view_generation: AtomicU64,
    is_dropped: AtomicBool,
    /// Whether whole tables can expire, as of the last change of the tree. Counter only.
    may_expire: AtomicBool,
    /// Whether writes must check the backlog before they are admitted. A hint: counter only.
    is_under_pressure: AtomicBool,
    /// Bytes to rewrite until the tree is in shape, as of the last change of the tree: computing it
    /// walks all tables. Counter only.
    debt_bytes: AtomicU64,
    /// Tables that running jobs use. Held across file operations in two places: while reading range
    /// tombstones that may cover whole tables (`pick_drop`), and while tables join the tree.
    busy: Mutex<Busy>,
    /// Held for a whole flush: only one flush of a keyspace runs at a time, to keep the order of
    /// its runs.
    pub(crate) flushing: Mutex<()>,
    pub(crate) looks: Looks,
    pub(crate) upkeep: UpkeepNotes,
    /// The last failure of each kind of background job, until one of that kind succeeds. Kept by
    /// kind, so that a table which cannot be compacted does not hold up flushes.
    failures: Mutex<BTreeMap<JobKind, Failure>>,
}

/// A background job that failed and will be tried again.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) attempts: u32,
    /// Not before this time of the engine's clock.
    pub(crate) retry_at: Duration,
}

/// After this many failures in a row, whatever the cause, writers that wait for a flush get the
/// error.
const FLUSH_ATTEMPTS_MIN: u32 = 3;

impl KeyspaceCore {
    pub(crate) fn new(
        id: KeyspaceId,
        name: &str,
        settings: Settings,
        version: Version,
        budget: &Arc<Budget>,
    ) -> Arc<Self> {
        let view = ReadView {
            active: WriteBuffer::new(budget),
            immutables: Vec::new(),
            version: Arc::new(version),
        };
        Arc::new(Self {
            id,
            order: KeyspaceOrder::new(&settings.options.order),
            name: RwLock::new(name.into()),
            settings: CurrentSettings::new(settings),
            view: RwLock::new(Arc::new(view)),
            view_generation: AtomicU64::new(0),
            is_dropped: AtomicBool::new(false),
            may_expire: AtomicBool::new(false),
            is_under_pressure: AtomicBool::new(false),
            debt_bytes: AtomicU64::new(0),
            busy: Mutex::default(),
            flushing: Mutex::new(()),
            looks: Looks::default(),
            upkeep: UpkeepNotes::default(),
            failures: Mutex::default(),
        })
    }

    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_name(&self, name: &str) {
        *self.name.write().unwrap_or_else(PoisonError::into_inner) = name.into();
    }

    /// Whether the tree has tables that can expire as a whole.
    pub(crate) fn may_expire(&self) -> bool {
        self.may_expire.load(Ordering::Relaxed)
    }

    pub(crate) fn set_may_expire(&self, value: bool) {
        self.may_expire.store(value, Ordering::Relaxed);
    }

    pub(crate) fn debt_bytes(&self) -> u64 {
        self.debt_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_debt_bytes(&self, bytes: u64) {
        self.debt_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn is_under_pressure(&self) -> bool {
        self.is_under_pressure.load(Ordering::Relaxed)
    }

    pub(crate) fn set_under_pressure(&self, value: bool) {
        self.is_under_pressure.store(value, Ordering::Relaxed);
    }

    /// The current view.
    ///
    /// # Cost
    /// An uncontended read lock and a reference count: about 20 ns.
    pub(crate) fn view(&self) -> Arc<ReadView> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The current view of a keyspace that has not been dropped.
    ///
    /// # Errors
    /// `Closed` if it has. Checked after the view is taken: the view of a dropped keyspace is
    /// empty, and whoever sees that also sees the drop.
    #[inline]
    pub(crate) fn live_view(&self) -> Result<Arc<ReadView>> {
        let view = self.view();
        self.check_live()?;
        Ok(view)
    }

    /// A view and a sequence number at which it is complete: it holds every entry that a reader at
    /// that number sees.
    ///
    /// If the view were replaced between the two loads, a memtable that is not in it could hold
    /// entries below the number, or a compaction could have dropped entries that only an older
    /// number sees. So the pair is used only if the view is still current afterwards.
    ///
    /// `seqno` may add to the number what else is of that moment.
    pub(crate) fn view_with_seqno<N>(&self, seqno: impl Fn() -> N) -> (Arc<ReadView>, N) {
        loop {
            let generation = self.view_generation.load(Ordering::Acquire);
            let view = self.view();
            let seqno = seqno();
            if self.view_generation.load(Ordering::Acquire) == generation {
                return (view, seqno);
            }
        }
    }

    /// Whether `view`, which the caller has been holding since it was the current one, still is.
    pub(crate) fn is_current(&self, view: &ReadView) -> bool {
        let current = self.view.read().unwrap_or_else(PoisonError::into_inner);
        std::ptr::eq(&**current, view)
    }

    /// How many times the view was replaced.
    pub(crate) fn view_generation(&self) -> u64 {
        self.view_generation.load(Ordering::Acquire)
    }

    /// Changes whenever something is written.
    pub(crate) fn write_mark(&self) -> WriteMark {
        (self.view_generation(), self.view().active.memtable.entry_count())
    }

    /// Replaces the view with what `change` makes of it.
    pub(crate) fn change_view<E>(
        &self,
        change: impl FnOnce(&ReadView) -> std::result::Result<ReadView, E>,
    ) -> std::result::Result<(), E> {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let next = change(&view)?;
        if !Arc::ptr_eq(&view.version, &next.version) {
            self.upkeep.restart_searches();
        }
        let replaced = std::mem::replace(&mut *view, Arc::new(next));
        // Inside the lock: a reader that gets the new view sees the new generation or a later one.
        if !esker_base::planted::is("view-generation-not-counted") {
            self.view_generation.fetch_add(1, Ordering::AcqRel);
        }
        drop(view);
        // Outside the lock, since it may be the last reference to much memory.
        drop(replaced);
        Ok(())
    }

    /// Makes the active memtable immutable and an empty one active. Only for the commit leader.
    pub(crate) fn switch_memtable(&self, budget: &Arc<Budget>) {
        let switched = self.change_view(|view| {
            let mut immutables = Vec::with_capacity(view.immutables.len() + 1);
            immutables.push(Arc::clone(&view.active));
            immutables.extend_from_slice(&view.immutables);
            Ok::<_, std::convert::Infallible>(ReadView {
                active: WriteBuffer::new(budget),
                immutables,
                version: Arc::clone(&view.version),
            })
        });
        let Ok(()) = switched;
    }

    /// Releases all memtables and tables of a dropped keyspace.
    pub(crate) fn forget_contents(&self, budget: &Arc<Budget>) {
        let Ok(()) = self.change_view(|_| {
            Ok::<_, std::convert::Infallible>(ReadView {
                active: WriteBuffer::new(budget),
                immutables: Vec::new(),
                version: Arc::new(Version::new(self.id)),
            })
        });
    }

    #[inline]
    pub(crate) fn check_live(&self) -> Result<()> {
        if self.is_dropped.load(Ordering::Acquire) { Err(self.dropped_error()) } else { Ok(()) }
    }

    #[cold]
    fn dropped_error(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("the keyspace {} was dropped", self.name()))
    }

    /// From now on no write is accepted. Release pairs with the Acquire in `check_live`.
    pub(crate) fn mark_dropped(&self) {
        self.is_dropped.store(true, Ordering::Release);
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.is_dropped.load(Ordering::Acquire)
    }

    pub(crate) fn busy(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted_failures(&self) -> MutexGuard<'_, BTreeMap<JobKind, Failure>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn failure(&self, kind: JobKind) -> Option<Failure> {
        self.noted_failures().get(&kind).cloned()
    }

    /// The error of failing flushes, if it is time to return it to whoever waits for one.
    pub(crate) fn lasting_flush_failure(&self) -> Option<Error> {
        let is_lasting = |failure: &Failure| {
            failure.error.kind() == ErrorKind::NoSpace || FLUSH_ATTEMPTS_MIN <= failure.attempts
        };
        self.failure(JobKind::Flush).filter(is_lasting).map(|failure| failure.error)
    }

    pub(crate) fn failures(&self) -> Vec<Failure> {
        self.noted_failures().values().cloned().collect()
    }

    /// Notes how a background job ended. A failed job waits longer each time before it is tried
    /// again, up to a minute; a flush that finds no space, up to five seconds, since writers are
    /// refused meanwhile.
    pub(crate) fn note_outcome(&self, kind: JobKind, result: &Result<()>, now: Duration) {
        let mut failures = self.noted_failures();
        let Err(error) = result else {
            failures.remove(&kind);
            return;
        };
        let attempts = failures.get(&kind).map_or(1, |failure| failure.attempts + 1);
        let longest = match (kind, error.kind()) {
            (JobKind::Flush, ErrorKind::NoSpace) => Duration::from_secs(5),
            _ => Duration::from_secs(60),
        };
        let wait = Duration::from_millis(100 << attempts.min(10)).min(longest);
        let retry_at = now.saturating_add(wait);
        failures.insert(kind, Failure { error: error.clone(), attempts, retry_at });
    }
}

impl std::fmt::Debug for KeyspaceCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "keyspace {} ({})", self.name(), self.id)
    }
}
