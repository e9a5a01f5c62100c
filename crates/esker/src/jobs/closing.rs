//! The end of background work: waiting until none is left, and closing.

use std::sync::{Arc, TryLockError};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::keyspace_core::KeyspaceCore;
use crate::sync::atomic::Ordering;

/// If memtables together hold less than this, their entries are left in the log when the database
/// is closed: replaying them costs a few milliseconds, and a small table for each close would cost
/// more.
const CLOSE_FLUSH_BYTES_MIN: u64 = 512 << 10;

/// With this many log segments, memtables are flushed at close, however small they are.
const CLOSE_FLUSH_SEGMENTS_MIN: usize = 4;

impl Engine {
    /// Waits until nothing is left to do in the background.
    pub(crate) fn wait_until_settled(&self) -> Result<()> {
        if self.is_read_only {
            return self.wait_until_warm();
        }
        // Including flushes that nobody has requested, after a failed call.
        for keyspace in self.keyspaces() {
            if !keyspace.view().immutables.is_empty() {
                self.scheduler.request_flush(keyspace.id);
            }
            self.scheduler.request_compaction(keyspace.id);
        }
        self.look_at_time();
        let result = self.scheduler.wait_until(|| match self.check_writable() {
            Err(error) => Some(Err(error)),
            Ok(()) => {
                self.request_what_can_begin();
                if self.options.background_threads == 0 {
                    // Nobody else may do them.
                    while self.run_background_job() {}
                }
                let idle = self.scheduler.idle_epoch();
                let keyspaces = self.keyspaces();
                let failure = keyspaces.iter().flat_map(|keyspace| keyspace.failures()).next();
                match failure {
                    Some(failure) => Some(Err(failure.error)),
                    None => {
                        let is_settled = keyspaces.iter().all(|keyspace| self.is_settled(keyspace));
                        let wants_none =
                            !self.scheduler.wants_on_demand() && !self.scheduler.wants_warming();
                        // No job may have changed what was checked, or still be cleaning up.
                        let is_idle = idle.is_some() && idle == self.scheduler.idle_epoch();
                        (is_settled && wants_none && is_idle).then_some(Ok(()))
                    }
                }
            }
        });
        // What readers held when the jobs ended may have been released since.
        self.collect_garbage();
        self.remove_doubtful();
        result
    }

    /// Requests the compactions that can begin. When they were requested before, something may have
    /// been in their way that has gone without a word, such as a snapshot; or time has made them due
    /// since. The end of a running job is a reason to check again.
    fn request_what_can_begin(&self) {
        if self.scheduler.idle_epoch().is_none()
            || esker_base::planted::is("settling-requests-once")
        {
            return;
        }
        for keyspace in self.keyspaces() {
            let can_begin = {
                let busy = keyspace.busy();
                self.due_plan(&keyspace, &keyspace.view().version, &busy).is_some()
            };
            // A request wakes whoever waits, who would otherwise make it again at once, for as long
            // as nobody may take it.
            let is_new = can_begin && !self.scheduler.wants_compaction(keyspace.id);
            if is_new || esker_base::planted::is("settling-requests-all-the-time") {
                self.scheduler.request_compaction(keyspace.id);
            }
        }
    }

    /// Waits until the cache is filled: a read-only open does nothing else in the background.
    fn wait_until_warm(&self) -> Result<()> {
        if self.options.background_threads == 0 {
            while self.run_background_job() {}
        }
        self.scheduler.wait_until(|| match self.check_open() {
            Err(error) => Some(Err(error)),
            Ok(()) => {
                let idle = self.scheduler.idle_epoch();
                let is_over = !self.scheduler.wants_warming();
                let is_idle = idle.is_some() && idle == self.scheduler.idle_epoch();
                let poison = self.poison_cause().map(Error::poisoned);
                poison.map(Err).or_else(|| (is_over && is_idle).then_some(Ok(())))
            }
        })
    }

    fn is_settled(&self, keyspace: &KeyspaceCore) -> bool {
        let busy = keyspace.busy();
        let view = keyspace.view();
        let is_done = || self.due_plan(keyspace, &view.version, &busy).is_none();
        // A flush holds what it replaces until its end.
        let is_flushing = matches!(keyspace.flushing.try_lock(), Err(TryLockError::WouldBlock));
        let rests = || busy.is_empty() && (self.scheduler.is_paused() || is_done());
        view.immutables.is_empty() && !is_flushing && rests()
    }

    /// Stops accepting writes. False if that was so already.
    pub(crate) fn mark_closing(&self) -> bool {
        // Nobody is in the middle of a commit while this is held.
        let _leader = self.pipeline.lead();
        self.mark_closed()
    }

    /// Shuts down in an orderly way, once all threads have ended.
    pub(crate) fn shut_down(&self) -> Result<()> {
        let result = self.write_out();
        // A call still running on another thread can no longer change anything.
        self.ledger.close();
        self.unlock();
        result
    }

    fn write_out(&self) -> Result<()> {
        if self.is_read_only {
            return Ok(());
        }
        let cause = self.poison_cause();
        self.has_buffered.store(true, Ordering::Relaxed);
        let written = if self.waits_for_the_log() { self.write_buffered() } else { Ok(()) };
        if let Some(cause) = cause {
            return Err(Error::poisoned(cause));
        }
        written?;
        let keyspaces = self.keyspaces();
        let bytes = |keyspace: &Arc<KeyspaceCore>| -> u64 {
            let view = keyspace.view();
            view.memtables().filter(|m| !m.is_empty()).map(|m| m.size_bytes()).sum()
        };
        let (_, segment_count) = self.logs.size();
        let flushes_all = CLOSE_FLUSH_BYTES_MIN < keyspaces.iter().map(bytes).sum()
            || CLOSE_FLUSH_SEGMENTS_MIN <= segment_count;
        let mut flushed = Ok(());
        for keyspace in &keyspaces {
            // Whatever the option says now.
            let is_without_log =
                !keyspace.is_logged() || !esker_base::planted::is("close-goes-by-the-option");
            if flushes_all || (keyspace.view().has_unlogged() && is_without_log) {
                // A keyspace that cannot be flushed must not keep the others from it.
                flushed = flushed.and(self.flush_whole(keyspace));
                if flushed.is_err() && esker_base::planted::is("close-ends-at-a-failure") {
                    break;
                }
            }
        }
        self.sync_to(self.logs.written_position())?;
        flushed?;
        let mut leader = self.pipeline.lead();
        let last_logged = leader.last_logged;
        let needed = self.oldest_log_needed();
        let ends = self.logs.close(&mut leader.appender, last_logged, needed, &self.ledger)?;
        drop(leader);
        self.collect_garbage();
        self.remove_doubtful();
        let manifest = self.ledger.end(&ends)?;
        self.save_warm_list(manifest);
        Ok(())
    }

    /// What is left to do when the last handle is dropped without [`Engine::shut_down`].
    pub(crate) fn abandon(&self) {
        if !self.mark_closing() {
            return;
        }
        let has_frames = self.pipeline.lead().appender.buffered_bytes() != 0;
        self.has_buffered.store(has_frames, Ordering::Relaxed);
        if !self.is_read_only
            && self.waits_for_the_log()
            && let Err(error) = self.write_buffered()
        {
            let event = Event::JobFailed { keyspace: None, job: "writing the log", error };
            self.events.record(self.now(), event);
        }
        // This may be the thread of a job, which ends later and can no longer change anything.
        self.ledger.close();
        self.unlock();
    }
}
