//! Output shared by the shell, the one-shot commands and the tour: the tree, and counters.

use std::io::Write;

use esker::{Db, Keyspace};

use crate::failure::Result;
use crate::picture;
use crate::text::{grouped, shown, size};

/// Draws the tree of a keyspace, memtables first, and counts its blob files.
pub(crate) fn levels(keyspace: &Keyspace, out: &mut dyn Write) -> Result<()> {
    let levels = keyspace.levels();
    let (tables, bytes) = (levels.table_count() as u64, levels.bytes());
    let name = shown(levels.keyspace.as_bytes());
    writeln!(out, "keyspace {name}: {} tables, {}", grouped(tables), size(bytes))?;
    for (index, memtable) in levels.memtables.iter().enumerate() {
        let name = if index == 0 { "memtable" } else { "immutable memtable" };
        let entries = grouped(memtable.entry_count);
        writeln!(out, "{name}: {entries} entries, {}", size(memtable.bytes))?;
    }
    out.write_all(picture::draw(&levels.levels, &keyspace.options().order).as_bytes())?;
    if !levels.blob_files.is_empty() {
        let count = grouped(levels.blob_files.len() as u64);
        let bytes = levels.blob_files.iter().map(|file| file.bytes).sum();
        let garbage = levels.blob_files.iter().map(|file| file.garbage_bytes).sum();
        writeln!(out, "blob files: {count}, {}, {} of it garbage", size(bytes), size(garbage))?;
    }
    Ok(())
}

/// Prints health and counters of a database, one per line.
pub(crate) fn stats(db: &Db, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "health {}", shown(db.health().to_string().as_bytes()))?;
    write!(out, "{}", db.stats())?;
    Ok(())
}
