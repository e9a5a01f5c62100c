//! Models of one writer and its readers, checked in every interleaving that loom finds.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 CARGO_TARGET_DIR=/tmp/esker-loom \
//!     cargo test --release -p esker-memtable --lib loom
//! ```
//!
//! Nodes have three slots here, so that four inserts split a leaf and some ten an inner node. Each
//! model fills a tree, then lets the writer insert more while a reader asks for what it is owed.
//! UNSAFE.md tells which faults were planted to see these fail.

use std::sync::Arc;

use esker_base::{EntryKind, InternalKey, SeqNo};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use crate::cursor::TreeCursor;
use crate::map::{EntryCursor, EntryMap};
use crate::tree::ArenaTree;

/// A tree, and the sequence number up to which its writer has published.
struct Model {
    tree: ArenaTree,
    visible: AtomicU64,
    keys: &'static [u8],
}

impl Model {
    fn new(keys: &'static [u8]) -> Self {
        Self { tree: ArenaTree::new(), visible: AtomicU64::new(0), keys }
    }

    /// Inserts the `index`-th key with sequence number `index + 1`, then publishes that.
    fn insert(&self, index: usize) {
        let seqno = SeqNo::new(index as u64 + 1).expect("small");
        let key = InternalKey::new(&self.keys[index..=index], seqno, EntryKind::Put);
        self.tree.insert(key, &self.keys[index..=index]);
        self.visible.store(seqno.get(), Ordering::Release);
    }

    fn snapshot(&self) -> SeqNo {
        SeqNo::new(self.visible.load(Ordering::Acquire)).expect("small")
    }

    /// The keys that a reader at `snapshot` must see, each with the sequence number it must find.
    fn owed(&self, snapshot: SeqNo) -> Vec<(u8, u64)> {
        let visible = &self.keys[..snapshot.get() as usize];
        let mut owed: Vec<(u8, u64)> = visible.iter().copied().zip(1..).collect();
        owed.sort_by_key(|(key, seqno)| (*key, u64::MAX - seqno));
        owed
    }

    fn check_get(&self, probe: u8) {
        let snapshot = self.snapshot();
        let expected = self.owed(snapshot).into_iter().find(|(key, _)| *key == probe);
        let found = self.tree.get_with(&[probe], snapshot, |trailer, value| {
            assert_eq!(value, [probe]);
            (probe, trailer.seqno().get())
        });
        assert_eq!(found, expected);
    }

    fn seen(&self, cursor: &impl EntryCursor, snapshot: SeqNo) -> Option<(u8, u64)> {
        let key = cursor.key();
        (key.seqno() <= snapshot).then(|| (key.user_key[0], key.seqno().get()))
    }

    fn check_forward(&self) {
        let snapshot = self.snapshot();
        let (mut cursor, mut seen) = (self.tree.cursor(), Vec::new());
        cursor.seek_to_first();
        while cursor.is_valid() {
            seen.extend(self.seen(&cursor, snapshot));
            cursor.next();
        }
        assert_eq!(seen, self.owed(snapshot));
    }

    fn check_seek(&self, probe: u8) {
        let snapshot = self.snapshot();
        let (mut cursor, mut seen) = (self.tree.cursor(), Vec::new());
        cursor.seek(InternalKey::seek(&[probe], SeqNo::MAX));
        while cursor.is_valid() {
            assert!(cursor.key().user_key >= [probe].as_slice());
            seen.extend(self.seen(&cursor, snapshot));
            cursor.next();
        }
        let mut owed = self.owed(snapshot);
        owed.retain(|(key, _)| *key >= probe);
        assert_eq!(seen, owed);
    }

    fn check_backward(&self) {
        self.check_back_from(|cursor| cursor.seek_to_last());
    }

    /// As [`Model::check_backward`], from a search, which leaves the way to the leaf before at hand.
    fn check_back_from_a_search(&self) {
        self.check_back_from(|cursor| {
            cursor.seek_for_prev(InternalKey::seek(&[u8::MAX], SeqNo::MAX));
        });
    }

