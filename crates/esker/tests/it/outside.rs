//! Tables written outside the database, to be ingested.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use esker::env::Env;
use esker::{Order, Result, TableWriter, TableWriterOptions};

use crate::random::{Rng, expiry_at};
use crate::state::{How, Turn, Write};

/// The directory of the tables.
pub(crate) const OUTSIDE: &str = "outside";

/// Later than any clock of a test.
const FAR_MILLIS: u64 = 1 << 50;

/// Writes to the keyspace `name`, at least one: deletes of ranges, then entries ascending by key.
pub(crate) fn sorted_writes(rng: &mut Rng, name: &str, turn: Turn) -> Vec<Write> {
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
        return vec![Write::delete_range(name, range, turn)];
    }
    let range_count = rng.below(5).saturating_sub(2);
    let one = |rng: &mut Rng| loop {
        let write = Write::delete_range(name, rng.range_to_delete(), turn);
        // In a table each range has an end.
        if !matches!(write.range, Some((_, Bound::Unbounded))) {
            return write;
        }
    };
    (0..range_count).map(|_| one(rng)).chain(writes.into_values()).collect()
}

/// Writes `writes`, whose entries ascend bytewise, to up to `count` tables for keys in `order`, under
/// names that are free. Deletes of ranges are cut where one table ends and the next one starts.
pub(crate) fn write_tables(
    env: &Env,
    order: &Order,
    writes: &[Write],
    count: usize,
) -> Result<Vec<PathBuf>> {
    let turn = Turn::of(order);
    let (ranges, mut entries): (Vec<Write>, Vec<Write>) =
        writes.iter().cloned().partition(|write| write.range.is_some());
    entries.sort_by(|a, b| turn.compare(&a.key, &b.key));
    env.fs.create_dir_all(Path::new(OUTSIDE))?;
    let mut paths = Vec::new();
    let mut number = env.fs.list(Path::new(OUTSIDE))?.len();
    let shares: Vec<&[Write]> = match entries.len() {
        0 => vec![&[]],
        len => entries.chunks(len.div_ceil(count)).collect(),
    };
    for (at, share) in shares.iter().enumerate() {
        let first = |share: &&[Write]| share[0].key.to_vec();
        let start = (0 < at).then(|| first(share));
        let end = shares.get(at + 1).map(first);
        let own = ranges.iter().filter_map(|write| cut(write, (&start, &end), turn));
        let mut path = PathBuf::from(OUTSIDE).join(format!("{number}.table"));
        while env.fs.exists(&path)? {
            number += 1;
            path = PathBuf::from(OUTSIDE).join(format!("{number}.table"));
        }
        let (order, block_size_bytes) = (order.clone(), 256);
        let options = TableWriterOptions { order, block_size_bytes, ..Default::default() };
        let mut writer = TableWriter::create_in(env, &path, options)?;
        for write in own.chain(share.iter().cloned()) {
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

/// A delete of a range, as far as the keys of a table reach: from the first of its own to that of the
/// next table, where there are others.
fn cut(
    write: &Write,
    (first, next): (&Option<Vec<u8>>, &Option<Vec<u8>>),
    turn: Turn,
) -> Option<Write> {
    use Bound::{Excluded, Included, Unbounded};
    let (start, end) = write.range.clone().expect("it deletes a range");
    let is_before = |a: &[u8], b: &[u8]| turn.compare(a, b).is_lt();
    let start = match (&start, first) {
        (Included(key) | Excluded(key), Some(first)) if is_before(key, first) => {
            Included(first.clone())
        }
        (Unbounded, Some(first)) => Included(first.clone()),
        _ => start,
    };
    let end = match (&end, next) {
        (Included(key) | Excluded(key), Some(next)) if is_before(key, next) => end,
        (_, Some(next)) => Excluded(next.clone()),
        _ => end,
    };
    let is_inverted = match (&start, &end) {
        (Included(start) | Excluded(start), Included(end) | Excluded(end)) => is_before(end, start),
        _ => false,
    };
    (!is_inverted).then(|| Write { range: Some((start, end)), ..write.clone() })
}
