//! Opens databases and keyspaces as the commands need them.

use std::path::Path;

use esker::{Db, Keyspace};

use crate::arguments::KeyOrder;
use crate::failure::{Failure, Result};

/// Opens the database in `dir`, which must exist, for reading and writing.
pub(crate) fn existing(dir: &Path) -> Result<Db> {
    Ok(Db::builder(dir).create_if_missing(false).open()?)
}

/// Opens the database in `dir`, which must exist, for reading: nothing in it changes.
pub(crate) fn read_only(dir: &Path) -> Result<Db> {
    Ok(Db::builder(dir).read_only(true).open()?)
}

/// Opens the database in `dir`, creating it if there is none.
pub(crate) fn or_create(dir: &Path) -> Result<Db> {
    Ok(Db::open(dir)?)
}

/// The keyspace of that name, which must exist; the default one without a name.
pub(crate) fn keyspace(db: &Db, name: Option<&str>) -> Result<Keyspace> {
    let Some(name) = name else { return Ok(db.default_keyspace().clone()) };
    db.existing_keyspace(name)?.ok_or_else(|| {
        let known = db.keyspaces().join(", ");
        Failure::other(format!("there is no keyspace '{name}'; there are: {known}"))
    })
}

/// The keyspace of that name, created in that order if there is none; the default one without a
/// name.
pub(crate) fn keyspace_or_create(
    db: &Db,
    name: Option<&str>,
    order: Option<KeyOrder>,
) -> Result<Keyspace> {
    let Some(name) = name else { return Ok(db.default_keyspace().clone()) };
    let existing = db.existing_keyspace(name)?;
    let mut options = existing.as_ref().map(Keyspace::options).unwrap_or_default();
    if let Some(order) = order {
        options.order = order.order();
    }
    match existing {
        Some(keyspace) if keyspace.options() == options => Ok(keyspace),
        // With another order than it was created with it is refused.
        _ => Ok(db.keyspace(name, options)?),
    }
}
