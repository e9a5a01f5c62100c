//! The order of a keyspace's keys, as a way to write each key.
//!
//! A tree compares byte strings and nothing else. An order is therefore not a comparison but an
//! encoding: it writes each key as other bytes, whose bytewise order is the order that is wanted.
//! Filters, indexes, prefixes and every loop over entries stay as they are, and the bytewise order
//! costs one branch. ARCHITECTURE.md says what else was considered.
//!
//! Knows keys only: how keyspaces use it is in `stored_key`.

pub(crate) mod user_code;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use esker_base::limits;

/// An order of keys: an encoding whose bytewise order is the order that is meant.
///
/// Recorded by name with the keyspace that it orders, for good: the same name must stand for the
/// same bytes in every later release of the code that implements it.
///
/// What must hold, for all keys `a` and `b`:
/// - `a` comes before `b` exactly if the encoding of `a` is bytewise less than that of `b`; so
///   different keys have different encodings;
/// - decoding an encoding gives the key back.
///
/// Every byte string must have an encoding, since any may be asked for as a bound. A key can be written
/// if its encoding has at most [`limits::KEY_LEN_MAX`] bytes, however long it is itself. If an order is
/// wrong, its keyspace gives wrong answers; no other one does, and no file is damaged.
pub trait KeyOrder: Send + Sync + 'static {
    /// The name that is recorded: 1 to 255 bytes, not that of a ready-made one.
    fn name(&self) -> &str;

    /// Appends the encoding of `key` to `out`.
    fn encode(&self, key: &[u8], out: &mut Vec<u8>);

    /// Appends the key that was encoded as `stored` to `out`.
    ///
    /// # Errors
    /// If [`KeyOrder::encode`] cannot have given `stored`.
    fn decode(&self, stored: &[u8], out: &mut Vec<u8>) -> Result<(), UndecodableKey>;

    /// Appends to `out` the bytes with which the encodings of those keys start that start with
    /// `prefix`, and of no others; false if there are no such bytes. Then a scan of a prefix reads
    /// the whole keyspace and leaves out what does not fit, as it does without this method.
    fn encode_prefix(&self, prefix: &[u8], out: &mut Vec<u8>) -> bool {
        let _ = (prefix, out);
        false
    }
}

/// Bytes that are not the encoding of any key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UndecodableKey {
    what: Cow<'static, str>,
}

impl UndecodableKey {
    /// Says what is wrong with the bytes, as a lower-case phrase.
    pub fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self { what: what.into() }
    }
}

impl fmt::Display for UndecodableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for UndecodableKey {}

/// Bytewise backwards: `b` before `ab` before `aa` before `a` before the empty key. A key comes
/// after every longer one that starts with it.
///
/// Each byte is complemented. What would be 254 or 255 then is written as 254 0 and 254 255, so
/// that 255 is free to end the key, greater than anything that can follow.
///
/// # Cost
/// One byte more than the key, and one for each byte of it that is 0 or 1. So a key has at most 65,534
/// bytes, and of zeros alone at most 32,767.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ReverseBytewise;

impl ReverseBytewise {
    /// Stands before a byte that needs one.
    const ESCAPE: u8 = 0xfe;
    const END: u8 = 0xff;
}

impl KeyOrder for ReverseBytewise {
    fn name(&self) -> &'static str {
        REVERSE_BYTEWISE
    }

    fn encode(&self, key: &[u8], out: &mut Vec<u8>) {
        self.encode_prefix(key, out);
        out.push(Self::END);
    }

    fn decode(&self, stored: &[u8], out: &mut Vec<u8>) -> Result<(), UndecodableKey> {
        let Some((&Self::END, bytes)) = stored.split_last() else {
            return Err(UndecodableKey::new("it has no end mark"));
        };
        let mut bytes = bytes.iter();
        while let Some(&byte) = bytes.next() {
            let byte = match byte {
                Self::ESCAPE => match bytes.next() {
                    Some(0x00) => 0xfe,
                    Some(0xff) => 0xff,
                    _ => return Err(UndecodableKey::new("a byte is escaped that need not be")),
                },
                Self::END => return Err(UndecodableKey::new("it goes on behind its end mark")),
                byte => byte,
            };
            out.push(!byte);
        }
        Ok(())
    }

    fn encode_prefix(&self, prefix: &[u8], out: &mut Vec<u8>) -> bool {
        out.reserve(prefix.len() + 1);
        for byte in prefix {
            match !byte {
                0xfe => out.extend_from_slice(&[Self::ESCAPE, 0x00]),
                0xff => out.extend_from_slice(&[Self::ESCAPE, 0xff]),
                byte => out.push(byte),
            }
        }
        true
    }
}

