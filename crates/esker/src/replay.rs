//! Replay: what the log holds beyond the tables goes back into memtables.
//!
//! Frames are taken in commit order up to the first place where one is missing. What a crash tore
//! off behind it was never acknowledged as durable, and does not count; a missing frame that was
//! durable is damage, and an error. Changes nothing on disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use esker_base::coding::{DecodeError, Decoder};
use esker_base::{Corruption, FileHeader, FileKind, KeyspaceId, LogId, SeqNo};
use esker_cache::Budget;
use esker_env::FileSystem;
use esker_log::{ExpectedHeader, LogEnd, LogReader};
use esker_tree::Catalog;

use crate::error::{Error, Result};
use crate::keyspace_core::KeyspaceCore;
use crate::logs::LOG_FORMAT;
use crate::operation::{GroupHeader, Operation};
use crate::read_view::WriteBuffer;

/// The replay of the log into memtables.
pub(crate) struct Replay<'a> {
    fs: &'a dyn FileSystem,
    catalog: &'a Catalog,
    keyspaces: &'a BTreeMap<KeyspaceId, Arc<KeyspaceCore>>,
    budget: &'a Arc<Budget>,
    log_dir: &'a Path,
    pub(crate) segments: Vec<ReplayedSegment>,
    pub(crate) last_seqno: SeqNo,
    /// Last sequence number found in a log; before the first frame, the last one that is in tables
    /// or was in a segment that is gone.
    pub(crate) last_logged: SeqNo,
    has_frames: bool,
    pub(crate) operation_count: u64,
    target: Option<Target>,
}

/// Where the operations of one keyspace go: looked up once for many of them.
struct Target {
    keyspace: Arc<KeyspaceCore>,
    buffer: Arc<WriteBuffer>,
    /// Up to here everything is in the tables.
    flushed_up_to: SeqNo,
    memtable_bytes: u64,
}

/// What became of one segment.
#[derive(Debug)]
pub(crate) struct ReplayedSegment {
    pub(crate) id: LogId,
    /// Where its frames end.
    pub(crate) end: u64,
    /// Last sequence number in it or before it.
    pub(crate) last_seqno: SeqNo,
    /// Something else than zeros stands behind the end.
    pub(crate) is_torn: bool,
    /// It follows a place where frames are missing: none of it counts.
    pub(crate) is_dropped: bool,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(
        fs: &'a dyn FileSystem,
        catalog: &'a Catalog,
        keyspaces: &'a BTreeMap<KeyspaceId, Arc<KeyspaceCore>>,
        budget: &'a Arc<Budget>,
        log_dir: &'a Path,
    ) -> Self {
        let last_seqno = catalog.last_seqno;
        Self {
            fs,
            catalog,
            keyspaces,
            budget,
            log_dir,
            segments: Vec::new(),
            last_seqno,
            last_logged: last_seqno,
            has_frames: false,
            operation_count: 0,
            target: None,
        }
    }

    pub(crate) fn run(&mut self) -> Result<()> {
        let mut is_dropping = false;
        for id in &self.catalog.logs {
            is_dropping = self.segment(*id, is_dropping)?;
        }
        Ok(())
    }

    /// Replays one segment, or only looks at it if frames before it are missing. Returns whether
    /// frames are missing now.
    fn segment(&mut self, id: LogId, mut is_dropping: bool) -> Result<bool> {
        let path = self.log_dir.join(id.file_name());
        let expected = ExpectedHeader {
            kind: FileKind::Log,
            id: id.0,
            database: Some(self.catalog.database),
            newest_format: LOG_FORMAT,
        };
        if !self.fs.exists(&path)? {
            let what = "the manifest names this file, and it is missing";
            return Err(Corruption::new(id.file_name(), 0, what).into());
        }
        let mut reader = LogReader::open(self.fs, &path, &expected)?;
        while let Some(frame) = reader.next_frame()? {
            let damaged = |error| {
                Error::from(Corruption::undecodable(
                    id.file_name(),
                    frame.offset,
                    "a commit group",
                    error,
                ))
            };
            let mut decoder = Decoder::new(frame.payload);
            let header = GroupHeader::decode(&mut decoder).map_err(damaged)?;
            is_dropping |= !self.follows(&header);
            if !is_dropping {
                self.group(id, &header, &mut decoder).map_err(damaged)?;
            }
        }
        let end = reader.end();
        // The header is synced before the segment takes frames; anything more was a sync of the log,
        // and that covers the segments before this one first.
        if is_dropping && (FileHeader::LEN as u64) < reader.marked_durable_offset() {
            let what = "frames before this segment are missing, though they were durable";
            return Err(Corruption::new(id.file_name(), 0, what).into());
        }
        self.segments.push(ReplayedSegment {
            id,
            end: end.offset(),
            last_seqno: self.last_logged,
            is_torn: matches!(end, LogEnd::Torn { .. }),
            is_dropped: is_dropping,
        });
        Ok(is_dropping)
    }

    /// Whether no frame is missing before the group. The first of all may repeat what is in tables:
    /// all frames up to there are durable.
    fn follows(&self, header: &GroupHeader) -> bool {
        let next = self.last_logged.get() + header.unlogged_before + 1;
        let first = header.first_seqno.get();
        first == next || (!self.has_frames && first < next)
    }

    fn group(
        &mut self,
        log: LogId,
        header: &GroupHeader,
        decoder: &mut Decoder<'_>,
    ) -> std::result::Result<(), DecodeError> {
        // Of a group without operations, the number before its first.
        let last_logged = SeqNo::new(header.first_seqno.get() + header.count - 1);
        let mut seqno = header.first_seqno;
        for index in 0..header.count {
            let unknown = decoder.error("an operation on a keyspace that never was");
            let operation = Operation::decode(decoder)?;
            if index > 0 {
                seqno = seqno.next();
            }
            if operation.keyspace.0 >= self.catalog.next_keyspace_id {
                return Err(unknown);
            }
            self.insert(log, seqno, &operation);
        }
        decoder.finish()?;
        self.has_frames = true;
        self.last_logged = last_logged.unwrap_or(seqno);
        self.last_seqno = self.last_seqno.max(self.last_logged);
        Ok(())
    }

    fn insert(&mut self, log: LogId, seqno: SeqNo, operation: &Operation<'_>) {
        let is_known =
            self.target.as_ref().is_some_and(|target| target.keyspace.id == operation.keyspace);
        if !is_known {
            self.target = self.find_target(operation.keyspace);
        }
        // Without a target the keyspace was dropped since.
        let Some(target) = self.target.as_ref().filter(|target| target.flushed_up_to < seqno)
        else {
            return;
        };
        target.buffer.note_log(log);
        let memtable = &target.buffer.memtable;
        memtable.writer().insert(operation.key, seqno, operation.kind, operation.value);
        self.operation_count += 1;
        target.buffer.update_charge();
        if target.memtable_bytes <= memtable.size_bytes() {
            target.keyspace.switch_memtable(self.budget);
            self.target = None;
        }
    }

    fn find_target(&self, id: KeyspaceId) -> Option<Target> {
        let keyspace = Arc::clone(self.keyspaces.get(&id)?);
        let state = self.catalog.keyspaces.get(&id)?;
        Some(Target {
            buffer: Arc::clone(&keyspace.view().active),
            flushed_up_to: state.flushed_up_to,
            memtable_bytes: keyspace.settings().memtable_bytes,
            keyspace,
        })
    }
}
