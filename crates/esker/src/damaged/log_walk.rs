//! Walks log segments group by group, past what is damaged.
//!
//! Reads as recovery does, but where recovery would give up, the walk reports it and goes on with
//! the next intact frame. The caller decides what to make of that.
//!
//! A sync of a segment covers all segments before it, and an open cuts torn ends off before anything
//! more is written. So if there are intact frames behind a torn end, and a later segment says that
//! it was durable, that end is damage.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use esker_base::coding::DecodeError;
use esker_base::{Corruption, DatabaseId, FileHeader, FileId, FileKind, LogId, SeqNo};
use esker_env::{File, FileError, FileSystem, IoError};
use esker_log::{ExpectedHeader, Frame, LogEnd, LogReader};

use super::patched::with_header;
use super::unreadable::Unreadable;
use crate::error::Result;
use crate::logs::packed_group::StoredGroup;
use crate::logs::{DOES_NOT_FOLLOW, LOG_FORMAT_PLAIN, LOG_MISSING, expected_header};
use crate::operation::{GroupHeader, Operation};

/// The segments of one database, in a directory that may have those of others.
#[derive(Clone, Copy)]
pub(crate) struct DamagedLog<'a> {
    /// Parts that the device cannot read are zeros there, and listed in `unreadable`.
    pub(crate) fs: &'a Arc<dyn FileSystem>,
    pub(crate) unreadable: &'a Unreadable,
    pub(crate) dir: &'a Path,
    /// The log segments in the directory, with their lengths.
    pub(crate) segments: &'a BTreeMap<FileId, u64>,
    pub(crate) database: DatabaseId,
}

/// The log segments in `dir`, with their lengths.
///
/// # Errors
/// Of the system.
pub(crate) fn segments_in(
    fs: &dyn FileSystem,
    dir: &Path,
) -> std::result::Result<BTreeMap<FileId, u64>, IoError> {
    let files = fs.list(dir)?.into_iter().filter(|entry| !entry.is_dir);
    let segments = files.filter_map(|entry| match FileId::parse_file_name(&entry.name) {
        Some((id, FileKind::Log)) => Some((id, entry.len)),
        _ => None,
    });
    Ok(segments.collect())
}

/// What a walk finds, in log order.
pub(crate) enum LogItem<'a> {
    /// An intact commit group.
    Group(Group<'a>),
    /// Groups are missing before the next one.
    Gap {
        /// The last number before.
        after: SeqNo,
        /// The first number after.
        before: SeqNo,
        /// Where they may have stood, if not in the segment of that one.
        hole: Option<Hole>,
    },
    /// A place that cannot be read.
    Damage(Corruption),
    /// The header of a segment cannot be read. Its groups follow nevertheless.
    HeaderDamage(LogId, Corruption),
    /// A segment ends.
    End(SegmentEnd),
}

/// Where groups are missing without a trace: from the end of one segment on up to the start of another.
#[derive(Clone, Copy)]
pub(crate) struct Hole {
    /// The first segment that may have held some of them.
    pub(crate) from: LogId,
    /// Where that one ends.
    pub(crate) offset: u64,
    /// The segment whose first group does not follow.
    pub(crate) to: LogId,
}

impl Hole {
    /// The segments that may have held what is missing.
    pub(crate) fn segments(self, logs: &[LogId]) -> impl Iterator<Item = LogId> {
        logs.iter().copied().filter(move |log| self.from <= *log && *log < self.to)
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from offset {} of {} on", self.offset, self.from.file_name())
    }
}

/// A commit group.
pub(crate) struct Group<'a> {
    pub(crate) log: LogId,
    pub(crate) offset: u64,
    pub(crate) first_seqno: SeqNo,
    pub(crate) operations: Vec<Operation<'a>>,
}

impl Group<'_> {
    /// Sequence number of the last operation.
    pub(crate) fn last_seqno(&self) -> SeqNo {
        last_seqno(self.first_seqno, self.operations.len() as u64)
    }

    /// The operations, each with its sequence number.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (SeqNo, &Operation<'_>)> {
        (self.first_seqno.get()..).map_while(SeqNo::new).zip(&self.operations)
    }
}

/// How a segment ends.
pub(crate) struct SegmentEnd {
    pub(crate) log: LogId,
    /// How far it was durable, according to its frames and the manifest.
    pub(crate) marked_durable: u64,
}

/// Of a group without operations, the number before its first.
fn last_seqno(first: SeqNo, count: u64) -> SeqNo {
    SeqNo::new(first.get().saturating_add(count).saturating_sub(1)).unwrap_or(SeqNo::MAX)
}

