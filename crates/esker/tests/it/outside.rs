//! Tables that are written outside of the database, to be ingested.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use esker::env::Env;
use esker::{Order, Result, TableWriter, TableWriterOptions};

use crate::random::{Rng, expiry_at};
use crate::state::{How, Write};

/// The directory of the tables.
pub(crate) const OUTSIDE: &str = "outside";

/// Later than any clock of a test.
const FAR_MILLIS: u64 = 1 << 50;

/// Writes to the keyspace `name`, at least one: deletes of ranges, then entries ascending by key.
pub(crate) fn sorted_writes(rng: &mut Rng, name: &str, is_reversed: bool) -> Vec<Write> {
    let count = rng.below(30);
    let mut writes = BTreeMap::new();
    for _ in 0..count {
        let (key, value) = (rng.key(), rng.value());
        let write = match rng.below(8) {
            0 | 1 => Write::delete(name, &key),
            2 => Write::merge(name, &key, &value),
            3 => Write::put_until(name, &key, &value, rng.expiry(FAR_MILLIS)),
            _ => Write::put(name, &key, &value),
        };
        writes.insert(key, write);
    }
    if writes.is_empty() {
        let key = |number: u64| format!("key{number:03}").into_bytes();
        let (start, len) = (rng.below(150), 1 + rng.below(30));
        let range = (Bound::Included(key(start)), Bound::Excluded(key(start + len)));
        return vec![Write::delete_range(name, range, is_reversed)];
    }
    let range_count = rng.below(5).saturating_sub(2);
    let one = |rng: &mut Rng| loop {
        let write = Write::delete_range(name, rng.range_to_delete(), is_reversed);
        // In a table each range has an end.
        if !matches!(write.range, Some((_, Bound::Unbounded))) {
            return write;
        }
    };
    (0..range_count).map(|_| one(rng)).chain(writes.into_values()).collect()
}

/// Writes `writes`, whose entries ascend bytewise, to up to `count` tables for keys in `order`, under
/// names that are free. With deletes of ranges, which may reach anywhere, to one table.
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
    let has_ranges = writes.iter().any(|write| write.range.is_some());
    let per_file = if has_ranges { writes.len() } else { writes.len().div_ceil(count) };
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
            match (&write.value, write.how, write.expiry) {
                _ if let Some(range) = &write.range => writer.delete_range(range.clone())?,
                (Some(operand), How::Merge, _) => writer.merge(&write.key, operand)?,
                (Some(value), _, Some(millis)) => {
                    writer.put_with_expiry(&write.key, value, expiry_at(millis))?;
                }
                (Some(value), ..) => writer.put(&write.key, value)?,
                (None, How::SingleDelete, _) => writer.single_delete(&write.key)?,
                (None, ..) => writer.delete(&write.key)?,
            }
        }
        paths.push(writer.finish()?.path);
    }
    Ok(paths)
}
