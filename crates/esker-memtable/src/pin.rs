//! Views of a memtable that keep it alive: owned, sendable, without a lifetime.

#![expect(unsafe_code, reason = "a borrow is kept beside what it borrows from; see UNSAFE.md")]

use std::fmt;
use std::mem::{MaybeUninit, needs_drop, transmute};
use std::ops::Deref;
use std::sync::Arc;

use esker_base::{InternalKey, SeqNo, Trailer};

use crate::cursor::TreeCursor;
use crate::entry::EntryRef;
use crate::map::EntryCursor;
use crate::memtable::Memtable;

impl Memtable {
    /// [`Memtable::get`] with a value that keeps the memtable, and so outlives the call.
    ///
    /// # Cost
    /// One more reference to the memtable. Only worthwhile for large values, and not to be held for
    /// long: it keeps all of the memtable's memory.
    #[must_use]
    pub fn get_pinned(
        self: &Arc<Self>,
        user_key: &[u8],
        snapshot: SeqNo,
    ) -> Option<(Trailer, MemtableSlice)> {
        let entry = self.newest(user_key, snapshot)?;
        Some((entry.trailer(), MemtableSlice::new(Arc::clone(self), entry)))
    }

    /// A cursor that keeps the memtable alive, without a position.
    #[must_use]
    pub fn cursor(self: &Arc<Self>) -> MemtableCursor {
        MemtableCursor::new(Arc::clone(self))
    }
}

/// Something borrowed, stored beside the `Arc` that it borrows from.
///
/// The compiler assumes that a reference anywhere in an argument is valid until the call returns,
/// but the call may drop the last `Arc`. It does not assume this of a reference inside a
/// `MaybeUninit`.
struct Borrowed<T>(MaybeUninit<T>);

impl<T> Borrowed<T> {
    const fn new(value: T) -> Self {
        const { assert!(!needs_drop::<T>(), "nothing drops what is inside") };
        Self(MaybeUninit::new(value))
    }

    /// What was given to `new`. Only passed on with lifetimes that end with that of the owner.
    #[inline]
    const fn get(&self) -> &T {
        // SAFETY: `new` has filled it, and nothing empties it.
        unsafe { self.0.assume_init_ref() }
    }

    #[inline]
    const fn get_mut(&mut self) -> &mut T {
        // SAFETY: as in `get`.
        unsafe { self.0.assume_init_mut() }
    }
}

/// An ordered walk over a memtable, which it keeps alive.
///
/// Sees every entry that was inserted before its last seek, and any or none of the later ones.
pub struct MemtableCursor {
    /// Borrows from `memtable`; handed out with shorter lifetimes only.
    cursor: Borrowed<TreeCursor<'static>>,
    memtable: Arc<Memtable>,
}

impl MemtableCursor {
    fn new(memtable: Arc<Memtable>) -> Self {
        let cursor = memtable.borrowed_cursor();
        // SAFETY: the cursor borrows what the `Arc` points to, which does not move and lives as
        // long as the `Arc` beside it; neither leaves this struct without the other. Where both go
        // at once, see `Borrowed`.
        let cursor = unsafe { transmute::<TreeCursor<'_>, TreeCursor<'static>>(cursor) };
        Self { cursor: Borrowed::new(cursor), memtable }
    }

    /// The memtable that the cursor walks.
    #[must_use]
    pub fn memtable(&self) -> &Arc<Memtable> {
        &self.memtable
    }

