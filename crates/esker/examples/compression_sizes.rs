//! What compression makes of real records: loads a file of lines, key and value with a tab between
//! them, under several choices for the last level, and says how large the tables are.
//!
//! `zcat` the cities that the program carries to a file `cities.tsv`, then
//! `cargo run --features zstd --example compression_sizes -- cities.tsv`.

use std::io::Write as _;

use esker::{Compression, Db, KeyspaceOptions, Result};

fn main() -> Result<()> {
    let mut out = std::io::stdout();
    let mut say = |line: String| writeln!(out, "{line}").expect("standard output takes a line");
    let Some(path) = std::env::args().nth(1) else {
        say("usage: compression_sizes FILE".to_owned());
        return Ok(());
    };
    let text = std::fs::read_to_string(path).expect("the file is text");
    let records: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.split_once('\t')).collect();
    let bytes: usize = records.iter().map(|(key, value)| key.len() + value.len()).sum();
    say(format!("{} records, {bytes} bytes", records.len()));
    for (name, options) in choices() {
        let db =
            Db::builder("db").env(esker::env::Env::memory(0)).default_keyspace(options).open()?;
        for (key, value) in &records {
            db.put(key, value)?;
        }
        db.compact::<&[u8]>(..)?;
        let table_bytes = db.stats().keyspaces[0].table_bytes;
        let percent = 100.0 * table_bytes as f64 / bytes as f64;
        say(format!("{name:<28} {table_bytes:>10} bytes, {percent:>5.1} %"));
    }
    Ok(())
}

fn choices() -> Vec<(&'static str, KeyspaceOptions)> {
    let of = |compression| KeyspaceOptions { compression, ..KeyspaceOptions::default() };
    #[cfg_attr(not(feature = "zstd"), expect(unused_mut, reason = "only zstd adds to them"))]
    let mut choices = vec![("none", of(Compression::None)), ("lz4", of(Compression::Lz4))];
    #[cfg(feature = "zstd")]
    {
        let zstd = |zstd_level, zstd_dictionary_bytes| KeyspaceOptions {
            zstd_level,
            zstd_dictionary_bytes,
            ..of(Compression::Zstd)
        };
        choices.push(("zstd 3", zstd(3, 0)));
        choices.push(("zstd 3, dictionary 16 KiB", zstd(3, 16 << 10)));
        choices.push(("zstd 3, dictionary 64 KiB", zstd(3, 64 << 10)));
        choices.push(("zstd 12", zstd(12, 0)));
        choices.push(("zstd 12, dictionary 16 KiB", zstd(12, 16 << 10)));
        let blocks = KeyspaceOptions { block_size_bytes: 16 << 10, ..zstd(3, 0) };
        choices.push(("zstd 3, blocks of 16 KiB", blocks));
    }
    choices
}
