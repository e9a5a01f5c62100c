//! The encoding of integers and byte strings in files: little-endian, and LEB128 varints.
//!
//! Writing appends to a `Vec<u8>`; reading goes through [`Decoder`], which never panics and never
//! allocates, whatever the bytes are.

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

/// Longest encoding of a `u64` varint, in bytes.
pub const VARINT_LEN_MAX: usize = 10;

/// Appends `value` in 7-bit groups, least significant first, the top bit set on all but the last.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_varint`] writes for `value`.
#[inline]
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    // Bits in use, at least one, over seven, rounded up.
    (64_u32.saturating_sub((value | 1).leading_zeros())).div_ceil(7) as usize
}

/// Appends the length of `bytes` as a varint, then the bytes.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Why bytes could not be decoded, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError {
    /// Byte position inside what was being decoded.
    pub position: usize,
    /// What is wrong there, as a short lower-case phrase.
    pub what: &'static str,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.position)
    }
}

impl std::error::Error for DecodeError {}

/// Reads values from the front of a byte string that may be damaged.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Decoder<'a> {
    /// Reads from the first byte of `bytes`.
    #[inline]
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// How many bytes have been read.
    #[inline]
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// What has not been read.
    #[inline]
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    /// Whether everything has been read.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// An error at the current position.
    #[must_use]
    pub const fn error(&self, what: &'static str) -> DecodeError {
        DecodeError { position: self.position, what }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let taken = self.rest().get(..count).ok_or(self.error("ends too early"))?;
        self.position = self.position.saturating_add(count);
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let chunk = *self.rest().first_chunk::<N>().ok_or(self.error("ends too early"))?;
        self.position = self.position.saturating_add(N);
        Ok(chunk)
    }

    /// One byte.
    ///
    /// # Errors
    /// If none is left.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.chunk()?))
    }

    /// Two bytes, little-endian.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.chunk()?))
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.chunk()?))
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.chunk()?))
    }

    /// A varint.
    ///
    /// # Errors
    /// If it does not end, does not fit 64 bits, or is longer than it needs to be: every value has
    /// one encoding.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.rest().first() {
            Some(&byte) if byte & 0x80 == 0 => {
                self.position = self.position.saturating_add(1);
                Ok(u64::from(byte))
            }
            _ => self.longer_varint(),
        }
    }

    /// Separate, so that small numbers, which are the most frequent, are read without a call.
    fn longer_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for (index, &byte) in self.rest().iter().take(VARINT_LEN_MAX).enumerate() {
            let group = u64::from(byte & 0x7f);
            let shift = 7_u32.saturating_mul(index as u32);
            if group.leading_zeros() < shift {
                return Err(self.error("varint does not fit 64 bits"));
            }
            value |= group << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && index > 0 {
                    return Err(self.error("varint is longer than it needs to be"));
                }
                self.position = self.position.saturating_add(index).saturating_add(1);
                return Ok(value);
            }
        }
        Err(self.error("varint does not end"))
    }

    /// A varint that fits 32 bits.
    ///
    /// # Errors
    /// As [`Decoder::varint`], or if the value is larger.
    #[inline]
    pub fn varint_u32(&mut self) -> Result<u32, DecodeError> {
        let at = self.error("number does not fit 32 bits");
        self.varint()?.try_into().ok().ok_or(at)
    }

    /// A varint that fits this machine's `usize`.
    ///
    /// # Errors
    /// As [`Decoder::varint`], or if the value is larger.
    #[inline]
    pub fn varint_usize(&mut self) -> Result<usize, DecodeError> {
        let at = self.error("number does not fit this machine's word");
        self.varint()?.try_into().ok().ok_or(at)
    }

    /// A byte string written by [`put_bytes`].
    ///
    /// # Errors
    /// If its length is damaged or reaches past the end.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = self.varint_usize()?;
        self.take(count)
    }

    /// Checks that everything has been read.
    ///
    /// # Errors
    /// If bytes are left over.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.is_empty() { Ok(()) } else { Err(self.error("unexpected bytes follow")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_at_every_length() {
        for bits in 0..64 {
            for value in [1_u64 << bits, (1_u64 << bits) - 1, u64::MAX >> bits] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
                let mut decoder = Decoder::new(&out);
                assert_eq!(decoder.varint(), Ok(value));
                assert_eq!(decoder.finish(), Ok(()));
            }
        }
    }

    #[test]
    fn damaged_varints_are_refused() {
        let error = |bytes: &[u8]| Decoder::new(bytes).varint().unwrap_err().what;
        assert_eq!(error(&[]), "varint does not end");
        assert_eq!(error(&[0x80]), "varint does not end");
        assert_eq!(error(&[0xff; 11]), "varint does not fit 64 bits");
        assert_eq!(error(&[0x80, 0x00]), "varint is longer than it needs to be");
    }

    #[test]
    fn byte_string_longer_than_its_input_is_refused() {
        let mut out = Vec::new();
        put_bytes(&mut out, b"abc");
        assert_eq!(Decoder::new(&out).bytes(), Ok(b"abc".as_slice()));
        assert_eq!(
            Decoder::new(&out[..3]).bytes().unwrap_err().to_string(),
            "ends too early at byte 1"
        );
        let mut huge = Vec::new();
        put_varint(&mut huge, u64::MAX);
        assert!(Decoder::new(&huge).bytes().is_err());
    }
}
