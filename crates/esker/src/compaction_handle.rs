//! The public handle of a compaction on demand that runs on background threads.

use std::sync::Arc;

use crate::error::Result;
use crate::handle::Handle;
use crate::scheduler::on_demand::{CompactionProgress, CompactionReport, OnDemand};

/// A compaction on demand, running in the background; see
/// [`Keyspace::start_compaction`](crate::Keyspace::start_compaction).
///
/// If the handle is dropped, the compaction goes on, and can no longer be paused or cancelled; a
/// paused one stays paused until the database is closed. Closing the database stops it between two
/// blocks, and the next open does not resume it. The handle keeps the database open.
#[derive(Debug)]
pub struct CompactionHandle {
    db: Arc<Handle>,
    task: Arc<OnDemand>,
}

impl CompactionHandle {
    pub(crate) const fn new(db: Arc<Handle>, task: Arc<OnDemand>) -> Self {
        Self { db, task }
    }

    /// Its progress so far.
    #[must_use]
    pub fn progress(&self) -> CompactionProgress {
        self.task.progress()
    }

    /// Whether it has ended, for whatever reason.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.has_ended()
    }

    /// Stops it: at once if no step is running, otherwise at the next block. Finished steps keep
    /// their effect; the files of an unfinished one are removed. Does not wait, and does nothing if
    /// the compaction has ended.
    pub fn cancel(&self) {
        self.task.cancel();
        self.db.engine().scheduler.wake();
    }

    /// Pauses it: no further step is begun, and a running one stops at its next block. As long as it
    /// is paused, its inputs are barred from other compactions, and files of the keyspace that
    /// others replace cannot be removed. Without background threads, a step that has begun is
    /// finished.
    ///
    /// The thread of a step that stands still does automatic compactions, and flushes if it is the
    /// only thread, but nothing else. With one or two
    /// [background threads](crate::Options::background_threads) only one of them compacts: other
    /// compactions that were started, and the loading of blocks by
    /// [`warm_cache`](crate::Options::warm_cache), then wait until this one is resumed or cancelled.
    pub fn pause(&self) {
        self.task.set_paused(true);
        self.db.engine().scheduler.wake();
    }

    /// Resumes it after [`CompactionHandle::pause`].
    pub fn resume(&self) {
        self.task.set_paused(false);
        self.db.engine().scheduler.wake();
    }

    /// Waits until it has ended, also while it is paused, and returns what it has done. Without
    /// [background threads](crate::Options::background_threads), runs background jobs meanwhile.
    ///
    /// # Errors
    /// - As [`Keyspace::compact`](crate::Keyspace::compact): it ended with this error, and is not
    ///   retried.
    /// - `Closed`, `Poisoned`: it will not go on.
    pub fn wait(&self) -> Result<CompactionReport> {
        let engine = self.db.engine();
        engine.scheduler.wait_until(|| {
            if engine.options.background_threads == 0 {
                while !self.task.has_ended() && engine.run_background_job() {}
            }
            let failed = || engine.check_writable().err().map(Err);
            self.task.outcome().or_else(failed)
        })
    }
}
