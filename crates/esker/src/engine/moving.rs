//! Claims on tables that are moved into the database: one ingest at a time moves a given table.
//!
//! A moved file is hard-linked, and the record that makes it a table of the database is appended to
//! it. If two ingests did this to one file at once, their records would overwrite each other, and
//! one of the tables could not be read. So an ingest claims a table before it links it, and keeps
//! the claim until its record is the last; an ingest that finds the table claimed copies it.
//!
//! Identifies a table by its header, which is unique to every table ever written, so paths and
//! links do not matter. Does not know of other databases.

use esker_base::{DatabaseId, FileId};

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// The identity of a table, from its header.
type Birth = (DatabaseId, FileId);

/// Tables that ingests have claimed.
#[derive(Default)]
pub(crate) struct Moving {
    /// Lock order: last; not held across anything.
    claimed: Mutex<Vec<Birth>>,
}

/// A table that nobody else moves in the meantime.
pub(crate) struct Claim<'a> {
    moving: &'a Moving,
    birth: Birth,
}

impl Moving {
    /// The right to move a table, until it is dropped; `None` if another ingest has it.
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
