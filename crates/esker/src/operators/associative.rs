//! An operator made of one function.

use super::{MergeFailure, MergeOperator, parts};

/// A merge operator whose operands are ordinary values, folded two at a time by one function. It
/// gets the key, the older value, the newer value, and an empty buffer for the result.
///
/// The function must be associative: folding `a` and `b`, then `c`, is folding `a` with the fold
/// of `b` and `c`. The first operand of a key without a value becomes its value unchanged.
///
/// # Examples
/// ```
/// use esker::operators::Associative;
/// use esker::{Db, KeyspaceOptions, Merge, MergeFailure};
///
/// # fn main() -> esker::Result<()> {
/// let longest = Associative::new("longest", |_key, older: &[u8], newer: &[u8], out| {
///     out.extend_from_slice(if older.len() < newer.len() { newer } else { older });
///     Ok::<(), MergeFailure>(())
/// });
/// let merge_operator = Some(Merge::new(longest));
/// let db = Db::in_memory()?;
/// let words = db.keyspace("w", KeyspaceOptions { merge_operator, ..Default::default() })?;
/// for word in ["an", "answer", "is"] {
///     words.merge("longest", word)?;
/// }
/// assert_eq!(words.get("longest")?.unwrap(), "answer");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Associative<F> {
    name: String,
    fold: F,
}

impl<F> Associative<F>
where
    F: Fn(&[u8], &[u8], &[u8], &mut Vec<u8>) -> Result<(), MergeFailure> + Send + Sync + 'static,
{
    /// The operator `name`, which folds by `fold`.
    pub fn new(name: impl Into<String>, fold: F) -> Self {
        Self { name: name.into(), fold }
    }
}

impl<F> MergeOperator for Associative<F>
where
    F: Fn(&[u8], &[u8], &[u8], &mut Vec<u8>) -> Result<(), MergeFailure> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn merge(
        &self,
        key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeFailure> {
        let mut parts = parts(existing, operands);
        let mut older = parts.next().unwrap_or_default().to_vec();
        for newer in parts {
            out.clear();
            (self.fold)(key, &older, newer, out)?;
            std::mem::swap(&mut older, out);
        }
        *out = older;
        Ok(())
    }

    fn is_associative(&self) -> bool {
        true
    }
}

impl<F> std::fmt::Debug for Associative<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Associative({})", self.name)
    }
}
