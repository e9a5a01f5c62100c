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
use esker_base::{Corruption, DatabaseId, FileHeader, FileKind, LogId, SeqNo};
use esker_env::{FileError, FileSystem};
use esker_log::{ExpectedHeader, LogEnd, LogReader};

use super::place::Place;
use crate::error::Result;
use crate::logs::packed_group::StoredGroup;
use crate::logs::{DOES_NOT_FOLLOW, LOG_FORMAT_NEWEST, LOG_MISSING};
use crate::operation::{GroupHeader, Operation};

/// What a walk finds, in log order.
pub(super) enum LogItem<'a> {
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
pub(super) struct Hole {
    /// The first segment that may have held some of them.
    pub(super) from: LogId,
    /// Where that one ends.
    pub(super) offset: u64,
    /// The segment whose first group does not follow.
    pub(super) to: LogId,
}

impl Hole {
    /// The segments that may have held what is missing.
    pub(super) fn segments(self, logs: &[LogId]) -> impl Iterator<Item = LogId> {
        logs.iter().copied().filter(move |log| self.from <= *log && *log < self.to)
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from offset {} of {} on", self.offset, self.from.file_name())
    }
}

/// A commit group.
pub(super) struct Group<'a> {
    pub(super) log: LogId,
    pub(super) offset: u64,
    pub(super) first_seqno: SeqNo,
    pub(super) operations: Vec<Operation<'a>>,
}

impl Group<'_> {
    /// Sequence number of the last operation.
    pub(super) fn last_seqno(&self) -> SeqNo {
        last_seqno(self.first_seqno, self.operations.len() as u64)
    }
}

/// How a segment ends.
pub(super) struct SegmentEnd {
    pub(super) log: LogId,
    /// How far it was durable, according to its frames.
    pub(super) marked_durable: u64,
}

/// Of a group without operations, the number before its first.
fn last_seqno(first: SeqNo, count: u64) -> SeqNo {
    SeqNo::new(first.get().saturating_add(count).saturating_sub(1)).unwrap_or(SeqNo::MAX)
}

