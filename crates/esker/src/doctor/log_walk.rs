//! Walks log segments group by group, past what is damaged.
//!
//! Reads as recovery does, but where recovery would give up, the walk reports it and goes on with
//! the next intact frame. The caller decides what to make of that.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use esker_base::coding::DecodeError;
use esker_base::{Corruption, DatabaseId, FileKind, LogId, SeqNo};
use esker_env::{FileError, FileSystem};
use esker_log::{ExpectedHeader, LogReader};

use super::place::Place;
use crate::error::Result;
use crate::logs::packed_group::StoredGroup;
use crate::logs::{LOG_FORMAT_NEWEST, LOG_MISSING};
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
    },
    /// A place that cannot be read.
    Damage(Corruption),
    /// The header of a segment cannot be read. Its groups follow nevertheless.
    HeaderDamage(LogId, Corruption),
    /// A segment ends.
    End(SegmentEnd),
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
    let mut last = Last { seqno: before, is_of_group: false };
    for log in logs {
        let durable = durable.get(log).copied().unwrap_or(0);
        walk_segment(place, database, *log, durable, &mut last, &mut visit)?;
    }
    Ok(())
}

fn walk_segment(
    place: &Place,
    database: DatabaseId,
    log: LogId,
    durable: u64,
    last: &mut Last,
    visit: &mut impl FnMut(LogItem<'_>),
) -> Result<()> {
    let hidden = SegmentEnd { log, marked_durable: 0 };
    if !place.logs().contains_key(&log.0) {
        visit(LogItem::Damage(Corruption::new(log.file_name(), 0, LOG_MISSING)));
        visit(LogItem::End(hidden));
        return Ok(());
    }
    let expected = ExpectedHeader {
        kind: FileKind::Log,
        id: log.0,
        database: Some(database),
        newest_format: LOG_FORMAT_NEWEST,
    };
    let path = place.log_dir.join(log.file_name());
    let mut fs = Arc::clone(&place.env.fs);
    if let Some(patched) = place.with_header(log.0, FileKind::Log, database)?
        && let Some(damage) = header_damage(&*fs, &path, &expected)?
    {
        visit(LogItem::HeaderDamage(log, damage));
        fs = patched;
    }
    let mut reader = match LogReader::open(&*fs, &path, &expected) {
        Ok(reader) => reader,
        Err(FileError::Corruption(corruption)) => {
            visit(LogItem::Damage(corruption));
            visit(LogItem::End(hidden));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    reader.expect_durable(durable);
    let mut refused = 0;
    let mut room = Vec::new();
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => match decode_group(frame.payload, &mut room) {
                Ok((header, operations)) => {
                    let first_seqno = header.first_seqno;
                    if !last.is_followed_by(&header) {
                        visit(LogItem::Gap { after: last.seqno, before: first_seqno });
                    }
                    let seqno = last_seqno(first_seqno, header.count);
                    *last = Last { seqno, is_of_group: true };
                    let offset = frame.offset;
                    visit(LogItem::Group(Group { log, offset, first_seqno, operations }));
                }
                Err(error) => {
                    let (file, unit) = (log.file_name(), "a commit group");
                    let damage = Corruption::undecodable(file, frame.offset, unit, error);
                    visit(LogItem::Damage(damage));
                }
            },
            // The unreadable part may have held frames, so this is not the end if it comes before
            // that.
            Ok(None) if refused < place.unreadable.last_end(&path) => {
                refused = place.unreadable.last_end(&path);
                reader.expect_durable(refused);
            }
            Ok(None) => break,
            Err(FileError::Corruption(corruption)) => {
                visit(LogItem::Damage(corruption));
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

/// What the next group has to follow.
struct Last {
    seqno: SeqNo,
    /// Whether it is a group's; otherwise it is that of the tables, which groups may repeat.
    is_of_group: bool,
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
