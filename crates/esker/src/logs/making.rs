//! Creation of segments: prepared before they are needed, and named by the manifest before their
//! first frame.
//!
//! Knows nothing of frames, nor when a segment is full.

use std::path::Path;

use esker_base::{FileHeader, FileKind, LogId};
use esker_log::LogWriter;
use esker_tree::{EditRecord, VersionEdit};

use super::{Logs, SyncTarget};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Ledger;
use crate::sync::PoisonError;
use crate::sync::atomic::Ordering;

/// Stands in `prepare_from` for: a segment has been requested.
const ASKED: u64 = u64::MAX;

impl Logs {
    /// Whether the leader must now request a call of [`Logs::prepare`] for a segment, with the
    /// current one `used` bytes long; it counts as requested from then on. True once for each
    /// segment: signalling a thread takes as long as a put, and a thread that is busy syncing or
    /// installing a flush may respond tens of thousands of puts later.
    pub(crate) fn take_segment_request(&self, used: u64) -> bool {
        let asks = self.segment_bytes / 2 < used
            && self.prepare_from.load(Ordering::Relaxed) <= self.written_position();
        if asks {
            self.prepare_from.store(ASKED, Ordering::Relaxed);
        }
        asks
    }

    /// Prepares what is needed next, off the write path: the window that the current segment is
    /// written through, and a segment for when it is full.
    pub(crate) fn prepare(&self, ledger: &Ledger) -> Result<()> {
        let newest = self.segments().unsynced.last().map(|(_, target)| target.clone());
        if let Some(SyncTarget::Writer(sync)) = newest {
            sync.ready_window();
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if self.prepare_from.load(Ordering::Relaxed) != ASKED || self.has_prepared() {
            return Ok(());
        }
        let (id, mut writer) = self.create_segment(ledger).inspect_err(|_| {
            // Retried a few times before it is needed, but not with every write.
            let later = self.written_position().saturating_add(self.segment_bytes / 16);
            self.prepare_from.store(later, Ordering::Relaxed);
        })?;
        writer.ready_first_window();
        self.segments().prepared = Some((id, writer));
        Ok(())
    }

    /// The prepared segment, or one created now.
    pub(super) fn next_segment(&self, ledger: &Ledger) -> Result<(LogId, LogWriter)> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let prepared = self.segments().prepared.take();
        self.prepare_from.store(0, Ordering::Relaxed);
        prepared.map_or_else(|| self.create_segment(ledger), Ok)
    }

    /// Whether a segment is prepared for when the current one is full.
    pub(crate) fn has_prepared(&self) -> bool {
        self.segments().prepared.is_some()
    }

    /// Creates a segment: file, header and name are made durable, then the manifest names it. A
    /// segment for which writing the manifest failed earlier is tried again, so that retries do not
    /// pile up files. The caller holds `making`.
    fn create_segment(&self, ledger: &Ledger) -> Result<(LogId, LogWriter)> {
        let unnamed = self.segments().unnamed.take();
        let made = unnamed.map_or_else(|| self.make_segment(ledger), Ok)?;
        let named = VersionEdit { records: vec![EditRecord::LogAdded(made.0)] };
        if let Err(error) = ledger.commit(named, |_| ()) {
            self.segments().unnamed = Some(made);
            return Err(error);
        }
        Ok(made)
    }

    /// Creates a segment that the manifest does not name yet.
    fn make_segment(&self, ledger: &Ledger) -> Result<(LogId, LogWriter)> {
        let id = ledger.allocate_log()?;
        let path = self.dir.join(id.file_name());
        let header = FileHeader {
            kind: FileKind::Log,
            format: self.format,
            id: id.0,
            database: self.database,
        };
        let spare = self.segments().spare.pop();
        let writer = self.create_file(spare.as_deref(), &path, header).inspect_err(|_| {
            // Nothing refers to it; a reused file may have its old or its new name.
            if !esker_base::planted::is("log-not-made-left-behind") {
                spare.iter().chain([&path]).for_each(|path| self.remove_file(path));
            }
        })?;
        Ok((id, writer))
    }

    /// A file for a segment, made from `spare` if there is one; its header and its name are
    /// durable.
    fn create_file(
        &self,
        spare: Option<&Path>,
        path: &Path,
        header: FileHeader,
    ) -> Result<LogWriter> {
        let writer = match spare {
            Some(old) => LogWriter::recycle(&*self.fs, old, path, header)?,
            None => match LogWriter::create(&*self.fs, path, header, self.segment_bytes) {
                Err(error) if Error::from(error.clone()).kind() == ErrorKind::NoSpace => {
                    // Space for a whole segment is not essential; there may be space for the next
                    // frames.
                    self.remove_file(path);
                    LogWriter::create(&*self.fs, path, header, 0)?
                }
                other => other?,
            },
        };
        writer.sync_handle().sync()?;
        self.fs.sync_dir(&self.dir)?;
        Ok(writer)
    }
}
