//! The block of range tombstones: their fragments, as readers search them.
//!
//! ```text
//! ranges   := count varint, fragment{count}
//! fragment := start bytes, end bytes, seqno_count varint, seqno varint, step varint{seqno_count - 1}
//! ```
//!
//! Fragments ascend and do not overlap; each has an end. The newest of its sequence numbers is
//! stored in full, and each of the others as its difference from the one before, which is never
//! zero.

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
use esker_base::limits::KEY_LEN_MAX;
use esker_base::{Fragments, SeqNo};

use crate::BlockHandle;

/// Longest end of a range: the immediate successor of the longest key.
pub(crate) const END_LEN_MAX: usize = KEY_LEN_MAX.saturating_add(1);

/// What is known of the range tombstones of a table without reading them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableRanges {
    /// Their block.
    pub handle: BlockHandle,
    /// Fragments in it, at least one.
    pub fragment_count: u64,
    /// First key of the first fragment.
    pub start: Vec<u8>,
    /// First key after the last fragment.
    pub end: Vec<u8>,
    /// Whether the table has entries; if not, the counts of the properties are zeros.
    pub has_entries: bool,
    /// Whether `end` is after every entry too. It is then the upper bound of the table, but not one
    /// of its keys.
    pub ends_table: bool,
}

impl TableRanges {
    /// Of `fragments` at `handle`, beside entries up to `largest_key`; `None` if there are none.
    pub(crate) fn of(
        fragments: &Fragments,
        handle: BlockHandle,
        largest_key: Option<&[u8]>,
    ) -> Option<Self> {
        let (first, last) = (fragments.as_slice().first()?, fragments.as_slice().last()?);
        Some(Self {
            handle,
            fragment_count: fragments.as_slice().len() as u64,
            start: first.start.clone(),
            end: last.end.clone(),
            has_entries: largest_key.is_some(),
            ends_table: largest_key.is_none_or(|key| key < last.end.as_slice()),
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.handle.encode(out);
        put_varint(out, self.fragment_count);
        put_bytes(out, &self.start);
        put_bytes(out, &self.end);
        out.extend_from_slice(&[u8::from(self.has_entries), u8::from(self.ends_table)]);
    }

    pub(crate) fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let wrong = decoder.error("table properties describe impossible range tombstones");
        let ranges = Self {
            handle: BlockHandle::decode(decoder)?,
            fragment_count: decoder.varint()?,
            start: decoder.bytes()?.to_vec(),
            end: decoder.bytes()?.to_vec(),
            has_entries: decode_flag(decoder)?,
            ends_table: decode_flag(decoder)?,
        };
        let is_range = are_ends(&ranges.start, &ranges.end) && ranges.fragment_count > 0;
        // Without entries the range is all that there is.
        if is_range && (ranges.has_entries || ranges.ends_table) { Ok(ranges) } else { Err(wrong) }
    }
}

fn decode_flag(decoder: &mut Decoder<'_>) -> Result<bool, DecodeError> {
    let wrong = decoder.error("a flag is neither 0 nor 1");
    match decoder.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(wrong),
    }
}

/// A range may start where another one ends, so that both have the same bound.
fn are_ends(start: &[u8], end: &[u8]) -> bool {
    start < end && start.len() <= END_LEN_MAX && end.len() <= END_LEN_MAX
}

/// Appends the block of `fragments`, all of which have an end.
pub(crate) fn encode(fragments: &Fragments, out: &mut Vec<u8>) {
    put_varint(out, fragments.as_slice().len() as u64);
    for fragment in fragments.as_slice() {
        put_bytes(out, &fragment.start);
        put_bytes(out, &fragment.end);
        put_varint(out, fragment.seqnos.len() as u64);
        let mut newer: Option<SeqNo> = None;
        for seqno in &fragment.seqnos {
            put_varint(out, newer.map_or(seqno.get(), |newer| newer.get().abs_diff(seqno.get())));
            newer = Some(*seqno);
        }
    }
}

/// Reads a block.
pub(crate) fn decode(payload: &[u8]) -> Result<Fragments, DecodeError> {
    let mut decoder = Decoder::new(payload);
    let count = decoder.varint()?;
    let mut fragments = Fragments::default();
    let mut last_end: Option<&[u8]> = None;
    for _ in 0..count {
        let wrong = decoder.error("range tombstones are not disjoint ranges in ascending order");
        let (start, end) = (decoder.bytes()?, decoder.bytes()?);
        if !are_ends(start, end) || last_end.is_some_and(|last| start < last) {
            return Err(wrong);
        }
        fragments.push(start, end, decode_seqnos(&mut decoder)?);
        last_end = Some(end);
    }
    let miscounted = decoder.error("range tombstones could be joined, or are none");
    if count == 0 || fragments.as_slice().len() as u64 != count {
        return Err(miscounted);
    }
    decoder.finish()?;
    Ok(fragments)
}

fn decode_seqnos(decoder: &mut Decoder<'_>) -> Result<Vec<SeqNo>, DecodeError> {
    let wrong = decoder.error("range tombstones have impossible sequence numbers");
    let count = decoder.varint()?;
    // Each takes at least one byte, so memory is bounded by the payload.
    if count == 0 || decoder.rest().len() as u64 <= count.saturating_sub(1) {
        return Err(wrong);
    }
    let mut seqnos: Vec<SeqNo> = Vec::new();
    for _ in 0..count {
        let number = decoder.varint()?;
        let seqno = match seqnos.last() {
            None => SeqNo::new(number),
            Some(_) if number == 0 => None,
            Some(newer) => newer.get().checked_sub(number).and_then(SeqNo::new),
        };
        let Some(seqno) = seqno else { return Err(wrong) };
        seqnos.push(seqno);
    }
    Ok(seqnos)
}

#[cfg(test)]
mod tests;
