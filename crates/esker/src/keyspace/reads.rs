//! Reads of one keyspace: single keys, several, ranges and cursors.
//!
//! Promises that each call reads as of one moment. Does not know where entries are stored.

use std::ops::RangeBounds;

use esker_base::KeyRange;

use super::Keyspace;
use crate::bytes::Value;
use crate::cursor::Cursor;
use crate::error::Result;
use crate::read::Found;
use crate::scan::Scan;

impl Keyspace {
    /// The value of `key`; `None` if it has none.
    ///
    /// # Errors
    /// - `InvalidInput`: the key is too long, or the order of the keyspace was not given.
    /// - `Corruption`, `Io`: a table that may hold the key cannot be read.
    /// - `UnsupportedFormat`: a table that may hold the key needs a newer release, or a feature
    ///   that this build lacks.
    /// - `UserCode`: the key has operands, and the merge operator was not given or failed.
    /// - `Closed`.
    ///
    /// # Cost
    /// One search in each memtable, and in each run whose filter does not rule the key out. A value
    /// of less than a kilobyte is copied; a larger one is returned without a copy, unless it
    /// expires or is the result of a merge. In an [order](crate::KeyspaceOptions::order) other than
    /// bytewise, the key is encoded first, which allocates.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.db.engine().get(&self.core, key.as_ref(), None)
    }

    /// Hands the value of `key` to `use_value` where it lies. `None` if there is no value.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    ///
    /// # Cost
    /// As for [`Keyspace::get`], but the value is not copied, however short, unless it expires or
    /// operands are merged into it. Only those two cases allocate, and a key order other than
    /// bytewise.
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        use_value: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let use_found = |found: Found<'_>| use_value(found.as_bytes());
        self.db.engine().get_with(&self.core, key.as_ref(), None, use_found)
    }

    /// Replaces the contents of `buffer` with the value of `key`, and returns whether there is one.
    /// Allocates only if the buffer is too small, and where [`Keyspace::get_with`] does.
    ///
    /// # Errors
    /// As [`Keyspace::get`]; the buffer is then empty.
    pub fn get_into(&self, key: impl AsRef<[u8]>, buffer: &mut Vec<u8>) -> Result<bool> {
        buffer.clear();
        let found = self.get_with(key, |value| buffer.extend_from_slice(value))?;
        Ok(found.is_some())
    }

    /// The values of `keys`, in the order of `keys`, all as of one moment.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        self.db.engine().multi_get(&self.core, keys, None)
    }

    /// Whether `key` has a value.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.db.engine().contains(&self.core, key.as_ref(), None)
    }

    /// The entries of `range` as of now, in key order, from both ends. A range that ends before it
    /// starts has none.
    ///
    /// Where the type of the keys does not follow from the range, as with `..` or a pair of bounds
    /// of references, it has to be named.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> esker::Result<()> {
    /// use std::ops::Bound;
    ///
    /// let db = esker::Db::in_memory()?;
    /// for word in ["ant", "bee", "cat", "dog"] {
    ///     db.put(word, "animal")?;
    /// }
    /// assert_eq!(db.scan("b"..="cat").count(), 2);
    /// assert_eq!(db.scan::<&str>(..).count(), 4);
    /// let behind = (Bound::Excluded("bee"), Bound::Unbounded);
    /// assert_eq!(db.scan::<&str>(behind).count(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        Scan::new(self.db.engine(), &self.core, self.core.stored_range(&range), None)
    }

    /// Exactly the entries whose keys start with `prefix`, whatever filters there are; a
    /// [`prefix_filter`](crate::KeyspaceOptions::prefix_filter) makes this faster where most tables
    /// have no such keys.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        Scan::of_prefix(self.db.engine(), &self.core, prefix.as_ref(), None)
    }

    /// Every entry.
    pub fn iter(&self) -> Scan {
        Scan::new(self.db.engine(), &self.core, Ok(KeyRange::all()), None)
    }

    /// A cursor over every entry, as of now.
    ///
    /// # Errors
    /// `Closed`; `InvalidInput` if the order of the keys is not known.
    pub fn cursor(&self) -> Result<Cursor> {
        Cursor::new(self.db.engine(), &self.core, KeyRange::all(), None)
    }

    /// A cursor that stays inside `range`, and looks only at tables that overlap it.
    ///
    /// # Errors
    /// `Closed`; `InvalidInput` if the key order is not known; `Io` or `Corruption` if a table
    /// whose [`prefix_filter`](crate::KeyspaceOptions::prefix_filter) is needed cannot be opened.
    pub fn cursor_in<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Cursor> {
        Cursor::new(self.db.engine(), &self.core, self.core.stored_range(&range)?, None)
    }
}
