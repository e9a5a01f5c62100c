//! The warm list: which blocks were in the cache when the database was closed.
//!
//! It has the id of the manifest that closed the database, and is valid until there is a newer one.
//! Written whole under a temporary name, and never changed: a file with the name of a list is
//! complete. Only how soon the cache is useful again depends on it. Does not know what the blocks
//! contain, nor whether the tables still have them.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

use std::path::Path;

use esker_base::checksum::{checksum64, file_seed};
use esker_base::coding::{DecodeError, Decoder, put_varint};
use esker_base::{Corruption, DatabaseId, FileHeader, FileId, FileKind, OwnerId, TableId};
use esker_env::{File, FileError, FileExt as _, FileSystem, UnsupportedFormat};

/// The format version of lists of warm blocks.
pub const WARM_FORMAT: u16 = 1;

/// Suffix of the name of a list until it is complete.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Bytes of the checksum at the end.
const CHECKSUM_LEN: usize = 8;

/// A block that was in the cache.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WarmBlock {
    /// Index of its table in [`WarmList::tables`].
    pub table: u32,
    /// Its slot in the table: data blocks in file order, then the index and the filter of each
    /// partition.
    pub slot: u32,
    /// Whether it was requested again while it was in the cache.
    pub was_used_again: bool,
}

/// A list of warm blocks.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct WarmList {
    /// The tables of the blocks.
    pub tables: Vec<TableId>,
    /// The blocks, most valuable first.
    pub blocks: Vec<WarmBlock>,
}

impl WarmList {
    /// The most blocks in a list: at 4 KiB each, they are 4 GiB.
    pub const BLOCKS_MAX: usize = 1 << 20;

    /// Longest list in bytes: each block takes at most ten, and so does one table per block.
    pub const FILE_BYTES_MAX: u64 = 32 << 20;

