//! The smallest and the largest of all values, bytewise.

use super::{MergeFailure, MergeOperator, parts};

/// Keeps the smallest of the value and all operands, compared byte by byte.
///
/// Numbers compare as numbers if they are big-endian and of one length.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Minimum;

/// Keeps the largest of the value and all operands, compared byte by byte.
///
/// Numbers compare as numbers if they are big-endian and of one length.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Maximum;

impl MergeOperator for Minimum {
    fn name(&self) -> &str {
        "esker.min"
    }

    fn merge(
        &self,
        _key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeFailure> {
        let all = parts(existing, operands);
        out.extend_from_slice(all.min().unwrap_or_default());
        Ok(())
    }

    fn is_associative(&self) -> bool {
        true
    }
}

impl MergeOperator for Maximum {
    fn name(&self) -> &str {
        "esker.max"
    }

    fn merge(
        &self,
        _key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeFailure> {
        let all = parts(existing, operands);
        out.extend_from_slice(all.max().unwrap_or_default());
        Ok(())
    }

    fn is_associative(&self) -> bool {
        true
    }
}
