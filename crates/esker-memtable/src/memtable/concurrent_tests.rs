//! Real threads: one writer, and readers each of which must see exactly what its snapshot owes it.
//!
//! For the sanitizers above all; `loom_tests.rs` goes through the interleavings one by one.
//!
//! ```text
//! export RUSTC_BOOTSTRAP=1 T=x86_64-unknown-linux-gnu
//! CARGO_TARGET_DIR=/tmp/esker-asan RUSTFLAGS="-Zsanitizer=address" \
//!     cargo test -p esker-memtable --lib --target $T
//! CARGO_TARGET_DIR=/tmp/esker-tsan \
//!     RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
//!     TSAN_OPTIONS="suppressions=$PWD/crates/esker-memtable/tsan.supp" \
//!     cargo test -p esker-memtable --lib --target $T concurrent
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use esker_base::{EntryKind, InternalKey, SeqNo};

use super::Memtable;

/// How many keys there are; key `n % KEY_COUNT` is written at sequence number `n`.
const KEY_COUNT: u64 = 500;
const INSERT_COUNT: u64 = 6_000;
const BATCH_COUNT: u64 = 3;

/// The key that the `index`-th of each round writes.
type KeyOf = fn(u64) -> Vec<u8>;

const ORDERS: [(&str, KeyOf); 4] = [
    ("spread", |index| (index * 2_654_435_761 % 4_294_967_296).to_string().into_bytes()),
    ("ascending", |index| format!("{index:06}").into_bytes()),
    ("descending", |index| format!("{:06}", KEY_COUNT - index).into_bytes()),
    ("long shared prefix", |index| format!("tenant-0001-{:06}", index * 7 % 509).into_bytes()),
];

/// A memtable under a writer that writes all keys in turn, again and again.
struct Stage {
    memtable: Arc<Memtable>,
    visible: AtomicU64,
    key_of: KeyOf,
}

impl Stage {
    fn write(&self) {
        for first in (1..=INSERT_COUNT).step_by(BATCH_COUNT as usize) {
            let mut writer = self.memtable.writer();
            for number in first..first + BATCH_COUNT {
                let seqno = SeqNo::new(number).expect("small");
                let (key, value) = ((self.key_of)(number % KEY_COUNT), number.to_le_bytes());
                writer.insert(&key, seqno, EntryKind::Put, &value);
            }
            drop(writer);
            // Release pairs with the Acquire in `snapshot`.
            self.visible.store(first + BATCH_COUNT - 1, Ordering::Release);
        }
    }

    fn snapshot(&self) -> SeqNo {
        SeqNo::new(self.visible.load(Ordering::Acquire)).expect("small")
    }

    /// The newest number not above `snapshot` that wrote key `index`.
    fn newest(index: u64, snapshot: u64) -> Option<u64> {
        let newest = snapshot.checked_sub((snapshot + KEY_COUNT - index) % KEY_COUNT)?;
        (newest > 0).then_some(newest)
    }

    fn check_gets(&self) {
        let snapshot = self.snapshot();
        for index in (0..KEY_COUNT).step_by(7) {
            let found = self.memtable.get(&(self.key_of)(index), snapshot);
            let expected = Self::newest(index, snapshot.get());
            assert_eq!(found.map(|entry| entry.trailer.seqno().get()), expected);
            assert_eq!(
                found.map(|entry| entry.value.to_vec()),
                expected.map(|number| number.to_le_bytes().to_vec()),
            );
        }
    }

    /// Walks from one end to the other, in order, past every number up to the snapshot once.
    fn check_walk(&self, is_forward: bool) {
        let snapshot = self.snapshot();
        let mut cursor = self.memtable.cursor();
        let mut seen = vec![false; snapshot.get() as usize + 1];
        let mut last: Option<(Vec<u8>, SeqNo)> = None;
        if is_forward {
            cursor.seek_to_first()
        } else {
            cursor.seek_to_last()
        };
        while cursor.is_valid() {
            let key = cursor.key();
            if let Some((user_key, seqno)) = &last {
                let before = InternalKey::new(user_key, *seqno, EntryKind::Put);
                assert_eq!(before < key, is_forward, "{before:?} {key:?}");
            }
            last = Some((key.user_key.to_vec(), key.seqno()));
            if let Some(seen) = seen.get_mut(key.seqno().get() as usize) {
                assert!(!*seen);
                *seen = true;
            }
            if is_forward {
                cursor.next()
            } else {
                cursor.prev()
            };
        }
        assert_eq!(seen.iter().skip(1).position(|seen| !seen), None);
    }

    /// Calls `check` until it has run over all that is written.
    fn until_written(&self, check: impl Fn(&Self)) {
        loop {
            let is_written = self.snapshot().get() == INSERT_COUNT;
            check(self);
            if is_written {
                return;
            }
        }
    }

    /// Seeks to single keys, steps both ways around them.
    fn check_seeks(&self) {
        let snapshot = self.snapshot();
        let mut cursor = self.memtable.cursor();
        for index in (0..KEY_COUNT).step_by(11) {
            let Some(newest) = Self::newest(index, snapshot.get()) else { continue };
            let user_key = (self.key_of)(index);
            let target = InternalKey::seek(&user_key, snapshot);
            cursor.seek(target);
            assert_eq!((cursor.key().user_key, cursor.key().seqno().get()), (&*user_key, newest));
            cursor.prev();
            assert!(!cursor.is_valid() || cursor.key() < target);
            cursor.seek_for_prev(InternalKey::seek(&user_key, SeqNo::ZERO));
            let oldest = if index == 0 { KEY_COUNT } else { index };
            assert_eq!((cursor.key().user_key, cursor.key().seqno().get()), (&*user_key, oldest));
        }
    }
}

#[test]
fn readers_see_exactly_their_snapshot_while_a_writer_inserts() {
    for (_, key_of) in ORDERS {
        let stage =
            Stage { memtable: Arc::new(Memtable::new()), visible: AtomicU64::new(0), key_of };
        thread::scope(|scope| {
            let readers = [
                scope.spawn(|| stage.until_written(Stage::check_gets)),
                scope.spawn(|| stage.until_written(|stage| stage.check_walk(true))),
                scope.spawn(|| stage.until_written(|stage| stage.check_walk(false))),
                scope.spawn(|| stage.until_written(Stage::check_seeks)),
            ];
            stage.write();
            // One by one, since the thread sanitizer does not see the end of a scope as a join.
            for reader in readers {
                reader.join().expect("the reader's assertions hold");
            }
        });
        assert_eq!(stage.memtable.entry_count(), INSERT_COUNT);
    }
}
