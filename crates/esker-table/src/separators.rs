//! Separators: for each block, a user key that is not less than any of its keys and is less than
//! any key of the next block, unless one user key extends over both.
//!
//! ```text
//! separators := prefix_len u16, form u8, suffix ends (see ends.rs), prefix, suffixes
//! ```
//!
//! The prefix shared by all separators is cut off, and the next eight bytes of each are kept as
//! words, so that a search compares integers in one small array and touches key bytes only if words
//! are equal.

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
use esker_base::{key_head, strip_key_prefix};

use crate::ends::Ends;

/// Separators of the blocks of one index, stored in the payload that they were read from.
#[derive(Debug)]
pub(crate) struct Separators {
    heads: Box<[u64]>,
    ends: Ends,
    prefix_at: usize,
    prefix_len: usize,
}

/// Where the parts of the column are.
struct Columns<'a> {
    ends: Ends,
    prefix_at: usize,
    prefix_len: usize,
    suffixes: &'a [u8],
}

impl<'a> Columns<'a> {
    fn read(count: usize, decoder: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        let prefix_len = usize::from(decoder.u16()?);
        let form = decoder.u8()?;
        let (ends, suffix_bytes) = Ends::decode(form, count, decoder)?;
        let prefix_at = decoder.position();
        decoder.take(prefix_len)?;
        let suffixes = decoder.take(suffix_bytes)?;
        Ok(Self { ends, prefix_at, prefix_len, suffixes })
    }
}

impl Separators {
    /// How many there are.
    pub(crate) const fn count(&self) -> usize {
        self.heads.len()
    }

    pub(crate) const fn memory_bytes(&self) -> usize {
        size_of_val::<[u64]>(&self.heads)
    }

    /// Appends the column for at least one separator. They are ascending, and given as their
    /// concatenated `bytes` and the `ends` of each.
    pub(crate) fn encode(out: &mut Vec<u8>, bytes: &[u8], ends: &[usize]) {
        let item = |index: usize| {
            let start = match index.checked_sub(1) {
                Some(before) => ends.get(before).copied().unwrap_or_default(),
                None => 0,
            };
            bytes.get(start..ends.get(index).copied().unwrap_or_default()).unwrap_or_default()
        };
        let prefix_len = shared_prefix_len(item(0), item(ends.len().saturating_sub(1)));
        out.extend_from_slice(&(prefix_len as u16).to_le_bytes());
        let form_at = out.len();
        out.push(0);
        let suffix_ends = ends.iter().enumerate().map(|(index, &end)| {
            let cut = prefix_len.saturating_mul(index.saturating_add(1));
            end.saturating_sub(cut) as u64
        });
        let form = Ends::encode(out, suffix_ends);
        if let Some(byte) = out.get_mut(form_at) {
            *byte = form;
        }
        out.extend_from_slice(item(0).get(..prefix_len).unwrap_or_default());
        for index in 0..ends.len() {
            out.extend_from_slice(item(index).get(prefix_len..).unwrap_or_default());
        }
    }

    /// Decodes the column of `count` separators from `payload`; the caller has checked `count`
    /// against a bound.
    pub(crate) fn decode(
        payload: &[u8],
        count: usize,
        decoder: &mut Decoder<'_>,
    ) -> Result<Self, DecodeError> {
        let Columns { ends, prefix_at, prefix_len, suffixes } = Columns::read(count, decoder)?;
        let suffix = |index| suffixes.get(ends.bounds(payload, index)).unwrap_or_default();
        let heads = (0..count).map(|index| key_head(suffix(index))).collect();
        Ok(Self { heads, ends, prefix_at, prefix_len })
    }

    /// Skips the column of `count` separators.
    pub(crate) fn skip(count: usize, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        Columns::read(count, decoder).map(drop)
    }

