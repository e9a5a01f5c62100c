//! Entries in memory, sorted on request.
//!
//! Keys and values are appended to one buffer; positions in it are sorted, by the first eight bytes
//! of the key as an integer, then the key, then the order of arrival. Knows nothing of files.

use std::cmp::Ordering;

use esker_base::key_head;

/// Entries in order of arrival, or sorted.
#[derive(Debug, Default)]
pub(crate) struct SortBuffer {
    bytes: Vec<u8>,
    items: Vec<Item>,
    /// Whether no key is less than the previous one.
    is_sorted: bool,
}

/// One entry. Later arrivals have larger positions.
#[derive(Clone, Copy, Debug)]
struct Item {
    head: u64,
    at: u64,
    key_len: u32,
    value_len: u32,
}

impl SortBuffer {
    pub(crate) fn new() -> Self {
        Self { is_sorted: true, ..Self::default() }
    }

    /// Adds an entry. Key and value are within their limits.
    #[inline]
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        let item = Item {
            head: key_head(key),
            at: self.bytes.len() as u64,
            key_len: key.len() as u32,
            value_len: value.len() as u32,
        };
        if let Some(last) = self.items.last().filter(|_| self.is_sorted) {
            let order = last.head.cmp(&item.head).then_with(|| self.key(last).cmp(key));
            self.is_sorted = order != Ordering::Greater;
        }
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.items.push(item);
    }

    pub(crate) const fn is_sorted(&self) -> bool {
        self.is_sorted
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of the entries.
    pub(crate) const fn used_bytes(&self) -> u64 {
        (self.bytes.len() + self.items.len() * size_of::<Item>()) as u64
    }

    /// Bytes of memory held.
    pub(crate) const fn held_bytes(&self) -> u64 {
        (self.bytes.capacity() + self.items.capacity() * size_of::<Item>()) as u64
    }

    #[inline]
    fn key(&self, item: &Item) -> &[u8] {
        &self.bytes[item.at as usize..][..item.key_len as usize]
    }

    #[inline]
    fn value(&self, item: &Item) -> &[u8] {
        &self.bytes[item.at as usize + item.key_len as usize..][..item.value_len as usize]
    }

    /// Calls `take` with the last entry of each key, ascending, and clears the buffer, except for
    /// the last key and its entries if `keeps_last`. Returns how many entries were replaced by a
    /// later one.
    ///
    /// # Errors
    /// Of `take`; afterwards the contents of the buffer are meaningless.
    pub(crate) fn drain<E>(
        &mut self,
        keeps_last: bool,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut items = std::mem::take(&mut self.items);
        if !self.is_sorted {
            items.sort_unstable_by(|a, b| {
                let order = a.head.cmp(&b.head).then_with(|| self.key(a).cmp(self.key(b)));
                order.then(a.at.cmp(&b.at))
            });
        }
        let mut replaced = 0;
        let end = items.len().saturating_sub(usize::from(keeps_last));
        for (index, item) in items[..end].iter().enumerate() {
            let next = items.get(index + 1);
            let is_last =
                next.is_none_or(|next| next.head != item.head || self.key(next) != self.key(item));
            if is_last {
                take(self.key(item), self.value(item))?;
            } else {
                replaced += 1;
            }
        }
        let kept = items.get(end).map(|item| (self.key(item).to_vec(), self.value(item).to_vec()));
        items.clear();
        self.items = items;
        self.bytes.clear();
        self.is_sorted = true;
        if let Some((key, value)) = kept {
            self.push(&key, &value);
        }
        Ok(replaced)
    }

    /// Frees the memory.
    pub(crate) fn release(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    type Entries = Vec<(Vec<u8>, Vec<u8>)>;

    fn drained(buffer: &mut SortBuffer, keeps_last: bool) -> (Entries, u64) {
        let mut taken = Vec::new();
        let replaced = buffer.drain(keeps_last, |key, value| {
            taken.push((key.to_vec(), value.to_vec()));
            Ok::<_, Infallible>(())
        });
        let Ok(replaced) = replaced;
        (taken, replaced)
    }

    #[test]
    fn last_write_of_each_key_comes_out_in_order() {
        let mut buffer = SortBuffer::new();
        let mut model = BTreeMap::new();
        let mut word = 1_u64;
        for round in 0..2_000_u64 {
            word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ round;
            // Keys with equal heads, with prefixes of each other, and the empty one.
            let key = &b"a common start and then some"[..(word % 12) as usize];
            let key = [key, &(word % 90).to_le_bytes()[..(word >> 32) as usize % 3]].concat();
            let value = round.to_le_bytes().to_vec();
            buffer.push(&key, &value);
            model.insert(key, value);
        }
        assert!(!buffer.is_sorted());
        let (taken, replaced) = drained(&mut buffer, false);
        assert_eq!(replaced, 2_000 - taken.len() as u64);
        assert_eq!(taken, model.into_iter().collect::<Vec<_>>());
        assert!(buffer.is_empty() && buffer.is_sorted());
    }

    #[test]
    fn last_entry_stays_while_more_of_its_key_may_come() {
        let mut buffer = SortBuffer::new();
        for (key, value) in [("a", "1"), ("b", "2"), ("b", "3")] {
            buffer.push(key.as_bytes(), value.as_bytes());
        }
        assert!(buffer.is_sorted());
        let (taken, replaced) = drained(&mut buffer, true);
        assert_eq!((taken, replaced), (vec![(b"a".to_vec(), b"1".to_vec())], 1));
        buffer.push(b"b", b"4");
        assert!(buffer.is_sorted());
        let (taken, replaced) = drained(&mut buffer, false);
        assert_eq!((taken, replaced), (vec![(b"b".to_vec(), b"4".to_vec())], 1));
    }

    #[test]
    fn disorder_is_noticed_by_head_and_by_key() {
        for (first, second, is_sorted) in
            [("b", "a", false), ("longprefix2", "longprefix1", false), ("a", "a", true)]
        {
            let mut buffer = SortBuffer::new();
            buffer.push(first.as_bytes(), b"");
            buffer.push(second.as_bytes(), b"");
            assert_eq!(buffer.is_sorted(), is_sorted, "{first} {second}");
        }
    }
}
