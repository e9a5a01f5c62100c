//! The write-ahead log: its segments, who still needs them, and how far they are durable.
//!
//! One segment takes the frames; older ones live until every entry in them is in a table. A
//! segment is named by the manifest before the first frame goes into it, and struck from the
//! manifest before its file is reused or removed, so recovery knows which segments must exist.

mod spares;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_base::{DatabaseId, FileHeader, FileKind, LogId, SeqNo};
use esker_env::{File, FileSystem};
use esker_log::{LogSync, LogWriter};
use esker_tree::{EditRecord, VersionEdit};

use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Ledger;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Format version of log segments: of frames, and of the commit groups in them.
pub(crate) const LOG_FORMAT: u16 = 2;

/// All segments of one database.
#[derive(Debug)]
pub(crate) struct Logs {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    database: DatabaseId,
    segment_bytes: u64,
    /// Held while a segment is made, so that segments take frames in the order of their ids, and
    /// while some are released, so that two flushes do not release the same.
    /// Lock order: after the commit leader, before the ledger.
    making: Mutex<()>,
    /// Lock order: after the ledger. Not held across file operations.
    segments: Mutex<Segments>,
    /// Bytes handed to the system since open, over all segments: the position of the log's end.
    /// Release in `note_written` pairs with Acquire in `sync_to`.
    written: AtomicU64,
    /// Lock order: last. Not held across a sync.
    syncing: Mutex<Syncing>,
    synced: Condvar,
    /// Counter only.
    sync_count: AtomicU64,
    /// Whether files of obsolete segments are used again, with their old bytes behind the new ones.
    /// Counter only.
    reuses: AtomicBool,
    /// A segment could not be readied: not tried again before the log ends here. Counter only.
    prepare_from: AtomicU64,
}

#[derive(Debug, Default)]
struct Segments {
    /// In the manifest, oldest first.
    live: VecDeque<LiveSegment>,
    /// Struck from the manifest, kept for reuse.
    spare: Vec<PathBuf>,
    /// Made, while the manifest could not be written: it may name it or not.
    unnamed: Option<(LogId, LogWriter)>,
    /// Ready to take frames, in the manifest.
    prepared: Option<(LogId, LogWriter)>,
    /// What must be synced for the log to be durable, oldest first; the last one takes frames.
    unsynced: Vec<(LogId, SyncTarget)>,
}

#[derive(Debug)]
struct LiveSegment {
    id: LogId,
    bytes: u64,
    /// Last sequence number in it or before it; of the one that takes frames, that before it.
    last_seqno: SeqNo,
}

#[derive(Clone, Debug)]
enum SyncTarget {
    /// Written by this process.
    Writer(LogSync),
    /// Written before this open, by a process that may not have synced it.
    Recovered(Arc<dyn File>),
}

#[derive(Debug, Default)]
struct Syncing {
    durable: u64,
    is_running: bool,
    failure: Option<Error>,
}

/// The end of the log that takes frames. Owned by the commit leader.
#[derive(Debug, Default)]
pub(crate) struct Appender {
    current: Option<(LogId, LogWriter)>,
    /// Bytes in the segments before the current one.
    base: u64,
}

/// A log segment found at open.
#[derive(Debug)]
pub(crate) struct RecoveredSegment {
    pub(crate) id: LogId,
    pub(crate) bytes: u64,
    /// Last sequence number in it or before it.
    pub(crate) last_seqno: SeqNo,
    /// Open for writing, so that it can be synced; none if it was opened for reading only.
    pub(crate) file: Option<Arc<dyn File>>,
}

