//! Conversion between user keys and stored keys, which differ if a keyspace has an order other than
//! bytewise.
//!
//! Everything that takes a key from a user, or returns one, goes through here; everything below
//! (log, memtables, tables, ranges, compaction) knows only stored keys, and needs no order: a
//! keyspace whose order is not known is recovered and compacted all the same.

use std::borrow::Cow;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use esker_base::{KeyRange, limits};
use esker_tree::{FilterError, MergeError, Plan, ReadError};

use crate::error::{Error, ErrorKind, Result};
use crate::key_order::{KeyOrder, Order};
use crate::keyspace_core::KeyspaceCore;
use crate::operation::check_key;

impl KeyspaceCore {
    /// The stored key for `key`.
    ///
    /// # Errors
    /// `InvalidInput` if it is too long, or the order of the keyspace is not known.
    ///
    /// # Cost
    /// Nothing in the bytewise order; an allocation in any other.
    #[inline]
    pub(crate) fn stored_key<'k>(&self, key: &'k [u8]) -> Result<Cow<'k, [u8]>> {
        if self.order.is_bytewise {
            check_key(key)?;
            return Ok(Cow::Borrowed(key));
        }
        self.encoded_key(key).map(Cow::Owned)
    }

    #[cold]
    fn encoded_key(&self, key: &[u8]) -> Result<Vec<u8>> {
        let stored = self.encoded(key)?;
        if stored.len() <= limits::KEY_LEN_MAX {
            return Ok(stored);
        }
        Err(Error::invalid_input(format!(
            "the key has {} bytes, which the key order {:?} makes {}, and at most {} are allowed",
            key.len(),
            self.order.name,
            stored.len(),
            limits::KEY_LEN_MAX
        )))
    }

    /// The position of `key` among stored keys: as [`KeyspaceCore::stored_key`], but of any length.
    pub(crate) fn stored_bound<'k>(&self, key: &'k [u8]) -> Result<Cow<'k, [u8]>> {
        if self.order.is_bytewise || esker_base::planted::is("order-not-applied-to-bounds") {
            return Ok(Cow::Borrowed(key));
        }
        self.encoded(key).map(Cow::Owned)
    }

    /// A range of keys as a range of stored keys. An inverted range becomes an empty one.
    ///
    /// # Errors
    /// `InvalidInput` if the order of the keyspace is not known and the range has a bound.
    pub(crate) fn stored_range<K: AsRef<[u8]>>(
        &self,
        range: &impl RangeBounds<K>,
    ) -> Result<KeyRange> {
        let stored = |bound: Bound<&K>| -> Result<Bound<Vec<u8>>> {
            let own = |key: &K| self.stored_bound(key.as_ref()).map(Cow::into_owned);
            Ok(match bound {
                Bound::Included(key) => Bound::Included(own(key)?),
                Bound::Excluded(key) => Bound::Excluded(own(key)?),
                Bound::Unbounded => Bound::Unbounded,
            })
        };
        let (start, end) = (stored(range.start_bound())?, stored(range.end_bound())?);
        let range = KeyRange { start, end };
        if range.is_empty() {
            let nothing = Vec::new();
            let (start, end) = (Bound::Included(nothing.clone()), Bound::Excluded(nothing));
            return Ok(KeyRange { start, end });
        }
        Ok(range)
    }

    /// A range that holds the stored keys of all keys that start with `prefix`, and whether it
    /// holds only those.
    ///
    /// # Errors
    /// `InvalidInput` if the order of the keyspace is not known.
    pub(crate) fn stored_prefix(&self, prefix: &[u8]) -> Result<(KeyRange, bool)> {
        if self.order.is_bytewise {
            return Ok((KeyRange::prefix(prefix), true));
        }
        let mut stored = Vec::new();
        if self.order_code()?.encode_prefix(prefix, &mut stored) {
            return Ok((KeyRange::prefix(&stored), true));
        }
        Ok((KeyRange::all(), false))
    }

    /// The key whose stored key is `stored`.
    ///
    /// # Errors
    /// `InvalidInput` if the order of the keyspace is not known; `Corruption` if it cannot have
    /// produced the stored key.
    pub(crate) fn user_key<'k>(&self, stored: &'k [u8]) -> Result<Cow<'k, [u8]>> {
        if self.order.is_bytewise {
            return Ok(Cow::Borrowed(stored));
        }
        let mut key = Vec::with_capacity(stored.len());
        self.decode_key(&**self.order_code()?, stored, &mut key)?;
        Ok(Cow::Owned(key))
    }

    /// Appends the key whose stored key is `stored`; `code` is that of this keyspace.
    pub(crate) fn decode_key(
        &self,
        code: &dyn KeyOrder,
        stored: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        code.decode(stored, out).map_err(|error| {
            Error::new(
                ErrorKind::Corruption,
                format!(
                    "the stored key \"{}\" of keyspace {} is none of the key order {:?}: {error}",
                    stored.escape_ascii(),
                    self.name(),
                    self.order.name
                ),
            )
        })
    }

    /// The key to show to people: the user key or, if that cannot be known, `stored` itself.
    pub(crate) fn shown_key<'k>(&self, stored: &'k [u8]) -> Cow<'k, [u8]> {
        self.user_key(stored).unwrap_or(Cow::Borrowed(stored))
    }

    /// `error` of a read of this keyspace, with the user key.
    #[cold]
    pub(crate) fn read_error(&self, error: ReadError) -> Error {
        match error {
            ReadError::File(error) => error.into(),
            ReadError::UnsupportedKind(error) => error.into(),
            ReadError::Merge(error) => {
                let key = self.shown_key(&error.key).into();
                let error = MergeError { key, ..error };
                Error::new(ErrorKind::UserCode, error.to_string())
            }
        }
    }

    /// `error` of the compaction filter of this keyspace, with the user key.
    pub(crate) fn filter_error(&self, error: FilterError) -> Error {
        let key = error.key.as_deref().map(|key| self.shown_key(key).into());
        let error = FilterError { key, ..error };
        Error::new(ErrorKind::UserCode, error.to_string())
    }

    /// `plan` on one line, with user keys.
    pub(crate) fn plan_text(&self, plan: &Plan) -> String {
        if self.order.is_bytewise {
            return plan.to_string();
        }
        let shown = |key: &Vec<u8>| self.shown_key(key).into_owned();
        let (first_key, last_key) = (shown(&plan.first_key), shown(&plan.last_key));
        let cut_keys = plan.cut_keys.iter().map(shown).collect();
        Plan { first_key, last_key, cut_keys, ..plan.clone() }.to_string()
    }

    /// The encoder of this keyspace's keys; `None` if they are stored unchanged.
    ///
    /// # Errors
    /// `InvalidInput` if it is not known.
    pub(crate) fn key_code(&self) -> Result<Option<Arc<dyn KeyOrder>>> {
        if self.order.is_bytewise {
            return Ok(None);
        }
        self.order_code().map(|code| Some(Arc::clone(code)))
    }

    /// Takes the code of `order`, unless it is known already.
    ///
    /// # Errors
    /// `InvalidInput` if it is another order than the recorded one.
    pub(crate) fn give_order(&self, order: &Order) -> Result<()> {
        if *order.name() != *self.order.name {
            return Err(Error::invalid_input(format!(
                "keyspace {} was created with the key order {:?}, and is opened with {:?}",
                self.name(),
                self.order.name,
                order.name()
            )));
        }
        if let Some(code) = order.code() {
            self.order.code.get_or_init(|| Arc::clone(code));
        }
        Ok(())
    }

    fn encoded(&self, key: &[u8]) -> Result<Vec<u8>> {
        // Room for an end mark or the like.
        let mut stored = Vec::with_capacity(key.len() + 8);
        self.order_code()?.encode(key, &mut stored);
        Ok(stored)
    }

    fn order_code(&self) -> Result<&Arc<dyn KeyOrder>> {
        self.order.code.get().ok_or_else(|| {
            Error::invalid_input(format!(
                "keyspace {} has the key order {:?}, which was not given when it was opened",
                self.name(),
                self.order.name
            ))
        })
    }
}
