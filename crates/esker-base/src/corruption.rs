//! The report of damage: it names the file, the place and what is wrong.

use std::borrow::Cow;
use std::fmt;

use crate::coding::DecodeError;

/// Bytes on disk that are not what was written, or should never have been written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Corruption {
    /// Name of the file, inside the database directory where it lies in one.
    pub file: String,
    /// Where in the file the damaged unit (block, frame, footer) starts, in bytes.
    pub offset: u64,
    /// What is wrong, as a lower-case phrase.
    pub what: Cow<'static, str>,
}

impl Corruption {
    /// A report on `file` at `offset`.
    #[must_use]
    pub fn new(file: impl Into<String>, offset: u64, what: impl Into<Cow<'static, str>>) -> Self {
        Self { file: file.into(), offset, what: what.into() }
    }

    /// A report on a unit at `offset` of `file` whose checksum holds but which does not decode.
    #[must_use]
    pub fn undecodable(
        file: impl Into<String>,
        offset: u64,
        unit: &str,
        error: DecodeError,
    ) -> Self {
        Self::new(file, offset, format!("{unit} does not decode: {error}"))
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at offset {}: {}", self.file, self.offset, self.what)
    }
}

impl std::error::Error for Corruption {}
