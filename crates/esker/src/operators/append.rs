//! Appending: lists and texts that grow at their end.

use super::{MergeFailure, MergeOperator, parts};

/// Appends each operand to the value, with a separator between two of them.
///
/// A key without a value becomes the operand alone; an empty value counts as one, so that the
/// separator follows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    separator: Vec<u8>,
    name: String,
}

const NAME: &str = "esker.append:";

impl Append {
    /// Puts `separator`, which may be empty, between operands. It becomes part of the name, in
    /// hexadecimal: `esker.append:2c` for a comma.
    #[must_use]
    pub fn new(separator: impl AsRef<[u8]>) -> Self {
        let separator = separator.as_ref().to_vec();
        let digits = separator.iter().map(|byte| format!("{byte:02x}"));
        let name = NAME.chars().chain(digits.collect::<String>().chars()).collect();
        Self { separator, name }
    }

    pub(super) fn by_name(name: &str) -> Option<Self> {
        let digits = name.strip_prefix(NAME)?;
        let pairs = digits.as_bytes().chunks(2);
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        };
        let separator: Option<Vec<u8>> = pairs.map(byte).collect();
        // Digits in another case would be another name.
        Some(Self::new(separator?)).filter(|append| append.name == name)
    }
}

impl MergeOperator for Append {
    fn name(&self) -> &str {
        &self.name
    }

    fn merge(
        &self,
        _key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeFailure> {
        for (index, part) in parts(existing, operands).enumerate() {
            if index > 0 {
                out.extend_from_slice(&self.separator);
            }
            out.extend_from_slice(part);
        }
        Ok(())
    }

    fn is_associative(&self) -> bool {
        true
    }
}
