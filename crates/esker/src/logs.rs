//! The write-ahead log: its segments, which of them are still needed, and how far they are durable.
//!
//! One segment, the current one, takes new frames; older ones live until every entry in them is in
//! a table. The manifest names a segment before its first frame is written, and no longer names it
//! when its file is reused or removed, so recovery knows which segments must exist.

mod appender;
mod gathering;
mod making;
pub(crate) mod packed_group;
mod releasing;
mod spares;
pub(crate) mod sync_group;
pub(crate) mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use esker_base::{DatabaseId, FileHeader, FileKind, LogId, SeqNo};
use esker_env::{File, FileSystem};
use esker_log::{ExpectedHeader, LogSync, LogWriter};
use esker_tree::Catalog;

use crate::error::Result;
use crate::logs::sync_group::SyncGroup;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use appender::Appender;

/// Format version of log segments (with their frames and commit groups) in which all groups are
/// plain.
pub(crate) const LOG_FORMAT_PLAIN: u16 = 2;

/// Format version of log segments that may have packed groups.
pub(crate) const LOG_FORMAT_PACKED: u16 = 3;

/// The newest format version of log segments.
pub(crate) const LOG_FORMAT_NEWEST: u16 = LOG_FORMAT_PACKED;

/// What is wrong with a group in front of which some are missing, in its own segment: frames are chained,
/// so none is lost between two of them.
pub(crate) const DOES_NOT_FOLLOW: &str = "the commit group does not follow the one before it";

/// What is wrong with a segment that is not there. The manifest does not know where the log lies: who has
/// forgotten to say so meets this first.
pub(crate) const LOG_MISSING: &str = "the manifest names this file, and it is missing: if the log lies \
                                      apart, log_dir (--log-dir) must say where";

/// What the header of the segment `log` must say.
pub(crate) const fn expected_header(log: LogId, database: DatabaseId) -> ExpectedHeader {
    ExpectedHeader {
        kind: FileKind::Log,
        id: log.0,
        database: Some(database),
        newest_format: LOG_FORMAT_NEWEST,
    }
}

/// Up to where a segment that the manifest names is durable, if the manifest says that it is up to
/// `recorded`. Where it says nothing, the header is: it was before the segment was named.
pub(crate) fn durable_of_named(recorded: Option<u64>) -> u64 {
    match esker_base::planted::is("segment-without-a-header-is-empty") {
        true => recorded.unwrap_or(0),
        false => recorded.unwrap_or(FileHeader::LEN as u64),
    }
}

/// The same for all segments that `catalog` names.
pub(crate) fn durable_of_all(catalog: &Catalog) -> BTreeMap<LogId, u64> {
    let durable = |log| durable_of_named(catalog.durable_logs.get(log).copied());
    catalog.logs.iter().map(|log| (*log, durable(log))).collect()
}

/// All segments of one database.
#[derive(Debug)]
pub(crate) struct Logs {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    database: DatabaseId,
    /// Format version of new segments.
    format: u16,
    segment_bytes: u64,
    /// Held while a segment is created, so that segments are used in the order of their ids, and
    /// while segments are released, so that two flushes do not release the same one. Lock order:
    /// after the commit leader, before the ledger.
    making: Mutex<()>,
    /// Lock order: after the ledger. Not held across file operations.
    segments: Mutex<Segments>,
    /// Bytes handed to the system since open, over all segments: the position of the end of the
    /// log. Release in `Appender::write` pairs with Acquire in `sync_to`.
    written: AtomicU64,
    /// How far the segments are durable.
    syncs: SyncGroup,
    /// Counter only.
    sync_count: AtomicU64,
    /// Whether files of obsolete segments are reused, with old bytes after the new ones. Counter
    /// only.
    reuses: AtomicBool,
    /// Position of the end of the log before which no segment is requested, since one was, or could
    /// not be prepared. Counter only.
    prepare_from: AtomicU64,
}

