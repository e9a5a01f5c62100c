//! Read-ahead of a multi-get: it starts loads from memory and reads from the device early.
//!
//! Promises to change no answer. Memory is prefetched before anything is looked up; the device is
//! asked only once a read has found that its block is not in memory, so that reads which the cache
//! or the system can answer pay nothing.

use std::borrow::Cow;

use esker_base::{SeqNo, checksum::hash_key};
use esker_table::{Ahead, BlockAhead, ReadTrace};

use crate::keyspace_core::read_view::ReadView;

/// At least this many keys of a multi-get are kept waiting for the device together, and at most
/// twice as many: with 32 reads in flight, a device delivers four times as many blocks a second as
/// one at a time, and with more in flight hardly more.
const UNDER_WAY_MIN: usize = 32;

/// Observes the reads of a multi-get. When one of them has to wait, announces the blocks of the
/// following keys to the system, which reads them in the meantime.
pub(crate) struct Announcer<'a> {
    view: &'a ReadView,
    snapshot: SeqNo,
    keys: &'a [Cow<'a, [u8]>],
    /// The index of the key being read.
    current: usize,
    /// The index of the first key not announced.
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

    /// Notes that key `number` is read next.
    pub(crate) const fn go_on_to(&mut self, number: usize) {
        self.current = number;
    }

    /// Announces the block that a read of `key` will look into first.
    fn announce(&self, key: &[u8]) {
        if self.view.memtables().any(|memtable| memtable.get(key, self.snapshot).is_some()) {
            return;
        }
        let hash = hash_key(key);
        // If a filter is wrong about the key, the remaining runs are left to the read.
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

/// This many keys of a multi-get are prefetched from memory together: enough to use all the loads
/// that a processor can have in flight, few enough for the prefetched lines to be still in its
/// cache.
pub(crate) const ASKED_MAX: usize = 16;

/// What is known of a key of a multi-get before it is read: of the candidate tables, in the order
/// in which they are read, the first `ruled_out` do not have it, and the next one has it in `block`
/// if at all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyAhead<'a> {
    ruled_out: usize,
    block: Option<BlockAhead<'a>>,
}

impl<'a> KeyAhead<'a> {
    /// What is known of the key in candidate table `number`.
    #[inline]
    pub(crate) const fn at(self, number: usize) -> Ahead<'a> {
        match self.block {
            _ if number < self.ruled_out => Ahead::RuledOut,
            Some(block) if number == self.ruled_out => Ahead::Block(block),
            _ => Ahead::Unknown,
        }
    }
}

/// Prefetches the memory that gets of `keys` will read: first one load for every key, then the
/// next. What it finds is the first half of each get, which continues from there.
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
        view.version.candidates(key).for_each(|(_, table)| table.prefetch_filter(key, *hash));
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
    blocks().for_each(BlockAhead::prefetch_block);
    blocks().for_each(BlockAhead::prefetch_value);
    found
}

#[cfg(test)]
mod tests;
