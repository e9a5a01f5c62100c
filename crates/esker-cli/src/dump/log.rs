//! A log segment: its frames, with the operations of their commit groups.
//!
//! The groups are decoded here according to `docs/FORMAT.md`, section 4, not by the engine's code:
//! two implementations of one description. A test dumps what the engine wrote.

use std::io::Write;
use std::path::Path;

use esker_base::coding::{DecodeError, Decoder};
use esker_base::{Corruption, EntryKind, FileHeader, FileKind, expiry_of};
use esker_env::FileSystem;
use esker_log::{ExpectedHeader, LogEnd, LogReader};

use super::{Opened, SHOWN_WIDTH, content};
use crate::failure::Result;
use crate::text::{grouped, shortened};

/// The newest format version of log segments decoded here.
const LOG_FORMAT: u16 = 3;

/// Most bytes of the operations of a packed group, decompressed.
const PACKED_BYTES_MAX: usize = 64 << 20;

pub(super) fn dump(opened: &Opened, limit: u64, out: &mut dyn Write) -> Result<()> {
    let mut reader = reader(&*opened.env.fs, &opened.path, &opened.header, LOG_FORMAT)?;
    let name = opened.header.id.file_name(FileKind::Log);
    let mut count = 0;
    while count < limit {
        let Some(frame) = reader.next_frame()? else {
            return end(reader.end(), out);
        };
        let lines = group(frame.payload).map_err(|error| {
            Corruption::undecodable(name.clone(), frame.offset, "a commit group", error)
        })?;
        writeln!(out, "frame at {}: {}", frame.offset, lines.heading)?;
        for line in lines.operations {
            writeln!(out, "  {line}")?;
        }
        count += 1;
    }
    Ok(())
}

/// Opens a segment as what its own header says it is.
pub(super) fn reader(
    fs: &dyn FileSystem,
    path: &Path,
    header: &FileHeader,
    newest_format: u16,
) -> Result<LogReader> {
    let expected = ExpectedHeader {
        kind: header.kind,
        id: header.id,
        database: Some(header.database),
        newest_format,
    };
    Ok(LogReader::open(fs, path, &expected)?)
}

/// Says how a segment ends.
pub(super) fn end(end: LogEnd, out: &mut dyn Write) -> Result<()> {
    let how = match end {
        LogEnd::Sealed { .. } => "sealed, nothing is missing",
        LogEnd::Clean { .. } => "after a whole frame, not sealed",
        LogEnd::Torn { .. } => "torn: a frame after it was not written whole",
    };
    writeln!(out, "end at {}: {how}", end.offset())?;
    Ok(())
}

/// A commit group as text.
struct Group {
    heading: String,
    operations: Vec<String>,
}

fn group(payload: &[u8]) -> std::result::Result<Group, DecodeError> {
    let mut decoder = Decoder::new(payload);
    let is_packed = payload.first() == Some(&0);
    if is_packed {
        decoder.u8()?;
    }
    let first_seqno = decoder.varint()?;
    let unlogged_before = decoder.varint()?;
    let count = decoder.varint()?;
    let mut heading = match count {
        0 => format!("a mark, the next sequence number is {first_seqno}"),
        _ => format!("{} operations from sequence number {first_seqno}", grouped(count)),
    };
    if unlogged_before > 0 {
        heading += &format!(", {} before it in no log", grouped(unlogged_before));
    }
    let unpacked;
    if is_packed {
        unpacked = unpack(&mut decoder)?;
        let (from, to) = (grouped(decoder.rest().len() as u64), grouped(unpacked.len() as u64));
        heading += &format!(", {from} bytes that unpack to {to}");
        decoder = Decoder::new(&unpacked);
    }
    let mut operations = Vec::new();
    for index in 0..count {
        operations.push(operation(&mut decoder, first_seqno.saturating_add(index))?);
    }
    decoder.finish()?;
    Ok(Group { heading, operations })
}

/// Decompresses the rest of a packed group.
fn unpack(decoder: &mut Decoder<'_>) -> std::result::Result<Vec<u8>, DecodeError> {
    let len = decoder.varint_usize()?;
    if PACKED_BYTES_MAX < len {
        return Err(decoder.error("packed operations of an impossible length"));
    }
    let unpacked = lz4_flex::block::decompress(decoder.rest(), len).ok();
    let unpacked = unpacked.filter(|unpacked| unpacked.len() == len);
    unpacked.ok_or_else(|| decoder.error("packed operations do not unpack"))
}

fn operation(decoder: &mut Decoder<'_>, seqno: u64) -> std::result::Result<String, DecodeError> {
    let unknown = decoder.error("unknown kind of operation");
    let kind = EntryKind::from_byte(decoder.u8()?).ok_or(unknown)?;
    let keyspace = decoder.varint_u32()?;
    let key = shortened(decoder.bytes()?, SHOWN_WIDTH);
    let value = match kind {
        EntryKind::Tombstone | EntryKind::SingleDelete => &[],
        EntryKind::BlobReference => return Err(unknown),
        _ => decoder.bytes()?,
    };
    if kind == EntryKind::ExpiringPut && expiry_of(value).is_none() {
        return Err(decoder.error("an expiring put without its expiry"));
    }
    Ok(format!("{key} @{seqno} {kind} in keyspace {keyspace}{}", content(kind, value)))
}
