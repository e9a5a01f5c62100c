//! What a multi-get has others start before it comes to it: loads from memory, and reads of the
//! device.
//!
//! Promises to change no answer. Memory is asked for before anything is looked up; the device only
//! once a read has found that its block is not at hand, so that reads which the cache or the system
//! can answer pay nothing.

use std::borrow::Cow;

use esker_base::{SeqNo, checksum::hash_key};
use esker_table::{Ahead, BlockAhead, ReadTrace};

use crate::keyspace_core::read_view::ReadView;

/// So many keys of a multi-get wait for the device together, in between twice as many: a device
/// gives four times as many blocks a second with 32 under way as one after another, and hardly more
/// with more.
const UNDER_WAY_MIN: usize = 32;

/// Watches the reads of a multi-get. When one of them waits, the blocks of the keys behind it are
/// announced to the system, which reads them meanwhile.
pub(crate) struct Announcer<'a> {
    view: &'a ReadView,
    snapshot: SeqNo,
    keys: &'a [Cow<'a, [u8]>],
    /// The key that is read.
    current: usize,
    /// The first key that was not announced.
    announced: usize,
}

impl<'a> Announcer<'a> {
    pub(crate) const fn new(
        view: &'a ReadView,
        snapshot: SeqNo,
        keys: &'a [Cow<'a, [u8]>],
    ) -> Self {
        Self { view, snapshot, keys, current: 0, announced: 0 }
    }

    /// Takes note that key `number` is read next.
    pub(crate) const fn go_on_to(&mut self, number: usize) {
        self.current = number;
    }

    /// Announces the block that a read of `key` will look into first.
    fn announce(&self, key: &[u8]) {
        if self.view.memtables().any(|memtable| memtable.get(key, self.snapshot).is_some()) {
            return;
        }
        let hash = hash_key(key);
        // A filter that is wrong about the key leaves the rest of its runs to the read.
        let _found = self.view.version.candidates(key).any(|(_, table)| table.announce(key, hash));
    }
}

impl ReadTrace for Announcer<'_> {
    const ENABLED: bool = false;
    const LISTENS_TO_WAITS: bool = true;

    fn waits(&mut self) {
        let next = self.current + 1;
        if self.announced.saturating_sub(next) >= UNDER_WAY_MIN {
            return;
        }
        let start = self.announced.max(next);
        let end = self.keys.len().min(next + 2 * UNDER_WAY_MIN);
        for key in self.keys.get(start..end).unwrap_or_default() {
            self.announce(key);
        }
        self.announced = end;
    }
}

/// So many keys of a multi-get wait for memory together: enough for as many loads as a processor
/// has under way, few enough for what they asked for to be still there.
pub(crate) const ASKED_MAX: usize = 16;

/// What is known of a key of a multi-get before it is read: of the tables that may hold it, in the
/// order in which they are read, the first so many do not, and the next has it in this block if at all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyAhead<'a> {
    ruled_out: usize,
    block: Option<BlockAhead<'a>>,
}

impl<'a> KeyAhead<'a> {
    /// What is known of the key in the table that is the `number`th that may hold it.
    #[inline]
    pub(crate) const fn at(self, number: usize) -> Ahead<'a> {
        match self.block {
            _ if number < self.ruled_out => Ahead::RuledOut,
            Some(block) if number == self.ruled_out => Ahead::Block(block),
            _ => Ahead::Unknown,
        }
    }
}

/// Asks for the memory that gets of `keys` will read: one load of every key, then the next. What is
/// found on the way is the first half of each get, which goes on from there.
pub(crate) fn look_ahead<'a>(
    view: &'a ReadView,
    keys: &'a [Cow<'_, [u8]>],
) -> [KeyAhead<'a>; ASKED_MAX] {
    let mut found = [KeyAhead::default(); ASKED_MAX];
    if keys.len() < 2 {
        return found;
    }
    let mut hashes = [0; ASKED_MAX];
    for (hash, key) in hashes.iter_mut().zip(keys) {
        *hash = hash_key(key);
        view.version.candidates(key).for_each(|(_, table)| table.ask_filter(key, *hash));
    }
    for ((ahead, key), hash) in found.iter_mut().zip(keys).zip(hashes) {
        for (_, table) in view.version.candidates(key) {
            match table.look_ahead(key, hash) {
                Ahead::RuledOut => ahead.ruled_out += 1,
                Ahead::Block(block) => {
                    ahead.block = Some(block);
                    break;
                }
                Ahead::Unknown => break,
            }
        }
    }
    let blocks = || found.iter().filter_map(|ahead| ahead.block.as_ref());
    blocks().for_each(BlockAhead::ask_block);
    blocks().for_each(BlockAhead::ask_value);
    found
}

#[cfg(test)]
mod tests;
