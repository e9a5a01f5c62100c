//! Opens databases and keyspaces as commands need them, and closes them.

use esker::{Db, DbBuilder, Keyspace, Options};

use crate::arguments::{DatabasePlace, KeyOrder};
use crate::failure::{Failure, Result};

fn builder(place: &DatabasePlace) -> DbBuilder {
    let options = Options { log_dir: place.log_dir.clone(), ..Options::default() };
    Db::builder(&place.dir).options(options)
}

/// Opens the database in `place`, which must exist, for reading and writing.
pub(crate) fn existing(place: &DatabasePlace) -> Result<Db> {
    Ok(builder(place).create_if_missing(false).open()?)
}

/// Opens the database in `place`, which must exist, for reading: nothing in it changes.
pub(crate) fn read_only(place: &DatabasePlace) -> Result<Db> {
    Ok(builder(place).read_only(true).open()?)
}

/// Opens the database in `place`, creating it if there is none.
pub(crate) fn or_create(place: &DatabasePlace) -> Result<Db> {
    Ok(builder(place).open()?)
}

/// Closes the database. The error of a failure first says what is `done` nevertheless.
pub(crate) fn close(db: Db, done: &str) -> Result<()> {
    db.close().map_err(|error| {
        let what = format!("{done}, but the database could not be closed in order: {error}");
        Failure::worded(&error, what)
    })
}

/// The keyspace of that name, which must exist; without a name, the default one.
pub(crate) fn keyspace(db: &Db, name: Option<&str>) -> Result<Keyspace> {
    let Some(name) = name else { return Ok(db.default_keyspace().clone()) };
    db.existing_keyspace(name)?.ok_or_else(|| {
        let known = db.keyspaces().join(", ");
        Failure::other(format!("there is no keyspace '{name}'; there are: {known}"))
    })
}

/// The keyspace of that name, created in that order if it is missing; without a name, the default
/// one.
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
        // If it was created with another order, it is refused.
        _ => Ok(db.keyspace(name, options)?),
    }
}