    /// The bytes between header and checksum.
    #[must_use]
    pub fn encode_body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.tables.len() as u64);
        for table in &self.tables {
            put_varint(&mut out, u64::from(table.0.owner.0));
            put_varint(&mut out, table.0.counter);
        }
        put_varint(&mut out, self.blocks.len() as u64);
        for block in &self.blocks {
            put_varint(&mut out, u64::from(block.table));
            put_varint(&mut out, (u64::from(block.slot) << 1) | u64::from(block.was_used_again));
        }
        out
    }

    /// Decodes what [`WarmList::encode_body`] wrote.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn decode_body(body: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(body);
        let table_count = Self::count(&mut decoder)?;
        let mut tables = Vec::with_capacity(table_count);
        for _ in 0..table_count {
            let owner = OwnerId(decoder.varint_u32()?);
            tables.push(TableId(FileId { owner, counter: decoder.varint()? }));
        }
        let block_count = Self::count(&mut decoder)?;
        let mut blocks = Vec::with_capacity(block_count);
        for _ in 0..block_count {
            let at = decoder.error("block is of none of the tables");
            let table = decoder.varint_u32()?;
            if table_count <= table as usize {
                return Err(at);
            }
            let at = decoder.error("slot does not fit 32 bits");
            let slot = decoder.varint()?;
            let was_used_again = slot & 1 == 1;
            let slot = u32::try_from(slot >> 1).ok().ok_or(at)?;
            blocks.push(WarmBlock { table, slot, was_used_again });
        }
        decoder.finish()?;
        Ok(Self { tables, blocks })
    }

    /// A count of items of at least two bytes each, so that the remaining bytes bound the
    /// allocation.
    fn count(decoder: &mut Decoder<'_>) -> Result<usize, DecodeError> {
        let at = decoder.error("list counts more than it can hold");
        let count = decoder.varint_usize()?;
        if Self::BLOCKS_MAX < count || decoder.rest().len() / 2 < count {
            return Err(at);
        }
        Ok(count)
    }

    /// The whole file of the list that belongs to the manifest `id`.
    #[must_use]
    pub fn encode(&self, id: FileId, database: DatabaseId) -> Vec<u8> {
        let header = FileHeader { kind: FileKind::Warm, format: WARM_FORMAT, id, database };
        let body = self.encode_body();
        let checksum = checksum64(file_seed(database, id), &body);
        [&header.encode()[..], &body, &checksum.to_le_bytes()].concat()
    }

    /// Writes the list into `dir`, under the name for `id`.
    ///
    /// # Durability
    /// It survives loss of power once this returns.
    ///
    /// # Errors
    /// Of the system; then nothing of it is left, unless that cannot be removed either.
    pub fn write(
        &self,
        fs: &dyn FileSystem,
        dir: &Path,
        id: FileId,
        database: DatabaseId,
    ) -> Result<(), FileError> {
        let name = id.file_name(FileKind::Warm);
        let temporary = dir.join(format!("{name}{TEMPORARY_SUFFIX}"));
        let write = || {
            if fs.exists(&temporary)? {
                fs.remove(&temporary)?;
            }
            let file = fs.create(&temporary)?;
            file.write_all_at(0, &self.encode(id, database))?;
            if !esker_base::planted::is("warm-list-not-synced") {
                file.sync_all()?;
            }
            fs.rename(&temporary, &dir.join(&name))?;
            fs.sync_dir(dir)
        };
        write().map_err(|error: esker_env::IoError| {
            drop(fs.remove(&temporary));
            error.into()
        })
    }

    /// Reads the list of `database` that has the name for `id`.
    ///
    /// # Errors
    /// Of the system; `Corruption` if the file is damaged, not a list, or of another database;
    /// `UnsupportedFormat` if a newer release wrote it.
    pub fn read(file: &dyn File, id: FileId, database: DatabaseId) -> Result<Self, FileError> {
        let name = id.file_name(FileKind::Warm);
        let damaged = |offset: u64, what: String| {
            FileError::Corruption(Corruption::new(name.clone(), offset, what))
        };
        let len = file.len()?;
        if Self::FILE_BYTES_MAX < len {
            return Err(damaged(0, format!("file has {len} bytes: no list of blocks is as long")));
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        file.read_exact_at(0, &mut bytes)?;
        let header =
            FileHeader::decode(&bytes).map_err(|error| damaged(0, error.what().to_owned()))?;
        let FileHeader { kind, format, .. } = header;
        if kind != FileKind::Warm {
            return Err(damaged(0, format!("file is a {kind} and not a list of warm blocks")));
        }
        if header.database != database {
            let what = format!("file belongs to database {}, not {database}", header.database);
            return Err(damaged(0, what));
        }
        if header.id != id {
            let what = format!("file was created as {}", header.id.file_name(kind));
            return Err(damaged(0, what));
        }
        if WARM_FORMAT < format {
            let found = format;
            let refused = UnsupportedFormat { file: name, kind, found, newest: WARM_FORMAT };
            return Err(FileError::UnsupportedFormat(refused));
        }
        let rest = bytes.get(FileHeader::LEN..).unwrap_or_default();
        let (body, checksum) = rest.split_last_chunk::<CHECKSUM_LEN>().ok_or_else(|| {
            damaged(FileHeader::LEN as u64, "file ends before its checksum".to_owned())
        })?;
        if format == 0 || u64::from_le_bytes(*checksum) != checksum64(file_seed(database, id), body)
        {
            return Err(damaged(FileHeader::LEN as u64, "checksum does not match".to_owned()));
        }
        Self::decode_body(body).map_err(|error| {
            let at = FileHeader::LEN as u64;
            FileError::Corruption(Corruption::undecodable(name.clone(), at, "list", error))
        })
    }

    /// The id of the list that has `name` until it is complete.
    #[must_use]
    pub fn parse_unfinished(name: &str) -> Option<FileId> {
        match FileId::parse_file_name(name.strip_suffix(TEMPORARY_SUFFIX)?) {
            Some((id, FileKind::Warm)) => Some(id),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