impl Logs {
    pub(crate) fn new(
        fs: Arc<dyn FileSystem>,
        dir: PathBuf,
        database: DatabaseId,
        segment_bytes: u64,
        recovered: Vec<RecoveredSegment>,
    ) -> Self {
        let mut segments = Segments::default();
        for segment in recovered {
            segments.live.push_back(LiveSegment {
                id: segment.id,
                bytes: segment.bytes,
                last_seqno: segment.last_seqno,
            });
            if let Some(file) = segment.file {
                segments.unsynced.push((segment.id, SyncTarget::Recovered(file)));
            }
        }
        Self {
            fs,
            dir,
            database,
            segment_bytes,
            making: Mutex::new(()),
            segments: Mutex::new(segments),
            // Recovered segments count as one written byte: a sync has something to do.
            written: AtomicU64::new(1),
            syncing: Mutex::default(),
            synced: Condvar::new(),
            sync_count: AtomicU64::new(0),
            reuses: AtomicBool::new(true),
            prepare_from: AtomicU64::new(0),
        }
    }

    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn syncing(&self) -> MutexGuard<'_, Syncing> {
        self.syncing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything up to this position has been handed to the system.
    pub(crate) fn written_position(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Bytes handed to the system, and syncs that made them durable, since open.
    pub(crate) fn work(&self) -> (u64, u64) {
        // Less the byte that stands for the recovered segments: see `Logs::new`.
        (self.written_position() - 1, self.sync_count.load(Ordering::Relaxed))
    }

    /// Size at which a segment is full, in bytes.
    pub(crate) const fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Bytes in live segments, and how many there are.
    pub(crate) fn size(&self) -> (u64, usize) {
        let segments = self.segments();
        (segments.live.iter().map(|segment| segment.bytes).sum(), segments.live.len())
    }

    /// Makes everything written up to `position` durable, in log order. Callers share syncs: one
    /// that arrives while a sync runs is served by the next, with all others that wait.
    ///
    /// # Errors
    /// If a sync fails, now or ever before: it is not tried again.
    pub(crate) fn sync_to(&self, position: u64) -> Result<()> {
        let mut syncing = self.syncing();
        loop {
            if position <= syncing.durable {
                return Ok(());
            }
            if let Some(failure) = &syncing.failure {
                return Err(failure.clone());
            }
            if syncing.is_running {
                syncing = self.synced.wait(syncing).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            syncing.is_running = true;
            drop(syncing);
            let sync = std::panic::AssertUnwindSafe(|| self.sync_written());
            let result = std::panic::catch_unwind(sync);
            syncing = self.syncing();
            syncing.is_running = false;
            match &result {
                Ok(Ok(durable)) => syncing.durable = syncing.durable.max(*durable),
                Ok(Err(error)) => syncing.failure = Some(error.clone()),
                Err(_) => syncing.failure = Some(panicked()),
            }
            if !esker_base::planted::is("sync-waiters-not-woken") {
                self.synced.notify_all();
            }
            if let Err(panic) = result {
                drop(syncing);
                std::panic::resume_unwind(panic);
            }
        }
    }

    fn sync_written(&self) -> Result<u64> {
        // The position first: all bytes before it are in segments that the list then shows.
        let position = self.written_position();
        let targets = self.segments().unsynced.clone();
        self.sync_count.fetch_add(1, Ordering::Relaxed);
        for (_, target) in &targets {
            match target {
                SyncTarget::Writer(sync) => {
                    sync.sync()?;
                }
                SyncTarget::Recovered(file) => file.sync_data()?,
            }
        }
        // All but the newest take no more frames, so they need no further sync.
        if let Some((newest, _)) = targets.last() {
            self.segments()
                .unsynced
                .retain(|(id, target)| id >= newest && matches!(target, SyncTarget::Writer(_)));
        }
        Ok(position)
    }

    /// Readies what comes next, off the path of writers: what the current segment is written
    /// through, and a segment for when it is full.
    pub(crate) fn prepare(&self, ledger: &Ledger) -> Result<()> {
        let newest = self.segments().unsynced.last().map(|(_, target)| target.clone());
        if let Some(SyncTarget::Writer(sync)) = newest {
            sync.ready_window();
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let used = self.segments().live.back().map_or(0, |segment| segment.bytes);
        if !self.wants_prepare(used) {
            return Ok(());
        }
        let (id, mut writer) = self.create_segment(ledger).inspect_err(|_| {
            // Some more times until it is needed, and not with every write.
            let later = self.written_position().saturating_add(self.segment_bytes / 16);
            self.prepare_from.store(later, Ordering::Relaxed);
        })?;
        writer.ready_first_window();
        self.segments().prepared = Some((id, writer));
        Ok(())
    }

    /// The segment that was readied, or else one made now.
    fn next_segment(&self, ledger: &Ledger) -> Result<(LogId, LogWriter)> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let prepared = self.segments().prepared.take();
        prepared.map_or_else(|| self.create_segment(ledger), Ok)
    }

    /// Whether a segment is to be readied, the current one being `used` bytes long.
    pub(crate) fn wants_prepare(&self, used: u64) -> bool {
        self.segment_bytes / 2 < used
            && self.prepare_from.load(Ordering::Relaxed) <= self.written_position()
            && self.segments().prepared.is_none()
    }

    /// Creates a segment: file, header and name durable, then named by the manifest. One that the
    /// manifest could not name before is tried again, so that no try leaves another file. For who
    /// holds `making`.
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

    /// A segment that the manifest does not name.
    fn make_segment(&self, ledger: &Ledger) -> Result<(LogId, LogWriter)> {
        let id = ledger.allocate_log()?;
        let path = self.dir.join(id.file_name());
        let header = FileHeader {
            kind: FileKind::Log,
            format: LOG_FORMAT,
            id: id.0,
            database: self.database,
        };
        let spare = self.segments().spare.pop();
        let writer = self.create_file(spare.as_deref(), &path, header).inspect_err(|_| {
            // Nothing names it; one that was to be used again may have either name.
            spare.iter().chain([&path]).for_each(|path| self.remove_file(path));
        })?;
        Ok((id, writer))
    }

    /// A file for a segment, of `spare` if there is one: its header and its name are durable.
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
                    // Room for a whole segment is a luxury; room for the next frames may be there.
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

    /// Strikes the segments older than `oldest_needed` (all but the current one, if nothing is
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
        // Recovery takes a first frame that is further on than this for one behind a gap. Entries
        // of a keyspace that was dropped have been in the released segments and in no table.
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
            // One of a huge batch has room that is needed elsewhere.
            let is_huge = |segment: &LiveSegment| self.segment_bytes < segment.bytes;
            let huge = segments.live.iter().filter(|segment| is_huge(segment));
            let huge: Vec<LogId> = huge.map(|segment| segment.id).collect();
            segments.live.retain(|segment| !released.contains(&segment.id));
            segments.unsynced.retain(|(id, _)| !released.contains(id));
            for id in released {
                let path = self.dir.join(id.file_name());
                let is_kept = !huge.contains(id) && self.wants_spare(segments.spare.len());
                if is_kept { &mut segments.spare } else { &mut obsolete }.push(path);
            }
        }
        obsolete.iter().for_each(|path| self.remove_file(path));
        Ok(())
    }

