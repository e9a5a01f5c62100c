//! Counters: operands are added to the value.

use super::{MergeFailure, MergeOperator, parts};

/// Adds unsigned numbers of 64 bits. A key without a value starts at zero.
///
/// Value and operands are 8 bytes, little-endian. The sum saturates at the largest number; as sums
/// only grow, the result does not depend on the order of additions.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AddU64;

/// Adds signed numbers of 64 bits. A key without a value starts at zero.
///
/// Value and operands are 8 bytes, little-endian, two's complement. The sum wraps around: with
/// saturation, the result would depend on the order of additions.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AddI64;

impl AddU64 {
    /// The operand that adds `number`; also the value `number`.
    #[must_use]
    pub const fn encode(number: u64) -> [u8; 8] {
        number.to_le_bytes()
    }

    /// The number that `value` is, if it is one.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<u64> {
        value.try_into().ok().map(u64::from_le_bytes)
    }
}

impl AddI64 {
    /// The operand that adds `number`; also the value `number`.
    #[must_use]
    pub const fn encode(number: i64) -> [u8; 8] {
        number.to_le_bytes()
    }

    /// The number that `value` is, if it is one.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<i64> {
        value.try_into().ok().map(i64::from_le_bytes)
    }
}

/// Adds all operands as 64-bit words, which the two operators interpret as unsigned or signed.
fn sum(
    existing: Option<&[u8]>,
    operands: &[&[u8]],
    out: &mut Vec<u8>,
    add: impl Fn(u64, u64) -> u64,
) -> Result<(), MergeFailure> {
    let mut sum = 0;
    for part in parts(existing, operands) {
        let number = AddU64::decode(part);
        let what =
            || MergeFailure::new(format!("a number has {} bytes, and must have 8", part.len()));
        sum = add(sum, number.ok_or_else(what)?);
    }
    out.extend_from_slice(&AddU64::encode(sum));
    Ok(())
}

impl MergeOperator for AddU64 {
    fn name(&self) -> &str {
        "esker.add-u64"
    }

    fn merge(
        &self,
        _key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeFailure> {
        sum(existing, operands, out, u64::saturating_add)
    }

    fn is_associative(&self) -> bool {
        true
    }
}

impl MergeOperator for AddI64 {
    fn name(&self) -> &str {
        "esker.add-i64"
    }

    fn merge(
        &self,
        _key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeFailure> {
        sum(existing, operands, out, u64::wrapping_add)
    }

    fn is_associative(&self) -> bool {
        true
    }
}
