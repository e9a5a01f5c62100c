//! A cursor beside the entries that it must show, whatever is written meanwhile.

use esker::Cursor;

use super::model::{Contents, without_notes};
use super::{Input, Range};

pub(super) struct Walk {
    cursor: Cursor,
    /// In the order of the cursor.
    entries: Contents,
    is_reversed: bool,
    /// The entry that it stands at, if it does.
    at: Option<usize>,
}

impl Walk {
    /// A cursor that was just made, over these entries.
    pub(super) fn new(cursor: Cursor, entries: Contents, is_reversed: bool) -> Self {
        Self { cursor, entries, is_reversed, at: None }
    }

    /// Takes up to eight steps.
    pub(super) fn go_on(&mut self, input: &mut Input<'_>) {
        for _ in 0..=input.below(8) {
            self.step(input);
            let cursor = &self.cursor;
            let found = cursor.is_valid().then(|| (cursor.key(), without_notes(cursor.value())));
            let due = self.at.map(|at| &self.entries[at]);
            let due = due.map(|(key, value)| (key.as_slice(), value.clone()));
            assert!(found == due, "a cursor shows {found:?}, and not {due:?}");
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let moved = match input.below(6) {
            0 => {
                self.at = (!self.entries.is_empty()).then_some(0);
                self.cursor.seek_to_first()
            }
            1 => {
                self.at = self.entries.len().checked_sub(1);
                self.cursor.seek_to_last()
            }
            2 => {
                let key = input.key();
                let place = self.before(&key);
                self.at = (place < self.entries.len()).then_some(place);
                self.cursor.seek(key)
            }
            3 => {
                let key = input.key();
                let place = self.before(&key);
                let is_there = self.entries.get(place).is_some_and(|(found, _)| *found == key);
                self.at = if is_there { Some(place) } else { place.checked_sub(1) };
                self.cursor.seek_for_prev(key)
            }
            4 if let Some(at) = self.at => {
                self.at = Some(at + 1).filter(|next| *next < self.entries.len());
                self.cursor.next()
            }
            5 if let Some(at) = self.at => {
                self.at = at.checked_sub(1);
                self.cursor.prev()
            }
            _ => return,
        };
        moved.expect("memory");
    }

    /// How many entries stand before `key`.
    fn before(&self, key: &[u8]) -> usize {
        let is_before = |(found, _): &(Vec<u8>, Vec<u8>)| {
            Range::is_ordered(found, key, self.is_reversed) && found != key
        };
        self.entries.partition_point(is_before)
    }
}
