//! The public handle of a compaction that background threads do.

use std::sync::Arc;

use crate::error::Result;
use crate::handle::Handle;
use crate::scheduler::on_demand::{CompactionProgress, CompactionReport, OnDemand};

/// A compaction on demand that was started and goes on in the background; see
/// [`Keyspace::start_compaction`](crate::Keyspace::start_compaction).
///
/// Dropping the handle lets the compaction go on: nobody can pause or cancel it then. A paused one
/// stays so until the database is closed. Closing the database ends it between two blocks, and it is
/// not taken up again by the next open. The handle keeps the database open.
#[derive(Debug)]
pub struct CompactionHandle {
    db: Arc<Handle>,
    task: Arc<OnDemand>,
}

impl CompactionHandle {
    pub(crate) const fn new(db: Arc<Handle>, task: Arc<OnDemand>) -> Self {
        Self { db, task }
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> CompactionProgress {
        self.task.progress()
    }

    /// Whether it has ended, one way or another.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.has_ended()
    }

    /// Ends it: at once if no step is under way, otherwise at the next block. Nothing is lost; steps
    /// that have ended count, and files of the one that has not are removed. Does not wait; does
    /// nothing to one that has ended.
    pub fn cancel(&self) {
        self.task.cancel();
        self.db.engine().scheduler.wake();
    }

    /// Lets it rest: no step is begun, and one under way waits at the next block, keeping its inputs
    /// from other compactions, and files of the keyspace that others replace meanwhile from being
    /// removed. Its thread does other work. Without background threads, a step that has begun is
    /// finished.
    pub fn pause(&self) {
        self.task.set_paused(true);
        self.db.engine().scheduler.wake();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.task.set_paused(false);
        self.db.engine().scheduler.wake();
    }

    /// Returns when it has ended, and what it has done. Waits for as long as it is paused. Without
    /// [background threads](crate::Options::background_threads), background jobs are done here.
    ///
    /// # Errors
    /// - As [`Keyspace::compact`](crate::Keyspace::compact): it has ended with this error, and is
    ///   not tried again.
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
