//! The footer: the last bytes of a table file, which say where everything else is.

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

use esker_base::checksum::checksum32;
use esker_base::coding::{DecodeError, Decoder};

use crate::BlockHandle;

/// Last bytes of every table file.
pub(crate) const FOOTER_MAGIC: [u8; 4] = *b"estb";

/// Last 48 bytes of every table file.
///
/// | offset | size | field              | meaning                                               |
/// |-------:|-----:|--------------------|-------------------------------------------------------|
/// |      0 |   16 | `top_index`        | offset and length of the top index block              |
/// |     16 |   16 | `properties`       | offset and length of the properties block             |
/// |     32 |    8 | `content_checksum` | XXH3-64 of every byte of the file before the footer   |
/// |     40 |    4 | `checksum`         | of bytes 0..40, seeded with file seed + footer offset |
/// |     44 |    4 | magic              | `estb`                                                |
///
/// Little-endian. Fixed size and last, so a reader needs only the file length to find it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Footer {
    pub(crate) top_index: BlockHandle,
    pub(crate) properties: BlockHandle,
    pub(crate) content_checksum: u64,
}

impl Footer {
    pub(crate) const LEN: usize = 48;
    const CHECKED_LEN: usize = 40;

    pub(crate) fn encode(&self, file_seed: u64, offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LEN);
        for word in [
            self.top_index.offset,
            self.top_index.len,
            self.properties.offset,
            self.properties.len,
            self.content_checksum,
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let checksum = checksum32(file_seed.wrapping_add(offset), &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&FOOTER_MAGIC);
        out
    }

    pub(crate) fn decode(bytes: &[u8], file_seed: u64, offset: u64) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let checked = Decoder::new(bytes).take(Self::CHECKED_LEN)?;
        let top_index = BlockHandle { offset: decoder.u64()?, len: decoder.u64()? };
        let properties = BlockHandle { offset: decoder.u64()?, len: decoder.u64()? };
        let content_checksum = decoder.u64()?;
        if decoder.u32()? != checksum32(file_seed.wrapping_add(offset), checked) {
            return Err(decoder.error("footer checksum does not match"));
        }
        if decoder.take(FOOTER_MAGIC.len())? != FOOTER_MAGIC {
            return Err(decoder.error("footer does not end in its magic"));
        }
        decoder.finish()?;
        Ok(Self { top_index, properties, content_checksum })
    }
}

const _: () = assert!(Footer::LEN == Footer::CHECKED_LEN + 4 + FOOTER_MAGIC.len());
