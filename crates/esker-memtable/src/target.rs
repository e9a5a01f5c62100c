//! What a search looks for: an internal key, taken apart for comparisons.

use std::cmp::Ordering;

use esker_base::{InternalKey, key_head};

use crate::entry::EntryRef;

/// An internal key to compare with entries.
#[derive(Clone, Copy)]
pub(crate) struct Target<'k> {
    user_key: &'k [u8],
    trailer_word: u64,
}

impl<'k> Target<'k> {
    #[inline]
    pub(crate) const fn new(key: InternalKey<'k>) -> Self {
        Self { user_key: key.user_key, trailer_word: key.trailer.word() }
    }

    /// The eight bytes that a node compares, all of whose keys share their first `skip` bytes.
    #[inline]
    pub(crate) fn head(&self, skip: usize) -> u64 {
        key_head(&self.user_key[skip..])
    }

    /// Where the target lies, seen from a node whose keys begin as `entry` does for `skip` bytes:
    /// before or behind all of them, or `Equal` if it begins so itself.
    #[inline]
    pub(crate) fn cmp_prefix(&self, entry: EntryRef<'_>, skip: usize) -> Ordering {
        // Mostly; and then the entry, which is far away in memory, need not be looked at.
        if skip == 0 {
            return Ordering::Equal;
        }
        let len = skip.min(self.user_key.len());
        self.user_key[..len].cmp(&entry.user_key()[..skip])
    }

    /// Orders the target's user key against that of `entry`, both of which share `skip` bytes.
    #[inline]
    pub(crate) fn cmp_user_key(&self, entry: EntryRef<'_>, skip: usize) -> Ordering {
        self.user_key[skip..].cmp(&entry.user_key()[skip..])
    }

    /// Orders the target against `entry`, whose user keys share `skip` bytes.
    #[inline]
    pub(crate) fn cmp(&self, entry: EntryRef<'_>, skip: usize) -> Ordering {
        // Of one user key, the larger trailer stands first.
        self.cmp_user_key(entry, skip).then_with(|| entry.trailer_word().cmp(&self.trailer_word))
    }
}
