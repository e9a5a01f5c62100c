//! The adoption record, after the footer of an ingested or loaded table: which database owns it,
//! and the one sequence number of all its entries. Its range tombstones have the number before that
//! one, so they hide what was there before the table but nothing in it. The record repeats what the
//! manifest says, so that a lost manifest can be rebuilt.
//!
//! Does not know when a table is adopted; see `external.rs`.

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

use esker_base::checksum::{checksum32, file_seed};
use esker_base::coding::{DecodeError, Decoder};
use esker_base::{DatabaseId, FileId, KeyspaceId, OwnerId, SeqNo, TableId};
use esker_env::{File, FileError, FileExt as _};

use crate::{Origin, TableExtras, TableProperties};

/// Last bytes of an adopted table.
pub(crate) const ADOPTION_MAGIC: [u8; 4] = *b"esad";

/// Last 84 bytes of every adopted table, after its original footer.
///
/// | offset | size | field             | meaning                                              |
/// |-------:|-----:|-------------------|------------------------------------------------------|
/// |      0 |   16 | `database`        | the database that has it                             |
/// |     16 |    4 | `owner`           | owner of its file id there                           |
/// |     20 |    8 | `counter`         | counter of its file id there                         |
/// |     28 |    4 | `keyspace`        | the keyspace that its entries belong to              |
/// |     32 |    8 | `seqno`           | sequence number of all its entries                   |
/// |     40 |   16 | `origin_database` | the database that its header names                   |
/// |     56 |    4 | `origin_owner`    | owner of the file id that its header names           |
/// |     60 |    8 | `origin_counter`  | counter of the file id that its header names         |
/// |     68 |    1 | `level`           | the level that it went to                            |
/// |     69 |    7 | zero              |                                                      |
/// |     76 |    4 | `checksum`        | of bytes 0..76, seeded with the seed of a file with  |
/// |        |      |                   | that id in that database, plus this record's offset  |
/// |     80 |    4 | magic             | `esad`                                               |
///
/// Little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Adoption {
    /// The database that has the table.
    pub database: DatabaseId,
    /// Its id there.
    pub id: TableId,
    /// The keyspace that its entries belong to.
    pub keyspace: KeyspaceId,
    /// The level that it went to.
    pub level: u8,
    /// The sequence number of all its entries.
    pub seqno: SeqNo,
    /// The database that its header names.
    pub origin_database: DatabaseId,
    /// The id that its header names.
    pub origin_id: FileId,
}

impl Adoption {
    /// Length of the encoding, in bytes.
    pub const LEN: usize = 84;
    const CHECKED_LEN: usize = 76;

    /// The adoption by which `database` took over the table that it knows as `table`, if it did.
    pub(crate) const fn of(database: DatabaseId, table: &TableProperties) -> Option<Self> {
        let Some(Origin::Adopted { database: origin_database, id: origin_id, seqno }) =
            &table.extras.origin
        else {
            return None;
        };
        Some(Self {
            database,
            id: table.id,
            keyspace: table.keyspace,
            level: table.level,
            seqno: *seqno,
            origin_database: *origin_database,
            origin_id: *origin_id,
        })
    }

