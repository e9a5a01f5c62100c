//! What the database of a run should hold: the keyspaces as sorted maps, with what expires and what is
//! merged.

use std::collections::BTreeMap;

use super::Range;

/// Between two operands, and between a value and an operand.
pub(super) const SEPARATOR: &[u8] = b"+";

/// What the compaction filter puts behind some values: it stands for nothing, wherever it is found.
pub(super) const NOTE: u8 = 0xF5;

/// What a reader of a keyspace finds, in its order, without notes.
pub(super) type Contents = Vec<(Vec<u8>, Vec<u8>)>;

/// One keyspace.
#[derive(Clone, Default)]
pub(super) struct Map {
    entries: BTreeMap<Vec<u8>, Entry>,
    /// Whether its keys stand in reverse order.
    pub(super) is_reversed: bool,
}

/// A value with what was merged over it, or operands alone.
#[derive(Clone, Default)]
struct Entry {
    value: Option<Value>,
    /// Joined already.
    operands: Option<Vec<u8>>,
}

#[derive(Clone)]
struct Value {
    bytes: Vec<u8>,
    /// In milliseconds since the epoch.
    expiry: Option<u64>,
}

impl Entry {
    /// What a reader at that time finds. An expired value is merged with nothing.
    fn visible(&self, now: u64) -> Option<Vec<u8>> {
        let is_there = |value: &&Value| value.expiry.is_none_or(|expiry| now < expiry);
        let value = self.value.as_ref().filter(is_there).map(|value| &value.bytes);
        match (value, &self.operands) {
            (Some(value), Some(operands)) => {
                Some(without_notes(&[value, SEPARATOR, operands].concat()))
            }
            (one, other) => one.or(other.as_ref()).map(|value| without_notes(value)),
        }
    }
}

impl Map {
    pub(super) fn put(&mut self, key: Vec<u8>, bytes: Vec<u8>, expiry: Option<u64>) {
        let value = Some(Value { bytes, expiry });
        self.entries.insert(key, Entry { value, operands: None });
    }

    pub(super) fn delete(&mut self, key: &[u8]) {
        self.entries.remove(key);
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(super) fn delete_range(&mut self, range: &Range) {
        let is_reversed = self.is_reversed;
        self.entries.retain(|key, _| !range.holds(key, is_reversed));
    }

    pub(super) fn merge(&mut self, key: Vec<u8>, operand: &[u8]) {
        let entry = self.entries.entry(key).or_default();
        let older = entry.operands.take();
        entry.operands = Some(match older {
            Some(older) => [&older, SEPARATOR, operand].concat(),
            None => operand.to_vec(),
        });
    }

    pub(super) fn get(&self, key: &[u8], now: u64) -> Option<Vec<u8>> {
        self.entries.get(key)?.visible(now)
    }

    /// When what `key` has now expires, in milliseconds since the epoch.
    pub(super) fn expiry(&self, key: &[u8], now: u64) -> Option<u64> {
        self.entries.get(key)?.value.as_ref()?.expiry.filter(|expiry| now < *expiry)
    }

    /// All that is visible, in the order of the keyspace.
    pub(super) fn contents(&self, now: u64) -> Contents {
        let visible = |(key, entry): (&Vec<u8>, &Entry)| Some((key.clone(), entry.visible(now)?));
        let mut contents: Contents = self.entries.iter().filter_map(visible).collect();
        if self.is_reversed {
            contents.reverse();
        }
        contents
    }
}

/// The value without what the compaction filter may have added.
pub(super) fn without_notes(value: &[u8]) -> Vec<u8> {
    value.iter().copied().filter(|byte| *byte != NOTE).collect()
}