    /// Ends the log of a database that is being closed: all bytes durable, the end marked, and
    /// what is no longer needed removed. Everything before is durable already. Returns where the
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

    /// Removes a file that nothing names; if that fails, the next open removes it.
    fn remove_file(&self, path: &Path) {
        drop(self.fs.remove(path));
    }
}

/// What all later syncs answer behind one that panicked, of which nobody knows what it did.
fn panicked() -> Error {
    Error::new(ErrorKind::Poisoned, "a sync of the log panicked; reopen the database")
}

/// Room that a frame wants: its own, and that of a mark and a seal behind it, which then need not ask.
const fn room_for(payload_bytes: u64) -> u64 {
    const MARK_PAYLOAD_BYTES_MAX: u64 = 32;
    payload_bytes.saturating_add(MARK_PAYLOAD_BYTES_MAX + 3 * LogWriter::FRAME_OVERHEAD_MAX)
}

impl Appender {
    /// Whether the next frame, of a payload of `payload_bytes`, goes to another segment. A segment
    /// takes at least one frame, however large.
    pub(crate) fn is_full(&self, payload_bytes: u64, logs: &Logs) -> bool {
        self.current.as_ref().is_some_and(|(_, writer)| {
            logs.segment_bytes < writer.end_offset().saturating_add(room_for(payload_bytes))
                && FileHeader::LEN as u64 != writer.end_offset()
        })
    }