/// Name of the order in which keys are stored as they are.
pub(crate) const BYTEWISE: &str = "bytewise";

/// Name of [`ReverseBytewise`].
pub(crate) const REVERSE_BYTEWISE: &str = "reverse-bytewise";

/// Which order a keyspace has. Fixed when the keyspace is created. In any but the bytewise one, what
/// [`limits::KEY_LEN_MAX`] bounds is the length of a key as the order [encodes](KeyOrder::encode) it.
///
/// Two are equal if their names are.
#[derive(Clone, Default)]
pub struct Order(Choice);

#[derive(Clone, Default)]
enum Choice {
    #[default]
    Bytewise,
    Coded(Arc<dyn KeyOrder>),
    /// Recorded with a keyspace, and not given at this open.
    NameOnly(Arc<str>),
}

impl Order {
    /// Bytes are compared as they are: the default.
    #[must_use]
    pub const fn bytewise() -> Self {
        Self(Choice::Bytewise)
    }

    /// [`ReverseBytewise`].
    #[must_use]
    pub fn reverse_bytewise() -> Self {
        Self::new(ReverseBytewise)
    }

    /// An order of the caller's own.
    #[must_use]
    pub fn new(order: impl KeyOrder) -> Self {
        Self(Choice::Coded(Arc::new(order)))
    }

    /// The order recorded under `name`, if it is a ready-made one or one of `known`.
    pub(crate) fn recorded(name: &str, known: &[Self]) -> Self {
        match name {
            BYTEWISE => Self::bytewise(),
            REVERSE_BYTEWISE => Self::reverse_bytewise(),
            name => match known.iter().find(|order| order.name() == name) {
                Some(order) => order.clone(),
                None => Self(Choice::NameOnly(name.into())),
            },
        }
    }

    /// The name that is recorded.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.0 {
            Choice::Bytewise => BYTEWISE,
            Choice::Coded(order) => order.name(),
            Choice::NameOnly(name) => name,
        }
    }

    /// Whether keys are stored as they are.
    pub(crate) const fn is_bytewise(&self) -> bool {
        matches!(self.0, Choice::Bytewise)
    }

    /// What encodes keys; none if keys are stored as they are, or if only the name is known.
    pub(crate) fn code(&self) -> Option<&Arc<dyn KeyOrder>> {
        match &self.0 {
            Choice::Coded(order) => Some(order),
            Choice::Bytewise | Choice::NameOnly(_) => None,
        }
    }

    /// What is wrong with the order for who writes keys: that only its name is known, if so.
    pub(crate) fn check_known(&self) -> Result<(), String> {
        match &self.0 {
            Choice::NameOnly(name) => Err(format!("the key order {name:?} is known by name only")),
            Choice::Bytewise | Choice::Coded(_) => Ok(()),
        }
    }

    /// What is wrong with the order, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Choice::Coded(order) = &self.0 else { return Ok(()) };
        let name = order.name();
        if name.is_empty() || limits::KEYSPACE_NAME_LEN_MAX < name.len() {
            return Err(format!(
                "the name of the key order has {} bytes, and must have from 1 to {}",
                name.len(),
                limits::KEYSPACE_NAME_LEN_MAX
            ));
        }
        // A ready-made order may come this way, but nothing else under its name.
        let encode = |order: &dyn KeyOrder| {
            let mut stored = Vec::new();
            order.encode(b"a\0", &mut stored);
            stored
        };
        let is_taken = match name {
            BYTEWISE => true,
            REVERSE_BYTEWISE => encode(&**order) != encode(&ReverseBytewise),
            _ => false,
        };
        if is_taken {
            return Err(format!("the key order is named {name:?}, as a ready-made one is"));
        }
        Ok(())
    }
}

impl PartialEq for Order {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Order {}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Order({:?})", self.name())
    }
}

/// The order of one keyspace as the engine keeps it.
pub(crate) struct KeyspaceOrder {
    /// As recorded.
    pub(crate) name: Box<str>,
    /// So that the ordinary keyspace costs one branch.
    pub(crate) is_bytewise: bool,
    /// What encodes keys. Set once: at open, or when the keyspace is opened with its order.
    pub(crate) code: OnceLock<Arc<dyn KeyOrder>>,
}

impl KeyspaceOrder {
    pub(crate) fn new(order: &Order) -> Self {
        let code = order.code().map_or_else(OnceLock::new, |code| Arc::clone(code).into());
        Self { name: order.name().into(), is_bytewise: order.is_bytewise(), code }
    }

    /// The order with its code; `None` if there is none, or it is not known.
    pub(crate) fn known(&self) -> Option<Order> {
        self.code.get().map(|code| Order(Choice::Coded(Arc::clone(code))))
    }
}

#[cfg(test)]
mod tests;
