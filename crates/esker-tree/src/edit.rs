//! The version edit: one atomic change to the contents of a database, and its encoding.
//!
//! An edit is a list of records. A record is a tag and a length-prefixed body, so that a reader can
//! find the end of a record without understanding it. Tags are allocated in blocks of
//! [`TAGS_PER_FORMAT`], so that a tag shows which format version introduced it.
//!
//! Knows how edits are encoded, not what they mean: a table that is added twice, for example, is
//! refused by the [`Catalog`](crate::Catalog).

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use esker_base::coding::{DecodeError, Decoder, put_bytes, put_varint};
use esker_base::{FileId, KeyspaceId, LogId, OwnerId, SeqNo, TableId};
use esker_table::TableProperties;

use crate::shape::{RunId, TableText};

/// Format version of manifests and of the edits in them.
pub const MANIFEST_FORMAT: u16 = 2;

/// Tags that each format version may bring: version 1 has 1 to 32, version 2 has 33 to 64.
pub(crate) const TAGS_PER_FORMAT: u64 = 32;

/// A list of records that take effect together or not at all.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct VersionEdit {
    /// In the order in which they are applied.
    pub records: Vec<EditRecord>,
}

/// One fact of a [`VersionEdit`].
#[derive(Clone, PartialEq, Debug)]
pub enum EditRecord {
    /// No file id below this counter will be handed out any more.
    NextFileCounter(u64),
    /// Every sequence number up to this one may be in use.
    LastSeqno(SeqNo),
    /// No keyspace id below this one will be handed out any more.
    NextKeyspaceId(u32),
    /// A keyspace is created, empty.
    KeyspaceCreated {
        /// Its id; never used before.
        keyspace: KeyspaceId,
        /// Its name; no other keyspace has it.
        name: String,
        /// Name of the order of its keys.
        order: String,
        /// Its options, as encoded by the floor above.
        options: Vec<u8>,
    },
    /// A keyspace gets another name.
    KeyspaceRenamed {
        /// Which keyspace.
        keyspace: KeyspaceId,
        /// The name from now on.
        name: String,
    },
    /// A keyspace gets other options.
    KeyspaceOptions {
        /// Which keyspace.
        keyspace: KeyspaceId,
        /// The options from now on.
        options: Vec<u8>,
    },
    /// A keyspace is dropped, with all its tables.
    KeyspaceDropped {
        /// Which keyspace.
        keyspace: KeyspaceId,
    },
    /// A table joins a keyspace.
    TableAdded {
        /// Which keyspace.
        keyspace: KeyspaceId,
        /// The level that it joins.
        level: usize,
        /// The run that it joins; a run begins with its first table.
        run: RunId,
        /// What is known about the table.
        properties: Arc<TableProperties>,
    },
    /// A table leaves a keyspace.
    TableRemoved {
        /// Which keyspace.
        keyspace: KeyspaceId,
        /// Which table.
        table: TableId,
    },
    /// A table changes its place, unchanged itself.
    TableMoved {
        /// Which keyspace.
        keyspace: KeyspaceId,
        /// Which table.
        table: TableId,
        /// The level from now on.
        level: usize,
        /// The run from now on.
        run: RunId,
    },
    /// Every entry of a keyspace up to a sequence number is in its tables.
    FlushedUpTo {
        /// Which keyspace.
        keyspace: KeyspaceId,
        /// Up to and including this one.
        seqno: SeqNo,
    },
    /// A log segment that may hold entries which are in no table.
    LogAdded(LogId),
    /// A log segment is not needed any more.
    LogRemoved(LogId),
    /// A log segment is durable up to an offset: an earlier end is damage. The last record counts.
    LogDurable {
        /// Which segment.
        log: LogId,
        /// Up to this byte of the file, exclusive.
        offset: u64,
    },
    /// The database was closed. In the first frame of a manifest that is sealed after it and takes
    /// no more edits: a manifest with this record but no seal was truncated.
    Closed,
}

/// Why bytes are not a [`VersionEdit`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EditError {
    /// No release writes such bytes.
    Malformed(DecodeError),
    /// They contain a record of a format version that this release cannot read.
    NewerRecord {
        /// Tag of the record.
        tag: u64,
        /// The format version that introduced the tag.
        format: u16,
    },
}

