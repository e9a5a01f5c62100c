//! The merge operator: how the operands of a key change its value.
//!
//! The operator is user code. Everything here that calls it turns a failure or a panic into a
//! [`MergeError`] for that key; the caller decides what to do then.
//!
//! Does not know where operands come from, nor which of them one reader sees.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use esker_base::limits::VALUE_LEN_MAX;

/// How the operands of a keyspace change its values.
///
/// A write may give a key an *operand* instead of a value. Readers see the value that the operator
/// makes of the newest put (if there is one) and the operands written after it. Flush and
/// compaction also call the operator when they meet operands that the same readers see, and may
/// group them in any way. So the result must depend only on the arguments, and must be the same for
/// every grouping: folding `a, b, c` over a value must equal folding `c` over the result of folding
/// `a, b` over it, and, if [`fold_operands`](MergeOperator::fold_operands) folds `b, c` to `d`,
/// folding `a, d`.
///
/// It is called from many threads concurrently, and must not call the database. It may drop handles
/// of it.
pub trait MergeOperator: Send + Sync + 'static {
    /// The name of what the operator does. It is recorded with the keyspace, which then refuses
    /// other operators: an operator that gives different results for the same operands needs a
    /// different name.
    fn name(&self) -> &str;

    /// Writes to `out`, which is empty, the value of `key` after applying `operands`: at least one,
    /// oldest first. `existing` is the value before them; `None` if the key has none.
    ///
    /// # Errors
    /// If the operands or the value make no sense. Reads of the key then fail; nothing is lost. A
    /// result longer than the limit for values also counts as an error.
    fn merge(
        &self,
        key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeFailure>;

    /// Whether operands are ordinary values and folding is associative: then
    /// [`MergeOperator::merge`] of operands alone yields an operand. Default false.
    fn is_associative(&self) -> bool {
        false
    }

    /// Writes to `out`, which is empty, one operand equivalent to `operands` (at least two, oldest
    /// first), and returns true. Returns false if they cannot be folded without the value before
    /// them: then they are kept one by one until it is known. By default, an associative operator
    /// folds all, and others fold none.
    ///
    /// # Errors
    /// As [`MergeOperator::merge`]; the operands are then kept one by one.
    fn fold_operands(
        &self,
        key: &[u8],
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<bool, MergeFailure> {
        if self.is_associative() {
            self.merge(key, None, operands, out)?;
        }
        Ok(self.is_associative())
    }
}

/// Why an operator could not merge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MergeFailure(Arc<str>);

impl MergeFailure {
    /// A failure for the reason `what`: a lower-case phrase without a full stop.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into().into())
    }
}

impl fmt::Display for MergeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MergeFailure {}

/// The merge operator of a keyspace: its name and, if given, its code.
///
/// Equal if the names are.
#[derive(Clone)]
pub struct Merge {
    name: Arc<str>,
    operator: Option<Arc<dyn MergeOperator>>,
}

impl Merge {
    /// An operator with its code.
    #[must_use]
    pub fn new(operator: impl MergeOperator) -> Self {
        Self { name: operator.name().into(), operator: Some(Arc::new(operator)) }
    }

    /// An operator of which only the name is known.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), operator: None }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The code, if it has been given.
    #[must_use]
    pub const fn operator(&self) -> Option<&Arc<dyn MergeOperator>> {
        self.operator.as_ref()
    }
}

impl PartialEq for Merge {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Merge {}

impl fmt::Debug for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = if self.operator.is_some() { "" } else { ", not given" };
        write!(f, "Merge({}{code})", self.name)
    }
}

/// Why the operands of a key could not be merged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MergeError {
    /// The key.
    pub key: Box<[u8]>,
    /// What stood in the way.
    pub cause: MergeErrorCause,
}

/// Why a merge was not possible.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MergeErrorCause {
    /// The operator of the keyspace was not given.
    NotGiven {
        /// The recorded name.
        recorded: Option<Arc<str>>,
    },
    /// The operator failed, or panicked.
    Failed {
        /// Its name.
        operator: Arc<str>,
        /// Why.
        failure: MergeFailure,
    },
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.escape_ascii();
        match &self.cause {
            MergeErrorCause::NotGiven { recorded: Some(name) } => write!(
                f,
                "the key \"{key}\" has operands for the merge operator \"{name}\", and the keyspace \
                 was opened with none"
            ),
            MergeErrorCause::NotGiven { recorded: None } => {
                write!(f, "the key \"{key}\" has operands, and the keyspace has no merge operator")
            }
            MergeErrorCause::Failed { operator, failure } => {
                write!(
                    f,
                    "the merge operator \"{operator}\" failed for the key \"{key}\": {failure}"
                )
            }
        }
    }
}

impl std::error::Error for MergeError {}

/// An operator, ready to merge the operands of one key.
#[derive(Clone, Copy)]
pub(crate) struct Merger<'a> {
    merge: &'a Merge,
    operator: &'a dyn MergeOperator,
    key: &'a [u8],
}

impl<'a> Merger<'a> {
    /// The operator of `merge` for `key`.
    pub(crate) fn new(merge: Option<&'a Merge>, key: &'a [u8]) -> Result<Self, MergeError> {
        let given = merge.and_then(|merge| Some((merge, merge.operator.as_deref()?)));
        let Some((merge, operator)) = given else {
            let recorded = merge.map(|merge| Arc::clone(&merge.name));
            let cause = MergeErrorCause::NotGiven { recorded };
            return Err(MergeError { key: key.into(), cause });
        };
        Ok(Self { merge, operator, key })
    }

    /// The key.
    pub(crate) const fn key(self) -> &'a [u8] {
        self.key
    }

    /// Replaces `out` with the value after `operands`, oldest first.
    pub(crate) fn merge(
        self,
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeError> {
        out.clear();
        self.guard(|| {
            self.operator.merge(self.key, existing, operands, out)?;
            check_len(out)
        })
    }

    /// Replaces `out` with one operand equivalent to `operands`, oldest first; false if there is
    /// none.
    pub(crate) fn fold(self, operands: &[&[u8]], out: &mut Vec<u8>) -> Result<bool, MergeError> {
        out.clear();
        self.guard(|| {
            let folds = self.operator.fold_operands(self.key, operands, out)?;
            check_len(out).map(|()| folds)
        })
    }

    fn guard<T>(self, call: impl FnOnce() -> Result<T, MergeFailure>) -> Result<T, MergeError> {
        // A panic can leave only `out` in a bad state, and nobody reads that after an error.
        let result = catch_unwind(AssertUnwindSafe(call));
        let result = result.unwrap_or_else(|panic| Err(MergeFailure::new(panic_message(&*panic))));
        result.map_err(|failure| {
            let operator = Arc::clone(&self.merge.name);
            let cause = MergeErrorCause::Failed { operator, failure };
            MergeError { key: self.key.into(), cause }
        })
    }
}

/// Refuses a result that is too long for a table.
fn check_len(result: &[u8]) -> Result<(), MergeFailure> {
    let len = result.len();
    if len as u64 <= VALUE_LEN_MAX {
        return Ok(());
    }
    let what = format!("the result has {len} bytes, and at most {VALUE_LEN_MAX} are allowed");
    Err(MergeFailure::new(what))
}

/// The message of a panic in user code.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("no message"))
}
