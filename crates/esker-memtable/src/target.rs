//! The target of a search: an internal key, split up for comparisons.

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

    /// The eight bytes to compare in a node whose keys all share their first `skip` bytes.
    #[inline]
    pub(crate) fn head(&self, skip: usize) -> u64 {
        key_head(&self.user_key[skip..])
    }

    /// The target's position relative to a node whose keys all share the first `skip` bytes of
    /// `entry`: before or after all of them, or `Equal` if the target shares those bytes too.
    #[inline]
    pub(crate) fn cmp_prefix(&self, entry: EntryRef<'_>, skip: usize) -> Ordering {
        // The usual case, in which the entry, which is probably not in the processor's cache, need
        // not be read.
        if skip == 0 {
            return Ordering::Equal;
        }
        let len = skip.min(self.user_key.len());
        self.user_key[..len].cmp(&entry.user_key()[..skip])
    }

    /// Compares the target's user key with that of `entry`; both share `skip` bytes.
    #[inline]
    pub(crate) fn cmp_user_key(&self, entry: EntryRef<'_>, skip: usize) -> Ordering {
        self.user_key[skip..].cmp(&entry.user_key()[skip..])
    }

    /// Compares the target with `entry`; their user keys share `skip` bytes.
    #[inline]
    pub(crate) fn cmp(&self, entry: EntryRef<'_>, skip: usize) -> Ordering {
        // Within a user key, the larger trailer comes first.
        self.cmp_user_key(entry, skip).then_with(|| entry.trailer_word().cmp(&self.trailer_word))
    }
}
