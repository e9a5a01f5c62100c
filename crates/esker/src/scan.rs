//! The public iterator over a range, from both ends.

use std::sync::Arc;

use esker_base::KeyRange;

use crate::bytes::{Key, Value};
use crate::cursor::{Cursor, Moment};
use crate::engine::Engine;
use crate::engine::snapshots::PinnedSeqNo;
use crate::error::{Error, Result};
use crate::keyspace_core::KeyspaceCore;

/// The entries of a range in key order, as of the moment at which the scan was made.
///
/// Yields `Result<(Key, Value)>`, and ends after an error. `rev()`, or calls of `next_back()` in
/// between, take from the other end; the two ends meet without repeating or skipping an entry.
///
/// Owned and `Send`: it keeps the memtables and tables of that moment alive, and holds no lock.
///
/// # Cost
/// Nothing is read before the first entry is requested. Small entries are copied; use [`Cursor`] to
/// borrow entries instead.
#[derive(Debug)]
pub struct Scan {
    front: End,
    back: End,
    /// What the cursors of both ends are created from, once they are needed.
    source: Option<(Moment, KeyRange)>,
    /// The error to yield, until it has been.
    refused: Option<Error>,
    is_done: bool,
}

/// One end of a scan.
#[derive(Debug, Default)]
struct End {
    /// Created when it is needed.
    cursor: Option<Cursor>,
    /// What keys must start with, if the range holds others too.
    prefix: Option<Arc<[u8]>>,
    /// The stored key yielded last from this end.
    last: Option<Vec<u8>>,
    keys_only: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

impl Scan {
    /// A scan of the stored keys of `range`; if that is an error, the scan yields it.
    pub(crate) fn new(
        engine: &Arc<Engine>,
        keyspace: &Arc<KeyspaceCore>,
        range: Result<KeyRange>,
        pin: Option<Arc<PinnedSeqNo>>,
    ) -> Self {
        // Both ends read at one sequence number, however late they start.
        let pin = pin.unwrap_or_else(|| Arc::new(engine.snapshots.pin(engine.now())));
        let source =
            range.and_then(|range| Ok((Moment::take(engine, keyspace, Some(pin))?, range)));
        match source {
            Ok(source) => Self::with(Some(source), None),
            Err(error) => Self::refused(error),
        }
    }

    /// A scan that yields `error`, and nothing else.
    pub(crate) fn refused(error: Error) -> Self {
        Self::with(None, Some(error))
    }

    fn with(source: Option<(Moment, KeyRange)>, refused: Option<Error>) -> Self {
        let (front, back) = (End::default(), End::default());
        Self { front, back, source, refused, is_done: false }
    }

    /// A scan of the keys that start with `prefix`.
    pub(crate) fn of_prefix(
        engine: &Arc<Engine>,
        keyspace: &Arc<KeyspaceCore>,
        prefix: &[u8],
        pin: Option<Arc<PinnedSeqNo>>,
    ) -> Self {
        let (range, is_exact) = match keyspace.stored_prefix(prefix) {
            Ok((range, is_exact)) => (Ok(range), is_exact),
            Err(error) => (Err(error), true),
        };
        let mut scan = Self::new(engine, keyspace, range, pin);
        if !is_exact {
            let prefix: Arc<[u8]> = prefix.into();
            scan.front.prefix = Some(Arc::clone(&prefix));
            scan.back.prefix = Some(prefix);
        }
        scan
    }

    /// Only the keys of the remaining entries. Values in blob files are not read.
    pub fn keys(mut self) -> impl DoubleEndedIterator<Item = Result<Key>> {
        self.front.show_keys_only();
        self.back.show_keys_only();
        self.map(|entry| entry.map(|(key, _)| key))
    }

    /// Only the values of the remaining entries.
    pub fn values(self) -> impl DoubleEndedIterator<Item = Result<Value>> {
        self.map(|entry| entry.map(|(_, value)| value))
    }

    fn take(&mut self, direction: Direction) -> Option<Result<(Key, Value)>> {
        if self.is_done {
            return None;
        }
        if let Some(error) = self.refused.take() {
            self.is_done = true;
            return Some(Err(error));
        }
        let (end, other) = match direction {
            Direction::Forward => (&mut self.front, &self.back),
            Direction::Backward => (&mut self.back, &self.front),
        };
        let source = match (&end.cursor, &other.cursor) {
            (Some(_), _) => None,
            (None, Some(_)) => self.source.take(),
            (None, None) => self.source.clone(),
        };
        let entry = end.advance(direction, source, other.last.as_deref()).transpose();
        self.is_done = !matches!(entry, Some(Ok(_)));
        entry
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        if let Some((moment, _)) = self.source.take() {
            moment.let_go();
        }
    }
}

impl End {
    fn show_keys_only(&mut self) {
        self.keys_only = true;
        self.cursor = self.cursor.take().map(Cursor::keys_only);
    }

    /// Moves on and returns the entry reached, unless the `other` end has been there already.
    fn advance(
        &mut self,
        direction: Direction,
        source: Option<(Moment, KeyRange)>,
        other: Option<&[u8]>,
    ) -> Result<Option<(Key, Value)>> {
        let prefix = self.prefix.as_deref();
        let cursor = match (&mut self.cursor, source) {
            (Some(cursor), _) => {
                match direction {
                    Direction::Forward => cursor.next()?,
                    Direction::Backward => cursor.prev()?,
                }
                cursor
            }
            (none, Some((moment, range))) => {
                let cursor = Cursor::at(moment, range)?;
                let cursor = if self.keys_only { cursor.keys_only() } else { cursor };
                let cursor = none.insert(cursor);
                match direction {
                    Direction::Forward => cursor.seek_to_first()?,
                    Direction::Backward => cursor.seek_to_last()?,
                }
                cursor
            }
            (None, None) => return Ok(None),
        };
        if let Some(prefix) = prefix {
            skip_to_prefix(cursor, direction, prefix)?;
        }
        if !cursor.is_valid() {
            return Ok(None);
        }
        let has_met = other.is_some_and(|other| match direction {
            Direction::Forward => other <= cursor.stored_key(),
            Direction::Backward => cursor.stored_key() <= other,
        });
        if has_met {
            return Ok(None);
        }
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(cursor.stored_key());
        Ok(Some(cursor.entry()))
    }
}

/// Moves on to a key that starts with `prefix`.
fn skip_to_prefix(cursor: &mut Cursor, direction: Direction, prefix: &[u8]) -> Result<()> {
    while cursor.is_valid() && !cursor.key().starts_with(prefix) {
        match direction {
            Direction::Forward => cursor.next()?,
            Direction::Backward => cursor.prev()?,
        }
    }
    Ok(())
}

impl Iterator for Scan {
    type Item = Result<(Key, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take(Direction::Forward)
    }
}

impl DoubleEndedIterator for Scan {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take(Direction::Backward)
    }
}

impl std::iter::FusedIterator for Scan {}
