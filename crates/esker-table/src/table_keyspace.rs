//! What a table records about its keyspace, for a repair that has lost the manifest.
//!
//! As of when the table was written: later renames are not included. Only a repair uses it.

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

use esker_base::coding::{DecodeError, Decoder, put_bytes};

/// The name of a keyspace, and what is required to read its entries.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TableKeyspace {
    /// Its name.
    pub name: String,
    /// Name of the order of its keys.
    pub order: String,
    /// Name of its merge operator; empty if it has none.
    pub merge_operator: String,
}

impl TableKeyspace {
    /// Appends it as the body of its section.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let Self { name, order, merge_operator } = self;
        for text in [name, order, merge_operator] {
            put_bytes(out, text.as_bytes());
        }
    }

    /// Reads what [`TableKeyspace::encode`] wrote.
    pub(crate) fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut text = || {
            let not_text = decoder.error("table properties name a keyspace by what is not text");
            String::from_utf8(decoder.bytes()?.to_vec()).ok().ok_or(not_text)
        };
        Ok(Self { name: text()?, order: text()?, merge_operator: text()? })
    }
}
