//! Sets: operands are sets whose elements are added.

use std::collections::BTreeSet;

use esker_base::coding::{Decoder, put_bytes};

use super::{MergeFailure, MergeOperator, parts};

/// Adds the elements of each operand to the value, which is a set of byte strings.
///
/// Value and operands are encoded by [`SetUnion::encode`]: each element as its length, a varint
/// (seven bits a byte, the lowest first), and its bytes; ascending and distinct. No bytes are the
/// empty set.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SetUnion;

impl SetUnion {
    /// The set of `elements`, in any order; the operand that adds them.
    #[must_use]
    pub fn encode<E: AsRef<[u8]>>(elements: impl IntoIterator<Item = E>) -> Vec<u8> {
        let elements: Vec<E> = elements.into_iter().collect();
        let mut out = Vec::new();
        put_all(&elements.iter().map(AsRef::as_ref).collect(), &mut out);
        out
    }

    /// The elements of an encoded set, ascending.
    ///
    /// # Errors
    /// If it is not one.
    pub fn decode(set: &[u8]) -> Result<Vec<&[u8]>, MergeFailure> {
        let mut decoder = Decoder::new(set);
        let mut elements: Vec<&[u8]> = Vec::new();
        while !decoder.is_empty() {
            let failed = |error| MergeFailure::new(format!("a set does not decode: {error}"));
            let element = decoder.bytes().map_err(failed)?;
            if elements.last().is_some_and(|before| element <= *before) {
                return Err(MergeFailure::new("a set's elements do not ascend"));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}

fn put_all(elements: &BTreeSet<&[u8]>, out: &mut Vec<u8>) {
    elements.iter().for_each(|element| put_bytes(out, element));
}

impl MergeOperator for SetUnion {
    fn name(&self) -> &str {
        "esker.set-union"
    }

    fn merge(
        &self,
        _key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeFailure> {
        let mut all = BTreeSet::new();
        for set in parts(existing, operands) {
            all.extend(Self::decode(set)?);
        }
        put_all(&all, out);
        Ok(())
    }

    fn is_associative(&self) -> bool {
        true
    }
}
