//! Floor 2 of Esker: one immutable sorted file, the table.
//!
//! A [`TableBuilder`] takes entries in order and produces a file and its [`TableProperties`]; a
//! [`Table`] answers point reads from it and creates [`TableCursor`]s. The format is described in
//! `docs/FORMAT.md`, section 5. Read the modules in this order: `sealed.rs` (what surrounds every
//! block), `data_block.rs` (entries as arrays), `separators.rs` and `index_block.rs` (finding a
//! block), `filter.rs`, `builder.rs`, `table.rs`.
//!
//! Does not know of other tables, of levels beyond a number to store, of snapshots beyond a
//! sequence number, or who removes a file.

#![deny(unsafe_code)]

mod handle;
mod options;
mod origin;
mod ownership;
mod prefix_rule;
mod trace;

mod dictionary;

mod data_block;
mod data_block_builder;
mod ends;
mod filter;
mod footer;
mod format;
mod index_block;
mod properties;
mod range_block;
mod sealed;
mod separators;
mod sequential_writer;
mod table_expiry;
mod table_extras;
mod table_keyspace;
mod top_index;

mod adoption;
mod ahead;
mod blob_file;
mod blob_files;
mod blob_format;
mod blob_reads;
mod blob_record;
mod blob_reference;
mod blob_uses;
mod blob_walk;
mod blob_writer;
mod builder;
mod cached_block;
mod context;
mod cursor;
mod external;
mod found_partitions;
mod kept_blocks;
mod open_table;
#[cfg(test)]
mod page_cache_tests;
mod prefetch;
mod prefix_filter;
mod readahead;
mod spare;
mod table;
mod table_file;
mod verify;
mod walk;
mod warm;
mod write_behind;

#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod testing;

pub use adoption::Adoption;
pub use ahead::Ahead;
pub use blob_file::BlobFile;
pub use blob_files::BlobFiles;
pub use blob_format::{BLOB_FILE_FRAME_LEN, BLOB_FORMAT_NEWEST};
pub use blob_reference::BlobReference;
pub use blob_uses::{BlobFileFacts, BlobUse, BlobUses};
pub use blob_walk::{BlobFileReport, BlobFileWalk, WalkedRecord, verify_blob_file};
pub use blob_writer::{BlobFileIdentity, BlobFileWriter};
pub use builder::TableBuilder;
pub use cached_block::{BlockSlice, CachedBlock};
pub use context::TableContext;
pub use cursor::TableCursor;
pub use dictionary::{Dictionary, SAMPLE_BYTES_PER_BYTE};
pub use external::{ExternalError, ExternalTable, adopt};
pub use format::FORMAT_NEWEST;
pub use found_partitions::KeyBounds;
pub use handle::BlockHandle;
pub use open_table::BlockAhead;
pub use options::{Compression, TableIdentity, TableOptions};
pub use origin::Origin;
pub use ownership::Ownership;
pub use prefix_rule::{PrefixRule, UnknownPrefixRule};
pub use properties::TableProperties;
pub use range_block::TableRanges;
pub use readahead::Blocks;
pub use table::{Table, TableEntry};
pub use table_expiry::TableExpiry;
pub use table_extras::{TableExtras, TableTimes};
pub use table_keyspace::TableKeyspace;
pub use trace::{BlockKind, BlockRead, FilterVerdict, NoTrace, ReadTrace};
pub use verify::TableReport;
pub use walk::{TableWalk, WalkedBlock};
pub use warm::{WarmReport, WarmSlot};
pub use write_behind::WriteBehind;
