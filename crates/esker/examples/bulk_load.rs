//! Two ways to bring much into a database at once: a bulk loader, which takes entries in any order,
//! and tables that were written elsewhere, which are ingested as they are.
//!
//! Run with `cargo run --example bulk_load`. Says what it did and removes what it wrote.

use std::io::Write as _;

use esker::{Db, IngestOptions, Result, TableWriter, TableWriterOptions};

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("esker-bulk-load-{}", std::process::id()));
    let db = Db::open(dir.join("db"))?;
    let mut out = std::io::stdout();
    let mut say = |line: String| writeln!(out, "{line}").expect("standard output takes a line");

    // Entries in any order; of several with one key the last counts. Nothing is visible before the
    // end, and then all of it at once.
    let mut loader = db.bulk_loader(db.default_keyspace())?;
    for number in 0..100_000_u64 {
        let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 90_000;
        loader.put(format!("user/{key:05}"), format!("loaded as number {number}"))?;
    }
    let report = loader.finish()?;
    say(format!("loaded {} entries into {} tables", report.entries, report.tables));

    // A table that some other program may have written, on some other machine.
    let path = dir.join("prices.table");
    let mut writer = TableWriter::create(&path, TableWriterOptions::default())?;
    for number in 0..1_000 {
        writer.put(format!("price/{number:04}"), format!("{}", number * 7 % 100))?;
    }
    writer.finish()?;
    let options = IngestOptions { move_files: true, ..IngestOptions::default() };
    let report = db.ingest(db.default_keyspace(), &[&path], options)?;
    for table in &report.tables {
        say(format!("ingested {} entries into level {}", table.entries, table.level));
    }

    say(format!("price/0123 is {:?}", db.get("price/0123")?));
    say(format!("the log has {} bytes", db.stats().counters.log_bytes));
    db.close()?;
    if let Err(error) = std::fs::remove_dir_all(&dir) {
        say(format!("{} stays: {error}", dir.display()));
    }
    Ok(())
}
