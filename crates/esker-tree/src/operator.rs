//! The merge operator: what the operands of a key do to its value.
//!
//! The operator is the user's code. Everything here that calls it turns a failure or a panic of it
//! into a [`MergeError`] of that key; whoever calls decides what the key is without an answer.
//!
//! Does not know where operands come from, nor which of them belong to one reader.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use esker_base::limits::VALUE_LEN_MAX;

/// What the operands of a keyspace do to its values.
///
/// A write may give a key an *operand* instead of a value. Readers see the value that the operator
/// makes of the newest put beneath (if there is one) and the operands above it. Flush and
/// compaction call the operator, too, as soon as they have operands that the same readers see, and
/// at any grouping. So the result may depend on nothing but the arguments, and whatever the
/// grouping it must be the same: folding `a, b, c` over a value is folding `c` over the result of
/// folding `a, b` over it, and, where [`fold_operands`](MergeOperator::fold_operands) folds
/// `b, c` to `d`, folding `a, d`.
///
/// It is called from many threads at once, and must not call the database. It may drop handles of it.
pub trait MergeOperator: Send + Sync + 'static {
    /// Names what the operator does. It is recorded with the keyspace, and another operator is
    /// refused there: one that gives other results for the same operands needs another name.
    fn name(&self) -> &str;

    /// Writes to `out`, which is empty, the value of `key` after `operands`, the oldest first and
    /// at least one. `existing` is the value beneath; `None` if the key has none.
    ///
    /// # Errors
    /// If the operands or the value make no sense. Reads of the key then fail; nothing is lost. A
    /// result that is longer than values may be counts as an error.
    fn merge(
        &self,
        key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeFailure>;

    /// Whether operands are values like any other, and folding neighbours first changes nothing:
    /// [`MergeOperator::merge`] of operands alone then makes an operand. False by default.
    fn is_associative(&self) -> bool {
        false
    }

    /// Writes to `out`, which is empty, one operand that does what `operands` do, the oldest
    /// first and at least two, and returns true. False if these cannot be folded without the value
    /// beneath: then they are kept one by one until it is known. By default an associative operator
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

/// The merge operator of a keyspace: its name, and its code where it has been given.
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

/// What stood in the way of a merge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MergeErrorCause {
    /// The operator of the keyspace, recorded under this name if it is, has not been given.
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

/// An operator about to merge the operands of one key.
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

    /// Replaces `out` by the value after `operands`, the oldest first.
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

    /// Replaces `out` by one operand that stands for `operands`, the oldest first; false if there
    /// is none.
    pub(crate) fn fold(self, operands: &[&[u8]], out: &mut Vec<u8>) -> Result<bool, MergeError> {
        out.clear();
        self.guard(|| {
            let folds = self.operator.fold_operands(self.key, operands, out)?;
            check_len(out).map(|()| folds)
        })
    }

    fn guard<T>(self, call: impl FnOnce() -> Result<T, MergeFailure>) -> Result<T, MergeError> {
        // What a panic leaves behind is `out` alone, which nobody looks at after an error.
        let result = catch_unwind(AssertUnwindSafe(call));
        let result = result.unwrap_or_else(|panic| Err(MergeFailure::new(panic_message(&*panic))));
        result.map_err(|failure| {
            let operator = Arc::clone(&self.merge.name);
            let cause = MergeErrorCause::Failed { operator, failure };
            MergeError { key: self.key.into(), cause }
        })
    }
}

/// Refuses a result that no table takes.
fn check_len(result: &[u8]) -> Result<(), MergeFailure> {
    let len = result.len();
    if len as u64 <= VALUE_LEN_MAX {
        return Ok(());
    }
    let what = format!("the result has {len} bytes, and at most {VALUE_LEN_MAX} are allowed");
    Err(MergeFailure::new(what))
}

/// What a panic of the user's code said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("no message"))
}
