//! What a sorted map of entries must do, whatever its implementation.
//!
//! There are two implementations: [`ArenaTree`](crate::ArenaTree), which memtables use, and
//! [`SkiplistMap`](crate::SkiplistMap), its safe twin. Tests run both with the same operations, and
//! the benchmark compares them. Production code names the tree directly and pays for no
//! indirection.

use esker_base::{InternalKey, SeqNo, Trailer};

/// A sorted, insert-only map from internal keys to values: one writer, many readers.
pub trait EntryMap: Default + Send + Sync {
    /// An ordered walk over the map.
    type Cursor<'a>: EntryCursor
    where
        Self: 'a;

    /// Adds an entry, whose internal key must not be in the map.
    fn insert(&self, key: InternalKey<'_>, value: &[u8]);

    /// Calls `found` with the newest entry of `user_key` whose sequence number is not above
    /// `snapshot`.
    fn get_with<T>(
        &self,
        user_key: &[u8],
        snapshot: SeqNo,
        found: impl FnOnce(Trailer, &[u8]) -> T,
    ) -> Option<T>;

    /// A cursor without a position.
    fn cursor(&self) -> Self::Cursor<'_>;
}

/// A position in an [`EntryMap`].
pub trait EntryCursor {
    /// Whether the cursor is on an entry.
    fn is_valid(&self) -> bool;

    /// The key of the current entry.
    ///
    /// # Panics
    /// If the cursor stands on none.
    fn key(&self) -> InternalKey<'_>;

    /// The value of the current entry.
    ///
    /// # Panics
    /// If the cursor stands on none.
    fn value(&self) -> &[u8];

    /// Goes to the first entry.
    fn seek_to_first(&mut self);

    /// Goes to the last entry.
    fn seek_to_last(&mut self);

    /// Goes to the first entry that is not before `key`.
    fn seek(&mut self, key: InternalKey<'_>);

    /// Goes to the last entry that is not after `key`.
    fn seek_for_prev(&mut self, key: InternalKey<'_>);

    /// Goes to the next entry.
    ///
    /// # Panics
    /// If the cursor stands on none.
    fn next(&mut self);

    /// Goes to the previous entry.
    ///
    /// # Panics
    /// If the cursor stands on none.
    fn prev(&mut self);
}
