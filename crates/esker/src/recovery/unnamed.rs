//! Log segments that the manifest does not name, though what is in them was acknowledged.
//!
//! Segments without a name are usual: an open finds those that were released, or never used. But a
//! segment takes groups only once the edit that names it is durable, and loses its name only by an edit
//! that says a last number not below any in it. So if an unnamed one begins behind the last number that
//! the manifest says, and behind the log, the manifest has lost its last edits, as by an older copy that
//! was put back; and to remove it would remove the only place where those groups are. Whether it begins
//! exactly where the log ends does not matter: segments in between may have been released since.

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

/// Whether the segment `log` in `dir`, which `catalog` does not name, begins behind the last number that it
/// says, and behind `last`, the last one in the segments that it names; `None` if they have no groups.
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
    let is_behind = |group: GroupHeader| {
        let first = group.first_seqno;
        let of_no_groups = !planted::is("unnamed-segment-behind-no-groups");
        catalog.last_seqno < first && last.map_or(of_no_groups, |last| last < first)
    };
    match first_group(fs, &dir.join(log.file_name()), log, catalog.database) {
        Ok(first) => Ok(first.is_some_and(is_behind)),
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