    /// The segment that takes the next frame, of a payload of `payload_bytes`, after switching to a
    /// new one if the current one is full. `last_logged` is the last sequence number before the
    /// frame.
    ///
    /// # Errors
    /// If a new segment is needed and cannot be made, or there is no room for the frame; nothing was
    /// written of it.
    pub(crate) fn segment(
        &mut self,
        payload_bytes: u64,
        last_logged: SeqNo,
        logs: &Logs,
        ledger: &Ledger,
    ) -> Result<(LogId, &mut LogWriter)> {
        if self.current.is_none() || self.is_full(payload_bytes, logs) {
            self.begin(last_logged, logs, ledger)?;
        }
        let (id, writer) = self.current.as_mut().expect("a segment was just made current");
        writer.reserve(room_for(payload_bytes))?;
        Ok((*id, writer))
    }

    /// Begins a new segment; `last_logged` is the last sequence number before it.
    ///
    /// # Errors
    /// If it cannot be made; the current one goes on then.
    pub(crate) fn begin(&mut self, last_logged: SeqNo, logs: &Logs, ledger: &Ledger) -> Result<()> {
        assert!(self.buffered_bytes() == 0, "a segment is left with all its frames written");
        let next = logs.next_segment(ledger)?;
        if let Some((_, full)) = &self.current {
            self.base += full.end_offset();
        }
        let mut segments = logs.segments();
        if let Some(full) = segments.live.back_mut() {
            full.last_seqno = last_logged;
        }
        let last_seqno = last_logged;
        segments.live.push_back(LiveSegment { id: next.0, bytes: 0, last_seqno });
        segments.unsynced.push((next.0, SyncTarget::Writer(next.1.sync_handle())));
        drop(segments);
        self.current = Some(next);
        Ok(())
    }

    /// Encodes a frame into the segment that takes frames, if there is one.
    pub(crate) fn append_to_current(&mut self, payload: &[u8]) {
        if let Some((_, writer)) = &mut self.current {
            writer.append(&[payload]);
        }
    }

    /// Hands all encoded frames to the system, and returns the position of the log's end.
    ///
    /// # Errors
    /// Of the system; the segment takes no more frames then. The frames are lost, and every later
    /// call fails, too: who goes on with what they have put into memtables asks here before.
    pub(crate) fn write(&mut self, logs: &Logs) -> Result<u64> {
        if let Some((id, writer)) = &mut self.current {
            writer.write()?;
            let end = writer.end_offset();
            // One more, for the recovered segments: see `Logs::new`.
            logs.written.store(self.base + end + 1, Ordering::Release);
            let mut segments = logs.segments();
            if let Some(live) = segments.live.back_mut().filter(|live| live.id == *id) {
                live.bytes = end;
            }
        }
        Ok(logs.written_position())
    }

    /// Whether [`Logs::prepare`] is to be called for what the segment is written through.
    pub(crate) fn wants_window(&mut self) -> bool {
        self.current.as_mut().is_some_and(|(_, writer)| writer.wants_window())
    }

    /// Bytes encoded and not yet handed to the system.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.current.as_ref().map_or(0, |(_, writer)| writer.buffered_bytes())
    }

    /// Length of the current segment.
    pub(crate) fn current_bytes(&self) -> u64 {
        self.current.as_ref().map_or(0, |(_, writer)| writer.end_offset())
    }
}
