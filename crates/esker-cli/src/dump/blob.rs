//! A blob file: the contents of its footer, then its values in file order.

use std::io::Write;

use esker_base::BlobFileId;
use esker_table::BlobFileWalk;

use super::table::context;
use super::{Opened, SHOWN_WIDTH};
use crate::failure::{Failure, Result};
use crate::text::{grouped, shortened};

pub(super) fn dump(opened: &Opened, limit: u64, out: &mut dyn Write) -> Result<()> {
    let id = BlobFileId(opened.header.id);
    if opened.path.file_name().is_none_or(|name| name.to_string_lossy() != id.file_name()) {
        let what =
            format!("by its header this is {0}; give it that name to read it", id.file_name());
        return Err(Failure::Other(what));
    }
    let walk = BlobFileWalk::open(&context(opened), id)?;
    let (keyspace, count) = (walk.keyspace(), grouped(walk.record_count()));
    writeln!(out, "keyspace {keyspace}, {count} values; which are garbage, only tables tell")?;
    for record in walk.take(usize::try_from(limit).unwrap_or(usize::MAX)) {
        let record = record?;
        let (offset, key) = (record.block.offset, shortened(record.key(), SHOWN_WIDTH));
        let value = record.value();
        writeln!(
            out,
            "{offset} {key} = {} ({} bytes)",
            shortened(value, SHOWN_WIDTH),
            value.len()
        )?;
    }
    Ok(())
}
