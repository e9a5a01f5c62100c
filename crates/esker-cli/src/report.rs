//! What the shell, the one-shot commands and the tour print alike: the tree, and counters.

use std::io::Write;

use esker::{Db, Keyspace};

use crate::failure::Result;
use crate::picture;
use crate::text::{grouped, size};

/// Draws the tree of a keyspace, memtables first.
pub(crate) fn levels(keyspace: &Keyspace, out: &mut dyn Write) -> Result<()> {
    let levels = keyspace.levels();
    let (tables, bytes) = (levels.table_count() as u64, levels.bytes());
    writeln!(out, "keyspace {}: {} tables, {}", levels.keyspace, grouped(tables), size(bytes))?;
    for (index, memtable) in levels.memtables.iter().enumerate() {
        let name = if index == 0 { "memtable" } else { "immutable memtable" };
        let entries = grouped(memtable.entry_count);
        writeln!(out, "{name}: {entries} entries, {}", size(memtable.bytes))?;
    }
    out.write_all(picture::draw(&levels.levels).as_bytes())?;
    Ok(())
}

/// Prints health and counters of a database, one a line.
pub(crate) fn stats(db: &Db, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "health {}", db.health())?;
    write!(out, "{}", db.stats())?;
    Ok(())
}