    /// The first separator that is not less than `user_key`, or [`Separators::count`] if there is
    /// none; and how many separators from there on equal it.
    #[inline]
    pub(crate) fn find(&self, payload: &[u8], user_key: &[u8]) -> (usize, usize) {
        let prefix = self.prefix(payload);
        let Some(suffix) = strip_key_prefix(user_key, prefix) else {
            return (if user_key < prefix { 0 } else { self.count() }, 0);
        };
        let head = key_head(suffix);
        let first = first_not_less(&self.heads, head);
        if self.heads.get(first) != Some(&head) {
            return (first, 0);
        }
        // Equal heads do not decide; the bytes do.
        let tied = self.heads.get(first..).unwrap_or_default();
        let tied_end = first.wrapping_add(tied.partition_point(|&separator| separator == head));
        let (mut start, mut end) = (first, tied_end);
        while start < end {
            let middle = start.midpoint(end);
            if self.suffix(payload, middle) < suffix {
                start = middle.wrapping_add(1);
            } else {
                end = middle;
            }
        }
        let is_equal = |&index: &usize| self.suffix(payload, index) == suffix;
        (start, (start..tied_end).take_while(is_equal).count())
    }

    /// Whether separator `index` is `user_key`.
    pub(crate) fn is_at(&self, payload: &[u8], index: usize, user_key: &[u8]) -> bool {
        strip_key_prefix(user_key, self.prefix(payload)).is_some_and(|suffix| {
            self.heads.get(index) == Some(&key_head(suffix))
                && self.suffix(payload, index) == suffix
        })
    }

    /// Appends separator `index` to `out`.
    pub(crate) fn append_to(&self, payload: &[u8], index: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix(payload));
        out.extend_from_slice(self.suffix(payload, index));
    }

    fn prefix<'a>(&self, payload: &'a [u8]) -> &'a [u8] {
        payload.get(self.prefix_at..self.suffixes_at()).unwrap_or_default()
    }

    fn suffix<'a>(&self, payload: &'a [u8], index: usize) -> &'a [u8] {
        let suffixes = payload.get(self.suffixes_at()..).unwrap_or_default();
        suffixes.get(self.ends.bounds(payload, index)).unwrap_or_default()
    }

    const fn suffixes_at(&self) -> usize {
        self.prefix_at.wrapping_add(self.prefix_len)
    }
}

/// The position of the first of the ascending `heads` that is not less than `head`; their count if
/// there is none.
///
/// Not by binary search, where each load waits for the one before: here [`WAY_COUNT`] loads are in
/// flight at the same time.
#[inline]
fn first_not_less(heads: &[u64], head: u64) -> usize {
    let is_less = |place: usize| usize::from(heads.get(place).is_some_and(|&other| other < head));
    let (mut start, mut len) = (0_usize, heads.len());
    while len > WAY_COUNT {
        // Of this many stretches of `step` heads, those whose last head is less are skipped.
        let step = len / WAY_COUNT;
        let mut last = start.wrapping_add(step).wrapping_sub(1);
        let mut passed = 0_usize;
        for _ in 1..WAY_COUNT {
            passed = passed.wrapping_add(is_less(last));
            last = last.wrapping_add(step);
        }
        let passed_len = step.wrapping_mul(passed);
        start = start.wrapping_add(passed_len);
        // The remainder of the division is after the last stretch.
        len = if passed.wrapping_add(1) == WAY_COUNT { len.wrapping_sub(passed_len) } else { step };
    }
    (start..start.wrapping_add(len)).fold(start, |place, at| place.wrapping_add(is_less(at)))
}

/// How many stretches each step of a search divides the separators into: as many as a processor can
/// have loads in flight. Two steps narrow 1024 blocks down to four.
const WAY_COUNT: usize = 16;

/// Length of the common prefix of `a` and `b`.
pub(crate) fn shared_prefix_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Appends a short key that is not less than `last` and less than `next`, for `last < next`.
pub(crate) fn append_separator(last: &[u8], next: &[u8], out: &mut Vec<u8>) {
    let shared = shared_prefix_len(last, next);
    // The first byte after the shared ones that can be incremented without reaching `next`: the
    // first differing byte only if the difference leaves room, any byte after it always.
    let can_be_raised = |(index, byte): (usize, &u8)| {
        let raised = byte.checked_add(1)?;
        let is_below = index > shared || next.get(index).is_some_and(|next| raised < *next);
        (index >= shared && is_below).then_some((index, raised))
    };
    match last.iter().enumerate().find_map(can_be_raised) {
        // A separator as long as the key itself saves nothing, and the key is the tighter bound.
        Some((index, raised)) if index.saturating_add(1) < last.len() => {
            out.extend_from_slice(last.get(..index).unwrap_or_default());
            out.push(raised);
        }
        _ => out.extend_from_slice(last),
    }
}

#[cfg(test)]
mod tests;
