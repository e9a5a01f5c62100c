//! What an entry means to a reader who sees it: the one place that gives kinds their meaning.
//!
//! Puts and tombstones are so frequent that readers know them by heart; they ask here about every
//! other kind, and what they need for it stands in the [`ReadContext`].
//!
//! Does not know which entries a reader sees.

use esker_base::{EXPIRY_LEN, EntryKind, expiry_of};

use crate::operator::{Merge, MergeError, Merger};
use crate::read_error::UnsupportedKind;

/// What a reader needs to give entries their meaning.
#[derive(Clone, Default, Debug)]
pub struct ReadContext {
    /// The keyspace's merge operator, if it has one.
    pub merge: Option<Merge>,
    /// The time that expiries are compared with, in milliseconds since 1970-01-01 UTC. What
    /// expires at it has expired.
    pub now_millis: u64,
}

/// What one entry says about its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// The key has a value: what is stored, from this byte on.
    Value {
        /// How many bytes are stored before the value.
        from: usize,
    },
    /// The key has no value.
    Nothing,
    /// The value is what the merge operator makes of this operand and of what is older.
    Operand,
}

impl ReadContext {
    /// What an entry of `kind` with `stored` as its value means.
    ///
    /// # Errors
    /// For a kind that has no meaning in this release.
    pub fn meaning(&self, kind: EntryKind, stored: &[u8]) -> Result<Meaning, UnsupportedKind> {
        match kind {
            EntryKind::Put => Ok(Meaning::Value { from: 0 }),
            EntryKind::Tombstone | EntryKind::SingleDelete => Ok(Meaning::Nothing),
            EntryKind::Merge => Ok(Meaning::Operand),
            EntryKind::ExpiringPut => match expiry_of(stored) {
                Some(expiry)
                    if expiry <= self.now_millis
                        && !esker_base::planted::is("expired-put-visible") =>
                {
                    Ok(Meaning::Nothing)
                }
                Some(_) => Ok(Meaning::Value { from: EXPIRY_LEN }),
                // No release writes one that is too short to hold its expiry.
                None => Err(UnsupportedKind { kind }),
            },
            _ => Err(UnsupportedKind { kind }),
        }
    }

    /// The operator, to merge the operands of `key`.
    pub(crate) fn merger<'a>(&'a self, key: &'a [u8]) -> Result<Merger<'a>, MergeError> {
        Merger::new(self.merge.as_ref(), key)
    }
}
