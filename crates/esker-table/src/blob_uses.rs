//! Which blob files a table refers to, and how much of each.
//!
//! Part of the table properties, so that the manifest shows what is garbage in every blob file
//! without reading any, and a lost manifest can be rebuilt from tables alone.

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

use std::collections::BTreeMap;

use esker_base::coding::{DecodeError, Decoder, put_varint};
use esker_base::{BlobFileId, FileId, OwnerId};

use crate::BlobReference;
use crate::blob_format::BLOB_FILE_FRAME_LEN;

/// What is known of a blob file without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobFileFacts {
    /// The blob file.
    pub id: BlobFileId,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// XXH3-64 of every byte of the file before its footer, which repeats it.
    pub checksum: u64,
    /// When the file was finished, in wall-clock milliseconds since the Unix epoch.
    pub written_millis: u64,
}

impl BlobFileFacts {
    /// Size of all records together, in bytes.
    #[must_use]
    pub const fn record_bytes(&self) -> u64 {
        self.file_bytes.saturating_sub(BLOB_FILE_FRAME_LEN)
    }
}

/// How much of one blob file a table refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobUse {
    /// The blob file.
    pub facts: BlobFileFacts,
    /// How many entries of the table refer to it; at least one.
    pub count: u64,
    /// Size of their records, in bytes.
    pub bytes: u64,
}

/// Every blob file that a table refers to, ascending.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlobUses(Vec<BlobUse>);

impl BlobUses {
    /// The blob files, ascending; at least one.
    #[must_use]
    pub fn as_slice(&self) -> &[BlobUse] {
        &self.0
    }

    /// Bytes of the records that the table refers to.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.iter().fold(0, |sum, one| sum.saturating_add(one.bytes))
    }

    /// How much of the file `id` the table refers to.
    #[must_use]
    pub fn of(&self, id: BlobFileId) -> Option<&BlobUse> {
        let place = self.0.binary_search_by_key(&id, |one| one.facts.id).ok()?;
        self.0.get(place)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        for BlobUse { facts, count, bytes } in &self.0 {
            put_varint(out, u64::from(facts.id.0.owner.0));
            put_varint(out, facts.id.0.counter);
            put_varint(out, facts.file_bytes);
            out.extend_from_slice(&facts.checksum.to_le_bytes());
            put_varint(out, facts.written_millis);
            put_varint(out, *count);
            put_varint(out, *bytes);
        }
    }

    pub(crate) fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let count = decoder.varint()?;
        let mut uses: Vec<BlobUse> = Vec::new();
        for _ in 0..count {
            let owner = OwnerId(decoder.varint_u32()?);
            let id = BlobFileId(FileId { owner, counter: decoder.varint()? });
            let (file_bytes, checksum) = (decoder.varint()?, decoder.u64()?);
            let facts =
                BlobFileFacts { id, file_bytes, checksum, written_millis: decoder.varint()? };
            let one = BlobUse { facts, count: decoder.varint()?, bytes: decoder.varint()? };
            if uses.last().is_some_and(|last| last.facts.id >= id) {
                return Err(decoder.error("blob files of a table do not ascend"));
            }
            if one.count == 0 || one.bytes > facts.record_bytes() {
                return Err(decoder.error("blob file of a table counts what it cannot hold"));
            }
            uses.push(one);
        }
        if uses.is_empty() {
            return Err(decoder.error("list of blob files is empty"));
        }
        Ok(Self(uses))
    }
}

/// Counts references as entries are added.
#[derive(Clone, Default, Debug)]
pub(crate) struct BlobCounts(BTreeMap<BlobFileId, (u64, u64)>);

impl BlobCounts {
    /// Counts the reference that is the value of an entry.
    pub(crate) fn add(&mut self, reference: &BlobReference) {
        let (count, bytes) = self.0.entry(reference.file).or_default();
        *count = count.saturating_add(1);
        *bytes = bytes.saturating_add(reference.record_bytes());
    }

    /// The files that were referred to, with the facts of each. The error is the id of a file whose
    /// facts are not known.
    pub(crate) fn uses(
        &self,
        facts: &BTreeMap<BlobFileId, BlobFileFacts>,
    ) -> Result<Option<BlobUses>, BlobFileId> {
        let one = |(&id, &(count, bytes)): (&BlobFileId, &(u64, u64))| {
            Ok(BlobUse { facts: *facts.get(&id).ok_or(id)?, count, bytes })
        };
        let uses = self.0.iter().map(one).collect::<Result<Vec<_>, _>>()?;
        Ok((!uses.is_empty()).then_some(BlobUses(uses)))
    }

    /// Whether these counts equal those of `uses`.
    pub(crate) fn are(&self, uses: Option<&BlobUses>) -> bool {
        let said = uses.map_or(&[][..], |uses| uses.as_slice());
        said.len() == self.0.len()
            && said.iter().all(|one| self.0.get(&one.facts.id) == Some(&(one.count, one.bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockHandle;

    fn id(counter: u64) -> BlobFileId {
        BlobFileId(FileId { owner: OwnerId::FIRST, counter })
    }

    fn uses() -> BlobUses {
        let mut counts = BlobCounts::default();
        for (file, len) in [(9, 100), (4, 50), (9, 30)] {
            let block = BlockHandle { offset: 56, len };
            counts.add(&BlobReference { file: id(file), block, number: 0, value_len: 5 });
        }
        let facts = |file| BlobFileFacts {
            id: id(file),
            file_bytes: 1_000,
            checksum: file,
            written_millis: 300,
        };
        let known = [4, 9].map(|file| (id(file), facts(file)));
        assert_eq!(counts.uses(&BTreeMap::from([known[0]])), Err(id(9)));
        let uses = counts.uses(&BTreeMap::from(known)).unwrap().unwrap();
        assert!(counts.are(Some(&uses)));
        counts.add(&BlobReference {
            file: id(4),
            block: BlockHandle { offset: 56, len: 1 },
            number: 1,
            value_len: 1,
        });
        assert!(!counts.are(Some(&uses)) && !counts.are(None));
        uses
    }

    #[test]
    fn uses_round_trip_and_every_cut_is_refused() {
        let uses = uses();
        assert_eq!((uses.bytes(), uses.of(id(9)).unwrap().count), (146 + 58, 2));
        let mut bytes = Vec::new();
        uses.encode(&mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "020104e8070400000000000000ac02013a0109e8070900000000000000ac02029201");
        assert_eq!(BlobUses::decode(&mut Decoder::new(&bytes)), Ok(uses));
        for len in 0..bytes.len() {
            assert!(BlobUses::decode(&mut Decoder::new(&bytes[..len])).is_err(), "{len}");
        }
        assert!(BlobUses::decode(&mut Decoder::new(&[0])).is_err());
    }
}
