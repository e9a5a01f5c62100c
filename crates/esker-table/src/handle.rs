//! Where a block lies in its file.

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

use esker_base::coding::{DecodeError, Decoder, put_varint};

/// Where a block lies: its first byte, and how many bytes it takes with its trailer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockHandle {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Stored length in bytes: compressed, with the five bytes of the block trailer.
    pub len: u64,
}

impl BlockHandle {
    /// The offset just after the block.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.offset.saturating_add(self.len)
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        put_varint(out, self.offset);
        put_varint(out, self.len);
    }

    pub(crate) fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { offset: decoder.varint()?, len: decoder.varint()? })
    }
}
