//! Reads and writes of the default keyspace through the database itself.
//!
//! Each is the method of [`Keyspace`](crate::Keyspace) by the same name, which says what it does.

use std::ops::RangeBounds;
use std::time::Duration;

use crate::bytes::Value;
use crate::cursor::Cursor;
use crate::db::Db;
use crate::error::Result;
use crate::expiry::Expiry;
use crate::options::Durability;
use crate::scan::Scan;

impl Db {
    /// Sets `key` to `value`. See [`Keyspace::put`](crate::Keyspace::put).
    ///
    /// # Errors
    /// As [`Keyspace::put`](crate::Keyspace::put).
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.default_keyspace().put(key, value)
    }

    /// Sets `key` to `value` with the given durability. See [`Keyspace::put_with`](crate::Keyspace::put_with).
    ///
    /// # Errors
    /// As [`Keyspace::put_with`](crate::Keyspace::put_with).
    pub fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        durability: Durability,
    ) -> Result<()> {
        self.default_keyspace().put_with(key, value, durability)
    }

    /// Sets `key` to `value` for as long as `ttl`. See [`Keyspace::put_with_ttl`](crate::Keyspace::put_with_ttl).
    ///
    /// # Errors
    /// As [`Keyspace::put_with_ttl`](crate::Keyspace::put_with_ttl).
    pub fn put_with_ttl(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<()> {
        self.default_keyspace().put_with_ttl(key, value, ttl)
    }

    /// Sets `key` to `value` until `expiry`. See [`Keyspace::put_with_expiry`](crate::Keyspace::put_with_expiry).
    ///
    /// # Errors
    /// As [`Keyspace::put_with_expiry`](crate::Keyspace::put_with_expiry).
    pub fn put_with_expiry(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        expiry: Expiry,
    ) -> Result<()> {
        self.default_keyspace().put_with_expiry(key, value, expiry)
    }

    /// Until when `key` has its value. See [`Keyspace::expires_at`](crate::Keyspace::expires_at).
    ///
    /// # Errors
    /// As [`Keyspace::get`](crate::Keyspace::get).
    pub fn expires_at(&self, key: impl AsRef<[u8]>) -> Result<Option<Expiry>> {
        self.default_keyspace().expires_at(key)
    }

    /// Removes `key`. See [`Keyspace::delete`](crate::Keyspace::delete).
    ///
    /// # Errors
    /// As [`Keyspace::delete`](crate::Keyspace::delete).
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.default_keyspace().delete(key)
    }

    /// Removes `key` with the given durability. See [`Keyspace::delete_with`](crate::Keyspace::delete_with).
    ///
    /// # Errors
    /// As [`Keyspace::delete_with`](crate::Keyspace::delete_with).
    pub fn delete_with(&self, key: impl AsRef<[u8]>, durability: Durability) -> Result<()> {
        self.default_keyspace().delete_with(key, durability)
    }

    /// Merges `operand` into the value of `key`. See [`Keyspace::merge`](crate::Keyspace::merge).
    ///
    /// # Errors
    /// As [`Keyspace::merge`](crate::Keyspace::merge).
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.default_keyspace().merge(key, operand)
    }

    /// Merges `operand` into the value of `key` with the given durability. See
    /// [`Keyspace::merge`](crate::Keyspace::merge).
    ///
    /// # Errors
    /// As [`Keyspace::merge`](crate::Keyspace::merge).
    pub fn merge_with(
        &self,
        key: impl AsRef<[u8]>,
        operand: impl AsRef<[u8]>,
        durability: Durability,
    ) -> Result<()> {
        self.default_keyspace().merge_with(key, operand, durability)
    }

    /// Removes `key`, which was put once. See [`Keyspace::single_delete`](crate::Keyspace::single_delete).
    ///
    /// # Errors
    /// As [`Keyspace::single_delete`](crate::Keyspace::single_delete).
    pub fn single_delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.default_keyspace().single_delete(key)
    }

    /// Removes every key of `range`. See [`Keyspace::delete_range`](crate::Keyspace::delete_range).
    ///
    /// # Errors
    /// As [`Keyspace::delete_range`](crate::Keyspace::delete_range).
    pub fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.default_keyspace().delete_range(range)
    }

    /// The value of `key`. See [`Keyspace::get`](crate::Keyspace::get).
    ///
    /// # Errors
    /// As [`Keyspace::get`](crate::Keyspace::get).
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.default_keyspace().get(key)
    }

    /// Hands the value of `key` to `use_value` where it lies. See [`Keyspace::get_with`](crate::Keyspace::get_with).
    ///
    /// # Errors
    /// As [`Keyspace::get_with`](crate::Keyspace::get_with).
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        use_value: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.default_keyspace().get_with(key, use_value)
    }

    /// Reads the value of `key` into `buffer`. See [`Keyspace::get_into`](crate::Keyspace::get_into).
    ///
    /// # Errors
    /// As [`Keyspace::get_into`](crate::Keyspace::get_into).
    pub fn get_into(&self, key: impl AsRef<[u8]>, buffer: &mut Vec<u8>) -> Result<bool> {
        self.default_keyspace().get_into(key, buffer)
    }

    /// The values of `keys`. See [`Keyspace::multi_get`](crate::Keyspace::multi_get).
    ///
    /// # Errors
    /// As [`Keyspace::multi_get`](crate::Keyspace::multi_get).
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        self.default_keyspace().multi_get(keys)
    }

    /// Whether `key` has a value.
    ///
    /// # Errors
    /// As [`Keyspace::contains`](crate::Keyspace::contains).
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.default_keyspace().contains(key)
    }

    /// The entries of a range, from both ends. See [`Keyspace::scan`](crate::Keyspace::scan).
    ///
    /// # Examples
    /// ```
    /// # fn main() -> esker::Result<()> {
    /// let db = esker::Db::in_memory()?;
    /// for word in ["ant", "bee", "cat", "dog"] {
    ///     db.put(word, "animal")?;
    /// }
    /// let backwards: Result<Vec<_>, _> = db.scan("b".."d").rev().collect();
    /// let keys: Vec<_> = backwards?.into_iter().map(|(key, _)| key).collect();
    /// assert_eq!(keys, ["cat", "bee"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        self.default_keyspace().scan(range)
    }

    /// The entries whose keys start with `prefix`, exactly those.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        self.default_keyspace().prefix(prefix)
    }

    /// Every entry of the default keyspace.
    pub fn iter(&self) -> Scan {
        self.default_keyspace().iter()
    }

    /// A cursor over every entry of the default keyspace.
    ///
    /// # Errors
    /// `Closed`.
    pub fn cursor(&self) -> Result<Cursor> {
        self.default_keyspace().cursor()
    }

    /// A cursor that stays inside `range`. See [`Keyspace::cursor_in`](crate::Keyspace::cursor_in).
    ///
    /// # Errors
    /// `Closed`.
    pub fn cursor_in<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Cursor> {
        self.default_keyspace().cursor_in(range)
    }
}
