//! What a warm cache saves after an open: random reads of hot keys from files that the system has
//! forgotten, with and without the list that the close before has left.
//!
//! `cargo run --release -p esker --example warm_cache [DIR]`: a new directory in DIR, or where temporary
//! files go.

use std::io::Write as _;
use std::path::Path;

use esker::env::{Clock as _, Env, SystemClock};
use esker::{Db, Options, Result};

const KEYS: u64 = 1_000_000;
/// The first tenth of the keys is what is read.
const HOT: u64 = KEYS / 10;
const READS: u64 = 50_000;
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let mut out = std::io::stdout();
    let mut say = |line: String| writeln!(out, "{line}").expect("standard output takes a line");
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let dir = parent.join(format!("esker-warm-{}", std::process::id()));
    fill(&dir)?;
    let clock = SystemClock::default();
    say("                    open   warming  of it reads  blocks   reads: wall    ns each  loads"
        .to_owned());
    for round in 0..ROUNDS * 2 {
        let is_warm = round % 2 == 1;
        // The list of this round: of a cache that has been read for a while.
        let db = open(&dir, is_warm)?;
        db.wait_until_settled()?;
        read(&db)?;
        db.close()?;
        forget(&dir)?;
        let start = clock.now();
        let db = open(&dir, is_warm)?;
        let opened = clock.now() - start;
        db.wait_until_settled()?;
        let warmed = clock.now() - start - opened;
        let blocks = db.stats().counters.warmed_blocks;
        let reads = db.events().iter().find_map(|(_, event)| match event {
            esker::Event::Warmed { reads, .. } => Some(*reads),
            _ => None,
        });
        let start = clock.now();
        read(&db)?;
        let wall = clock.now() - start;
        say(format!(
            "{:<12} {:>9.1?} {:>9.1?} {:>12} {blocks:>7} {:>13.1?} {:>10} {:>6}",
            if is_warm { "warm" } else { "cold" },
            opened,
            warmed,
            reads.unwrap_or(0),
            wall,
            wall.as_nanos() as u64 / READS,
            db.stats().cache.loads,
        ));
        db.close()?;
    }
    Env::os()
        .fs
        .list(&dir)?
        .iter()
        .try_for_each(|entry| Env::os().fs.remove(&dir.join(&entry.name)))?;
    Ok(())
}

fn open(dir: &Path, warm_cache: bool) -> Result<Db> {
    let memory_budget_bytes = 256 << 20;
    let options = Options { warm_cache, memory_budget_bytes, ..Options::default() };
    Db::builder(dir).options(options).open()
}

fn key(number: u64) -> String {
    format!("key {number:012}")
}

fn fill(dir: &Path) -> Result<()> {
    let db = open(dir, false)?;
    let mut loader = db.bulk_loader(db.default_keyspace())?;
    for number in 0..KEYS {
        loader.put(key(number), format!("{number} {}", "value ".repeat(16)))?;
    }
    loader.finish()?;
    db.close()
}

/// Random reads of the keys that are hot: the first tenth, so that others stay cold.
fn read(db: &Db) -> Result<()> {
    for read in 0..READS {
        let found = db.get(key(read * 0x9e37_79b1 % HOT))?;
        assert!(found.is_some(), "a key is missing");
    }
    Ok(())
}

/// Lets the system drop what it has of the tables, as after it was started anew.
fn forget(dir: &Path) -> Result<()> {
    let fs = Env::os().fs;
    for entry in fs.list(dir)? {
        if entry.name.ends_with(".table") {
            fs.open(&dir.join(&entry.name))?.forget(0..entry.len);
        }
    }
    Ok(())
}
