//! The safe twin of the tree: the same map on crossbeam's skip list.
//!
//! It serves tests, as an oracle that shares no code with the tree, and the benchmark, as the
//! baseline to beat. Keys and values are separate heap allocations.

use std::cmp::Ordering;
use std::ops::Bound;

use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::Entry;
use esker_base::{InternalKey, SeqNo, Trailer};

use crate::map::{EntryCursor, EntryMap};

/// An [`EntryMap`] without unsafe code of ours.
#[derive(Default)]
pub struct SkiplistMap(SkipMap<OwnedKey, Box<[u8]>>);

#[derive(PartialEq, Eq)]
struct OwnedKey {
    user_key: Box<[u8]>,
    trailer: Trailer,
}

impl OwnedKey {
    fn new(key: InternalKey<'_>) -> Self {
        Self { user_key: key.user_key.into(), trailer: key.trailer }
    }

    fn borrow(&self) -> InternalKey<'_> {
        InternalKey { user_key: &self.user_key, trailer: self.trailer }
    }
}

impl Ord for OwnedKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.borrow().cmp(&other.borrow())
    }
}

impl PartialOrd for OwnedKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl EntryMap for SkiplistMap {
    type Cursor<'a> = SkiplistCursor<'a>;

    fn insert(&self, key: InternalKey<'_>, value: &[u8]) {
        self.0.insert(OwnedKey::new(key), value.into());
    }

    fn get_with<T>(
        &self,
        user_key: &[u8],
        snapshot: SeqNo,
        found: impl FnOnce(Trailer, &[u8]) -> T,
    ) -> Option<T> {
        let from = OwnedKey::new(InternalKey::seek(user_key, snapshot));
        let entry = self.0.lower_bound(Bound::Included(&from))?;
        let key = entry.key().borrow();
        (key.user_key == user_key).then(|| found(key.trailer, entry.value()))
    }

    fn cursor(&self) -> SkiplistCursor<'_> {
        SkiplistCursor { map: &self.0, entry: None }
    }
}

/// A cursor over a [`SkiplistMap`].
pub struct SkiplistCursor<'a> {
    map: &'a SkipMap<OwnedKey, Box<[u8]>>,
    entry: Option<Entry<'a, OwnedKey, Box<[u8]>>>,
}

impl<'a> SkiplistCursor<'a> {
    fn current(&self) -> &Entry<'a, OwnedKey, Box<[u8]>> {
        self.entry.as_ref().expect("the cursor stands on an entry")
    }
}

impl EntryCursor for SkiplistCursor<'_> {
    fn is_valid(&self) -> bool {
        self.entry.is_some()
    }

    fn key(&self) -> InternalKey<'_> {
        self.current().key().borrow()
    }

    fn value(&self) -> &[u8] {
        self.current().value()
    }

    fn seek_to_first(&mut self) {
        self.entry = self.map.front();
    }

    fn seek_to_last(&mut self) {
        self.entry = self.map.back();
    }

    fn seek(&mut self, key: InternalKey<'_>) {
        self.entry = self.map.lower_bound(Bound::Included(&OwnedKey::new(key)));
    }

    fn seek_for_prev(&mut self, key: InternalKey<'_>) {
        self.entry = self.map.upper_bound(Bound::Included(&OwnedKey::new(key)));
    }

    fn next(&mut self) {
        self.entry = self.current().next();
    }

    fn prev(&mut self) {
        self.entry = self.current().prev();
    }
}
