//! Commands that do one thing and end: get, put, del, scan.
//!
//! Reading commands open the database for reading only, and leave its files unchanged.

use std::ffi::OsStr;
use std::io::Write;
use std::ops::Bound;
use std::time::Duration;

use esker::{Durability, Keyspace};

use crate::arguments::{Form, Scan, Target};
use crate::failure::{Failure, Result};
use crate::open;
use crate::output::Printer;
use crate::text::{from_hex, shown};

/// The result of a write once it is committed.
const STORED: &str = "the write is stored";

/// `esker get`: prints the value, or fails with the status for missing keys.
pub(crate) fn get(target: &Target, key: &OsStr, form: Form, out: &mut dyn Write) -> Result<()> {
    let key = argument(key, form.hex)?;
    let db = open::read_only(&target.place)?;
    let value = open::keyspace(&db, target.keyspace.as_deref())?.get(&key)?;
    match value {
        Some(value) => Printer::new(out, form).value(&key, &value),
        None => Err(Failure::NotFound(shown(&key))),
    }
}

/// `esker put`.
pub(crate) fn put(
    target: &Target,
    (key, value): (&OsStr, &OsStr),
    (is_hex, is_synced): (bool, bool),
    ttl: Option<Duration>,
) -> Result<()> {
    let (key, value) = (argument(key, is_hex)?, argument(value, is_hex)?);
    let db = open::existing(&target.place)?;
    let keyspace = open::keyspace(&db, target.keyspace.as_deref())?;
    let mut batch = db.batch();
    match ttl {
        Some(ttl) => batch.put_with_ttl(&keyspace, &key, &value, ttl),
        None => batch.put(&keyspace, &key, &value),
    }
    batch.commit_with(durability(is_synced))?;
    open::close(db, STORED)
}

/// `esker del`.
pub(crate) fn delete(target: &Target, key: &OsStr, is_hex: bool, is_synced: bool) -> Result<()> {
    let key = argument(key, is_hex)?;
    write(target, |keyspace| keyspace.delete_with(&key, durability(is_synced)))
}

fn write(target: &Target, write: impl FnOnce(&Keyspace) -> esker::Result<()>) -> Result<()> {
    let db = open::existing(&target.place)?;
    write(&open::keyspace(&db, target.keyspace.as_deref())?)?;
    open::close(db, STORED)
}

const fn durability(is_synced: bool) -> Durability {
    if is_synced { Durability::Power } else { Durability::Process }
}

/// `esker scan`: prints the entries; finding none is no failure.
pub(crate) fn scan(arguments: &Scan, out: &mut dyn Write) -> Result<()> {
    let is_hex = arguments.form.hex;
    let bound = |key: &Option<_>| key.as_deref().map(|key| argument(key, is_hex)).transpose();
    let from = bound(&arguments.from)?.map_or(Bound::Unbounded, Bound::Included);
    let to = bound(&arguments.to)?.map_or(Bound::Unbounded, Bound::Excluded);
    let prefix = bound(&arguments.prefix)?;
    let db = open::read_only(&arguments.target.place)?;
    let keyspace = open::keyspace(&db, arguments.target.keyspace.as_deref())?;
    let entries = match prefix {
        Some(prefix) => keyspace.prefix(prefix),
        None => keyspace.scan::<Vec<u8>>((from, to)),
    };
    let limit =
        arguments.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut printer = Printer::new(out, arguments.form);
    let mut print = |entry: esker::Result<(esker::Key, esker::Value)>| {
        let (key, value) = entry?;
        if arguments.keys_only { printer.key(&key) } else { printer.entry(&key, &value) }
    };
    if arguments.reverse {
        entries.rev().take(limit).try_for_each(&mut print)
    } else {
        entries.take(limit).try_for_each(&mut print)
    }
}

/// The bytes of an argument: its own, or those of its hexadecimal digits.
pub(crate) fn argument(argument: &OsStr, is_hex: bool) -> Result<Vec<u8>> {
    let bytes = argument.as_encoded_bytes();
    if is_hex { from_hex(bytes).map_err(Failure::Other) } else { Ok(bytes.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_bytes_or_hexadecimal() {
        assert_eq!(argument(OsStr::new("a\\x00"), false).unwrap(), b"a\\x00");
        assert_eq!(argument(OsStr::new("6100"), true).unwrap(), b"a\0");
        let error = argument(OsStr::new("x"), true).unwrap_err();
        assert_eq!(error.exit_status(), 1);
    }
}