impl From<DecodeError> for EditError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::NewerRecord { tag, format } => {
                write!(f, "record tag {tag} belongs to format version {format}: ")?;
                f.write_str("a newer release wrote it")
            }
        }
    }
}

impl std::error::Error for EditError {}

/// Why an edit does not fit what it is applied to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EditRefused(pub Cow<'static, str>);

impl EditRefused {
    pub(crate) fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for EditRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EditRefused {}

mod tag {
    pub(super) const NEXT_FILE_COUNTER: u64 = 1;
    pub(super) const LAST_SEQNO: u64 = 2;
    pub(super) const NEXT_KEYSPACE_ID: u64 = 3;
    pub(super) const KEYSPACE_CREATED: u64 = 4;
    pub(super) const KEYSPACE_RENAMED: u64 = 5;
    pub(super) const KEYSPACE_OPTIONS: u64 = 6;
    pub(super) const KEYSPACE_DROPPED: u64 = 7;
    pub(super) const TABLE_ADDED: u64 = 8;
    pub(super) const TABLE_REMOVED: u64 = 9;
    pub(super) const TABLE_MOVED: u64 = 10;
    pub(super) const FLUSHED_UP_TO: u64 = 11;
    pub(super) const LOG_ADDED: u64 = 12;
    pub(super) const LOG_REMOVED: u64 = 13;

    /// As [`TABLE_ADDED`], for a table that has extras.
    pub(super) const TABLE_WITH_EXTRAS_ADDED: u64 = 33;
    pub(super) const LOG_DURABLE: u64 = 40;
    pub(super) const CLOSED: u64 = 41;
}

impl VersionEdit {
    /// Appends the bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        for record in &self.records {
            body.clear();
            put_varint(out, record.encode_body(&mut body));
            put_bytes(out, &body);
        }
    }

    /// Decodes an edit that takes up all of `bytes`.
    ///
    /// # Errors
    /// If they are not an edit; see [`EditError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EditError> {
        let mut decoder = Decoder::new(bytes);
        let mut records = Vec::new();
        while !decoder.is_empty() {
            let start = decoder.clone();
            let tag = decoder.varint()?;
            let body = decoder.bytes()?;
            let body_start = decoder.position().saturating_sub(body.len());
            records.push(EditRecord::decode(tag, body, &start, body_start)?);
        }
        if records.is_empty() {
            return Err(decoder.error("edit holds no record").into());
        }
        Ok(Self { records })
    }
}

impl FromIterator<EditRecord> for VersionEdit {
    fn from_iter<I: IntoIterator<Item = EditRecord>>(records: I) -> Self {
        Self { records: records.into_iter().collect() }
    }
}

impl EditRecord {
    /// The keyspace that the record is about, if it is about one.
    #[must_use]
    pub const fn keyspace(&self) -> Option<KeyspaceId> {
        match self {
            Self::KeyspaceCreated { keyspace, .. }
            | Self::KeyspaceRenamed { keyspace, .. }
            | Self::KeyspaceOptions { keyspace, .. }
            | Self::KeyspaceDropped { keyspace }
            | Self::TableAdded { keyspace, .. }
            | Self::TableRemoved { keyspace, .. }
            | Self::TableMoved { keyspace, .. }
            | Self::FlushedUpTo { keyspace, .. } => Some(*keyspace),
            Self::NextFileCounter(_)
            | Self::LastSeqno(_)
            | Self::NextKeyspaceId(_)
            | Self::LogAdded(_)
            | Self::LogRemoved(_)
            | Self::LogDurable { .. }
            | Self::Closed => None,
        }
    }