    fn check_back_from(&self, start: impl FnOnce(&mut TreeCursor<'_>)) {
        let snapshot = self.snapshot();
        let (mut cursor, mut seen) = (self.tree.cursor(), Vec::new());
        start(&mut cursor);
        while cursor.is_valid() {
            seen.extend(self.seen(&cursor, snapshot));
            cursor.prev();
        }
        seen.reverse();
        assert_eq!(seen, self.owed(snapshot));
    }
}

/// Inserts the first `before` of `keys`, and the others while `check` runs on another thread.
fn model(
    keys: &'static [u8],
    before: usize,
    check: impl Fn(&Model) + Send + Sync + Copy + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 100_000;
    builder.check(move || {
        let model = Arc::new(Model::new(keys));
        (0..before).for_each(|index| model.insert(index));
        let reader = thread::spawn({
            let model = Arc::clone(&model);
            move || check(&model)
        });
        (before..keys.len()).for_each(|index| model.insert(index));
        reader.join().expect("the reader's assertions hold");
    });
}

#[test]
fn loom_published_entries_are_complete() {
    model(b"ca", 0, |model| model.check_get(b'c'));
    model(b"cab", 1, |model| model.check_get(b'a'));
    model(b"cab", 1, Model::check_forward);
}

#[test]
fn loom_the_root_splits_under_a_reader() {
    for probe in *b"abcd" {
        model(b"badc", 3, move |model| model.check_get(probe));
    }
    model(b"badce", 3, Model::check_forward);
    model(b"badc", 3, Model::check_backward);
}

#[test]
fn loom_a_leaf_below_an_inner_node_splits_under_a_reader() {
    // Leaves before: a b | c d e. The split makes a b | c c' | d e, in two steps.
    for probe in *b"acde" {
        model(b"badcec", 5, move |model| model.check_get(probe));
    }
    model(b"badcec", 5, Model::check_forward);
    model(b"badcec", 5, Model::check_backward);
}

#[test]
fn loom_versions_of_one_key_split_under_a_reader() {
    model(b"kakkkk", 3, |model| model.check_get(b'k'));
    model(b"kakkk", 3, Model::check_forward);
}

#[test]
fn loom_rows_at_either_end_split_under_a_reader() {
    model(b"abcde", 3, |model| model.check_get(b'c'));
    model(b"abcde", 3, Model::check_forward);
    model(b"edcba", 3, |model| model.check_get(b'c'));
    model(b"edcba", 3, Model::check_backward);
}

#[test]
fn loom_a_row_of_versions_splits_before_a_reader_going_backwards() {
    // Leaves before: a b c | y y y. The split puts the newest y into a leaf between, and for a
    // moment the old leaf stands on both sides of it.
    model(b"abcyyyy", 6, Model::check_backward);
}

#[test]
fn loom_the_leaf_before_splits_under_a_reader_that_goes_by_the_node_above() {
    // Leaves before: a a b | c d e. The split puts two leaves in the place of the first.
    model(b"badceaa", 6, Model::check_back_from_a_search);
    model(b"badceabb", 6, Model::check_back_from_a_search);
    // Leaves before: a b | c d | e f f. Then the one in the middle splits.
    model(b"badcfefdd", 7, Model::check_back_from_a_search);
}

#[test]
fn loom_a_seek_past_the_end_of_a_leaf_that_is_appended_to() {
    // Leaves before: a m n | y z. The split puts o between them, which a seek to p must pass.
    model(b"myzano", 5, |model| model.check_seek(b'p'));
    model(b"myzano", 5, |model| model.check_seek(b'o'));
}

#[test]
fn loom_an_inner_node_splits_under_a_reader() {
    for keys in [b"hpdltbfjnrvakm", b"abcdefghijklmn", b"nmlkjihgfedcba"] {
        let splits = |count: &usize| height(&keys[..*count]) > 2;
        let count = (1..=keys.len()).find(splits).expect("the root splits");
        for probe in [keys[0], keys[4], keys[count - 2]] {
            model(&keys[..count], count - 1, move |model| model.check_get(probe));
        }
        model(&keys[..count], count - 1, Model::check_forward);
        model(&keys[..count], count - 1, Model::check_backward);
    }
}

fn height(keys: &'static [u8]) -> u64 {
    use std::sync::atomic::AtomicU64;

    let height = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&height);
    loom::model(move || {
        let model = Model::new(keys);
        (0..keys.len()).for_each(|index| model.insert(index));
        seen.store(model.tree.height(), Ordering::Relaxed);
    });
    height.load(Ordering::Relaxed)
}
