//! A table: its properties, its range tombstones, then its entries in order.

use std::io::Write;
use std::sync::Arc;

use esker_base::{EntryKind, Fragments, TableId};
use esker_cache::{BlockCache, Budget};
use esker_env::FileError;
use esker_table::{
    Adoption, BlobFiles, BlobReference, Ownership, Table, TableContext, TableProperties,
};

use super::{Opened, SHOWN_WIDTH, content};
use crate::failure::{Failure, Result};
use crate::text::{grouped, shortened, size};

/// Memory for blocks; each is read once.
const BUDGET_BYTES: u64 = 16 << 20;

pub(super) fn dump(opened: &Opened, limit: u64, out: &mut dyn Write) -> Result<()> {
    let adoption = adoption(opened)?;
    let id = adoption.map_or(TableId(opened.header.id), |adoption| adoption.id);
    if opened.path.file_name().is_none_or(|name| name.to_string_lossy() != id.file_name()) {
        let by = if adoption.is_some() { "adoption record" } else { "header" };
        let what = format!("by its {by} this is {0}; give it that name to read it", id.file_name());
        return Err(Failure::Other(what));
    }
    let mut context = context(opened);
    if let Some(Adoption { id, database, .. }) = adoption {
        context.database = database;
        writeln!(out, "adopted as {id} by database {database}")?;
    }
    let table = Arc::new(Table::open_file(Arc::new(context), id)?);
    properties(table.properties(), out)?;
    let ranges = table.ranges()?.into_iter().flat_map(Fragments::tombstones);
    for range in ranges {
        let (start, kind) = (shortened(&range.start, SHOWN_WIDTH), EntryKind::RangeTombstone);
        writeln!(out, "{start} @{} {kind}{}", range.seqno, content(kind, &range.end))?;
    }
    let mut cursor = table.cursor(false);
    cursor.seek_to_first()?;
    let mut count = 0;
    while cursor.is_valid() && count < limit {
        let key = cursor.key();
        let (seqno, kind) = (key.seqno(), key.kind());
        write!(out, "{} @{seqno} {kind}", shortened(key.user_key, SHOWN_WIDTH))?;
        if let (EntryKind::BlobReference, Ok(blob)) = (kind, BlobReference::decode(cursor.value()))
        {
            let (file, offset) = (blob.file.file_name(), blob.block.offset);
            writeln!(out, " = {} bytes in {file} at {offset}", blob.value_len)?;
        } else {
            writeln!(out, "{}", content(kind, cursor.value()))?;
        }
        count += 1;
        cursor.next()?;
    }
    Ok(())
}

/// Which database took the table over, and as which, where one did.
fn adoption(opened: &Opened) -> Result<Option<Adoption>> {
    let file = opened.env.fs.open(&opened.path).map_err(FileError::from)?;
    Ok(Adoption::told_by(&*file)?)
}

/// The context for reading files beside `opened`, by its header.
pub(super) fn context(opened: &Opened) -> TableContext {
    let budget = Budget::new(BUDGET_BYTES);
    TableContext {
        fs: Arc::clone(&opened.env.fs),
        dir: opened.dir.clone(),
        database: opened.header.database,
        cache: BlockCache::new(Arc::clone(&budget), None),
        budget,
        clock: Arc::clone(&opened.env.clock),
        blobs: BlobFiles::default(),
        owned: Ownership::default(),
    }
}

fn properties(properties: &TableProperties, out: &mut dyn Write) -> Result<()> {
    let p = properties;
    writeln!(out, "keyspace {}, built for level {}", p.keyspace, p.level)?;
    writeln!(
        out,
        "{} entries, {} of them tombstones; sequence numbers {} to {}",
        grouped(p.entry_count),
        grouped(p.tombstone_count),
        p.seqno_min,
        p.seqno_max
    )?;
    let (first, last) = (shortened(&p.smallest_key, 30), shortened(&p.largest_key, 30));
    writeln!(out, "keys {first} to {last}")?;
    writeln!(
        out,
        "keys {}, values {}, in {} blocks of together {} ({}); {} filter bits a key",
        size(p.key_bytes),
        size(p.value_bytes),
        grouped(p.data_block_count.into()),
        size(p.data_bytes),
        p.compression,
        p.filter_bits_per_key
    )?;
    if let Some(rule) = p.extras.prefix_rule {
        writeln!(out, "its filter holds prefixes of keys, {rule}")?;
    }
    for one in p.blob_uses() {
        writeln!(
            out,
            "{} values in {}, {} of its {}",
            grouped(one.count),
            one.facts.id.file_name(),
            size(one.bytes),
            size(one.facts.file_bytes)
        )?;
    }
    Ok(())
}
