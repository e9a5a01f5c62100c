//! A list of warm blocks: the tables that it names, then its blocks, hottest first.

use std::io::Write;

use esker_base::FileKind;
use esker_tree::WarmList;

use super::Opened;
use crate::failure::{Failure, Result};
use crate::text::grouped;

pub(super) fn dump(opened: &Opened, limit: u64, out: &mut dyn Write) -> Result<()> {
    let id = opened.header.id;
    let file =
        opened.env.fs.open(&opened.path).map_err(|error| Failure::other(error.to_string()))?;
    let list = WarmList::read(&*file, id, opened.header.database)?;
    let (tables, blocks) = (grouped(list.tables.len() as u64), grouped(list.blocks.len() as u64));
    let manifest = id.file_name(FileKind::Manifest);
    writeln!(
        out,
        "{blocks} blocks of {tables} tables were in the cache at the close by {manifest}"
    )?;
    for block in list.blocks.iter().take(usize::try_from(limit).unwrap_or(usize::MAX)) {
        let table = list.tables[block.table as usize];
        let used = if block.was_used_again { ", used again" } else { "" };
        writeln!(out, "{table} block {}{used}", block.slot)?;
    }
    Ok(())
}
