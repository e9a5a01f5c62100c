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
use esker_base::{Corruption, FileHeader, KeyspaceId, LogId, SeqNo};
use esker_cache::Budget;
use esker_env::{FileError, FileSystem};
use esker_log::{Extent, LogEnd, LogReader};
use esker_tree::{Catalog, KeyspaceState};

use crate::damaged::log_walk::{
    DamagedLog, Group, LogItem, first_vouching, segments_in, torn_before, walk_logs,
};
use crate::damaged::reading::ReadingFileSystem;
use crate::damaged::unreadable::{Padding, Unreadable};
use crate::error::Result;
use crate::events::Event;
use crate::keyspace_core::KeyspaceCore;
use crate::keyspace_core::read_view::WriteBuffer;
use crate::logs::packed_group::StoredGroup;
use crate::logs::{
    DOES_NOT_FOLLOW, LOG_MISSING, durable_of_all, durable_of_named, expected_header,
};
use crate::operation::{GroupHeader, Operation};
use crate::recovery::mode::RecoveryMode;
use crate::recovery::unnamed::{GOES_ON, goes_on};

const UNKNOWN_KEYSPACE: &str = "an operation on a keyspace that never was";

const REPEATED: &str = "a group whose numbers were read before";

/// The replay of the log into memtables.
pub(crate) struct Replay<'a> {
    fs: &'a Arc<dyn FileSystem>,
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
    /// What a point-in-time recovery or a salvage leaves out.
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
    /// What was read; none if it was not read to its end.
    pub(crate) extent: Option<Extent>,
    /// The end of its durable part, according to its frames and the manifest.
    pub(crate) durable: u64,
    /// Last sequence number in it or before it.
    pub(crate) last_seqno: SeqNo,
    /// The file is to be cut at the end: something other than zeros follows it, or an earlier recovery
    /// may have cut it there and not have made that durable.
    pub(crate) is_torn: bool,
    /// It follows a gap in the log: none of it counts.
    pub(crate) is_dropped: bool,
    /// There is no such file.
    pub(crate) is_missing: bool,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(
        fs: &'a Arc<dyn FileSystem>,
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
        if mode == RecoveryMode::Salvage {
            self.salvage()?;
        } else {
            let mut is_dropping = false;
            for id in &self.catalog.logs {
                is_dropping = self.segment(*id, is_dropping)?;
            }
        }
        self.check_unnamed()
    }

    /// Refuses a segment that goes on where the log ends, and is not named by the manifest: it is not
    /// an orphan. A salvage leaves it out, and says so.
    fn check_unnamed(&mut self) -> Result<()> {
        let segments = segments_in(&**self.fs, self.log_dir)?;
        let unnamed = segments.iter().map(|(id, len)| (LogId(*id), *len));
        for (log, bytes) in unnamed.filter(|(log, _)| !self.catalog.logs.contains(log)) {
            let last = self.has_frames.then_some(self.last_logged);
            if !goes_on(&**self.fs, self.log_dir, log, self.catalog, last)? {
                continue;
            }
            let (file, why) = (log.file_name(), GOES_ON.to_owned());
            if self.mode != RecoveryMode::Salvage {
                return Err(Corruption::new(file, 0, why).into());
            }
            self.dropped.push(Event::LogDropped { file, offset: 0, bytes, why });
        }
        Ok(())
    }

    /// Replays one segment, or only inspects it if frames before it are missing. Returns whether
    /// frames are missing now.
    fn segment(&mut self, id: LogId, mut is_dropping: bool) -> Result<bool> {
        let path = self.log_dir.join(id.file_name());
        let is_missing = !self.fs.exists(&path)?;
        let is_lenient = self.mode == RecoveryMode::PointInTime;
        // The result for a segment that could not be read to its end.
        let cut = |last_seqno, end, is_dropped| ReplayedSegment {
            id,
            end,
            extent: None,
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
        let expected = expected_header(id, self.catalog.database);
        if is_missing {
            return Err(Corruption::new(id.file_name(), 0, LOG_MISSING).into());
        }
        let mut reader = LogReader::open(&**self.fs, path, &expected)?;
        let recorded = self.catalog.durable_logs.get(&id).copied();
        let expected_durable = durable_of_named(recorded);
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
        reader.check_seal(expected_durable)?;
        let (end, durable) =
            (reader.end(), reader.marked_durable_offset().max(recorded.unwrap_or(0)));
        self.check_end(id, end, durable, *is_dropping)?;
        self.check_torn(id, &reader)?;
        Ok(ReplayedSegment {
            id,
            end: end.offset(),
            extent: reader.extent().ok(),
            durable,
            last_seqno: self.last_logged,
            is_torn: match end {
                LogEnd::Torn { .. } => true,
                LogEnd::Clean { offset } => {
                    offset == reader.file_len() && !esker_base::planted::is("cut-not-made-sure-of")
                }
                LogEnd::Sealed { .. } => false,
            },
            is_dropped: *is_dropping,
            is_missing,
        })
    }

    /// Takes all readable groups of the log, and notes the gaps between them.
    fn salvage(&mut self) -> Result<()> {
        let unreadable = Arc::new(Unreadable::default());
        let padding = Padding::of_all(&unreadable);
        let padded: Arc<dyn FileSystem> = Arc::new(ReadingFileSystem::new(self.fs, padding));
        let segments = segments_in(&**self.fs, self.log_dir)?;
        let (dir, database) = (self.log_dir, self.catalog.database);
        let damaged =
            DamagedLog { fs: &padded, unreadable: &unreadable, dir, segments: &segments, database };
        // What cannot be read goes up to the next group that can, or to the end of the segment.
        let lost = |hole: Corruption, end: u64| {
            let Corruption { file, offset, what } = hole;
            let refused = unreadable.error_at(&self.log_dir.join(&file), offset, end);
            let why = refused.unwrap_or_else(|| what.into_owned());
            Event::LogDropped { file, offset, bytes: end.saturating_sub(offset), why }
        };
        let catalog = self.catalog;
        let logs: Vec<LogId> = catalog.logs.iter().copied().collect();
        let durable = durable_of_all(catalog);
        let mut hole: Option<Corruption> = None;
        // What is missing behind a hole was in it.
        let mut is_behind_hole = false;
        walk_logs(damaged, &logs, &durable, catalog.last_seqno, |item| match item {
            LogItem::Damage(corruption) => {
                is_behind_hole = true;
                hole.get_or_insert(corruption);
            }
            LogItem::Group(group) if self.repeats(&group) => {
                let file = group.log.file_name();
                hole.get_or_insert(Corruption::new(file, group.offset, REPEATED));
            }
            LogItem::Group(group) if self.knows_keyspaces_of(&group) => {
                is_behind_hole = false;
                self.dropped.extend(hole.take().map(|hole| lost(hole, group.offset)));
                self.take(&group);
            }
            LogItem::Group(group) => {
                let file = group.log.file_name();
                hole.get_or_insert(Corruption::new(file, group.offset, UNKNOWN_KEYSPACE));
            }
            LogItem::End(segment) => {
                let len = segments.get(&segment.log.0).copied().unwrap_or(0);
                self.dropped.extend(hole.take().map(|hole| lost(hole, len)));
            }
            LogItem::Gap { hole: Some(hole), .. } if !is_behind_hole => {
                let (file, offset) = (hole.from.file_name(), hole.offset);
                let len = segments.get(&hole.from.0).copied().unwrap_or(0);
                let bytes = len.saturating_sub(offset);
                let why = "groups that followed here are missing".to_owned();
                self.dropped.push(Event::LogDropped { file, offset, bytes, why });
            }
            // Damage to a header costs nothing.
            LogItem::Gap { .. } | LogItem::HeaderDamage(..) => {}
        })
    }

    fn knows_keyspaces_of(&self, group: &Group<'_>) -> bool {
        group.operations.iter().all(|one| one.keyspace.0 < self.catalog.next_keyspace_id)
    }

    /// Whether a group before had some of its numbers, or behind those: a segment of a copy of the database,
    /// which has gone on by itself, may be in the place of one of ours. (A mark has the next number.)
    fn repeats(&self, group: &Group<'_>) -> bool {
        self.has_frames
            && group.first_seqno <= self.last_logged
            && !esker_base::planted::is("salvage-takes-numbers-twice")
    }

    /// Takes over a group that was found intact.
    fn take(&mut self, group: &Group<'_>) {
        for (seqno, operation) in group.numbered() {
            self.insert(group.log, seqno, operation);
        }
        self.note_taken(group.last_seqno());
    }

    fn note_taken(&mut self, last_seqno: SeqNo) {
        self.has_frames = true;
        self.last_logged = last_seqno;
        self.last_seqno = self.last_seqno.max(last_seqno);
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

    /// Refuses a torn end with frames behind it, if a later segment says that it was durable: a sync of a
    /// segment covers all before it, and an open cuts torn ends off before more is written.
    fn check_torn(&self, id: LogId, reader: &LogReader) -> std::result::Result<(), FileError> {
        if !reader.has_frames_behind() || esker_base::planted::is("torn-end-before-durable-segment")
        {
            return Ok(());
        }
        let segments = segments_in(&**self.fs, self.log_dir)?;
        let unreadable = Unreadable::default();
        let (fs, dir, database) = (self.fs, self.log_dir, self.catalog.database);
        let log = DamagedLog { fs, unreadable: &unreadable, dir, segments: &segments, database };
        let later: Vec<LogId> = self.catalog.logs.range(id..).skip(1).copied().collect();
        match first_vouching(log, &later, &self.catalog.durable_logs)? {
            Some(vouching) => Err(torn_before(id, reader.end().offset(), vouching).into()),
            None => Ok(()),
        }
    }

    /// Whether no frame is missing before the group. The first group may repeat what is in tables:
    /// everything up to there is durable.
    fn follows(&self, header: &GroupHeader) -> bool {
        let due = header.due_after(self.last_logged);
        let first = header.first_seqno.get();
        first == due || (!self.has_frames && first < due)
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
        self.note_taken(last_logged.unwrap_or(seqno));
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

/// The earliest time at which entries in the log can have been written, in milliseconds since the
/// epoch: when the newest table was flushed; without one, it is unknown. Ingested and loaded tables
/// do not count, since they may be younger than what is in the log.
pub(crate) fn written_since(state: &KeyspaceState) -> u64 {
    let tables = state.tables.values().map(|place| &place.properties.extras);
    let times = tables.filter(|extras| extras.origin.is_none()).filter_map(|extras| extras.times);
    times.map(|times| times.newest).max().unwrap_or(0)
}
