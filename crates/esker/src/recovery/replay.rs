//! Replay: puts the log entries that are not in tables back into memtables.
//!
//! Frames are replayed in commit order up to the first missing one. What a crash tore off after
//! that was never acknowledged as durable, and does not count; if a missing frame was durable, that
//! is damage, and an error unless the [mode](RecoveryMode) says otherwise. Changes nothing on disk.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use esker_base::coding::{DecodeError, Decoder};
use esker_base::{Corruption, FileHeader, FileKind, KeyspaceId, LogId, SeqNo};
use esker_cache::Budget;
use esker_env::{FileError, FileSystem, IoError};
use esker_log::{ExpectedHeader, LogEnd, LogReader};
use esker_tree::{Catalog, KeyspaceState};

use crate::error::Result;
use crate::events::Event;
use crate::keyspace_core::KeyspaceCore;
use crate::keyspace_core::read_view::WriteBuffer;
use crate::logs::packed_group::StoredGroup;
use crate::logs::{DOES_NOT_FOLLOW, LOG_FORMAT_NEWEST, LOG_MISSING};
use crate::operation::{GroupHeader, Operation};
use crate::recovery::mode::RecoveryMode;

const UNKNOWN_KEYSPACE: &str = "an operation on a keyspace that never was";

/// The replay of the log into memtables.
pub(crate) struct Replay<'a> {
    fs: &'a dyn FileSystem,
    catalog: &'a Catalog,
    keyspaces: &'a BTreeMap<KeyspaceId, Arc<KeyspaceCore>>,
    budget: &'a Arc<Budget>,
    log_dir: &'a Path,
    pub(crate) segments: Vec<ReplayedSegment>,
    pub(crate) last_seqno: SeqNo,
    /// Last sequence number found in the log; before the first frame, the last one that is in
    /// tables or was in a released segment.
    pub(crate) last_logged: SeqNo,
    has_frames: bool,
    pub(crate) operation_count: u64,
    target: Option<Target>,
    mode: RecoveryMode,
    /// What a point-in-time recovery leaves out.
    pub(crate) dropped: Vec<Event>,
}

/// Where the operations of one keyspace go. Looked up once for many operations.
struct Target {
    keyspace: Arc<KeyspaceCore>,
    buffer: Arc<WriteBuffer>,
    /// What is in the tables.
    state: Arc<KeyspaceState>,
    memtable_bytes: u64,
}

