//! What the database was promised to hold: a file of words, mapped shared.
//!
//! One word for each key: bits 0 to 14 count the writes of the key, bit 15 says that a write is in
//! progress, bit 30 that a delete is, bit 31 that the key is deleted. A thread sets the bit before
//! the call and clears it afterwards: so a killed process leaves exactly which calls may or may not
//! have taken effect. Then, for each thread, the number of its last batch that returned; a count of
//! all operations that returned; and whether the power is going.
//!
//! Whoever records what a disk sees gets each change also as a mark: the index of the word and its
//! new value, 4 bytes each.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

use crate::Result;
use crate::layout::{KEYS, THREADS};
use crate::sys::map_words;

const COUNT_BITS: u32 = 0x7fff;
const PENDING_PUT: u32 = 1 << 15;
const PENDING_DELETE: u32 = 1 << 30;
const DELETED: u32 = 1 << 31;

const OPERATIONS: usize = THREADS * KEYS + THREADS;
const POWER: usize = OPERATIONS + 1;
const WORDS: usize = POWER + 1;

/// The words.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    words: &'static [AtomicU32],
    /// Where changes are also written, if anywhere.
    marks: Option<&'static OwnedFd>,
}

/// What a key may hold: the number of its write, or nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Allowed {
    pub(crate) before: Option<u32>,
    /// What it holds if the call in progress took effect.
    pub(crate) after: Option<Option<u32>>,
}

impl Expected {
    /// Opens the file, or creates one in which every key is deleted.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = |error: rustix::io::Errno| format!("{}: {error}", path.display());
        let flags = OFlags::RDWR | OFlags::CREATE;
        let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let is_new = rustix::fs::fstat(&file).map_err(failed)?.st_size == 0;
        if is_new {
            rustix::fs::ftruncate(&file, WORDS as u64 * 4).map_err(failed)?;
        }
        let expected = Self { words: map_words(&file, WORDS)?, marks: None };
        if is_new {
            expected.words[..THREADS * KEYS]
                .iter()
                .for_each(|word| word.store(DELETED, Ordering::SeqCst));
        }
        Ok(expected)
    }

    /// Writes each change also to the file `path`, which takes marks.
    pub(crate) fn with_marks(self, path: &Path) -> Result<Self> {
        let file = rustix::fs::open(path, OFlags::WRONLY, Mode::empty());
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { marks: Some(Box::leak(Box::new(file))), ..self })
    }

    /// Repeats the change of a mark.
    pub(crate) fn apply_mark(self, mark: &[u8]) -> Result<()> {
        let word = |at: usize| Some(u32::from_le_bytes(mark.get(at..at + 4)?.try_into().ok()?));
        let (Some(index), Some(value)) = (word(0), word(4)) else {
            return Err(format!("{mark:?} is no mark"));
        };
        let word = self.words.get(index as usize).ok_or_else(|| format!("no word {index}"))?;
        word.store(value, Ordering::SeqCst);
        Ok(())
    }

    /// Called only by the thread that changes the word.
    fn set(self, index: usize, value: u32) {
        self.words[index].store(value, Ordering::SeqCst);
        if let Some(marks) = self.marks {
            let mark = [(index as u32).to_le_bytes(), value.to_le_bytes()].concat();
            let written = rustix::io::pwrite(marks, &mark, 0);
            assert!(written.is_ok_and(|count| count == mark.len()), "the marks take a mark");
        }
    }

    fn word(self, thread: usize, index: usize) -> u32 {
        self.words[thread * KEYS + index].load(Ordering::SeqCst)
    }

    /// Begins a write, and returns its number.
    pub(crate) fn begin_put(self, thread: usize, index: usize) -> u32 {
        let now = self.word(thread, index);
        self.set(thread * KEYS + index, now | PENDING_PUT);
        next(now)
    }

    pub(crate) fn begin_delete(self, thread: usize, index: usize) {
        self.set(thread * KEYS + index, self.word(thread, index) | PENDING_DELETE);
    }

    /// The call took effect.
    pub(crate) fn done(self, thread: usize, index: usize) {
        let now = self.word(thread, index);
        let then = if now & PENDING_PUT != 0 { next(now) } else { now & COUNT_BITS | DELETED };
        self.set(thread * KEYS + index, then);
        self.words[OPERATIONS].fetch_add(1, Ordering::SeqCst);
    }

    /// The call did not take effect, and never will.
    pub(crate) fn not_done(self, thread: usize, index: usize) {
        let now = self.word(thread, index);
        self.set(thread * KEYS + index, now & !(PENDING_PUT | PENDING_DELETE));
    }

    pub(crate) fn allowed(self, thread: usize, index: usize) -> Allowed {
        let now = self.word(thread, index);
        let before = (now & DELETED == 0).then_some(now & COUNT_BITS);
        let after = match (now & PENDING_PUT != 0, now & PENDING_DELETE != 0) {
            (true, _) => Some(Some(next(now))),
            (false, true) => Some(None),
            (false, false) => None,
        };
        Allowed { before, after }
    }

    /// Records which of the two it was.
    pub(crate) fn settle(self, thread: usize, index: usize, took_place: bool) {
        if took_place { self.done(thread, index) } else { self.not_done(thread, index) }
    }

    /// The number of the last batch of `thread` that returned.
    pub(crate) fn last_batch(self, thread: usize) -> u64 {
        self.words[THREADS * KEYS + thread].load(Ordering::SeqCst).into()
    }

    pub(crate) fn set_last_batch(self, thread: usize, number: u64) {
        self.set(THREADS * KEYS + thread, number as u32);
    }

    /// How many operations on single keys took effect.
    pub(crate) fn operation_count(self) -> u64 {
        self.words[OPERATIONS].load(Ordering::SeqCst).into()
    }

    /// From now on, the file system may report as durable what it loses.
    pub(crate) fn set_power_is_going(self, is_going: bool) {
        self.words[POWER].store(is_going.into(), Ordering::SeqCst);
    }

    pub(crate) fn is_power_going(self) -> bool {
        self.words[POWER].load(Ordering::SeqCst) != 0
    }
}

const fn next(word: u32) -> u32 {
    (word & COUNT_BITS).wrapping_add(1) & COUNT_BITS
}