    /// The encoding, for position `offset` of the file.
    pub(crate) fn encode(&self, offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LEN);
        out.extend_from_slice(&self.database.0);
        put_file(&mut out, self.id.0);
        out.extend_from_slice(&self.keyspace.0.to_le_bytes());
        out.extend_from_slice(&self.seqno.get().to_le_bytes());
        out.extend_from_slice(&self.origin_database.0);
        put_file(&mut out, self.origin_id);
        out.push(self.level);
        out.resize(Self::CHECKED_LEN, 0);
        let seed = file_seed(self.database, self.id.0).wrapping_add(offset);
        out.extend_from_slice(&checksum32(seed, &out).to_le_bytes());
        out.extend_from_slice(&ADOPTION_MAGIC);
        out
    }

    /// Decodes the record at `offset`, by which table `id` of `database` was adopted.
    ///
    /// # Errors
    /// If the bytes are not such a record.
    pub(crate) fn decode(
        bytes: &[u8],
        database: DatabaseId,
        id: TableId,
        offset: u64,
    ) -> Result<Self, DecodeError> {
        let mut d = Decoder::new(bytes);
        let checked = Decoder::new(bytes).take(Self::CHECKED_LEN)?;
        let adoption = Self {
            database: database_id(&mut d)?,
            id: TableId(file(&mut d)?),
            keyspace: KeyspaceId(d.u32()?),
            seqno: {
                let too_large = d.error("adoption holds a sequence number past the largest");
                SeqNo::new(d.u64()?).ok_or(too_large)?
            },
            origin_database: database_id(&mut d)?,
            origin_id: file(&mut d)?,
            level: d.u8()?,
        };
        let zeros = d.take(7)?;
        let seed = file_seed(database, id.0).wrapping_add(offset);
        if d.u32()? != checksum32(seed, checked) {
            return Err(d.error("adoption checksum does not match"));
        }
        if zeros.iter().any(|&byte| byte != 0)
            || d.take(ADOPTION_MAGIC.len())? != ADOPTION_MAGIC
            || (adoption.database, adoption.id) != (database, id)
        {
            return Err(d.error("adoption is not that of the table"));
        }
        d.finish()?;
        Ok(adoption)
    }

    /// The adoption of the table `id` by `database`, if `file` ends with it.
    ///
    /// # Errors
    /// Of the file.
    pub fn of_file(
        file: &dyn File,
        database: DatabaseId,
        id: TableId,
    ) -> Result<Option<Self>, FileError> {
        let told = Self::told_by(file)?;
        Ok(told.filter(|adoption| (adoption.database, adoption.id) == (database, id)))
    }

    /// The adoption that `file` ends with, by whatever database and under whatever id.
    ///
    /// # Errors
    /// Of the file.
    pub fn told_by(file: &dyn File) -> Result<Option<Self>, FileError> {
        let mut bytes = [0; Self::LEN];
        let Some(offset) = file.len()?.checked_sub(bytes.len() as u64) else { return Ok(None) };
        file.read_exact_at(offset, &mut bytes)?;
        let mut start = Decoder::new(&bytes);
        let told = database_id(&mut start)
            .and_then(|database| Ok((database, TableId(self::file(&mut start)?))))
            .and_then(|(database, id)| Self::decode(&bytes, database, id, offset));
        Ok(told.ok())
    }

    /// The sequence number of its range tombstones: no write and no reader has it.
    pub(crate) fn range_seqno(&self) -> SeqNo {
        if esker_base::planted::is("ingested-ranges-hide-their-table") {
            return self.seqno;
        }
        SeqNo::new(self.seqno.get().saturating_sub(1)).unwrap_or_default()
    }

    /// The properties of the adopted table, whose file is then `file_bytes` long, from its
    /// properties before.
    #[must_use]
    pub fn apply(&self, table: TableProperties, file_bytes: u64) -> TableProperties {
        let ranges = table.extras.ranges.as_ref();
        let seqno_min = ranges.map_or(self.seqno, |_| self.range_seqno());
        let has_entries = ranges.is_none_or(|ranges| ranges.has_entries);
        TableProperties {
            id: self.id,
            keyspace: self.keyspace,
            level: self.level,
            file_bytes,
            seqno_min,
            seqno_max: if has_entries { self.seqno } else { seqno_min },
            extras: TableExtras { origin: Some(self.origin()), ..table.extras },
            ..table
        }
    }

    /// What the manifest says about the origin of the table.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        let (database, id) = (self.origin_database, self.origin_id);
        Origin::Adopted { database, id, seqno: self.seqno }
    }
}

const _: () = assert!(Adoption::LEN == Adoption::CHECKED_LEN + 4 + ADOPTION_MAGIC.len());

fn put_file(out: &mut Vec<u8>, id: FileId) {
    out.extend_from_slice(&id.owner.0.to_le_bytes());
    out.extend_from_slice(&id.counter.to_le_bytes());
}

fn file(d: &mut Decoder<'_>) -> Result<FileId, DecodeError> {
    Ok(FileId { owner: OwnerId(d.u32()?), counter: d.u64()? })
}

fn database_id(d: &mut Decoder<'_>) -> Result<DatabaseId, DecodeError> {
    Ok(DatabaseId(d.take(16)?.first_chunk().copied().unwrap_or_default()))
}
