//! Log segments that the manifest does not name, though what is in them was acknowledged.
//!
//! Segments without a name are usual: an open finds those that were released, or never used. But a
//! segment takes groups only once the edit that names it is durable. So if an unnamed one goes on
//! exactly where the log ends, the manifest has lost its last edits, as by an older copy that was put
//! back; and to remove it would remove the only place where those groups are.

use std::path::Path;

use esker_base::{Corruption, DatabaseId, LogId, SeqNo, planted};
use esker_env::{FileError, FileSystem, IoError};
use esker_log::LogReader;
use esker_tree::Catalog;

use crate::logs::expected_header;
use crate::logs::packed_group::StoredGroup;
use crate::operation::GroupHeader;

/// What is said of such a segment.
pub(crate) const GOES_ON: &str = "the log goes on in this segment, and the manifest does not name it: its last edits are missing";

/// Whether the segment `log` in `dir` begins with what follows number `last`, which is the last in the
/// segments that `catalog` names; `None` if they have no groups. Then it may begin with some of what is in
/// tables, as the first group of the log may.
///
/// # Errors
/// Of the system. What is damaged, what the device does not give, and what is of another database does
/// not go on: an orphan may be like that.
pub(crate) fn goes_on(
    fs: &dyn FileSystem,
    dir: &Path,
    log: LogId,
    catalog: &Catalog,
    last: Option<SeqNo>,
) -> Result<bool, IoError> {
    let follows = |group: GroupHeader| {
        let (first, due) = (group.first_seqno, group.due_after(last.unwrap_or(catalog.last_seqno)));
        let may_repeat = last.is_none() && !planted::is("unnamed-segment-behind-no-groups");
        let follows = first.get() == due || (may_repeat && first.get() < due);
        catalog.last_seqno < first && follows
    };
    match first_group(fs, &dir.join(log.file_name()), log, catalog.database) {
        Ok(first) => Ok(first.is_some_and(follows)),
        Err(FileError::Io(error)) if !error.is_not_found() && !error.is_of_the_device() => {
            Err(error)
        }
        Err(_) => Ok(false),
    }
}

/// The header of the first group that has operations.
fn first_group(
    fs: &dyn FileSystem,
    path: &Path,
    log: LogId,
    database: DatabaseId,
) -> Result<Option<GroupHeader>, FileError> {
    let mut reader = LogReader::open(fs, path, &expected_header(log, database))?;
    while let Some(frame) = reader.next_frame()? {
        let group = StoredGroup::decode(frame.payload).map_err(|error| {
            Corruption::undecodable(log.file_name(), frame.offset, "a commit group", error)
        })?;
        if group.header.count != 0 {
            return Ok(Some(group.header));
        }
    }
    Ok(None)
}
