//! The separators of a partition, or of a table, while it is built.

use crate::separators::append_separator;

/// Separators collected so far.
#[derive(Default)]
pub(super) struct SeparatorList {
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Vec<usize>,
}

impl SeparatorList {
    pub(super) fn push(&mut self, last: &[u8], next: Option<&[u8]>) {
        match next {
            Some(next) if last < next => append_separator(last, next, &mut self.bytes),
            _ => self.bytes.extend_from_slice(last),
        }
        self.ends.push(self.bytes.len());
    }

    pub(super) fn last(&self) -> &[u8] {
        let start = self.ends.len().checked_sub(2).map_or(0, |before| self.ends[before]);
        &self.bytes[start..]
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(super) const fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}
