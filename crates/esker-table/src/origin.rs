//! Where a table comes from, if it was not built for its present place.
//!
//! An external table keeps its bytes: header and checksums stay as they were written, and its
//! entries have sequence number zero. What its database assigns is recorded after the footer and,
//! as an [`Origin`], in the manifest; see `adoption.rs`.
//!
//! Does not know how a table gets into a database; see `external.rs`.

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

use esker_base::coding::{DecodeError, Decoder, put_bytes, put_varint};
use esker_base::{DatabaseId, FileId, OwnerId, SeqNo};

/// Where a table comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It was written to be adopted by a database, and has not been yet. Only in files.
    External {
        /// Name of the order of its keys.
        order: String,
        /// Name of the keyspace that it is for; empty if it is for any.
        keyspace: String,
        /// Whether it has operands, which a keyspace without a merge operator cannot read.
        has_operands: bool,
    },
    /// A database has adopted it.
    Adopted {
        /// The database that its header names.
        database: DatabaseId,
        /// The id that its header names.
        id: FileId,
        /// The sequence number of all its entries.
        seqno: SeqNo,
    },
}

impl Origin {
    /// The sequence number that replaces those in the blocks, if there is one.
    pub(crate) const fn seqno(origin: Option<&Self>) -> Option<SeqNo> {
        match origin {
            Some(Self::Adopted { seqno, .. }) => Some(*seqno),
            _ => None,
        }
    }

    /// Appends the body of the extra that stands for it.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::External { order, keyspace, has_operands } => {
                out.push(if *has_operands { 2 } else { 0 });
                put_bytes(out, order.as_bytes());
                put_bytes(out, keyspace.as_bytes());
            }
            Self::Adopted { database, id, seqno } => {
                out.push(1);
                out.extend_from_slice(&database.0);
                put_varint(out, u64::from(id.owner.0));
                put_varint(out, id.counter);
                put_varint(out, seqno.get());
            }
        }
    }

    /// Reads what [`Origin::encode`] wrote.
    pub(crate) fn decode(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let unknown = d.error("origin of a table has an unknown form");
        match d.u8()? {
            form @ (0 | 2) => {
                let (order, keyspace) = (text(d)?, text(d)?);
                Ok(Self::External { order, keyspace, has_operands: form == 2 })
            }
            1 => {
                let database = d.take(16)?.first_chunk().copied().unwrap_or_default();
                let id = FileId { owner: OwnerId(d.varint_u32()?), counter: d.varint()? };
                let too_large = d.error("origin holds a sequence number past the largest");
                let seqno = SeqNo::new(d.varint()?).ok_or(too_large)?;
                Ok(Self::Adopted { database: DatabaseId(database), id, seqno })
            }
            _ => Err(unknown),
        }
    }
}

fn text(d: &mut Decoder<'_>) -> Result<String, DecodeError> {
    let not_text = d.error("origin holds a name that is not text");
    String::from_utf8(d.bytes()?.to_vec()).ok().ok_or(not_text)
}
