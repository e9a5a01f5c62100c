//! Tables that are written outside of the database, to be ingested.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use esker::env::Env;
use esker::{Order, Result, TableWriter, TableWriterOptions};

use crate::random::Rng;
use crate::state::Write;

/// The directory of the tables.
pub(crate) const OUTSIDE: &str = "outside";

/// Writes to the keyspace `name`, ascending by key; at least one.
pub(crate) fn sorted_writes(rng: &mut Rng, name: &str) -> Vec<Write> {
    let count = 1 + rng.below(30);
    let mut writes = BTreeMap::new();
    for _ in 0..count {
        let key = rng.key();
        let write = match rng.one_in(4) {
            true => Write::delete(name, &key),
            false => Write::put(name, &key, &rng.value()),
        };
        writes.insert(key, write);
    }
    writes.into_values().collect()
}

/// Writes `writes`, which ascend bytewise, to up to `count` tables for keys in `order`, under names
/// that are free.
pub(crate) fn write_tables(
    env: &Env,
    order: &Order,
    writes: &[Write],
    count: usize,
) -> Result<Vec<PathBuf>> {
    let mut writes = writes.to_vec();
    if *order == Order::reverse_bytewise() {
        writes.reverse();
    }
    env.fs.create_dir_all(Path::new(OUTSIDE))?;
    let per_file = writes.len().div_ceil(count);
    let mut paths = Vec::new();
    let mut number = env.fs.list(Path::new(OUTSIDE))?.len();
    for share in writes.chunks(per_file) {
        let mut path = PathBuf::from(OUTSIDE).join(format!("{number}.table"));
        while env.fs.exists(&path)? {
            number += 1;
            path = PathBuf::from(OUTSIDE).join(format!("{number}.table"));
        }
        let (order, block_size_bytes) = (order.clone(), 256);
        let options = TableWriterOptions { order, block_size_bytes, ..Default::default() };
        let mut writer = TableWriter::create_in(env, &path, options)?;
        for write in share {
            match &write.value {
                Some(value) => writer.put(&write.key, value)?,
                None => writer.delete(&write.key)?,
            }
        }
        paths.push(writer.finish()?.path);
    }
    Ok(paths)
}