#[derive(Debug, Default)]
struct Segments {
    /// In the manifest, oldest first.
    live: VecDeque<LiveSegment>,
    /// Struck from the manifest, kept for reuse.
    spare: Vec<PathBuf>,
    /// Created, but writing the manifest failed: it may or may not name this segment.
    unnamed: Option<(LogId, LogWriter)>,
    /// Ready to take frames, and named by the manifest.
    prepared: Option<(LogId, LogWriter)>,
    /// What must be synced for the log to be durable, oldest first; the last one takes frames.
    unsynced: Vec<(LogId, SyncTarget)>,
}

#[derive(Debug)]
struct LiveSegment {
    id: LogId,
    bytes: u64,
    /// Last sequence number in it or before it; for the current segment, the last one before it.
    last_seqno: SeqNo,
    /// From before this open. Somebody may have made a hard-linked copy while the database was
    /// closed, so the file is not overwritten.
    is_recovered: bool,
}

#[derive(Clone, Debug)]
enum SyncTarget {
    /// Written by this process.
    Writer(LogSync),
    /// Written before this open, by a process that may not have synced it.
    Recovered(Arc<dyn File>),
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
        format: u16,
        segment_bytes: u64,
        recovered: Vec<RecoveredSegment>,
    ) -> Self {
        let mut segments = Segments::default();
        for segment in recovered {
            segments.live.push_back(LiveSegment {
                id: segment.id,
                bytes: segment.bytes,
                last_seqno: segment.last_seqno,
                is_recovered: true,
            });
            if let Some(file) = segment.file {
                segments.unsynced.push((segment.id, SyncTarget::Recovered(file)));
            }
        }
        Self {
            fs,
            dir,
            database,
            format,
            segment_bytes,
            making: Mutex::new(()),
            segments: Mutex::new(segments),
            // Recovered segments count as one written byte, so that a sync has something to do.
            written: AtomicU64::new(1),
            syncs: SyncGroup::default(),
            sync_count: AtomicU64::new(0),
            reuses: AtomicBool::new(true),
            prepare_from: AtomicU64::new(0),
        }
    }

    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything up to this position has been handed to the system.
    pub(crate) fn written_position(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Bytes handed to the system, and syncs that made them durable, since open.
    pub(crate) fn work(&self) -> (u64, u64) {
        // Less the byte that represents the recovered segments: see `Logs::new`.
        (self.written_position() - 1, self.sync_count.load(Ordering::Relaxed))
    }

    /// Size at which a segment is full, in bytes.
    pub(crate) const fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Bytes in live segments, and their number.
    pub(crate) fn size(&self) -> (u64, usize) {
        let segments = self.segments();
        (segments.live.iter().map(|segment| segment.bytes).sum(), segments.live.len())
    }

    /// Makes everything written up to `position` durable, in log order. Callers share syncs: one
    /// that arrives during a sync is served by the next, together with all others that wait.
    ///
    /// # Errors
    /// If a sync fails or has ever failed: it is not retried.
    pub(crate) fn sync_to(&self, position: u64, now: impl Fn() -> Duration) -> Result<()> {
        self.syncs.sync_to(position, now, || self.sync_written())
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
        // All but the newest take no more frames, so they never need another sync.
        if let Some((newest, _)) = targets.last() {
            self.segments()
                .unsynced
                .retain(|(id, target)| id >= newest && matches!(target, SyncTarget::Writer(_)));
        }
        Ok(position)
    }

    /// How far segments are durable, of those of which anything but the header is known to be.
    pub(crate) fn durable_ends(&self) -> Vec<(LogId, u64)> {
        let segments = self.segments();
        let end_of = |live: &LiveSegment| {
            let unsynced = segments.unsynced.iter().find(|(id, _)| *id == live.id);
            match unsynced.map(|(_, target)| target) {
                // Synced since its last frame was written.
                None => live.bytes,
                Some(SyncTarget::Writer(sync)) => sync.durable_offset(),
                Some(SyncTarget::Recovered(_)) => 0,
            }
        };
        let ends = segments.live.iter().map(|live| (live.id, end_of(live)));
        ends.filter(|(_, end)| (FileHeader::LEN as u64) < *end).collect()
    }

    /// Removes a file that nothing names; if that fails, the next open removes it.
    fn remove_file(&self, path: &Path) {
        drop(self.fs.remove(path));
    }
}
