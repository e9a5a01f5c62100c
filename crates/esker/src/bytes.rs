//! Keys and values as reads return them: owned, `'static`, cheap to clone.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use esker_memtable::MemtableSlice;
use esker_table::BlockSlice;
use esker_tree::PinnedValue;

/// Values of at least this many bytes are returned without a copy: they keep their block or
/// memtable alive. Smaller ones are copied, so that a value kept for long does not hold on to forty
/// times its size.
pub(crate) const PINNED_LEN_MIN: usize = 1024;

/// Longest byte string that is stored in place, without an allocation.
const INLINE_LEN_MAX: usize = 22;

/// An immutable byte string: a key or a value that was read.
///
/// Dereferences to `[u8]`. A clone costs a copy of at most 24 bytes or one reference count.
#[derive(Clone)]
pub struct Bytes(Repr);

/// A key that was read.
pub type Key = Bytes;

/// A value that was read. An empty value is a value.
pub type Value = Bytes;

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE_LEN_MAX] },
    Shared(Arc<[u8]>),
    Block(BlockSlice),
    Memtable(MemtableSlice),
}

impl Bytes {
    pub(crate) fn copy_of(bytes: &[u8]) -> Self {
        if bytes.len() <= INLINE_LEN_MAX {
            let mut inline = [0; INLINE_LEN_MAX];
            inline[..bytes.len()].copy_from_slice(bytes);
            return Self(Repr::Inline { len: bytes.len() as u8, bytes: inline });
        }
        Self(Repr::Shared(bytes.into()))
    }

    pub(crate) fn of_block(slice: BlockSlice) -> Self {
        if slice.len() < PINNED_LEN_MIN { Self::copy_of(&slice) } else { Self(Repr::Block(slice)) }
    }

    pub(crate) fn of_pinned(value: PinnedValue) -> Self {
        match value {
            PinnedValue::Memtable(slice) => Self::of_memtable(slice),
            PinnedValue::Block(slice) => Self::of_block(slice),
            PinnedValue::Owned(bytes) => Self(Repr::Shared(bytes)),
        }
    }

    pub(crate) const fn of_memtable(slice: MemtableSlice) -> Self {
        Self(Repr::Memtable(slice))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Shared(bytes) => bytes,
            Repr::Block(slice) => slice,
            Repr::Memtable(slice) => slice,
        }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self::copy_of(bytes)
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        bytes.to_vec()
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Bytes {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl Eq for Bytes {}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl std::hash::Hash for Bytes {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}
