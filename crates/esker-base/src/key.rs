//! The internal key: a user key with the sequence number and kind of the entry.
//!
//! Order: user key ascending bytewise, then sequence number descending, then kind descending.
//! So the entries of one user key come newest first, and a seek to `(key, snapshot, SEEK)` lands on
//! the newest entry of the key that the snapshot can see.

use std::cmp::Ordering;
use std::fmt;

use crate::{EntryKind, SeqNo};

/// Sequence number and kind in one word: `seqno << 8 | kind`.
///
/// `Ord` is the numeric order of the word; among entries of one key, the *larger* trailer comes
/// first, see [`InternalKey`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Trailer(u64);

impl Trailer {
    /// Packs `seqno` and `kind`.
    #[must_use]
    pub const fn new(seqno: SeqNo, kind: EntryKind) -> Self {
        Self(seqno.get() << 8 | kind.as_byte() as u64)
    }

    /// The trailer that sorts before every entry of a key which a reader at `seqno` can see.
    #[must_use]
    pub const fn seek(seqno: SeqNo) -> Self {
        Self::new(seqno, EntryKind::SEEK)
    }

    /// Unpacks a word; `None` if its kind byte is not defined.
    #[must_use]
    pub const fn from_word(word: u64) -> Option<Self> {
        match EntryKind::from_byte((word & 0xff) as u8) {
            Some(_) => Some(Self(word)),
            None => None,
        }
    }

    /// The packed word.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The sequence number.
    #[must_use]
    pub const fn seqno(self) -> SeqNo {
        match SeqNo::new(self.0 >> 8) {
            Some(seqno) => seqno,
            None => SeqNo::MAX,
        }
    }

    /// The kind.
    #[must_use]
    pub const fn kind(self) -> EntryKind {
        match EntryKind::from_byte((self.0 & 0xff) as u8) {
            Some(kind) => kind,
            None => panic!("a trailer is only made from a valid kind"),
        }
    }

    /// Whether the kind is [`EntryKind::Put`]: one comparison, where [`Trailer::kind`] is several.
    #[inline]
    #[must_use]
    pub const fn is_put(self) -> bool {
        self.0 as u8 == EntryKind::Put.as_byte()
    }
}

impl fmt::Debug for Trailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.seqno(), self.kind())
    }
}

/// A user key with the trailer of one of its entries, borrowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InternalKey<'a> {
    /// The key as the user wrote it.
    pub user_key: &'a [u8],
    /// Sequence number and kind.
    pub trailer: Trailer,
}

impl<'a> InternalKey<'a> {
    /// The internal key of one entry.
    #[must_use]
    pub const fn new(user_key: &'a [u8], seqno: SeqNo, kind: EntryKind) -> Self {
        Self { user_key, trailer: Trailer::new(seqno, kind) }
    }

    /// The internal key to seek to for the newest entry of `user_key` visible at `seqno`.
    #[must_use]
    pub const fn seek(user_key: &'a [u8], seqno: SeqNo) -> Self {
        Self { user_key, trailer: Trailer::seek(seqno) }
    }

    /// The sequence number.
    #[must_use]
    pub const fn seqno(self) -> SeqNo {
        self.trailer.seqno()
    }

    /// The kind.
    #[must_use]
    pub const fn kind(self) -> EntryKind {
        self.trailer.kind()
    }
}

impl Ord for InternalKey<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.user_key.cmp(other.user_key).then(other.trailer.cmp(&self.trailer))
    }
}

impl PartialOrd for InternalKey<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for InternalKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"{:?}", self.user_key.escape_ascii(), self.trailer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(user_key: &[u8], seqno: u64, kind: EntryKind) -> InternalKey<'_> {
        InternalKey::new(user_key, SeqNo::new(seqno).unwrap(), kind)
    }

    #[test]
    fn newer_entries_of_one_key_stand_first() {
        assert!(key(b"a", 9, EntryKind::Put) < key(b"a", 8, EntryKind::Put));
        assert!(key(b"a", 1, EntryKind::Put) < key(b"b", 9, EntryKind::Put));
        assert!(key(b"", 1, EntryKind::Put) < key(b"\0", 9, EntryKind::Put));
    }

    #[test]
    fn seek_key_stands_before_every_kind_at_its_seqno_and_after_newer_ones() {
        let seek = InternalKey::seek(b"a", SeqNo::new(5).unwrap());
        for byte in 0..=EntryKind::SEEK.as_byte() {
            let kind = EntryKind::from_byte(byte).unwrap();
            assert!(seek <= key(b"a", 5, kind));
            assert!(key(b"a", 6, kind) < seek);
        }
    }

    #[test]
    fn trailer_round_trips_and_refuses_unknown_kinds() {
        let trailer = Trailer::new(SeqNo::MAX, EntryKind::Merge);
        assert_eq!(Trailer::from_word(trailer.word()), Some(trailer));
        assert_eq!((trailer.seqno(), trailer.kind()), (SeqNo::MAX, EntryKind::Merge));
        assert_eq!(Trailer::from_word(0x07), None);
    }
}
