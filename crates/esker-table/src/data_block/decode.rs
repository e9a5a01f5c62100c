//! Checks the columns of a data block, once, when it is loaded.

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

use esker_base::coding::{DecodeError, Decoder};
use esker_base::limits::KEY_LEN_MAX;
use esker_base::{EntryKind, SeqNo};

use super::{DataBlock, Seqnos};
use crate::ends::Ends;

impl DataBlock {
    /// Reads a payload whose checksum held, the first `len` bytes of `payload`. Checks all that
    /// lookups rely on, except the order of keys, which
    /// [`Table::verify`](crate::Table::verify) checks.
    ///
    /// # Errors
    /// If the columns are not those of a block.
    pub(crate) fn decode(payload: Box<[u8]>, len: usize) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(payload.get(..len).unwrap_or_default());
        let entry_count = decoder.u32()?;
        let count = entry_count as usize;
        let prefix_len = usize::from(decoder.u16()?);
        let shape = decoder.u8()?;
        let kind_byte = decoder.u8()?;
        let seqno_base = decoder.u64()?;
        if count == 0 {
            return Err(decoder.error("data block has no entries"));
        }
        // Every entry has a tag, so the count is bounded by the payload.
        decoder.take(count)?;
        let has_kinds = shape & 0x80 != 0;
        let kinds_at = place(&decoder)?;
        let kind = if has_kinds {
            let unknown = decoder.error("data block has an unknown kind");
            let kinds = decoder.take(count)?;
            if kind_byte != 0 || kinds.iter().any(|&byte| EntryKind::from_byte(byte).is_none()) {
                return Err(unknown);
            }
            None
        } else {
            let unknown = decoder.error("data block has an unknown kind");
            Some(EntryKind::from_byte(kind_byte).ok_or(unknown)?)
        };
        let seqnos_at = place(&decoder)?;
        let seqnos = decode_seqnos((shape >> 4) & 7, count, seqno_base, &mut decoder)?;
        let (key_ends, suffix_bytes) = Ends::decode(shape & 3, count, &mut decoder)?;
        let (value_ends, value_bytes) = Ends::decode((shape >> 2) & 3, count, &mut decoder)?;
        let prefix_at = place(&decoder)?;
        decoder.take(prefix_len)?;
        let suffixes_at = place(&decoder)?;
        decoder.take(suffix_bytes)?;
        let values_at = place(&decoder)?;
        decoder.take(value_bytes)?;
        decoder.finish()?;
        let is_too_long = |index| {
            let suffix = key_ends.bounds(&payload, index);
            suffix.len() > KEY_LEN_MAX.saturating_sub(prefix_len)
        };
        if (0..count).any(is_too_long) {
            return Err(decoder.error("data block has a key that is too long"));
        }
        Ok(Self {
            seqno_base,
            count: entry_count,
            kinds_at,
            seqnos_at,
            prefix_at,
            suffixes_at,
            values_at,
            key_ends,
            value_ends,
            kind,
            seqnos,
            payload,
        })
    }
}

/// The decoder's position, in the 32 bits that a place in a resident block has.
fn place(decoder: &Decoder<'_>) -> Result<u32, DecodeError> {
    let too_large = decoder.error("data block has columns past 4 GiB");
    u32::try_from(decoder.position()).ok().ok_or(too_large)
}

fn decode_seqnos(
    width_code: u8,
    count: usize,
    base: u64,
    decoder: &mut Decoder<'_>,
) -> Result<Seqnos, DecodeError> {
    let too_large = decoder.error("data block has a sequence number past the largest");
    let (seqnos, width) = match width_code {
        0 => (Seqnos::Equal, 0_usize),
        1 => (Seqnos::U8, 1),
        2 => (Seqnos::U16, 2),
        3 => (Seqnos::U32, 4),
        4 => (Seqnos::U64, 8),
        _ => return Err(decoder.error("data block has an unknown width of sequence numbers")),
    };
    let column = decoder.take(count.checked_mul(width).ok_or(too_large)?)?;
    let largest = match seqnos {
        Seqnos::Equal => 0,
        Seqnos::U8 => column.iter().copied().map(u64::from).max().unwrap_or_default(),
        Seqnos::U16 => largest(column, |item| u64::from(u16::from_le_bytes(item))),
        Seqnos::U32 => largest(column, |item| u64::from(u32::from_le_bytes(item))),
        Seqnos::U64 => largest(column, u64::from_le_bytes),
    };
    let is_possible = base.checked_add(largest).is_some_and(|sum| SeqNo::new(sum).is_some());
    if is_possible { Ok(seqnos) } else { Err(too_large) }
}

fn largest<const N: usize>(column: &[u8], read: impl Fn([u8; N]) -> u64) -> u64 {
    column.as_chunks::<N>().0.iter().map(|item| read(*item)).max().unwrap_or_default()
}