/// Walks `logs`, which are in order, and are durable at least up to what `durable` says. `before` is
/// the last sequence number known to be in tables.
///
/// # Errors
/// Of the system, and `UnsupportedFormat`. Damage is an item.
pub(super) fn walk_logs(
    place: &Place,
    database: DatabaseId,
    logs: &[LogId],
    durable: &BTreeMap<LogId, u64>,
    before: SeqNo,
    mut visit: impl FnMut(LogItem<'_>),
) -> Result<()> {
    let mut last = Last { seqno: before, is_of_group: false, end: None };
    for (index, log) in logs.iter().enumerate() {
        let durable = durable.get(log).copied().unwrap_or(0);
        let later = Later { place, database, logs: &logs[index + 1..], vouching: None };
        walk_segment(later, *log, durable, &mut last, &mut visit)?;
    }
    Ok(())
}

fn walk_segment(
    mut later: Later<'_>,
    log: LogId,
    durable: u64,
    last: &mut Last,
    visit: &mut impl FnMut(LogItem<'_>),
) -> Result<()> {
    let Later { place, database, .. } = later;
    let path = place.log_dir.join(log.file_name());
    let Some(mut reader) = open_segment(place, database, log, visit)? else {
        visit(LogItem::End(SegmentEnd { log, marked_durable: 0 }));
        return Ok(());
    };
    reader.expect_durable(durable);
    let mut refused = 0;
    let mut has_groups = false;
    // With nothing damaged in between.
    let mut is_behind_group = false;
    let mut room = Vec::new();
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => match decode_group(frame.payload, &mut room) {
                Ok((header, operations)) => {
                    let first_seqno = header.first_seqno;
                    if !last.is_followed_by(&header) {
                        if is_behind_group {
                            let (file, offset) = (log.file_name(), frame.offset);
                            visit(LogItem::Damage(Corruption::new(file, offset, DOES_NOT_FOLLOW)));
                        }
                        let (after, before) = (last.seqno, first_seqno);
                        let hole = last.end.map(|(from, offset)| Hole { from, offset, to: log });
                        visit(LogItem::Gap { after, before, hole });
                    }
                    let seqno = last_seqno(first_seqno, header.count);
                    *last = Last { seqno, is_of_group: true, end: None };
                    (has_groups, is_behind_group) = (true, true);
                    let offset = frame.offset;
                    visit(LogItem::Group(Group { log, offset, first_seqno, operations }));
                }
                Err(error) => {
                    let (file, unit) = (log.file_name(), "a commit group");
                    let damage = Corruption::undecodable(file, frame.offset, unit, error);
                    visit(LogItem::Damage(damage));
                    is_behind_group = false;
                }
            },
            // The unreadable part may have held frames, so this is not the end if it comes before
            // that.
            Ok(None) if refused < place.unreadable.last_end(&path) => {
                refused = place.unreadable.last_end(&path);
                reader.expect_durable(refused);
                is_behind_group = false;
            }
            Ok(None) => {
                let end = reader.end();
                if let Some(damage) = later.resume(&mut reader, end, log)? {
                    visit(LogItem::Damage(damage));
                    is_behind_group = false;
                    continue;
                }
                if !matches!(end, LogEnd::Sealed { .. }) && (has_groups || last.end.is_none()) {
                    last.end = Some((log, end.offset()));
                }
                break;
            }
            Err(FileError::Corruption(corruption)) => {
                visit(LogItem::Damage(corruption));
                is_behind_group = false;
                if !reader.skip_damage()? {
                    break;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    let marked_durable = reader.marked_durable_offset();
    visit(LogItem::End(SegmentEnd { log, marked_durable }));
    Ok(())
}

/// A reader of the segment; none where not even its header can be read, which is then said.
fn open_segment(
    place: &Place,
    database: DatabaseId,
    log: LogId,
    visit: &mut impl FnMut(LogItem<'_>),
) -> Result<Option<LogReader>> {
    if !place.logs().contains_key(&log.0) {
        visit(LogItem::Damage(Corruption::new(log.file_name(), 0, LOG_MISSING)));
        return Ok(None);
    }
    let expected = expected_header(log, database);
    let path = place.log_dir.join(log.file_name());
    let mut fs = Arc::clone(&place.env.fs);
    if let Some(patched) = place.with_header(log.0, FileKind::Log, database)?
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
        Err(error) => Err(error.into()),
    }
}

fn expected_header(log: LogId, database: DatabaseId) -> ExpectedHeader {
    ExpectedHeader {
        kind: FileKind::Log,
        id: log.0,
        database: Some(database),
        newest_format: LOG_FORMAT_NEWEST,
    }
}

/// The segments behind the one that is read.
struct Later<'a> {
    place: &'a Place,
    database: DatabaseId,
    logs: &'a [LogId],
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
        let vouching = vouching.file_name();
        let what = format!("frame is not valid, though it was durable when {vouching} was written");
        Ok(Some(Corruption::new(log.file_name(), offset, what)))
    }

    /// The first segment that says that it was durable behind its header.
    fn vouching(&mut self) -> Result<Option<LogId>> {
        for log in self.logs {
            if self.vouching.is_some() {
                break;
            }
            self.vouching = self.vouches(*log)?.then_some(*log);
        }
        Ok(self.vouching)
    }

    fn vouches(&self, log: LogId) -> Result<bool> {
        let opened = open_segment(self.place, self.database, log, &mut |_| {})?;
        let Some(mut reader) = opened else { return Ok(false) };
        loop {
            let goes_on = match reader.next_frame() {
                Ok(frame) => frame.is_some(),
                Err(FileError::Corruption(_)) => reader.skip_damage()?,
                Err(error) => return Err(error.into()),
            };
            // The header is durable before the segment takes frames; anything more was a sync of the log.
            if (FileHeader::LEN as u64) < reader.marked_durable_offset() {
                return Ok(true);
            }
            if !goes_on {
                return Ok(false);
            }
        }
    }
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
        let next = self.seqno.get().saturating_add(header.unlogged_before).saturating_add(1);
        let first = header.first_seqno.get();
        first == next || (!self.is_of_group && first < next)
    }
}

/// What is wrong with a segment that has no header, if it ever was durable.
fn header_damage(
    fs: &dyn FileSystem,
    path: &Path,
    expected: &ExpectedHeader,
) -> Result<Option<Corruption>> {
    let damage = LogReader::open(fs, path, expected)
        .and_then(|mut reader| reader.next_frame().map(|_| ()))
        .err();
    match damage {
        None => Ok(None),
        Some(FileError::Corruption(corruption)) => Ok(Some(corruption)),
        Some(error) => Err(error.into()),
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