    /// Appends everything except the tag, which it returns.
    fn encode_body(&self, out: &mut Vec<u8>) -> u64 {
        if let Some(keyspace) = self.keyspace() {
            put_varint(out, keyspace.0.into());
        }
        match self {
            Self::NextFileCounter(counter) => {
                put_varint(out, *counter);
                tag::NEXT_FILE_COUNTER
            }
            Self::LastSeqno(seqno) => {
                put_varint(out, seqno.get());
                tag::LAST_SEQNO
            }
            Self::NextKeyspaceId(id) => {
                put_varint(out, (*id).into());
                tag::NEXT_KEYSPACE_ID
            }
            Self::KeyspaceCreated { name, order, options, .. } => {
                put_bytes(out, name.as_bytes());
                put_bytes(out, order.as_bytes());
                put_bytes(out, options);
                tag::KEYSPACE_CREATED
            }
            Self::KeyspaceRenamed { name, .. } => {
                put_bytes(out, name.as_bytes());
                tag::KEYSPACE_RENAMED
            }
            Self::KeyspaceOptions { options, .. } => {
                put_bytes(out, options);
                tag::KEYSPACE_OPTIONS
            }
            Self::KeyspaceDropped { .. } => tag::KEYSPACE_DROPPED,
            Self::TableAdded { level, run, properties, .. } => {
                put_place(out, *level, *run);
                properties.encode(out);
                let is_plain = properties.extras.is_empty();
                if is_plain { tag::TABLE_ADDED } else { tag::TABLE_WITH_EXTRAS_ADDED }
            }
            Self::TableRemoved { table, .. } => {
                put_file(out, table.0);
                tag::TABLE_REMOVED
            }
            Self::TableMoved { table, level, run, .. } => {
                put_file(out, table.0);
                put_place(out, *level, *run);
                tag::TABLE_MOVED
            }
            Self::FlushedUpTo { seqno, .. } => {
                put_varint(out, seqno.get());
                tag::FLUSHED_UP_TO
            }
            Self::LogAdded(log) => {
                put_file(out, log.0);
                tag::LOG_ADDED
            }
            Self::LogRemoved(log) => {
                put_file(out, log.0);
                tag::LOG_REMOVED
            }
            Self::LogDurable { log, offset } => {
                put_file(out, log.0);
                put_varint(out, *offset);
                tag::LOG_DURABLE
            }
            Self::Closed => tag::CLOSED,
        }
    }

    /// Decodes the record of `tag`, whose body is `bytes`; in the edit, the tag is at `start` and
    /// the body at `body_start`.
    fn decode(
        tag: u64,
        bytes: &[u8],
        start: &Decoder<'_>,
        body_start: usize,
    ) -> Result<Self, EditError> {
        let format = tag.saturating_sub(1) / TAGS_PER_FORMAT;
        let format = u16::try_from(format).unwrap_or(u16::MAX).saturating_add(1);
        if format > MANIFEST_FORMAT {
            return Err(EditError::NewerRecord { tag, format });
        }
        let mut decoder = Decoder::new(bytes);
        let record = Self::decode_body(tag, &mut decoder)
            .and_then(|record| decoder.finish().map(|()| record))
            .map_err(|error| DecodeError {
                position: body_start.saturating_add(error.position),
                what: error.what,
            })?;
        record.ok_or_else(|| start.error("record tag is not defined").into())
    }

    /// `Ok(None)` for a tag that no release writes.
    fn decode_body(tag: u64, d: &mut Decoder<'_>) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match tag {
            tag::NEXT_FILE_COUNTER => Self::NextFileCounter(d.varint()?),
            tag::LAST_SEQNO => Self::LastSeqno(seqno(d)?),
            tag::NEXT_KEYSPACE_ID => Self::NextKeyspaceId(d.varint_u32()?),
            tag::KEYSPACE_CREATED => Self::KeyspaceCreated {
                keyspace: keyspace(d)?,
                name: text(d)?,
                order: text(d)?,
                options: d.bytes()?.to_vec(),
            },
            tag::KEYSPACE_RENAMED => {
                Self::KeyspaceRenamed { keyspace: keyspace(d)?, name: text(d)? }
            }
            tag::KEYSPACE_OPTIONS => {
                Self::KeyspaceOptions { keyspace: keyspace(d)?, options: d.bytes()?.to_vec() }
            }
            tag::KEYSPACE_DROPPED => Self::KeyspaceDropped { keyspace: keyspace(d)? },
            tag::TABLE_ADDED | tag::TABLE_WITH_EXTRAS_ADDED => {
                let misplaced = d.error("table extras do not fit the record tag");
                let keyspace = keyspace(d)?;
                let (level, run) = place(d)?;
                let properties = Arc::new(TableProperties::decode(d)?);
                if properties.extras.is_empty() != (tag == tag::TABLE_ADDED) {
                    return Err(misplaced);
                }
                Self::TableAdded { keyspace, level, run, properties }
            }
            tag::TABLE_REMOVED => {
                Self::TableRemoved { keyspace: keyspace(d)?, table: TableId(file(d)?) }
            }
            tag::TABLE_MOVED => {
                let (keyspace, table) = (keyspace(d)?, TableId(file(d)?));
                let (level, run) = place(d)?;
                Self::TableMoved { keyspace, table, level, run }
            }
            tag::FLUSHED_UP_TO => Self::FlushedUpTo { keyspace: keyspace(d)?, seqno: seqno(d)? },
            tag::LOG_ADDED => Self::LogAdded(LogId(file(d)?)),
            tag::LOG_REMOVED => Self::LogRemoved(LogId(file(d)?)),
            tag::LOG_DURABLE => Self::LogDurable { log: LogId(file(d)?), offset: d.varint()? },
            tag::CLOSED => Self::Closed,
            _ => return Ok(None),
        }))
    }
}

