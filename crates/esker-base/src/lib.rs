//! Floor 0 of Esker: the vocabulary that every floor shares.
//!
//! Sequence numbers, entry kinds and the internal key with its order; ids and file names; key
//! ranges; encoding of integers; checksums; limits; reports of damage; bytes as text; the locks
//! that all floors use. Nothing here does I/O, reads a clock, or knows that files, tables or
//! databases exist above it.

#![forbid(unsafe_code)]

mod expiry;
mod file_kind;
mod fragments;
mod head;
mod id;
mod invariant;
mod key;
mod key_buffer;
mod kind;
mod map;
mod range;
mod range_tombstone;
mod seqno;
mod short;
mod shown;

#[cfg(feature = "baton")]
pub mod baton;
pub mod checksum;
pub mod coding;
pub mod corruption;
pub mod file_header;
pub mod limits;
pub mod planted;
pub mod sync;

pub use corruption::Corruption;
pub use expiry::{EXPIRY_LEN, expiry_of};
pub use file_header::FileHeader;
pub use file_kind::FileKind;
pub use fragments::{Fragment, Fragments, Stretch};
pub use head::{PrefixHead, key_head};
pub use id::{BlobFileId, DatabaseId, FileId, KeyspaceId, LogId, ManifestId, OwnerId, TableId};
pub use key::{InternalKey, Trailer};
pub use key_buffer::KeyBuffer;
pub use kind::EntryKind;
pub use map::{HashMap, HashSet};
pub use range::KeyRange;
pub use range_tombstone::{RangeTombstone, earlier_end, ends_within, is_before_end};
pub use seqno::SeqNo;
pub use short::{is_same_key, strip_key_prefix};
pub use shown::Shown;
