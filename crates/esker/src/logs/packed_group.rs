//! Commit groups as they are stored in a frame: plain, or packed, with their operations compressed.
//!
//! The leader packs a group, in reused memory, if that saves more than an eighth; a plain group
//! has the same bytes as without this feature. An encoded group says which of the two it is.
//! Decoding bytes from disk never panics, and never allocates more than those bytes can unpack to.
//!
//! Knows neither segments nor what operations mean. FORMAT.md section 4 has the bytes.

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

use std::fmt;

use esker_base::coding::{DecodeError, Decoder, put_varint};
use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

use crate::operation::GroupHeader;

/// First byte of a packed group. No plain group starts with it: sequence numbers of operations
/// start at 1.
const PACKED: u8 = 0;

/// Most bytes of operations that are packed: a larger group is a single batch, and packing it would
/// need as much memory again, both to write and to read it.
const PACKED_BYTES_MAX: usize = 64 << 20;

/// Most bytes that one byte of LZ4 can unpack to.
const LZ4_RATIO_MAX: u64 = 255;

/// For shorter inputs, the compressor's hash table is half as large, and so is cleared faster.
const SMALL_BYTES: usize = u16::MAX as usize;

/// Buffers that grew past this for one huge group are not kept.
const BUFFER_KEPT_BYTES: usize = 4 << 20;

/// Packs groups, one after the other.
pub(crate) struct Packer {
    /// Groups with fewer bytes of operations stay plain.
    threshold_bytes: usize,
    small: CompressTable,
    large: CompressTable,
    /// The operations of several batches, put together.
    joined: Vec<u8>,
    /// Only ever grows, so that it is zeroed once.
    packed: Vec<u8>,
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer")
            .field("threshold_bytes", &self.threshold_bytes)
            .finish_non_exhaustive()
    }
}

impl Packer {
    /// Packs groups with at least `threshold_bytes` of operations.
    pub(crate) fn new(threshold_bytes: u32) -> Self {
        Self {
            threshold_bytes: threshold_bytes as usize,
            small: CompressTable::small(),
            large: CompressTable::large(),
            joined: Vec::new(),
            packed: Vec::new(),
        }
    }

    /// Packs the operations of a group, which are `bytes` long, unless they are better left plain.
    /// Returns the packed length; [`Packer::packed`] returns the result.
    pub(crate) fn pack<'a>(
        &mut self,
        mut batches: impl Iterator<Item = &'a [u8]>,
        bytes: usize,
    ) -> Option<usize> {
        if bytes < self.threshold_bytes || PACKED_BYTES_MAX < bytes {
            return None;
        }
        let first = batches.next().unwrap_or_default();
        let operations = if first.len() == bytes {
            first
        } else {
            self.joined.clear();
            self.joined.extend_from_slice(first);
            batches.for_each(|batch| self.joined.extend_from_slice(batch));
            self.joined.as_slice()
        };
        let room = get_maximum_output_size(operations.len());
        if self.packed.len() < room {
            self.packed.resize(room, 0);
        }
        let is_small = operations.len() < SMALL_BYTES;
        let table = if is_small { &mut self.small } else { &mut self.large };
        let packed_len = compress_into_with_table(operations, &mut self.packed, table).ok()?;
        // If it saves an eighth or less, faster reading is worth more.
        let is_worth_it = packed_len < bytes.saturating_sub(bytes / 8);
        if !is_worth_it {
            self.give_back();
        }
        is_worth_it.then_some(packed_len)
    }

    /// Frees memory that one huge group has taken.
    pub(crate) fn give_back(&mut self) {
        if BUFFER_KEPT_BYTES < self.packed.len().max(self.joined.capacity()) {
            (self.joined, self.packed) = Default::default();
        }
    }

    /// The last packed group, which was `packed_len` long.
    pub(crate) fn packed(&self, packed_len: usize) -> &[u8] {
        self.packed.get(..packed_len).unwrap_or_default()
    }
}

/// Appends the header of a packed group whose operations are `bytes` long when unpacked.
pub(crate) fn put_packed_header(header: GroupHeader, bytes: usize, out: &mut Vec<u8>) {
    out.push(PACKED);
    header.encode(out);
    put_varint(out, bytes as u64);
}

/// A group, as stored in a frame.
#[derive(Clone, Debug)]
pub(crate) struct StoredGroup<'a> {
    pub(crate) header: GroupHeader,
    operations: Stored<'a>,
}

#[derive(Clone, Debug)]
enum Stored<'a> {
    Plain(Decoder<'a>),
    Packed { len: usize, packed: Decoder<'a> },
}

impl<'a> StoredGroup<'a> {
    /// Decodes the header.
    pub(crate) fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(payload);
        let is_packed = payload.first() == Some(&PACKED);
        if is_packed {
            decoder.u8()?;
        }
        let header = GroupHeader::decode(&mut decoder)?;
        if !is_packed {
            return Ok(Self { header, operations: Stored::Plain(decoder) });
        }
        let impossible = decoder.error("packed operations of an impossible length");
        let len = decoder.varint_usize()?;
        // Bounded before anything is allocated.
        let most = (decoder.rest().len() as u64).saturating_mul(LZ4_RATIO_MAX);
        let is_possible = len <= PACKED_BYTES_MAX && len as u64 <= most;
        if !is_possible && !esker_base::planted::is("packed-length-not-checked") {
            return Err(impossible);
        }
        Ok(Self { header, operations: Stored::Packed { len, packed: decoder } })
    }

    /// The operations. Packed ones are unpacked into `room`, which can be reused.
    pub(crate) fn operations<'b>(&self, room: &'b mut Vec<u8>) -> Result<Decoder<'b>, DecodeError>
    where
        'a: 'b,
    {
        let (len, packed) = match &self.operations {
            Stored::Plain(decoder) => return Ok(decoder.clone()),
            Stored::Packed { len, packed } => (*len, packed),
        };
        if room.len() < len {
            room.resize(len, 0);
        }
        let front = room.get_mut(..len).unwrap_or_default();
        match decompress_into(packed.rest(), front) {
            Ok(written) if written == len => Ok(Decoder::new(front)),
            Ok(_) => Err(packed.error("packed operations are shorter than they say")),
            Err(_) => Err(packed.error("packed operations do not unpack")),
        }
    }
}

#[cfg(test)]
mod tests;
