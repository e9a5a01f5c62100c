//! The bytes of an input, read as what operations need.

use std::ops::Bound;

/// Bytes that are read from the front; zeros behind their end.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    /// A number less than `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    pub(super) fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// One of 256 keys, many of which start alike.
    pub(super) fn key(&mut self) -> Vec<u8> {
        let byte = self.byte();
        let mut key = vec![b'a' + byte % 4; 1 + usize::from(byte / 4 % 4)];
        key.push(byte / 16);
        key
    }

    /// One of four keys that are none of the others.
    pub(super) fn single_key(&mut self) -> Vec<u8> {
        vec![b'z', self.byte() % 4]
    }

    /// Up to two kilobytes that start with `number`; no two of different numbers are the same.
    pub(super) fn value(&mut self, number: u32) -> Vec<u8> {
        let byte = self.byte();
        let len = if byte < 240 { usize::from(byte / 4) } else { usize::from(byte - 239) * 128 };
        number.to_le_bytes().into_iter().chain(std::iter::repeat_n(byte, len)).collect()
    }

    /// A range of keys in the order of a keyspace, without the keys of [`Input::single_key`].
    pub(super) fn range(&mut self, is_reversed: bool) -> Range {
        let (start, end, forms) = (self.key(), self.key(), self.byte());
        let (start, end) =
            if Range::is_ordered(&start, &end, is_reversed) { (start, end) } else { (end, start) };
        // Nothing is less than the empty key, and what is single comes behind all others.
        let start = match forms % 4 {
            0 if !is_reversed => Bound::Unbounded,
            1 => Bound::Excluded(start),
            _ => Bound::Included(start),
        };
        let end = match forms / 4 % 4 {
            0 if is_reversed => Bound::Unbounded,
            1 => Bound::Included(end),
            _ => Bound::Excluded(end),
        };
        Range { start, end }
    }
}

/// Keys between two bounds.
pub(super) struct Range {
    start: Bound<Vec<u8>>,
    end: Bound<Vec<u8>>,
}

impl Range {
    pub(super) fn bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        (self.start.clone(), self.end.clone())
    }

    /// Whether `first` stands before `second`, or is it.
    pub(super) fn is_ordered(first: &[u8], second: &[u8], is_reversed: bool) -> bool {
        if is_reversed { second <= first } else { first <= second }
    }

    pub(super) fn holds(&self, key: &[u8], is_reversed: bool) -> bool {
        let is_behind_start = match &self.start {
            Bound::Unbounded => true,
            Bound::Included(start) => Self::is_ordered(start, key, is_reversed),
            Bound::Excluded(start) => !Self::is_ordered(key, start, is_reversed),
        };
        is_behind_start
            && match &self.end {
                Bound::Unbounded => true,
                Bound::Included(end) => Self::is_ordered(key, end, is_reversed),
                Bound::Excluded(end) => !Self::is_ordered(end, key, is_reversed),
            }
    }
}