fn put_file(out: &mut Vec<u8>, id: FileId) {
    put_varint(out, id.owner.0.into());
    put_varint(out, id.counter);
}

fn put_place(out: &mut Vec<u8>, level: usize, run: RunId) {
    put_varint(out, level as u64);
    put_varint(out, run.0);
}

fn file(d: &mut Decoder<'_>) -> Result<FileId, DecodeError> {
    Ok(FileId { owner: OwnerId(d.varint_u32()?), counter: d.varint()? })
}

fn place(d: &mut Decoder<'_>) -> Result<(usize, RunId), DecodeError> {
    Ok((d.varint_usize()?, RunId(d.varint()?)))
}

fn keyspace(d: &mut Decoder<'_>) -> Result<KeyspaceId, DecodeError> {
    Ok(KeyspaceId(d.varint_u32()?))
}

fn seqno(d: &mut Decoder<'_>) -> Result<SeqNo, DecodeError> {
    let too_large = d.error("sequence number does not fit 56 bits");
    SeqNo::new(d.varint()?).ok_or(too_large)
}

fn text(d: &mut Decoder<'_>) -> Result<String, DecodeError> {
    let not_text = d.error("name is not text");
    String::from_utf8(d.bytes()?.to_vec()).ok().ok_or(not_text)
}

impl fmt::Display for EditRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NextFileCounter(counter) => write!(f, "next-file-counter {counter}"),
            Self::LastSeqno(seqno) => write!(f, "last-seqno {seqno}"),
            Self::NextKeyspaceId(id) => write!(f, "next-keyspace-id {id}"),
            Self::KeyspaceCreated { keyspace, name, order, options } => {
                write!(f, "keyspace-created {keyspace} {name:?} order {order:?} options ")?;
                write_hex(f, options)
            }
            Self::KeyspaceRenamed { keyspace, name } => {
                write!(f, "keyspace-renamed {keyspace} {name:?}")
            }
            Self::KeyspaceOptions { keyspace, options } => {
                write!(f, "keyspace-options {keyspace} ")?;
                write_hex(f, options)
            }
            Self::KeyspaceDropped { keyspace } => write!(f, "keyspace-dropped {keyspace}"),
            Self::TableAdded { keyspace, level, run, properties } => {
                write!(f, "table-added {keyspace} L{level} {run} {}", TableText(properties))
            }
            Self::TableRemoved { keyspace, table } => {
                write!(f, "table-removed {keyspace} {table}")
            }
            Self::TableMoved { keyspace, table, level, run } => {
                write!(f, "table-moved {keyspace} {table} L{level} {run}")
            }
            Self::FlushedUpTo { keyspace, seqno } => {
                write!(f, "flushed-up-to {keyspace} {seqno}")
            }
            Self::LogAdded(log) => write!(f, "log-added {log}"),
            Self::LogRemoved(log) => write!(f, "log-removed {log}"),
            Self::LogDurable { log, offset } => write!(f, "log-durable {log} {offset}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}

impl fmt::Display for VersionEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.records.iter().try_for_each(|record| writeln!(f, "{record}"))
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    if bytes.is_empty() {
        return f.write_str("-");
    }
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
