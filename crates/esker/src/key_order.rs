//! The order of a keyspace's keys, as an encoding of each key.
//!
//! A tree only ever compares byte strings. So an order is not a comparison function but an
//! encoding: it maps each key to bytes whose bytewise order is the desired one. Filters, indexes,
//! prefixes and every loop over entries work unchanged, and the bytewise order costs one branch.
//! ARCHITECTURE.md discusses the alternative.
//!
//! Knows only keys: how keyspaces use an order is in `stored_key`.

pub(crate) mod user_code;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use esker_base::limits;

/// A key order: an encoding whose bytewise order is the desired one.
///
/// Its name is recorded with the keyspace, for good: every later release of the code that
/// implements it must produce the same bytes under the same name.
///
/// For all keys `a` and `b`:
/// - `a` comes before `b` if and only if the encoding of `a` is bytewise less than that of `b`; so
///   different keys have different encodings;
/// - decoding an encoding gives the key back.
///
/// Every byte string must have an encoding, since any may be used as a bound. A key can be written
/// if its encoding has at most [`limits::KEY_LEN_MAX`] bytes, however long the key itself. An order
/// that breaks these rules makes its own keyspace give wrong answers; other keyspaces are not
/// affected, and no file is damaged.
pub trait KeyOrder: Send + Sync + 'static {
    /// The name to record: 1 to 255 bytes, and not the name of a built-in order.
    fn name(&self) -> &str;

    /// Appends the encoding of `key` to `out`.
    fn encode(&self, key: &[u8], out: &mut Vec<u8>);

    /// Appends the key that was encoded as `stored` to `out`.
    ///
    /// # Errors
    /// If [`KeyOrder::encode`] cannot have produced `stored`.
    fn decode(&self, stored: &[u8], out: &mut Vec<u8>) -> Result<(), UndecodableKey>;

    /// Appends to `out` the bytes that the encodings of exactly those keys start with that start
    /// with `prefix`, and returns true; false if there are no such bytes. A prefix scan then reads
    /// the whole keyspace and skips keys that do not match, as it does without this method.
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
    /// An error that says what is wrong with the bytes, in a lower-case phrase.
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
/// Each byte is complemented. A result of 254 is written as 254 0, and 255 as 254 255, so that a
/// single 255 can end the key: it is greater than anything that can follow.
///
/// # Cost
/// One byte more than the key, and another for each of its bytes that is 0 or 1. So a key has at
/// most 65,534 bytes, or 32,767 if all are zero.
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

/// Name of the order that stores keys unchanged.
pub(crate) const BYTEWISE: &str = "bytewise";

/// Name of [`ReverseBytewise`].
pub(crate) const REVERSE_BYTEWISE: &str = "reverse-bytewise";

/// The key order of a keyspace. Fixed when the keyspace is created. [`limits::KEY_LEN_MAX`] bounds
/// the length of a key as [encoded](KeyOrder::encode) by the order.
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

    /// A custom order.
    #[must_use]
    pub fn new(order: impl KeyOrder) -> Self {
        Self(Choice::Coded(Arc::new(order)))
    }

    /// The order recorded under `name`, if it is built in or one of `known`.
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

    /// Whether keys are stored unchanged.
    pub(crate) const fn is_bytewise(&self) -> bool {
        matches!(self.0, Choice::Bytewise)
    }

    /// The encoder of keys; none if keys are stored unchanged, or if only the name is known.
    pub(crate) fn code(&self) -> Option<&Arc<dyn KeyOrder>> {
        match &self.0 {
            Choice::Coded(order) => Some(order),
            Choice::Bytewise | Choice::NameOnly(_) => None,
        }
    }

    /// Why keys cannot be encoded with the order: because only its name is known.
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
        // A built-in order may be passed this way, but nothing else under its name.
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

/// The order of one keyspace, as kept by the engine.
pub(crate) struct KeyspaceOrder {
    /// As recorded.
    pub(crate) name: Box<str>,
    /// So that the ordinary keyspace costs one branch.
    pub(crate) is_bytewise: bool,
    /// The encoder of keys. Set once: at open, or when the keyspace is opened with its order.
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