    /// Whether the cursor is on an entry.
    #[inline]
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.cursor.get().is_valid()
    }

    /// The key of the current entry.
    ///
    /// # Panics
    /// If the cursor stands on none.
    #[inline]
    #[must_use]
    pub fn key(&self) -> InternalKey<'_> {
        self.cursor.get().key()
    }

    /// [`key_head`](esker_base::key_head) of the current user key.
    ///
    /// # Panics
    /// If the cursor is not on an entry.
    #[inline]
    #[must_use]
    pub fn head(&self) -> u64 {
        self.cursor.get().head()
    }

    /// The value of the current entry.
    ///
    /// # Panics
    /// If the cursor stands on none.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.cursor.get().value()
    }

    /// The value of the current entry, kept beyond the cursor.
    ///
    /// # Panics
    /// If the cursor stands on none.
    #[must_use]
    pub fn value_slice(&self) -> MemtableSlice {
        MemtableSlice::new(Arc::clone(&self.memtable), self.cursor.get().entry())
    }

    /// Goes to the first entry.
    pub fn seek_to_first(&mut self) {
        self.cursor.get_mut().seek_to_first();
    }

    /// Goes to the last entry.
    pub fn seek_to_last(&mut self) {
        self.cursor.get_mut().seek_to_last();
    }

    /// Goes to the first entry that is not before `key`.
    pub fn seek(&mut self, key: InternalKey<'_>) {
        self.cursor.get_mut().seek(key);
    }

    /// Goes to the last entry that is not after `key`.
    pub fn seek_for_prev(&mut self, key: InternalKey<'_>) {
        self.cursor.get_mut().seek_for_prev(key);
    }

    /// The first part of a seek to an entry of `user_key`: finds the node to look into, and
    /// prefetches it. A seek over several sources does this in all of them, then each of the
    /// following parts, so that their waits for memory overlap. Of entries inserted in between, any
    /// or none are found.
    pub fn approach(&mut self, user_key: &[u8]) {
        self.cursor.get_mut().approach(user_key);
    }

    /// The second part, which is optional: goes on to the leaf, and prefetches it.
    pub fn prefetch_approached(&mut self, user_key: &[u8]) {
        self.cursor.get_mut().prefetch_approached(user_key);
    }

    /// The third part, useless without the second: prefetches the entry itself.
    pub fn hold_approached(&self, user_key: &[u8]) {
        self.cursor.get().hold_approached(user_key);
    }

    /// The last part of [`MemtableCursor::seek`]: the user key of `key` was approached.
    pub fn seek_approached(&mut self, key: InternalKey<'_>) {
        self.cursor.get_mut().seek_approached(key);
    }

    /// The last part of [`MemtableCursor::seek_for_prev`].
    pub fn seek_for_prev_approached(&mut self, key: InternalKey<'_>) {
        self.cursor.get_mut().seek_for_prev_approached(key);
    }

    /// Goes to the next entry.
    ///
    /// # Panics
    /// If the cursor stands on none.
    #[inline]
    pub fn next(&mut self) {
        self.cursor.get_mut().next();
    }

    /// Goes to the entry before.
    ///
    /// # Panics
    /// If the cursor stands on none.
    ///
    /// # Cost
    /// One descent from the root per hundred entries or so.
    pub fn prev(&mut self) {
        self.cursor.get_mut().prev();
    }

    /// Goes to the next entry if it is at hand and of another user key, and returns its head;
    /// `None` if that takes [`MemtableCursor::next`], and then nothing has changed.
    #[inline]
    pub fn step(&mut self) -> Option<u64> {
        self.cursor.get_mut().step()
    }

    /// As [`MemtableCursor::step`], going back.
    #[inline]
    pub fn step_back(&mut self) -> Option<u64> {
        self.cursor.get_mut().step_back()
    }

    /// Whether it is certain that the previous entry, as of when the cursor came here, was of
    /// another user key.
    ///
    /// # Panics
    /// If the cursor stands on none.
    #[inline]
    #[must_use]
    pub fn is_first_of_key(&self) -> bool {
        self.cursor.get().is_first_of_key()
    }
}

impl Clone for MemtableCursor {
    fn clone(&self) -> Self {
        let cursor = Borrowed::new(self.cursor.get().clone());
        Self { cursor, memtable: Arc::clone(&self.memtable) }
    }
}

/// A value inside a memtable, which it keeps alive.
pub struct MemtableSlice {
    /// Borrows from `memtable`; handed out with shorter lifetimes only.
    value: Borrowed<&'static [u8]>,
    memtable: Arc<Memtable>,
}

impl MemtableSlice {
    fn new(memtable: Arc<Memtable>, entry: EntryRef<'_>) -> Self {
        let value = entry.value();
        // SAFETY: the callers, both in this file, found the entry in this
        // memtable; its arena does not move entries and lives as long as the `Arc` beside it. Where
        // both go at once, see `Borrowed`.
        let value = unsafe { transmute::<&[u8], &'static [u8]>(value) };
        Self { value: Borrowed::new(value), memtable }
    }

    /// The memtable that holds the value.
    #[must_use]
    pub fn memtable(&self) -> &Arc<Memtable> {
        &self.memtable
    }
}

impl Clone for MemtableSlice {
    fn clone(&self) -> Self {
        let value = Borrowed::new(*self.value.get());
        Self { value, memtable: Arc::clone(&self.memtable) }
    }
}

impl Deref for MemtableSlice {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.value.get()
    }
}

impl AsRef<[u8]> for MemtableSlice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for MemtableSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}

const _: () = {
    const fn is_owned_and_shared<T: Send + Sync + 'static>() {}
    is_owned_and_shared::<Memtable>();
    is_owned_and_shared::<MemtableCursor>();
    is_owned_and_shared::<MemtableSlice>();
};
