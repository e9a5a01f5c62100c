//! A column of ends: where each item in a sequence of byte strings ends.
//!
//! | code | form                                                      |
//! |-----:|-----------------------------------------------------------|
//! |    0 | every item has one length: that length, `u32`             |
//! |    1 | the ends, `u16` each                                      |
//! |    2 | the ends, `u32` each                                      |
//! |    3 | the ends, `u64` each                                      |
//!
//! An end counts from the start of the first item, so the last end is the length of all.

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

use std::ops::Range;

use esker_base::coding::{DecodeError, Decoder};

/// The position of the column in the payload of its block, and its form.
///
/// Twelve bytes, since the in-memory form of a block holds two of these, and every point read pays
/// for its cache lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ends {
    at: u32,
    /// Length of every string, for [`Form::Fixed`].
    stride: u32,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Fixed,
    U16,
    U32,
    U64,
}

impl Ends {
    /// Appends the column and returns its code.
    pub(crate) fn encode(out: &mut Vec<u8>, ends: impl Iterator<Item = u64> + Clone) -> u8 {
        let first = ends.clone().next().unwrap_or_default();
        let mut expected = 0_u64;
        let is_fixed = ends.clone().all(|end| {
            expected = expected.saturating_add(first);
            end == expected
        });
        let last = ends.clone().last().unwrap_or_default();
        if let (true, Ok(stride)) = (is_fixed, u32::try_from(first)) {
            out.extend_from_slice(&stride.to_le_bytes());
            0
        } else if last <= u64::from(u16::MAX) {
            ends.for_each(|end| out.extend_from_slice(&(end as u16).to_le_bytes()));
            1
        } else if last <= u64::from(u32::MAX) {
            ends.for_each(|end| out.extend_from_slice(&(end as u32).to_le_bytes()));
            2
        } else {
            ends.for_each(|end| out.extend_from_slice(&end.to_le_bytes()));
            3
        }
    }

    /// Decodes a column of `count` ends, and returns it with the length of all items together.
    pub(crate) fn decode(
        code: u8,
        count: usize,
        decoder: &mut Decoder<'_>,
    ) -> Result<(Self, usize), DecodeError> {
        let too_large = decoder.error("column of ends does not fit this machine");
        let at = u32::try_from(decoder.position()).ok().ok_or(too_large)?;
        let (form, width) = match code {
            0 => (Form::Fixed, 0),
            1 => (Form::U16, 2),
            2 => (Form::U32, 4),
            3 => (Form::U64, 8),
            _ => return Err(decoder.error("column of ends has an unknown form")),
        };
        if form == Form::Fixed {
            let stride = decoder.u32()?;
            let total = (stride as usize).checked_mul(count).ok_or(too_large)?;
            return Ok((Self { at, stride, form }, total));
        }
        let column = decoder.take(count.checked_mul(width).ok_or(too_large)?)?;
        let mut last = 0_usize;
        let mut is_sorted = true;
        match form {
            Form::U16 => {
                check(column, &mut last, &mut is_sorted, |end| u16::from_le_bytes(end).into())
            }
            Form::U32 => {
                check(column, &mut last, &mut is_sorted, |end| u32::from_le_bytes(end) as usize)
            }
            // A length too large for a machine word is too large for the payload too, and refused
            // there.
            _ => check(column, &mut last, &mut is_sorted, |end| {
                u64::from_le_bytes(end).try_into().unwrap_or(usize::MAX)
            }),
        }
        if is_sorted {
            Ok((Self { at, stride: 0, form }, last))
        } else {
            Err(decoder.error("column of ends is not ascending"))
        }
    }

    /// The length of every item, if all are equal.
    #[inline]
    pub(crate) const fn stride(&self) -> Option<usize> {
        match self.form {
            Form::Fixed => Some(self.stride as usize),
            _ => None,
        }
    }

    /// The range of item `index`, counted from the start of the first item.
    #[inline]
    pub(crate) fn bounds(&self, payload: &[u8], index: usize) -> Range<usize> {
        match self.form {
            Form::Fixed => {
                let stride = self.stride as usize;
                let start = stride.wrapping_mul(index);
                start..start.wrapping_add(stride)
            }
            Form::U16 => self.pair(payload, index, |end| u16::from_le_bytes(end).into()),
            Form::U32 => self.pair(payload, index, |end| u32::from_le_bytes(end) as usize),
            Form::U64 => self.pair(payload, index, |end| u64::from_le_bytes(end) as usize),
        }
    }

    #[inline]
    fn pair<const N: usize>(
        &self,
        payload: &[u8],
        index: usize,
        read: impl Fn([u8; N]) -> usize,
    ) -> Range<usize> {
        let end_at = |index: usize| {
            let at = (self.at as usize).wrapping_add(index.wrapping_mul(N));
            let end = payload.get(at..).and_then(|rest| rest.first_chunk::<N>());
            end.map_or(0, |end| read(*end))
        };
        let start = if index == 0 { 0 } else { end_at(index.wrapping_sub(1)) };
        start..end_at(index)
    }
}

/// Walks a column; sets the last end, and whether the ends are sorted.
fn check<const N: usize>(
    column: &[u8],
    last: &mut usize,
    is_sorted: &mut bool,
    read: impl Fn([u8; N]) -> usize,
) {
    for end in column.as_chunks::<N>().0 {
        let end = read(*end);
        *is_sorted &= *last <= end;
        *last = end;
    }
}

#[cfg(test)]
mod tests;
