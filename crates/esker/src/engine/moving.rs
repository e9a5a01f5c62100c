//! Who moves a table from outside into the database: one ingest at a time.
//!
//! A file that is moved gets a second name, and the record that makes it a table of the database is written
//! behind its end. Two ingests that did so with one file at once would write their records over each
//! other, and the table of one of them could not be read. So an ingest claims a table before it gives
//! it a name, and keeps the claim until its record is the last; who finds it claimed copies.
//!
//! Goes by what the header of the table names, which is another for every table that was ever written, so
//! paths and links do not matter. Does not know of other databases.

use esker_base::{DatabaseId, FileId};

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// What the header of a table names.
type Birth = (DatabaseId, FileId);

/// Tables that ingests have claimed.
#[derive(Default)]
pub(crate) struct Moving {
    /// Lock order: last; not held across anything.
    claimed: Mutex<Vec<Birth>>,
}

/// A table that nobody else moves meanwhile.
pub(crate) struct Claim<'a> {
    moving: &'a Moving,
    birth: Birth,
}

impl Moving {
    /// The right to move a table, until it is dropped; `None` if an ingest has it.
    pub(crate) fn claim(&self, birth: Birth) -> Option<Claim<'_>> {
        let mut claimed = self.claimed();
        if claimed.contains(&birth) {
            return None;
        }
        claimed.push(birth);
        Some(Claim { moving: self, birth })
    }

    fn claimed(&self) -> MutexGuard<'_, Vec<Birth>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.moving.claimed().retain(|claimed| *claimed != self.birth);
    }
}
