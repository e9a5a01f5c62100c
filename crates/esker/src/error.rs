//! The one error type of the public API: a kind that says what to do, and where it happened.

use std::any::Any;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use esker_base::Corruption;
use esker_env::{FileError, IoError, LockError};

/// Result of every fallible call.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed. Cheap to clone: one failed sync is reported to many writers.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    outcome: Outcome,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What the caller can do about an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request breaks a documented limit or rule. Change the request.
    InvalidInput,
    /// A concurrent write got there first. Retry. Kept for transactions: nothing returns it yet.
    Conflict,
    /// Bytes on disk are damaged; the message names file and offset. Restore or repair.
    Corruption,
    /// The system refused an operation on a file. If that leaves the state on disk unknown, as
    /// after a failed write or sync of the log, writing has stopped: see `Poisoned`. Otherwise it
    /// goes on.
    Io,
    /// The disk or a quota is full. Free space; the database then goes on by itself, unless writing
    /// has stopped, as described at `Io`.
    NoSpace,
    /// Earlier, a write or sync of the log failed, or a write of the manifest failed with unknown
    /// outcome, or a background thread panicked. Reads work; reopen to write.
    Poisoned,
    /// Another process, or another handle in this one, has the database open.
    Locked,
    /// A file was written by a newer release, or needs a feature that this build lacks.
    UnsupportedFormat,
    /// The database or keyspace was closed or dropped.
    Closed,
    /// The database was opened for reading only.
    ReadOnly,
    /// User code, such as a merge operator, was not given or failed; the message says which, and
    /// for what. Nothing is lost: give it, or fix it, and try again.
    UserCode,
}

impl ErrorKind {
    /// The kind as a short lower-case phrase.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid input",
            Self::Conflict => "conflict",
            Self::Corruption => "corruption",
            Self::Io => "i/o error",
            Self::NoSpace => "no space",
            Self::Poisoned => "poisoned",
            Self::Locked => "locked",
            Self::UnsupportedFormat => "unsupported format",
            Self::Closed => "closed",
            Self::ReadOnly => "read-only",
            Self::UserCode => "user code",
        }
    }
}

/// Whether a write that returned an error may nevertheless be in the database.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// It is not there, and will not appear after reopening.
    NotDone,
    /// It may be in the log; only reopening shows. Until then reads may see it.
    Unknown,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            outcome: Outcome::NotDone,
            message: message.into(),
            source: None,
        }))
    }

    fn with_source(
        kind: ErrorKind,
        message: String,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let source = Some(Box::new(source) as _);
        Self(Arc::new(Inner { kind, outcome: Outcome::NotDone, message, source }))
    }

    pub(crate) fn invalid_input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    #[cold]
    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the database is closed")
    }

    pub(crate) fn read_only() -> Self {
        Self::new(ErrorKind::ReadOnly, "the database is open for reading only")
    }

    /// The error of a write after `cause` has stopped all writing.
    pub(crate) fn poisoned(cause: &Self) -> Self {
        Self::with_source(
            ErrorKind::Poisoned,
            format!("writing stopped after an earlier failure ({cause}); reopen the database"),
            cause.clone(),
        )
    }

    /// The same error, for a write that may nevertheless be in the log.
    pub(crate) fn with_unknown_outcome(self) -> Self {
        let message =
            format!("{}; whether the write survives is known after reopening", self.0.message);
        Self(Arc::new(Inner {
            kind: self.0.kind,
            outcome: Outcome::Unknown,
            message,
            source: Some(Box::new(self.clone())),
        }))
    }

    /// The same error, for a call that needed the log to be written before it began: only writes of
    /// others may be in the log.
    pub(crate) fn with_nothing_done(self) -> Self {
        let cause = self.0.source.as_deref().and_then(|source| source.downcast_ref::<Self>());
        match (self.0.outcome, cause) {
            (Outcome::Unknown, Some(cause)) => cause.clone(),
            _ => self,
        }
    }

    pub(crate) fn locked(dir: &Path, error: LockError) -> Self {
        Self::of_lock(&format!("the database in {} is open elsewhere", dir.display()), error)
    }

    pub(crate) fn log_dir_locked(dir: &Path, error: LockError) -> Self {
        let what = format!("the log directory {} is in use by another database", dir.display());
        Self::of_lock(&what, error)
    }

    fn of_lock(what: &str, error: LockError) -> Self {
        match error {
            LockError::Held(_) => {
                Self::with_source(ErrorKind::Locked, format!("{what}: its lock is {error}"), error)
            }
            LockError::Io(error) => error.into(),
        }
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// For a write: whether it may nevertheless be in the database.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.name(), self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<IoError> for Error {
    fn from(error: IoError) -> Self {
        let kind = if error.is_no_space() { ErrorKind::NoSpace } else { ErrorKind::Io };
        Self::with_source(kind, error.to_string(), error)
    }
}

impl From<Corruption> for Error {
    fn from(error: Corruption) -> Self {
        Self::with_source(ErrorKind::Corruption, error.to_string(), error)
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io(error) => error.into(),
            FileError::Corruption(error) => error.into(),
            FileError::UnsupportedFormat(error) => {
                Self::with_source(ErrorKind::UnsupportedFormat, error.to_string(), error)
            }
        }
    }
}

/// What a panic says, for a message.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
