//! The compaction filter: user code that decides which entries survive a compaction.
//!
//! A failure or a panic of the filter becomes a [`FilterError`], which ends the job; nothing of it
//! is installed then.
//!
//! Does not know which entries it may be asked about.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use esker_base::limits::VALUE_LEN_MAX;

use crate::operator::panic_message;

/// Makes a filter for each compaction of a keyspace.
pub trait CompactionFilterFactory: Send + Sync + 'static {
    /// The filter's name in messages and reports.
    fn name(&self) -> &str;

    /// A filter for one compaction.
    fn create(&self, context: &FilterContext<'_>) -> Box<dyn CompactionFilter>;
}

/// The compaction that a filter is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FilterContext<'a> {
    /// The name of the keyspace.
    pub keyspace: &'a str,
    /// The level that the compaction writes to.
    pub level: usize,
    /// Whether it is the deepest level that has tables.
    pub is_last_level: bool,
    /// Whether all tables of the keyspace are compacted at once.
    pub is_full: bool,
    /// Whether the compaction was requested by a call; otherwise it is automatic.
    pub is_manual: bool,
}

/// Decides about the entries of one compaction. It is used by one thread, from the smallest key to
/// the largest, and must not call the database. It may drop handles of it.
pub trait CompactionFilter {
    /// Decides about `key`, whose newest value in this compaction is `value`.
    ///
    /// Called only for values that no snapshot sees. The same key may come again in a later
    /// compaction; a key that is never compacted never comes.
    ///
    /// # Errors
    /// If it cannot decide: the compaction ends with this failure, and is tried again later.
    fn filter(&mut self, key: &[u8], value: &[u8]) -> Result<FilterDecision, FilterFailure>;
}

/// What a compaction filter decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FilterDecision {
    /// The entry stays.
    Keep,
    /// The key is deleted.
    Remove,
    /// The key gets this value. A value longer than the limit counts as a failure.
    Change(Vec<u8>),
}

/// Why a filter could not decide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilterFailure(Arc<str>);

impl FilterFailure {
    /// A failure for the reason `what`: a lower-case phrase without a full stop.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into().into())
    }
}

impl fmt::Display for FilterFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FilterFailure {}

/// The compaction filter of a keyspace. Equal if the names are equal.
#[derive(Clone)]
pub struct Filter(Arc<dyn CompactionFilterFactory>);

impl Filter {
    /// The filter made by `factory`.
    #[must_use]
    pub fn new(factory: impl CompactionFilterFactory) -> Self {
        Self(Arc::new(factory))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The factory.
    #[must_use]
    pub fn factory(&self) -> &dyn CompactionFilterFactory {
        &*self.0
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Filter {}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({})", self.name())
    }
}

/// A filter failed, or panicked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilterError {
    /// Its name.
    pub filter: Arc<str>,
    /// The key that it was asked about; `None` if the filter could not be created.
    pub key: Option<Box<[u8]>>,
    /// Why.
    pub failure: FilterFailure,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the compaction filter \"{}\" failed", self.filter)?;
        if let Some(key) = &self.key {
            write!(f, " for the key \"{}\"", key.escape_ascii())?;
        }
        write!(f, ": {}", self.failure)
    }
}

impl std::error::Error for FilterError {}

/// The filter of one compaction.
pub(crate) struct RunningFilter {
    name: Arc<str>,
    filter: Box<dyn CompactionFilter>,
}

impl RunningFilter {
    pub(crate) fn start(filter: &Filter, context: &FilterContext<'_>) -> Result<Self, FilterError> {
        let name: Arc<str> = filter.name().into();
        let made = catch_unwind(AssertUnwindSafe(|| filter.factory().create(context)));
        match made {
            Ok(filter) => Ok(Self { name, filter }),
            Err(panic) => {
                let failure = FilterFailure::new(panic_message(&*panic));
                Err(FilterError { filter: name, key: None, failure })
            }
        }
    }

    /// Decides about `value`, which is stored after `before_len` other bytes.
    pub(crate) fn ask(
        &mut self,
        key: &[u8],
        value: &[u8],
        before_len: usize,
    ) -> Result<FilterDecision, FilterError> {
        // After a panic the filter is not asked again.
        let asked = catch_unwind(AssertUnwindSafe(|| self.filter.filter(key, value)));
        let decision =
            asked.unwrap_or_else(|panic| Err(FilterFailure::new(panic_message(&*panic))));
        let len_max = VALUE_LEN_MAX.saturating_sub(before_len as u64);
        let decision = decision.and_then(|decision| match &decision {
            FilterDecision::Change(value) if len_max < value.len() as u64 => {
                let len = value.len();
                let what = format!("the value has {len} bytes, and at most {len_max} are allowed");
                Err(FilterFailure::new(what))
            }
            _ => Ok(decision),
        });
        decision.map_err(|failure| {
            let filter = Arc::clone(&self.name);
            FilterError { filter, key: Some(key.into()), failure }
        })
    }
}
