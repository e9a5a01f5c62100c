//! Counting words without reading: each word adds one to its counter by a merge.
//!
//! `cargo run --example counters -- some words and some more words` counts its arguments in a
//! database in memory, and shows that the counts stay the same when the operands are folded.
//!
//! Does not know how operands are kept.

#![expect(clippy::print_stdout, reason = "an example prints what it has found")]

use esker::operators::{AddU64, SetUnion};
use esker::{Db, KeyspaceOptions, Merge, Result};

fn main() -> Result<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if words.is_empty() {
        words = ["the", "cat", "and", "the", "dog"].map(str::to_owned).into();
    }
    let db = Db::in_memory()?;
    let with = |merge| KeyspaceOptions { merge_operator: Some(merge), ..Default::default() };
    let counts = db.keyspace("counts", with(Merge::new(AddU64)))?;
    let places = db.keyspace("places", with(Merge::new(SetUnion)))?;

    // A counter and the set of places where the word stands, in one batch and without a read.
    for (place, word) in words.iter().enumerate() {
        let mut batch = db.batch();
        batch.merge(&counts, word, AddU64::encode(1));
        batch.merge(&places, word, SetUnion::encode([place.to_string()]));
        batch.commit()?;
    }

    // Readers see the sum; compaction makes one value of the operands.
    let operands = counts.explain_get(&words[0])?.operands_merged;
    db.compact_all()?;
    let after = counts.explain_get(&words[0])?.operands_merged;
    println!("{}: {operands} operands before the compaction, {after} after", words[0]);
    for entry in counts.iter() {
        let (word, count) = entry?;
        let count = AddU64::decode(&count).unwrap_or_default();
        let set = places.get(&word)?.unwrap_or_else(|| b"".as_slice().into());
        let places: Vec<_> = SetUnion::decode(&set).unwrap_or_default();
        let places = places.iter().map(|place| place.escape_ascii().to_string());
        println!("{}: {count}, at {}", word.escape_ascii(), places.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}