/// Walks `logs`, which are in order, and are durable at least up to what `durable` says: not even the header
/// of one that no manifest names. `before` is the last sequence number known to be in tables.
///
/// # Errors
/// Of the system, and `UnsupportedFormat`. Damage is an item.
pub(crate) fn walk_logs(
    damaged: DamagedLog<'_>,
    logs: &[LogId],
    durable: &BTreeMap<LogId, u64>,
    before: SeqNo,
    mut visit: impl FnMut(LogItem<'_>),
) -> Result<()> {
    let mut last = Last { seqno: before, is_of_group: false, end: None };
    for (index, log) in logs.iter().enumerate() {
        let later = Later { damaged, logs: &logs[index + 1..], durable, vouching: None };
        walk_segment(later, *log, &mut last, &mut visit)?;
    }
    Ok(())
}

fn walk_segment(
    mut later: Later<'_>,
    log: LogId,
    last: &mut Last,
    visit: &mut impl FnMut(LogItem<'_>),
) -> Result<()> {
    let damaged = later.damaged;
    let path = damaged.dir.join(log.file_name());
    let Some(mut reader) = damaged.open(log, visit)? else {
        visit(LogItem::End(SegmentEnd { log, marked_durable: 0 }));
        return Ok(());
    };
    let recorded = later.durable.get(&log).copied().unwrap_or(0);
    reader.expect_durable(match esker_base::planted::is("unnamed-segment-needs-its-header") {
        true => recorded.max(FileHeader::LEN as u64),
        false => recorded,
    });
    let mut refused = 0;
    let mut walk = SegmentWalk::new(log, last, visit);
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => walk.frame(&frame),
            // The unreadable part, which reading may have met just now, may have held frames, so this is
            // not the end if it comes before that.
            Ok(None) if refused < damaged.unreadable.last_end(&path) => {
                refused = damaged.unreadable.last_end(&path);
                reader.expect_durable(refused);
                walk.is_behind_group = false;
            }
            Ok(None) => {
                let end = reader.end();
                let Some(damage) = later.resume(&mut reader, end, log)? else {
                    if let Err(damage) = reader.check_seal(recorded) {
                        walk.damage(damage);
                    }
                    walk.end(end);
                    break;
                };
                walk.damage(damage);
            }
            Err(FileError::Corruption(corruption)) => {
                walk.damage(corruption);
                if !reader.skip_damage()? {
                    break;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    let marked_durable = reader.marked_durable_offset().max(recorded);
    visit(LogItem::End(SegmentEnd { log, marked_durable }));
    Ok(())
}

/// What a segment's frames come to, one after the other.
struct SegmentWalk<'a, Visit> {
    log: LogId,
    last: &'a mut Last,
    visit: &'a mut Visit,
    has_groups: bool,
    /// Whether a group came last, with nothing damaged since.
    is_behind_group: bool,
    /// Where packed groups are unpacked.
    room: Vec<u8>,
}

impl<'a, Visit: FnMut(LogItem<'_>)> SegmentWalk<'a, Visit> {
    const fn new(log: LogId, last: &'a mut Last, visit: &'a mut Visit) -> Self {
        let room = Vec::new();
        Self { log, last, visit, has_groups: false, is_behind_group: false, room }
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        let (log, offset) = (self.log, frame.offset);
        let (header, operations) = match decode_group(frame.payload, &mut self.room) {
            Ok(group) => group,
            Err(error) => {
                let what =
                    Corruption::undecodable(log.file_name(), offset, "a commit group", error);
                return self.damage(what);
            }
        };
        let first_seqno = header.first_seqno;
        if !self.last.is_followed_by(&header) {
            if self.is_behind_group {
                let damage = Corruption::new(log.file_name(), offset, DOES_NOT_FOLLOW);
                (self.visit)(LogItem::Damage(damage));
            }
            let (after, before) = (self.last.seqno, first_seqno);
            let hole = self.last.end.map(|(from, offset)| Hole { from, offset, to: log });
            (self.visit)(LogItem::Gap { after, before, hole });
        }
        let seqno = last_seqno(first_seqno, header.count);
        *self.last = Last { seqno, is_of_group: true, end: None };
        (self.has_groups, self.is_behind_group) = (true, true);
        (self.visit)(LogItem::Group(Group { log, offset, first_seqno, operations }));
    }

    fn damage(&mut self, damage: Corruption) {
        (self.visit)(LogItem::Damage(damage));
        self.is_behind_group = false;
    }

    fn end(&mut self, end: LogEnd) {
        if !matches!(end, LogEnd::Sealed { .. }) && (self.has_groups || self.last.end.is_none()) {
            self.last.end = Some((self.log, end.offset()));
        }
    }
}

impl DamagedLog<'_> {
    /// A reader of the segment; none where not even its header can be read, which is then said.
    fn open(
        self,
        log: LogId,
        visit: &mut impl FnMut(LogItem<'_>),
    ) -> std::result::Result<Option<LogReader>, FileError> {
        if !self.segments.contains_key(&log.0) {
            visit(LogItem::Damage(Corruption::new(log.file_name(), 0, LOG_MISSING)));
            return Ok(None);
        }
        let expected = expected_header(log, self.database);
        let path = self.dir.join(log.file_name());
        let due = |_: &dyn File| {
            Ok(FileHeader {
                kind: FileKind::Log,
                format: LOG_FORMAT_PLAIN,
                id: log.0,
                database: self.database,
            })
        };
        let mut fs = Arc::clone(self.fs);
        if let Some(patched) = with_header(&fs, &path, due)?
            && let Some(damage) = header_damage(&*fs, &path, &expected)?
        {
            visit(LogItem::HeaderDamage(log, damage));
            fs = patched;
        }
        match LogReader::open(&*fs, &path, &expected) {
            Ok(reader) => Ok(Some(reader)),
            Err(FileError::Corruption(corruption)) => {
                visit(LogItem::Damage(corruption));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The segments behind the one that is read.
struct Later<'a> {
    damaged: DamagedLog<'a>,
    logs: &'a [LogId],
    /// Up to where segments are durable, according to the manifest.
    durable: &'a BTreeMap<LogId, u64>,
    /// The first of them that says that it was durable, once one was found.
    vouching: Option<LogId>,
}

impl Later<'_> {
    /// Makes `reader`, which has come to `end`, go on with the frames behind it, if there are any and
    /// it is damage; what is to be said of that.
    fn resume(
        &mut self,
        reader: &mut LogReader,
        end: LogEnd,
        log: LogId,
    ) -> Result<Option<Corruption>> {
        let LogEnd::Torn { offset } = end else { return Ok(None) };
        let Some(vouching) = self.vouching()? else { return Ok(None) };
        // Now it is no end, but an error.
        reader.expect_durable(offset.saturating_add(1));
        match reader.next_frame().map(drop) {
            Ok(()) | Err(FileError::Corruption(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if !reader.skip_damage()? {
            return Ok(None);
        }
        Ok(Some(torn_before(log, offset, vouching)))
    }

    /// The first segment that says that it was durable behind its header.
    fn vouching(&mut self) -> Result<Option<LogId>> {
        if self.vouching.is_none() {
            self.vouching = first_vouching(self.damaged, self.logs, self.durable)?;
        }
        Ok(self.vouching)
    }
}

/// The first of `logs` that was durable behind its header, as it says itself or `durable` does; all
/// segments before it were durable then.
///
/// # Errors
/// Of the system.
pub(crate) fn first_vouching(
    damaged: DamagedLog<'_>,
    logs: &[LogId],
    durable: &BTreeMap<LogId, u64>,
) -> std::result::Result<Option<LogId>, FileError> {
    for log in logs {
        let recorded = durable.get(log).copied().unwrap_or(0);
        if is_behind_header(recorded) || vouches(damaged, *log)? {
            return Ok(Some(*log));
        }
    }
    Ok(None)
}

/// The header is durable before the segment takes frames; anything more was a sync of the log.
const fn is_behind_header(durable: u64) -> bool {
    (FileHeader::LEN as u64) < durable
}

fn vouches(damaged: DamagedLog<'_>, log: LogId) -> std::result::Result<bool, FileError> {
    let Some(mut reader) = damaged.open(log, &mut |_| {})? else { return Ok(false) };
    loop {
        let goes_on = match reader.next_frame() {
            Ok(frame) => frame.is_some(),
            Err(FileError::Corruption(_)) => reader.skip_damage()?,
            Err(error) => return Err(error),
        };
        if is_behind_header(reader.marked_durable_offset()) {
            return Ok(true);
        }
        if !goes_on {
            return Ok(false);
        }
    }
}

/// What is wrong with the segment `log`, which seems torn at `offset`, if `vouching` vouches for it.
pub(crate) fn torn_before(log: LogId, offset: u64, vouching: LogId) -> Corruption {
    let vouching = vouching.file_name();
    let what = format!("frame is not valid, though it was durable when {vouching} was written");
    Corruption::new(log.file_name(), offset, what)
}

/// What the next group has to follow.
struct Last {
    seqno: SeqNo,
    /// Whether it is a group's; otherwise it is that of the tables, which groups may repeat.
    is_of_group: bool,
    /// Where the segment of that group ends, or one behind it, where it does not end with a seal.
    end: Option<(LogId, u64)>,
}

impl Last {
    /// As recovery has it.
    const fn is_followed_by(&self, header: &GroupHeader) -> bool {
        let due = header.due_after(self.seqno);
        let first = header.first_seqno.get();
        first == due || (!self.is_of_group && first < due)
    }
}

/// What is wrong with a segment that has no header, if it ever was durable.
fn header_damage(
    fs: &dyn FileSystem,
    path: &Path,
    expected: &ExpectedHeader,
) -> std::result::Result<Option<Corruption>, FileError> {
    let damage = LogReader::open(fs, path, expected)
        .and_then(|mut reader| reader.next_frame().map(|_| ()))
        .err();
    match damage {
        None => Ok(None),
        Some(FileError::Corruption(corruption)) => Ok(Some(corruption)),
        Some(error) => Err(error),
    }
}

/// A group, unpacked into `room` if it is packed.
fn decode_group<'a>(
    payload: &'a [u8],
    room: &'a mut Vec<u8>,
) -> std::result::Result<(GroupHeader, Vec<Operation<'a>>), DecodeError> {
    let group = StoredGroup::decode(payload)?;
    let header = group.header;
    let mut decoder = group.operations(room)?;
    // Grown as operations are decoded: the count cannot be trusted in advance.
    let mut operations = Vec::new();
    for _ in 0..header.count {
        operations.push(Operation::decode(&mut decoder)?);
    }
    decoder.finish()?;
    Ok((header, operations))
}
