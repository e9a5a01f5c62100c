//! Commands that inspect or maintain a whole database: stats, levels, compact, flush.

use std::ffi::OsStr;
use std::io::Write;
use std::ops::Bound;

use crate::arguments::DatabasePlace;
use crate::failure::Result;
use crate::one_shot::argument;
use crate::{open, report};

/// `esker stats`.
pub(crate) fn stats(place: &DatabasePlace, out: &mut dyn Write) -> Result<()> {
    report::stats(&open::read_only(place)?, out)
}

/// `esker levels`: every keyspace, with an empty line between two.
pub(crate) fn levels(place: &DatabasePlace, out: &mut dyn Write) -> Result<()> {
    let db = open::read_only(place)?;
    for (index, name) in db.keyspaces().iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        report::levels(&open::keyspace(&db, Some(name))?, out)?;
    }
    Ok(())
}

/// `esker compact`: everything, or a range of one keyspace.
pub(crate) fn compact(
    place: &DatabasePlace,
    keyspace: Option<&str>,
    (from, to): (Option<&OsStr>, Option<&OsStr>),
) -> Result<()> {
    let db = open::existing(place)?;
    match keyspace {
        None => db.compact_all()?,
        Some(_) => {
            let bound = |key: Option<&OsStr>| key.map(|key| argument(key, false)).transpose();
            let from = bound(from)?.map_or(Bound::Unbounded, Bound::Included);
            let to = bound(to)?.map_or(Bound::Unbounded, Bound::Excluded);
            open::keyspace(&db, keyspace)?.compact::<Vec<u8>>((from, to))?;
        }
    }
    open::close(db, "the compaction is done")
}

/// `esker flush`: every keyspace.
pub(crate) fn flush(place: &DatabasePlace) -> Result<()> {
    let db = open::existing(place)?;
    db.flush()?;
    open::close(db, "every memtable is in a table")
}
