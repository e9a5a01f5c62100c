//! Why a command fails, as a line and an exit status.

use std::fmt;
use std::io;

use esker::ErrorKind;

use crate::text::shown;

/// Result of every command.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The key is not there: exit status 3.
    NotFound(String),
    /// The database refused: exit status 4 if its files are damaged, otherwise 1.
    Database(esker::Error),
    /// A file of a database is damaged: exit status 4.
    Damaged(String),
    /// Anything else, as one line: exit status 1.
    Other(String),
    /// Something could not be printed, because nobody reads it.
    Output(io::Error),
    /// The error has already been printed: exit status 1.
    Said,
    /// Files are damaged; that has been printed, or need not be: exit status 4.
    SaidDamaged,
}

impl Failure {
    /// A failure printed as one line.
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self::Other(message.into())
    }

    /// A failure of the database, in the words of `message`.
    pub(crate) fn worded(error: &esker::Error, message: String) -> Self {
        match error.kind() {
            ErrorKind::Corruption => Self::Damaged(message),
            _ => Self::Other(message),
        }
    }

    /// The exit status. A reader that is gone is no failure of ours.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::NotFound(_) => 3,
            _ if self.is_damage() => 4,
            _ if self.is_broken_pipe() => 0,
            _ => 1,
        }
    }

    /// Whether files are damaged.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::SaidDamaged => true,
            Self::Database(error) => error.kind() == ErrorKind::Corruption,
            _ => false,
        }
    }

    /// Whether nobody reads our output any more.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The line for standard error; `None` when there is nothing to say.
    pub(crate) fn line(&self) -> Option<String> {
        match self {
            Self::Said | Self::SaidDamaged => None,
            _ if self.is_broken_pipe() => None,
            Self::NotFound(_) => Some(shown(self.to_string().as_bytes())),
            // Names and paths may hold anything.
            _ => Some(shown(format!("error: {self}").replace('\n', " ").as_bytes())),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(key) => write!(f, "{key} not found"),
            Self::Database(error) => error.fmt(f),
            Self::Damaged(message) | Self::Other(message) => f.write_str(message),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
            Self::Said | Self::SaidDamaged => Ok(()),
        }
    }
}

impl From<esker::Error> for Failure {
    fn from(error: esker::Error) -> Self {
        Self::Database(error)
    }
}

impl From<esker_base::Corruption> for Failure {
    fn from(error: esker_base::Corruption) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<esker_env::FileError> for Failure {
    fn from(error: esker_env::FileError) -> Self {
        match error {
            esker_env::FileError::Corruption(error) => Self::Damaged(error.to_string()),
            error => Self::Other(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_status_tells_the_cases_apart() {
        assert_eq!(Failure::NotFound("k".into()).exit_status(), 3);
        assert_eq!(Failure::Damaged("x".into()).exit_status(), 4);
        assert_eq!(Failure::other("x").exit_status(), 1);
        let closed = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(Failure::Output(closed).exit_status(), 0);
        assert_eq!(Failure::Output(io::Error::other("full")).exit_status(), 1);
    }

    #[test]
    fn one_line_or_none() {
        assert_eq!(Failure::other("a\nb").line().as_deref(), Some("error: a b"));
        let moved = Failure::other("'\x1b[2J\r' is no caf\u{e9}");
        assert_eq!(moved.line().as_deref(), Some("error: '\\x1b[2J\\x0d' is no caf\u{e9}"));
        assert_eq!(Failure::NotFound("k".into()).line().as_deref(), Some("k not found"));
        assert_eq!(Failure::Output(io::ErrorKind::BrokenPipe.into()).line(), None);
    }
}
