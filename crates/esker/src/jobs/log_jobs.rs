//! Background work for the log: preparing the next segment, handing frames to the system in time,
//! and writing a mark after them once nobody writes.

use std::time::Duration;

use crate::commit_queue::Leader;
use crate::engine::Engine;
use crate::error::Result;
use crate::events::Event;
use crate::logs::watch::StateOfLog;
use crate::options::Options;
use crate::sync::atomic::Ordering;

impl Engine {
    /// Prepares the next log segment. A failure does no harm: the leader then creates one itself.
    pub(crate) fn prepare_log_job(&self) {
        if self.poison_cause().is_none()
            && let Err(error) = self.logs.prepare(&self.ledger)
        {
            let event = Event::JobFailed { keyspace: None, job: "preparing a log segment", error };
            self.events.record(self.now(), event);
        }
    }

    /// Whether frames wait in memory and can be written. They were acknowledged, so they are written also
    /// where the database takes no more: unless that is because of the log.
    pub(crate) fn waits_for_the_log(&self) -> bool {
        self.has_buffered.load(Ordering::Relaxed)
            && !self.has_log_failed.load(Ordering::Relaxed)
            && !(self.poison_cause().is_some()
                && esker_base::planted::is("poisoned-keeps-buffered-frames"))
    }

    pub(crate) fn state_of_log(&self) -> StateOfLog {
        StateOfLog {
            waits: self.waits_for_the_log(),
            is_unmarked: self.has_unmarked.load(Ordering::Relaxed) && self.poison_cause().is_none(),
            position: self.logs.written_position(),
        }
    }

    /// When frames will have waited in memory for as long as allowed, if any wait and can be
    /// written.
    pub(crate) fn buffered_due(&self) -> Option<Duration> {
        let waits = self.waits_for_the_log();
        let since = || Duration::from_nanos(self.buffered_since.load(Ordering::Relaxed));
        waits.then(|| since().saturating_add(Options::BUFFERED_INTERVAL))
    }

    /// Hands frames that wait in memory to the system.
    pub(crate) fn write_buffered(&self) -> Result<()> {
        if !self.has_buffered.load(Ordering::Acquire) {
            return Ok(());
        }
        self.write_buffered_led(&mut self.pipeline.lead())
    }

    fn write_buffered_led(&self, leader: &mut Leader) -> Result<()> {
        leader.write_log(self)?;
        // Only now: whoever finds it false relies on the frames being written. Release pairs with
        // the Acquire in `write_buffered`.
        self.has_buffered.store(false, Ordering::Release);
        Ok(())
    }

    /// Called by a running job at each block: hands overdue frames to the system if the thread that
    /// serves the log, which may be this one, has not done so in time.
    pub(crate) fn write_overdue(&self) {
        if !esker_base::planted::is("buffered-waits-for-the-job")
            && self.buffered_due().is_some_and(|due| due <= self.now())
            && let Some(mut leader) = self.pipeline.try_lead()
        {
            // A failure has poisoned the database, and every later write says so.
            drop(self.write_buffered_led(&mut leader));
        }
    }

    /// After some time without writes: makes the log durable and marks it, so that damage to any of
    /// it can be distinguished from a torn tail, and has the manifest say where it ends, so that no end
    /// of it can be missing unnoticed. `position` is its end as of the last look; if that
    /// has moved, this does nothing.
    pub(crate) fn mark_log(&self, position: u64) -> Result<()> {
        self.sync_to(position)?;
        let mut leader = self.pipeline.lead();
        let has_moved =
            self.logs.written_position() != position || leader.appender.buffered_bytes() != 0;
        if has_moved || self.poison_cause().is_some() {
            return Ok(());
        }
        self.has_unmarked.store(false, Ordering::Relaxed);
        let marked = leader.append_mark(self)?;
        drop(leader);
        self.logs.remove_spares();
        self.sync_to(marked)?;
        let known = self.grown_log();
        if known.records.is_empty() || esker_base::planted::is("idle-log-has-no-known-end") {
            Ok(())
        } else {
            self.ledger.commit(known, |_| ())
        }
    }

    /// Releases the segments that no memtable needs any more. While nobody writes, none is kept for
    /// reuse.
    pub(crate) fn release_log(&self) -> Result<()> {
        let released = self.logs.release_before(|| self.oldest_log_needed(), &self.ledger);
        if !self.has_unmarked.load(Ordering::Relaxed) {
            self.logs.remove_spares();
        }
        released
    }

    /// Makes every acknowledged write durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.check_writable()?;
        if !esker_base::planted::is("sync-passes-buffered-by") {
            self.write_buffered()?;
        }
        self.sync_to(self.logs.written_position())
    }
}

#[cfg(test)]
mod tests;
