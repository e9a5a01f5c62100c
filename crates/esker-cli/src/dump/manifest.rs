//! A manifest: its edits, with their records.

use std::io::Write;

use esker_base::{Corruption, FileKind};
use esker_tree::{EditError, MANIFEST_FORMAT, VersionEdit};

use super::Opened;
use super::log::{end, reader};
use crate::failure::{Failure, Result};

pub(super) fn dump(opened: &Opened, limit: u64, out: &mut dyn Write) -> Result<()> {
    let mut reader = reader(&*opened.env.fs, &opened.path, &opened.header, MANIFEST_FORMAT)?;
    let name = opened.header.id.file_name(FileKind::Manifest);
    let mut count = 0;
    while count < limit {
        let Some(frame) = reader.next_frame()? else {
            return end(reader.end(), out);
        };
        let edit = VersionEdit::decode(frame.payload).map_err(|error| match error {
            EditError::Malformed(error) => {
                Corruption::undecodable(name.clone(), frame.offset, "an edit", error).into()
            }
            error => Failure::other(format!("{name} at {}: {error}", frame.offset)),
        })?;
        let what = if count == 0 { "the whole catalog" } else { "an edit" };
        writeln!(out, "frame at {}: {what}, {} records", frame.offset, edit.records.len())?;
        for record in &edit.records {
            writeln!(out, "  {record}")?;
        }
        count += 1;
    }
    Ok(())
}
