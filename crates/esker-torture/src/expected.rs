//! What the database was promised to hold: a file of words, mapped shared.
//!
//! A word for each key: bits 0 to 14 count the writes of the key, bit 15 says that a write is under
//! way, bit 30 that a delete is, bit 31 that the key is deleted. A thread sets the bit before the
//! call and takes it away after it: what a killed process leaves tells exactly which calls may or
//! may not have happened. Then, for each thread, the number of its last batch that returned; and a
//! count of all operations that returned.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Mode, OFlags};

use crate::Result;
use crate::layout::{KEYS, THREADS};
use crate::sys::map_words;

const COUNT_BITS: u32 = 0x7fff;
const PENDING_PUT: u32 = 1 << 15;
const PENDING_DELETE: u32 = 1 << 30;
const DELETED: u32 = 1 << 31;

/// The words.
#[derive(Clone, Copy)]
pub(crate) struct Expected(&'static [AtomicU32]);

/// What a key may hold: the number of its write, or nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Allowed {
    pub(crate) before: Option<u32>,
    /// What it holds if the call that was under way took place.
    pub(crate) after: Option<Option<u32>>,
}

impl Expected {
    /// Opens the file, or makes one that says that every key is deleted.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = |error: rustix::io::Errno| format!("{}: {error}", path.display());
        let flags = OFlags::RDWR | OFlags::CREATE;
        let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let count = THREADS * KEYS + THREADS + 1;
        let is_new = rustix::fs::fstat(&file).map_err(failed)?.st_size == 0;
        if is_new {
            rustix::fs::ftruncate(&file, count as u64 * 4).map_err(failed)?;
        }
        let expected = Self(map_words(&file, count)?);
        if is_new {
            expected.0[..THREADS * KEYS]
                .iter()
                .for_each(|word| word.store(DELETED, Ordering::SeqCst));
        }
        Ok(expected)
    }

    fn word(self, thread: usize, index: usize) -> &'static AtomicU32 {
        &self.0[thread * KEYS + index]
    }

    /// A write begins; the number that it has.
    pub(crate) fn begin_put(self, thread: usize, index: usize) -> u32 {
        let word = self.word(thread, index);
        let now = word.load(Ordering::SeqCst);
        word.store(now | PENDING_PUT, Ordering::SeqCst);
        next(now)
    }

    pub(crate) fn begin_delete(self, thread: usize, index: usize) {
        self.word(thread, index).fetch_or(PENDING_DELETE, Ordering::SeqCst);
    }

    /// The call took place.
    pub(crate) fn done(self, thread: usize, index: usize) {
        let word = self.word(thread, index);
        let now = word.load(Ordering::SeqCst);
        let then = if now & PENDING_PUT != 0 { next(now) } else { now & COUNT_BITS | DELETED };
        word.store(then, Ordering::SeqCst);
        self.0[THREADS * KEYS + THREADS].fetch_add(1, Ordering::SeqCst);
    }

    /// The call did not take place, and never will.
    pub(crate) fn not_done(self, thread: usize, index: usize) {
        self.word(thread, index).fetch_and(!(PENDING_PUT | PENDING_DELETE), Ordering::SeqCst);
    }

    pub(crate) fn allowed(self, thread: usize, index: usize) -> Allowed {
        let now = self.word(thread, index).load(Ordering::SeqCst);
        let before = (now & DELETED == 0).then_some(now & COUNT_BITS);
        let after = match (now & PENDING_PUT != 0, now & PENDING_DELETE != 0) {
            (true, _) => Some(Some(next(now))),
            (false, true) => Some(None),
            (false, false) => None,
        };
        Allowed { before, after }
    }

    /// Notes which of the two it was.
    pub(crate) fn settle(self, thread: usize, index: usize, took_place: bool) {
        if took_place { self.done(thread, index) } else { self.not_done(thread, index) }
    }

    fn batches(self, thread: usize) -> &'static AtomicU32 {
        &self.0[THREADS * KEYS + thread]
    }

    /// Number of the last batch of `thread` that returned.
    pub(crate) fn last_batch(self, thread: usize) -> u64 {
        self.batches(thread).load(Ordering::SeqCst).into()
    }

    pub(crate) fn set_last_batch(self, thread: usize, number: u64) {
        self.batches(thread).store(number as u32, Ordering::SeqCst);
    }

    /// How many operations on single keys took place.
    pub(crate) fn operation_count(self) -> u64 {
        self.0[THREADS * KEYS + THREADS].load(Ordering::SeqCst).into()
    }
}

const fn next(word: u32) -> u32 {
    (word & COUNT_BITS).wrapping_add(1) & COUNT_BITS
}
