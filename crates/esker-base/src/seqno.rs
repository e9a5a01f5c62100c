//! The sequence number: one counter for commit order.
//!
//! Every operation gets one, in batch order. Never used as an id.

use std::fmt;

/// Position of one operation in the commit order of a database.
///
/// Zero means "before every write"; the first operation of a database gets 1. A sequence number
/// fits 56 bits, so that it shares one word with an [`EntryKind`](crate::EntryKind): at ten million
/// writes a second that lasts 228 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SeqNo(u64);

impl SeqNo {
    /// Before every write.
    pub const ZERO: Self = Self(0);
    /// The largest sequence number; a read at it sees everything.
    pub const MAX: Self = Self((1 << 56) - 1);

    /// Wraps `value`, or `None` if it does not fit 56 bits.
    #[must_use]
    pub const fn new(value: u64) -> Option<Self> {
        if value <= Self::MAX.0 { Some(Self(value)) } else { None }
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sequence number `count` operations later.
    ///
    /// # Panics
    /// If the result does not fit 56 bits.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        match self.0.checked_add(count) {
            Some(sum) if sum <= Self::MAX.0 => Self(sum),
            _ => panic!("sequence numbers are used up"),
        }
    }

    /// The next sequence number.
    ///
    /// # Panics
    /// If this is [`SeqNo::MAX`].
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }
}

impl fmt::Debug for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
