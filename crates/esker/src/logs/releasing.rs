//! Release of segments: removed from the manifest before their files are reused or removed.
//!
//! The caller decides which segments are needed.

use esker_base::{LogId, SeqNo};
use esker_tree::{EditRecord, VersionEdit};

use super::{Appender, LiveSegment, Logs};
use crate::error::Result;
use crate::ledger::Ledger;
use crate::sync::PoisonError;

impl Logs {
    /// Removes the segments older than `oldest_needed` (all but the current one, if nothing is
    /// needed) from the manifest, then keeps their files for reuse or removes them.
    pub(crate) fn release_before(
        &self,
        oldest_needed: impl FnOnce() -> Option<LogId>,
        ledger: &Ledger,
    ) -> Result<()> {
        // The newest may be taking frames, and is the base that the others count from. Read first:
        // were it read after the question who needs a segment, a frame could have been written to
        // the newest in between, and another one to its successor.
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = self.segments().live.back().map(|segment| segment.id);
        let bound =
            oldest_needed().filter(|_| !esker_base::planted::is("log-released-early")).or(newest);
        let released: Vec<LogId> = {
            let segments = self.segments();
            let ids = segments.live.iter().map(|segment| segment.id);
            ids.take_while(|id| bound.is_some_and(|bound| *id < bound)).collect()
        };
        self.release(&released, ledger)
    }

    fn release(&self, released: &[LogId], ledger: &Ledger) -> Result<()> {
        if released.is_empty() {
            return Ok(());
        }
        let mut records: Vec<EditRecord> =
            released.iter().map(|id| EditRecord::LogRemoved(*id)).collect();
        // Recovery would take a first frame with a later number than this for one after a gap.
        // Needed because entries of a dropped keyspace may have been in the released segments and
        // in no table.
        let last_seqno = {
            let segments = self.segments();
            let gone = segments.live.iter().filter(|segment| released.contains(&segment.id));
            gone.map(|segment| segment.last_seqno).max()
        };
        records.extend(last_seqno.map(EditRecord::LastSeqno));
        ledger.commit(VersionEdit { records }, |_| ())?;
        let mut obsolete = Vec::new();
        {
            let mut segments = self.segments();
            // A segment that held a huge batch has space that is needed elsewhere.
            let is_reusable = |segment: &&LiveSegment| {
                segment.bytes <= self.segment_bytes && !segment.is_recovered
            };
            let reusable = segments.live.iter().filter(is_reusable);
            let reusable: Vec<LogId> = reusable.map(|segment| segment.id).collect();
            segments.live.retain(|segment| !released.contains(&segment.id));
            segments.unsynced.retain(|(id, _)| !released.contains(id));
            for id in released {
                let path = self.dir.join(id.file_name());
                let is_kept = reusable.contains(id) && self.wants_spare(segments.spare.len());
                if is_kept { &mut segments.spare } else { &mut obsolete }.push(path);
            }
        }
        obsolete.iter().for_each(|path| self.remove_file(path));
        Ok(())
    }

    /// Ends the log of a database that is being closed: makes all bytes durable, marks the end, and
    /// removes what is no longer needed. Everything before is durable already. Returns where the
    /// segments end.
    pub(crate) fn close(
        &self,
        appender: &mut Appender,
        last_logged: SeqNo,
        oldest_needed: Option<LogId>,
        ledger: &Ledger,
    ) -> Result<Vec<(LogId, u64)>> {
        if let Some(newest) = self.segments().live.back_mut() {
            newest.last_seqno = last_logged;
        }
        if let Some((_, writer)) = &mut appender.current {
            writer.seal()?;
            if let Some(newest) = self.segments().live.back_mut() {
                newest.bytes = writer.end_offset();
            }
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let prepared = self.segments().prepared.take();
        appender.current = None;
        let released: Vec<LogId> = {
            let segments = self.segments();
            let live = segments.live.iter().map(|segment| segment.id);
            live.filter(|id| oldest_needed.is_none_or(|needed| *id < needed))
                .chain(prepared.iter().map(|(id, _)| *id))
                .collect()
        };
        self.release(&released, ledger)?;
        let unnamed = self.segments().unnamed.take().map(|(id, _)| id);
        if let Some(id) = unnamed.filter(|_| ledger.settle().is_ok()) {
            self.remove_file(&self.dir.join(id.file_name()));
        }
        self.remove_spares();
        let segments = self.segments();
        Ok(segments.live.iter().map(|segment| (segment.id, segment.bytes)).collect())
    }
}