/// The result of replaying one segment.
#[derive(Debug)]
pub(crate) struct ReplayedSegment {
    pub(crate) id: LogId,
    /// Where its frames end.
    pub(crate) end: u64,
    /// The end of its durable part, according to its frames and the manifest.
    pub(crate) durable: u64,
    /// Last sequence number in it or before it.
    pub(crate) last_seqno: SeqNo,
    /// Something other than zeros follows the end.
    pub(crate) is_torn: bool,
    /// It follows a gap in the log: none of it counts.
    pub(crate) is_dropped: bool,
    /// There is no such file.
    pub(crate) is_missing: bool,
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
            mode: RecoveryMode::default(),
            dropped: Vec::new(),
        }
    }

    pub(crate) fn run(&mut self, mode: RecoveryMode) -> Result<()> {
        self.mode = mode;
        let mut is_dropping = false;
        for id in &self.catalog.logs {
            is_dropping = self.segment(*id, is_dropping)?;
        }
        Ok(())
    }

    /// Replays one segment, or only inspects it if frames before it are missing. Returns whether
    /// frames are missing now.
    fn segment(&mut self, id: LogId, mut is_dropping: bool) -> Result<bool> {
        let path = self.log_dir.join(id.file_name());
        if self.mode == RecoveryMode::Salvage {
            self.salvage_segment(id, &path)?;
            return Ok(false);
        }
        let is_missing = !self.fs.exists(&path)?;
        let is_lenient = self.mode == RecoveryMode::PointInTime;
        // The result for a segment that could not be read to its end.
        let cut = |last_seqno, end, is_dropped| ReplayedSegment {
            id,
            end,
            durable: 0,
            last_seqno,
            is_torn: true,
            is_dropped,
            is_missing,
        };
        let (segment, why) = match self.read_segment(id, &path, is_missing, &mut is_dropping) {
            Ok(segment) => {
                let why =
                    segment.is_dropped.then_some(Cow::Borrowed("frames before it are missing"));
                (segment, why)
            }
            Err(FileError::Corruption(Corruption { offset, what, .. })) if is_lenient => {
                let keeps = esker_base::planted::is("damaged-segment-keeps-frames");
                (cut(self.last_logged, offset, is_dropping && !keeps), Some(what))
            }
            Err(FileError::Io(_)) if esker_base::planted::is("unreadable-log-passed-over") => {
                (cut(self.last_logged, 0, false), None)
            }
            Err(error) => return Err(error.into()),
        };
        let is_dropping = is_dropping || why.is_some();
        if let Some(why) = why.filter(|_| is_lenient) {
            let len = if is_missing { 0 } else { self.fs.open(&path)?.len()? };
            let offset = if segment.is_dropped { 0 } else { segment.end };
            let (file, bytes) = (id.file_name(), len.saturating_sub(offset));
            self.dropped.push(Event::LogDropped { file, offset, bytes, why: why.into_owned() });
        }
        self.segments.push(segment);
        Ok(is_dropping)
    }

    fn read_segment(
        &mut self,
        id: LogId,
        path: &Path,
        is_missing: bool,
        is_dropping: &mut bool,
    ) -> std::result::Result<ReplayedSegment, FileError> {
        let expected = self.expected_header(id);
        if is_missing {
            return Err(Corruption::new(id.file_name(), 0, LOG_MISSING).into());
        }
        let mut reader = LogReader::open(self.fs, path, &expected)?;
        let expected_durable = self.catalog.durable_logs.get(&id).copied().unwrap_or(0);
        reader.expect_durable(expected_durable);
        let (mut room, mut has_taken) = (Vec::new(), false);
        while let Some(frame) = reader.next_frame()? {
            let damaged = |error| {
                let unit = "a commit group";
                FileError::from(Corruption::undecodable(id.file_name(), frame.offset, unit, error))
            };
            let group = StoredGroup::decode(frame.payload).map_err(damaged)?;
            let header = group.header;
            *is_dropping |= !self.follows(&header);
            if *is_dropping && has_taken {
                // Frames are chained, so none can be missing between two of one segment.
                *is_dropping = false;
                return Err(Corruption::new(id.file_name(), frame.offset, DOES_NOT_FOLLOW).into());
            }
            has_taken = !*is_dropping;
            if !*is_dropping {
                let mut decoder = group.operations(&mut room).map_err(damaged)?;
                if self.mode == RecoveryMode::PointInTime {
                    // Checked first: none of a group that does not decode may count.
                    self.check_group(&header, decoder.clone()).map_err(damaged)?;
                }
                self.group(id, &header, &mut decoder).map_err(damaged)?;
            }
        }
        let (end, durable) = (reader.end(), reader.marked_durable_offset());
        self.check_end(id, end, durable, *is_dropping)?;
        Ok(ReplayedSegment {
            id,
            end: end.offset(),
            durable: durable.max(expected_durable),
            last_seqno: self.last_logged,
            is_torn: matches!(end, LogEnd::Torn { .. }),
            is_dropped: *is_dropping,
            is_missing,
        })
    }

    /// Takes all readable groups of a segment, and notes the gaps between them. A part that the
    /// device cannot read ends the segment.
    fn salvage_segment(&mut self, id: LogId, path: &Path) -> Result<()> {
        let expected = self.expected_header(id);
        let mut lose = |offset: u64, bytes: u64, why: String| {
            let file = id.file_name();
            self.dropped.push(Event::LogDropped { file, offset, bytes, why });
        };
        let mut reader = match LogReader::open(self.fs, path, &expected) {
            Ok(reader) => reader,
            Err(FileError::Corruption(corruption)) => {
                lose(0, self.fs.open(path)?.len()?, corruption.what.into_owned());
                return Ok(());
            }
            Err(FileError::Io(error)) if is_of_the_file(&error) => {
                let what = error.is_not_found().then(|| LOG_MISSING.to_owned());
                lose(0, 0, what.unwrap_or_else(|| error.to_string()));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        reader.expect_durable(self.catalog.durable_logs.get(&id).copied().unwrap_or(0));
        // Where the unreadable part starts, and why.
        let mut hole: Option<(u64, String)> = None;
        let mut room = Vec::new();
        // The end of the last frame, not counting its frame header.
        let mut reached = 0;
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    let offset = frame.offset;
                    reached = offset + frame.payload.len() as u64;
                    if let Some((start, why)) = hole.take() {
                        let bytes = offset.saturating_sub(start);
                        self.dropped.push(Event::LogDropped {
                            file: id.file_name(),
                            offset: start,
                            bytes,
                            why,
                        });
                    }
                    let taken = StoredGroup::decode(frame.payload).and_then(|group| {
                        let mut decoder = group.operations(&mut room)?;
                        self.check_group(&group.header, decoder.clone())?;
                        self.group(id, &group.header, &mut decoder)
                    });
                    if let Err(error) = taken {
                        hole = Some((offset, error.to_string()));
                    }
                }
                Ok(None) => break,
                Err(FileError::Corruption(corruption)) => {
                    hole.get_or_insert((corruption.offset, corruption.what.into_owned()));
                    match reader.skip_damage() {
                        Ok(true) => {}
                        Err(FileError::Io(error)) if !is_of_the_file(&error) => {
                            return Err(error.into());
                        }
                        _ => break,
                    }
                }
                Err(FileError::Io(error)) if is_of_the_file(&error) => {
                    hole.get_or_insert((reached, error.to_string()));
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some((offset, why)) = hole {
            let bytes = reader.file_len().saturating_sub(offset);
            self.dropped.push(Event::LogDropped { file: id.file_name(), offset, bytes, why });
        }
        Ok(())
    }

    fn expected_header(&self, id: LogId) -> ExpectedHeader {
        ExpectedHeader {
            kind: FileKind::Log,
            id: id.0,
            database: Some(self.catalog.database),
            newest_format: LOG_FORMAT_NEWEST,
        }
    }

    /// Refuses a segment whose end the mode does not accept, or one that shows that frames before
    /// it are missing.
    fn check_end(
        &self,
        id: LogId,
        end: LogEnd,
        durable: u64,
        is_dropping: bool,
    ) -> std::result::Result<(), FileError> {
        let is_strict = self.mode == RecoveryMode::Strict;
        if let LogEnd::Torn { offset } = end
            && is_strict
        {
            return Err(Corruption::new(id.file_name(), offset, "the end is torn").into());
        }
        // The header is synced before the segment takes frames; a durable part beyond the header
        // comes from a sync of the log, which syncs all earlier segments first.
        let was_durable = (FileHeader::LEN as u64) < durable;
        let is_wanted = is_strict || (was_durable && self.mode != RecoveryMode::PointInTime);
        if !is_dropping || !is_wanted {
            return Ok(());
        }
        let what = match was_durable {
            true => "frames before this segment are missing, though they were durable",
            false => "frames before this segment are missing",
        };
        Err(Corruption::new(id.file_name(), 0, what).into())
    }

    /// Whether no frame is missing before the group. The first group may repeat what is in tables:
    /// everything up to there is durable.
    fn follows(&self, header: &GroupHeader) -> bool {
        let next = self.last_logged.get() + header.unlogged_before + 1;
        let first = header.first_seqno.get();
        first == next || (!self.has_frames && first < next)
    }

    /// Decodes a group without applying it.
    fn check_group(
        &self,
        header: &GroupHeader,
        mut decoder: Decoder<'_>,
    ) -> std::result::Result<(), DecodeError> {
        for _ in 0..header.count {
            let unknown = decoder.error(UNKNOWN_KEYSPACE);
            if self.catalog.next_keyspace_id <= Operation::decode(&mut decoder)?.keyspace.0 {
                return Err(unknown);
            }
        }
        decoder.finish()
    }

    fn group(
        &mut self,
        log: LogId,
        header: &GroupHeader,
        decoder: &mut Decoder<'_>,
    ) -> std::result::Result<(), DecodeError> {
        // For a group without operations, the number before its first.
        let last_logged = SeqNo::new(header.first_seqno.get() + header.count - 1);
        let mut seqno = header.first_seqno;
        for index in 0..header.count {
            let unknown = decoder.error(UNKNOWN_KEYSPACE);
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
        // Without a target, the keyspace has been dropped since.
        let Some(target) = self.target.as_ref().filter(|target| {
            target.state.flushed_up_to < seqno
                || esker_base::planted::is("replay-repeats-what-was-flushed")
        }) else {
            return;
        };
        target.buffer.note_log(log);
        let memtable = &target.buffer.memtable;
        memtable.writer().insert(operation.key, seqno, operation.kind, operation.value);
        // Only computed for the first entry and the first tombstone of a memtable: it looks at
        // every table, which a log that alternates between keyspaces must not do at each change.
        target.buffer.times.note(memtable, || written_since(&target.state));
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
            state: Arc::clone(state),
            memtable_bytes: keyspace.settings().memtable_bytes,
            keyspace,
        })
    }
}

/// Whether the error is about the file, rather than about this process, such as too many open
/// files.
fn is_of_the_file(error: &IoError) -> bool {
    !error.is_of_the_moment()
}

/// The earliest time at which entries in the log can have been written, in milliseconds since the
/// epoch: when the newest table was flushed; without one, it is unknown. Ingested and loaded tables
/// do not count, since they may be younger than what is in the log.
pub(crate) fn written_since(state: &KeyspaceState) -> u64 {
    let tables = state.tables.values().map(|place| &place.properties.extras);
    let times = tables.filter(|extras| extras.origin.is_none()).filter_map(|extras| extras.times);
    times.map(|times| times.newest).max().unwrap_or(0)
}
